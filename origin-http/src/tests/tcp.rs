//! A server on loopback, and clients over TCP.

mod frames;
mod http1;
mod http2;
mod https;
mod limits;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use http_server::Sockets;
use hyper::client::conn::http2 as client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::frames::{ACK, PING, frame, request_frame};
use super::server;
use crate::{
    Config,
    stage::{PART, SEGMENT, Stage},
};

/// Longer than all time limits in these tests, and shorter than the default ones, the least of
/// which is 10 s.
const LONG: Duration = Duration::from_secs(9);

struct Running {
    stage: Stage,
    address: SocketAddr,
    retire: CancellationToken,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

fn config() -> Config {
    Config::default()
}

impl Running {
    async fn start(config: Config) -> Self {
        Self::over(Stage::with(&config).await, config).await
    }

    async fn live() -> Self {
        let mut running = Self::start(config()).await;
        running.stage.push(3 * SEGMENT + 2 * PART + 1).await;
        running
    }

    async fn over(stage: Stage, config: Config) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sockets = Sockets { http: vec![listener], ..Sockets::default() };
        let server = server(&stage, &config, sockets, None);
        let (retire, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let serving = tokio::spawn(server.serve(retire.clone(), shutdown.clone()));
        Self { stage, address, retire, shutdown, serving }
    }

    async fn connect(&self) -> Peer {
        Peer { socket: TcpStream::connect(self.address).await.unwrap(), read: Vec::new() }
    }

    /// Connects from another address of this machine.
    async fn connect_from(&self, last: u8) -> Peer {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 1, last], 0))).unwrap();
        Peer { socket: socket.connect(self.address).await.unwrap(), read: Vec::new() }
    }

    /// A request that waits for a part, when there are three segments and two parts.
    fn next_part(&self) -> String {
        let open = self.stage.first + 3;
        get(&format!("/live/demo/v0.m3u8?_HLS_msn={open}&_HLS_part=2"))
    }

    /// Waits until `count` requests wait for media.
    async fn waiting(&self, count: i64) {
        while self.stage.metrics.waiting.get() < count {
            sleep(Duration::from_millis(2)).await;
        }
    }

    fn evicted(&self, reason: &str) -> u64 {
        counted(&self.stage, "evicted", reason)
    }

    async fn http2(&self) -> client::SendRequest<Empty<Bytes>> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let mut builder = client::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(64 << 10).initial_connection_window_size(64 << 10);
        let (client, connection) = builder.handshake(TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn refused(&self, reason: &str) -> u64 {
        refused(&self.stage, reason)
    }

    /// Waits until the limit of writes has closed the only connection.
    async fn closed_by_write_limit(&self) {
        let begun = Instant::now();
        while self.refused("write").await == 0 {
            assert!(begun.elapsed() < LONG);
            sleep(Duration::from_millis(20)).await;
        }
        while self.stage.metrics.server.connections.get() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

fn refused(stage: &Stage, reason: &str) -> u64 {
    counted(stage, "refused", reason)
}

fn counted(stage: &Stage, what: &str, reason: &str) -> u64 {
    let mut registry = prometheus_client::registry::Registry::default();
    stage.metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = format!("http_{what}_total{{reason=\"{reason}\"}} ");
    text.lines()
        .find_map(|found| found.strip_prefix(&line))
        .map_or(0, |count| count.parse().unwrap())
}

/// A client that returns all bytes that it receives.
struct Peer<S = TcpStream> {
    socket: S,
    read: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next response: status, headers, and the body by its length or in chunks.
    async fn response(&mut self, has_body: bool) -> (u16, BTreeMap<String, String>, Vec<u8>) {
        let end = loop {
            match self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => self.more().await,
            }
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap()[9..12].parse().unwrap();
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(n, v)| (n.into(), v.into()))
            .collect();
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            loop {
                let end = loop {
                    match self.read.windows(2).position(|window| window == b"\r\n") {
                        Some(end) => break end,
                        None => self.more().await,
                    }
                };
                let size =
                    usize::from_str_radix(str::from_utf8(&self.read[..end]).unwrap(), 16).unwrap();
                while self.read.len() < end + 2 + size + 2 {
                    self.more().await;
                }
                body.extend_from_slice(&self.read[end + 2..end + 2 + size]);
                self.read.drain(..end + 2 + size + 2);
                if size == 0 {
                    break;
                }
            }
        } else if has_body && let Some(len) = headers.get("content-length") {
            let len = len.parse().unwrap();
            while self.read.len() < len {
                self.more().await;
            }
            body.extend(self.read.drain(..len));
        }
        (status, headers, body)
    }

    async fn more(&mut self) {
        let count = timeout(LONG, self.socket.read_buf(&mut self.read))
            .await
            .expect("a response in time")
            .unwrap();
        assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&self.read));
    }

    /// Returns all bytes that the server sends until it closes. A reset counts as a close.
    async fn rest(mut self) -> String {
        let _ = timeout(LONG, self.socket.read_to_end(&mut self.read))
            .await
            .expect("the server closes");
        String::from_utf8_lossy(&self.read).into_owned()
    }
}

