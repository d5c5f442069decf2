use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry::trace::{Span as _, Tracer as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{metrics::Drop, *};
use crate::authorities;

/// A collector: the sizes of the bodies that it got, and the statuses with which it responds; the
/// last one for all further requests.
struct Collector {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<usize>>>,
    task: JoinHandle<()>,
}

impl Collector {
    async fn start(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bodies = Arc::<Mutex<Vec<usize>>>::default();
        let (seen, mut statuses) = (Arc::clone(&bodies), VecDeque::from(statuses.to_vec()));
        let task = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                while let Some(length) = read(&mut socket).await {
                    seen.lock().unwrap().push(length);
                    let status = match statuses.len() {
                        1 => statuses[0],
                        _ => statuses.pop_front().unwrap(),
                    };
                    let head = format!("HTTP/1.1 {status} Status\r\ncontent-length: 0\r\n\r\n");
                    socket.write_all(head.as_bytes()).await.unwrap();
                }
            }
        });
        Self { address, bodies, task }
    }

    fn count(&self) -> usize {
        self.bodies.lock().unwrap().len()
    }
}

impl std::ops::Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads a request. Returns the length of its body, or `None` at the end of the connection.
async fn read(socket: &mut TcpStream) -> Option<usize> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    socket.read_exact(&mut body).await.ok()?;
    Some(body.len())
}

fn traces(address: SocketAddr) -> (Traces, Export) {
    let config = toml::from_str(&format!("url = \"http://{address}\"")).unwrap();
    Traces::new(&config).unwrap().unwrap()
}

impl Traces {
    fn make_spans(&self, count: usize) {
        let tracer = self.0.tracer("test");
        for n in 0..count {
            tracer.start(format!("span {n}")).end();
        }
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("no {what}"));
}

#[test]
fn without_a_collector_there_is_nothing_and_a_missing_authority_is_an_error() {
    let none = config::Traces::default();
    assert!(Traces::new(&none).unwrap().is_none());
    let config = "url = \"https://otlp.example\"\nca = \"/nowhere.pem\"";
    let refused = Traces::new(&toml::from_str(config).unwrap());
    assert!(matches!(refused, Err(Error::Authorities(authorities::Error::Read { file, .. }))
        if file.ends_with("nowhere.pem")));
}

#[tokio::test]
async fn spans_are_posted_in_batches_and_a_full_queue_drops_the_newest() {
    let collector = Collector::start(&[200]).await;
    let (traces, export) = traces(collector.address);
    let metrics = export.metrics();
    traces.make_spans(queue::WAITING + 7);
    assert_eq!(metrics.dropped(Drop::QueueFull), 7);
    let stop = CancellationToken::new();
    let task = tokio::spawn(export.serve(stop.clone()));
    until("export", || metrics.exported.get() == queue::WAITING as u64).await;
    assert_eq!(collector.count(), queue::WAITING.div_ceil(512));
    stop.cancel();
    task.await.unwrap();
    // What comes later is lost, and counted.
    traces.make_spans(3);
    assert_eq!(metrics.dropped(Drop::Shutdown), 3);
}

#[tokio::test]
async fn a_batch_is_posted_again_if_the_collector_is_overloaded_and_not_if_it_refuses() {
    let collector = Collector::start(&[503, 200, 400, 200]).await;
    let (traces, export) = traces(collector.address);
    let (metrics, stop) = (export.metrics(), CancellationToken::new());
    let task = tokio::spawn(export.serve(stop.clone()));
    traces.make_spans(2);
    until("export", || metrics.exported.get() == 2).await;
    assert_eq!(collector.count(), 2);
    traces.make_spans(3);
    until("refusal", || metrics.dropped(Drop::Refused) == 3).await;
    assert_eq!((collector.count(), metrics.exported.get()), (3, 2));
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn the_end_sends_what_is_left_and_does_not_wait_long_for_a_collector_that_hangs() {
    let collector = Collector::start(&[200]).await;
    let (source, export) = traces(collector.address);
    let (metrics, stop) = (export.metrics(), CancellationToken::new());
    source.make_spans(1_000);
    stop.cancel();
    export.serve(stop).await;
    assert_eq!((metrics.exported.get(), metrics.dropped(Drop::Shutdown)), (1_000, 0));

    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (source, export) = traces(hangs.local_addr().unwrap());
    let (metrics, stop) = (export.metrics(), CancellationToken::new());
    source.make_spans(1_000);
    stop.cancel();
    timeout(Duration::from_secs(8), export.serve(stop)).await.expect("it ends");
    assert_eq!((metrics.exported.get(), metrics.dropped(Drop::Shutdown)), (0, 1_000));
}
