//! An edge over origins in the same process: scripted ones, and a real router.

mod failing;
mod private;
mod sharing;
mod whole;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Channel, Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{sync::Notify, time::sleep};

use super::*;
use crate::stage::{self, PART, SEGMENT, Stage};

const MASTER: &str = "/live/demo/master.m3u8";
const PLAYLIST: &str = "/live/demo/v0.m3u8";
const SEGMENT_1: &str = "/media/01890a5d-ac96-774b-bcce-b302099a8057/v0/1.m4s";
const PART_1: &str = "/media/01890a5d-ac96-774b-bcce-b302099a8057/v0/1.0.m4s";

const PEER: ([u8; 4], u16) = ([192, 0, 2, 1], 1);

type OriginBody = BoxBody<Bytes, Infallible>;
type OriginResponse = Pin<Box<dyn Future<Output = Response<OriginBody>> + Send>>;
type Script = dyn Fn(Request<Incoming>) -> OriginResponse + Send + Sync;

/// An origin with scripted responses, while it is up.
struct Scripted {
    script: Box<Script>,
    requests: Mutex<Vec<(String, HeaderMap)>>,
    down: Mutex<bool>,
}

impl Scripted {
    fn new<F>(script: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Arc<Self>
    where
        F: Future<Output = Response<OriginBody>> + Send + 'static,
    {
        Arc::new(Self {
            script: Box::new(move |request| Box::pin(script(request))),
            requests: Mutex::default(),
            down: Mutex::default(),
        })
    }

    /// Responds to everything at once with these headers and this text.
    fn responding(
        status: u16,
        headers: &'static [(&'static str, &'static str)],
        text: &'static str,
    ) -> Arc<Self> {
        Self::new(move |_| async move { response(status, headers, text) })
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    fn header(&self, index: usize, name: &str) -> String {
        let requested = self.requests.lock().unwrap();
        let value = requested[index].1.get(name);
        value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    }

    fn set_down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }

    fn connect(self: &Arc<Self>) -> io::Result<tokio::io::DuplexStream> {
        if *self.down.lock().unwrap() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let origin = Arc::clone(self);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let requested = (request.uri().to_string(), request.headers().clone());
                origin.requests.lock().unwrap().push(requested);
                let responding = (origin.script)(request);
                async move { Ok::<_, Infallible>(responding.await) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(theirs), service).await;
        });
        Ok(ours)
    }
}

fn response(status: u16, headers: &[(&str, &str)], text: &'static str) -> Response<OriginBody> {
    with_body(status, headers, Full::new(Bytes::from_static(text.as_bytes())).boxed())
}

fn with_body(status: u16, headers: &[(&str, &str)], body: OriginBody) -> Response<OriginBody> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body).unwrap()
}

fn edge_of(origins: &[&Arc<Scripted>]) -> Arc<Edge> {
    edge_with(Config::default(), origins)
}

fn edge_with(mut config: Config, origins: &[&Arc<Scripted>]) -> Arc<Edge> {
    let origins: Vec<_> = origins.iter().map(|&origin| Arc::clone(origin)).collect();
    config.origin = (0..origins.len()).map(|n| format!("http://{n}").parse().unwrap()).collect();
    let limit = config.connect();
    Edge::with(&config, Metrics::default(), |origin, tls| {
        let origin = Arc::clone(&origins[origin.to_string().parse::<usize>().unwrap()]);
        Dial::in_memory(Arc::new(move || origin.connect()), limit, tls)
    })
    .unwrap()
}

/// Rules without a private channel.
fn public() -> Playback {
    Playback::new(&crate::playback::Config::default())
}

/// The response before its body is read.
async fn begin(
    edge: &Arc<Edge>,
    method: Method,
    target: &str,
    headers: &[(&str, &str)],
) -> Response<Body> {
    begin_under(&public(), edge, method, target, headers).await
}

/// The same, with rules for tokens; the path may have the prefix of one.
async fn begin_under(
    rules: &Playback,
    edge: &Arc<Edge>,
    method: Method,
    target: &str,
    headers: &[(&str, &str)],
) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (mut head, ()) = request.body(()).unwrap().into_parts();
    crate::playback::take_from_path(&mut head);
    let resource = Resource::parse(head.uri.path()).unwrap();
    let client = Client { peer: PEER.into(), ours: false, secure: false, early: false };
    edge.respond(&head, &resource, client, rules).await.unwrap()
}

async fn fetch(
    edge: &Arc<Edge>,
    target: &str,
    headers: &[(&str, &str)],
) -> (u16, HeaderMap, Bytes) {
    let (head, body) = begin(edge, Method::GET, target, headers).await.into_parts();
    (head.status.as_u16(), head.headers, body.collect().await.unwrap().to_bytes())
}

/// Status, text, and the outcome of the request.
async fn get(edge: &Arc<Edge>, target: &str) -> (u16, String, String) {
    let (status, headers, body) = fetch(edge, target, &[]).await;
    (status, String::from_utf8(body.to_vec()).unwrap(), outcome(&headers))
}

fn outcome(headers: &HeaderMap) -> String {
    let told = headers["server-timing"].to_str().unwrap();
    told.strip_prefix("edge;desc=").unwrap().to_owned()
}

fn fetched(status: u16, text: &str, outcome: &str) -> (u16, String, String) {
    (status, text.to_owned(), outcome.to_owned())
}

/// Lets all tasks run as far as they can, because paused time advances only then.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}