fn get(path: &str) -> String {
    request("GET", path, "")
}

fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: origin\r\n{headers}\r\n")
}

#[tokio::test]
async fn one_connection_gets_media_ranges_and_conditional_responses() {
    let running = Running::live().await;
    let path = running.stage.media(&format!("{}.m4s", running.stage.first));
    let mut peer = running.connect().await;
    peer.send(get(&path)).await;
    let (status, headers, whole) = peer.response(true).await;
    assert_eq!((status, &headers["content-type"][..]), (200, "video/iso.segment"));
    assert!(headers["date"].ends_with(" GMT") && whole.len() > SEGMENT * 1_000);
    peer.send(request("HEAD", &path, "")).await;
    let (status, headers, _) = peer.response(false).await;
    assert_eq!((status, &headers["content-length"][..]), (200, &*whole.len().to_string()));
    peer.send(request("GET", &path, "Range: bytes=100-1099\r\n")).await;
    let (status, headers, slice) = peer.response(true).await;
    assert_eq!((status, &slice[..]), (206, &whole[100..1_100]));
    assert_eq!(headers["content-range"], format!("bytes 100-1099/{}", whole.len()));
    peer.send(request("GET", &path, &format!("Range: bytes={}-\r\n", whole.len()))).await;
    assert_eq!(peer.response(true).await.0, 416);
    peer.send(request("GET", &path, &format!("If-None-Match: {}\r\n", headers["etag"]))).await;
    let (status, headers, _) = peer.response(true).await;
    assert_eq!((status, headers.contains_key("content-length")), (304, false));
    peer.send(request(
        "OPTIONS",
        &path,
        "Origin: http://a\r\nAccess-Control-Request-Method: GET\r\n",
    ))
    .await;
    assert_eq!(peer.response(true).await.0, 204);
    peer.send(get("/nothing")).await;
    assert_eq!(peer.response(true).await.0, 404);
    assert!(running.stage.metrics.server.sent.get() > whole.len() as u64);
}

#[tokio::test]
async fn the_open_segment_is_sent_in_chunks_as_it_grows() {
    let mut running = Running::live().await;
    let path = running.stage.media(&format!("{}.m4s", running.stage.first + 3));
    let mut peer = running.connect().await;
    peer.send(get(&path)).await;
    while !peer.read.windows(4).any(|window| window == b"\r\n\r\n") {
        peer.more().await;
    }
    running.stage.push(4 * PART).await;
    let (status, _, body) = peer.response(true).await;
    peer.send(get(&path)).await;
    let (_, headers, whole) = peer.response(true).await;
    assert_eq!((status, &body), (200, &whole));
    assert_eq!(headers["content-length"], whole.len().to_string());
}

#[tokio::test]
async fn pipelined_requests_get_responses_in_order() {
    let running = Running::live().await;
    let mut peer = running.connect().await;
    let first = running.stage.first;
    let paths: Vec<_> =
        (0..5).map(|part| running.stage.media(&format!("{first}.{part}.m4s"))).collect();
    peer.send(paths.iter().map(|path| get(path)).collect::<String>()).await;
    for part in 0..5 {
        let (status, headers, _) = peer.response(true).await;
        assert_eq!((status, &headers["etag"]), (200, &format!("\"{first}.{part}\"")));
    }
}

#[tokio::test]
async fn h2c_with_prior_knowledge_works_and_a_waiting_request_blocks_no_other() {
    let mut running = Running::live().await;
    let mut client = running.http2().await;
    let uri = |path: &str| format!("http://origin{path}");
    let send = |client: &mut client::SendRequest<_>, method: &str, path: &str| {
        let request =
            Request::builder().method(method).uri(uri(path)).body(Empty::<Bytes>::new()).unwrap();
        client.send_request(request)
    };
    let open = running.stage.first + 3;
    let waiting =
        send(&mut client, "GET", &format!("/live/demo/v0.m3u8?_HLS_msn={open}&_HLS_part=2"));
    let waiting = tokio::spawn(waiting);
    let segment =
        send(&mut client, "GET", &running.stage.media(&format!("{}.m4s", running.stage.first)))
            .await
            .unwrap();
    assert_eq!(
        (segment.status(), &segment.headers()["access-control-allow-origin"]),
        (StatusCode::OK, &"*".parse().unwrap())
    );
    let len: usize = segment.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(segment.into_body().collect().await.unwrap().to_bytes().len(), len);
    let head = send(&mut client, "HEAD", &running.stage.media("init.0.mp4")).await.unwrap();
    assert!(head.headers().contains_key("content-length") && head.headers().contains_key("date"));
    assert!(head.into_body().collect().await.unwrap().to_bytes().is_empty());
    assert!(!waiting.is_finished());
    running.stage.push(PART).await;
    assert_eq!(timeout(LONG, waiting).await.unwrap().unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn an_unread_http2_response_closes_its_connection_after_write_ms() {
    let running = Running::over(
        {
            let mut stage = Stage::with(&config()).await;
            stage.frame_bytes = 100_000;
            stage.push(SEGMENT + 1).await;
            stage
        },
        Config { write_ms: 200, ..config() },
    )
    .await;
    let path = running.stage.media(&format!("{}.m4s", running.stage.first));
    // The response is longer than the window of the stream, which is never extended.
    let mut raw = running.raw(Some(1_000)).await;
    let ping = frame(PING, 0, 0, &[7; 8]);
    raw.send(&[request_frame(1, &path, &[]), ping.clone()].concat()).await;
    let mut acknowledged = 0;
    while let Some(received) = raw.next().await {
        if (received.kind, received.flags) == (PING, ACK) {
            acknowledged += 1;
            sleep(Duration::from_millis(20)).await;
            raw.send(&ping).await;
        }
    }
    assert!(acknowledged > 0);
    running.closed_by_write_limit().await;
}

#[tokio::test]
async fn an_http2_connection_without_a_request_is_closed_after_the_idle_limit() {
    let running = Running::start(Config { write_ms: 100, idle_ms: 1_000, ..config() }).await;
    let mut client = running.http2().await;
    let request = Request::builder().uri("http://origin/time").body(Empty::<Bytes>::new()).unwrap();
    // The limit begins in the server before the client has read the response.
    let begun = Instant::now();
    client.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    while running.stage.metrics.server.connections.get() > 0 {
        assert!(begun.elapsed() < LONG);
        sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn shutdown_completes_requests_in_progress_and_closes_idle_connections() {
    let mut running = Running::live().await;
    let (quiet, mut waiting) = (running.connect().await, running.connect().await);
    let mut kept = running.connect().await;
    kept.send(get("/time")).await;
    kept.response(true).await;
    waiting
        .send(get(&format!("/live/demo/v0.m3u8?_HLS_msn={}&_HLS_part=2", running.stage.first + 3)))
        .await;
    while running.stage.metrics.waiting.get() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    running.shutdown.cancel();
    assert_eq!(quiet.rest().await, "");
    assert_eq!(kept.rest().await, "");
    assert!(TcpStream::connect(running.address).await.is_err());
    assert!(!running.serving.is_finished());
    running.stage.push(PART).await;
    assert_eq!(waiting.response(true).await.0, 200);
    timeout(LONG, running.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_that_do_not_finish_within_drain_ms_are_closed() {
    let running = Running::start(Config { drain_ms: 100, ..config() }).await;
    let mut waiting = running.connect().await;
    waiting.send(get("/live/demo/master.m3u8")).await;
    while running.stage.metrics.waiting.get() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    running.shutdown.cancel();
    timeout(Duration::from_secs(2), running.serving).await.unwrap().unwrap();
    assert_eq!(waiting.rest().await, "");
    assert_eq!(running.stage.metrics.waiting.get(), 0);
}
