mod frames;
mod http2;
mod https;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2 as client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
    time::Instant,
};

use super::*;
use crate::stage::{PART, SEGMENT, Stage};

/// Longer than any deadline that these tests set, shorter than the shipped ones.
const LONG: Duration = Duration::from_secs(5);

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
        let sockets = Sockets {
            http: vec![listener],
            ..Sockets::default()
        };
        let server = Server::new(&config, &Https::default(), sockets, None, Arc::clone(&stage.router)).unwrap();
        let (retire, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let serving = tokio::spawn(server.serve(retire.clone(), shutdown.clone()));
        Self {
            stage,
            address,
            retire,
            shutdown,
            serving,
        }
    }

    async fn connect(&self) -> Peer {
        Peer {
            socket: TcpStream::connect(self.address).await.unwrap(),
            read: Vec::new(),
        }
    }

    async fn http2(&self) -> client::SendRequest<Empty<Bytes>> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let mut builder = client::Builder::new(TokioExecutor::new());
        builder
            .initial_stream_window_size(64 << 10)
            .initial_connection_window_size(64 << 10);
        let (client, connection) = builder.handshake(TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn refused(&self, reason: &str) -> u64 {
        refused(&self.stage, reason)
    }
}

fn refused(stage: &Stage, reason: &str) -> u64 {
    let mut registry = prometheus_client::registry::Registry::default();
    stage.metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = format!("http_refused_total{{reason=\"{reason}\"}} ");
    text.lines()
        .find_map(|found| found.strip_prefix(&line))
        .map_or(0, |count| count.parse().unwrap())
}

/// A client that hides nothing.
struct Peer<S = TcpStream> {
    socket: S,
    read: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next answer: status, headers, body by its length or in chunks.
    async fn answer(&mut self, has_body: bool) -> (u16, BTreeMap<String, String>, Vec<u8>) {
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
        if headers
            .get("transfer-encoding")
            .is_some_and(|coding| coding == "chunked")
        {
            loop {
                let end = loop {
                    match self.read.windows(2).position(|window| window == b"\r\n") {
                        Some(end) => break end,
                        None => self.more().await,
                    }
                };
                let size = usize::from_str_radix(str::from_utf8(&self.read[..end]).unwrap(), 16).unwrap();
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
            .expect("an answer in time")
            .unwrap();
        assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&self.read));
    }

    /// Everything until the server closes, and how long that took.
    async fn rest(mut self) -> (String, Duration) {
        let begun = Instant::now();
        // A reset says it as well.
        let _ = timeout(LONG, self.socket.read_to_end(&mut self.read))
            .await
            .expect("the server closes");
        (String::from_utf8_lossy(&self.read).into_owned(), begun.elapsed())
    }
}

fn get(path: &str) -> String {
    request("GET", path, "")
}

fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: origin\r\n{headers}\r\n")
}

#[tokio::test]
async fn one_connection_gets_media_ranges_and_validations() {
    let running = Running::live().await;
    let path = running.stage.media(&format!("{}.m4s", running.stage.first));
    let mut peer = running.connect().await;
    peer.send(get(&path)).await;
    let (status, headers, whole) = peer.answer(true).await;
    assert_eq!((status, &headers["content-type"][..]), (200, "video/iso.segment"));
    assert!(headers["date"].ends_with(" GMT") && whole.len() > SEGMENT * 1_000);
    peer.send(request("HEAD", &path, "")).await;
    let (status, headers, _) = peer.answer(false).await;
    assert_eq!(
        (status, &headers["content-length"][..]),
        (200, &*whole.len().to_string())
    );
    peer.send(request("GET", &path, "Range: bytes=100-1099\r\n")).await;
    let (status, headers, slice) = peer.answer(true).await;
    assert_eq!((status, &slice[..]), (206, &whole[100..1_100]));
    assert_eq!(headers["content-range"], format!("bytes 100-1099/{}", whole.len()));
    peer.send(request("GET", &path, &format!("Range: bytes={}-\r\n", whole.len())))
        .await;
    assert_eq!(peer.answer(true).await.0, 416);
    peer.send(request(
        "GET",
        &path,
        &format!("If-None-Match: {}\r\n", headers["etag"]),
    ))
    .await;
    let (status, headers, _) = peer.answer(true).await;
    assert_eq!((status, headers.contains_key("content-length")), (304, false));
    peer.send(request(
        "OPTIONS",
        &path,
        "Origin: http://a\r\nAccess-Control-Request-Method: GET\r\n",
    ))
    .await;
    assert_eq!(peer.answer(true).await.0, 204);
    peer.send(get("/nothing")).await;
    assert_eq!(peer.answer(true).await.0, 404);
    assert!(running.stage.metrics.sent.get() > whole.len() as u64);
}

#[tokio::test]
async fn the_open_segment_goes_out_in_chunks_as_it_comes() {
    let mut running = Running::live().await;
    let path = running.stage.media(&format!("{}.m4s", running.stage.first + 3));
    let mut peer = running.connect().await;
    peer.send(get(&path)).await;
    while !peer.read.windows(4).any(|window| window == b"\r\n\r\n") {
        peer.more().await;
    }
    running.stage.push(4 * PART).await;
    let (status, _, body) = peer.answer(true).await;
    peer.send(get(&path)).await;
    let (_, headers, whole) = peer.answer(true).await;
    assert_eq!((status, &body), (200, &whole));
    assert_eq!(headers["content-length"], whole.len().to_string());
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let running = Running::live().await;
    let mut peer = running.connect().await;
    let first = running.stage.first;
    let paths: Vec<_> = (0..5)
        .map(|part| running.stage.media(&format!("{first}.{part}.m4s")))
        .collect();
    peer.send(paths.iter().map(|path| get(path)).collect::<String>()).await;
    for part in 0..5 {
        let (status, headers, _) = peer.answer(true).await;
        assert_eq!((status, &headers["etag"]), (200, &format!("\"{first}.{part}\"")));
    }
}

#[tokio::test]
async fn a_peer_that_says_nothing_or_half_a_preface_is_closed() {
    let running = Running::start(Config {
        first_byte_ms: 100,
        ..config()
    })
    .await;
    let silent = running.connect().await;
    let mut half = running.connect().await;
    half.send("PRI * HTTP/2.0\r\n").await;
    assert_eq!(silent.rest().await.0, "");
    assert_eq!(half.rest().await.0, "");
    assert_eq!(running.refused("first_byte").await, 2);
}

#[tokio::test]
async fn a_head_that_dribbles_in_is_closed_but_a_quiet_connection_is_kept() {
    let running = Running::start(Config {
        header_ms: 200,
        idle_ms: 1_000,
        ..config()
    })
    .await;
    let mut peer = running.connect().await;
    for _ in 0..2 {
        peer.send(get("/time")).await;
        assert_eq!(peer.answer(true).await.0, 200);
        sleep(Duration::from_millis(400)).await; // twice what a head may take
    }
    let (mut read, mut write) = peer.socket.into_split();
    let dribble = async {
        for byte in get("/time").bytes().cycle() {
            if write.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let closed = async { read.read_to_end(&mut Vec::new()).await };
    let begun = Instant::now();
    tokio::select! {
        _ = closed => {}
        () = dribble => {}
        () = sleep(LONG) => panic!("not closed"),
    }
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(running.refused("header").await, 1);
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_after_the_idle_limit() {
    let running = Running::start(Config {
        idle_ms: 1_000,
        ..config()
    })
    .await;
    let mut peer = running.connect().await;
    peer.send(get("/time")).await;
    peer.answer(true).await;
    let (rest, took) = peer.rest().await;
    assert_eq!(rest, "");
    assert!(took >= Duration::from_millis(900), "{took:?}");
    assert_eq!(running.refused("header").await, 0);
}

#[tokio::test]
async fn an_upload_may_take_longer_than_a_head() {
    let running = Running::start(Config {
        header_ms: 100,
        ..config()
    })
    .await;
    let mut peer = running.connect().await;
    peer.send(request("POST", "/api/v1/x", "Content-Length: 8\r\n")).await;
    for piece in ["ab", "cd", "ef", "gh"] {
        sleep(Duration::from_millis(60)).await;
        peer.send(piece).await;
    }
    let (status, _, body) = peer.answer(true).await;
    assert_eq!(
        (status, &body[..]),
        (200, &b"POST /api/v1/x of 127.0.0.1 said abcdefgh"[..])
    );
}

async fn large_segments(config: Config) -> Running {
    let mut running = Running::start(config).await;
    running.stage.frame_bytes = 1 << 20;
    running.stage.push(SEGMENT + 1).await;
    running
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_closed() {
    let running = large_segments(Config {
        write_ms: 100,
        ..config()
    })
    .await;
    let mut peer = running.connect().await;
    peer.send(get(&running.stage.media(&format!("{}.m4s", running.stage.first))))
        .await;
    let begun = Instant::now();
    while running.refused("write").await == 0 {
        assert!(begun.elapsed() < LONG);
        sleep(Duration::from_millis(20)).await;
    }
    while running.stage.metrics.connections.get() > 0 {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_slow_reader_that_goes_on_gets_everything() {
    let running = large_segments(Config {
        write_ms: 500,
        ..config()
    })
    .await;
    let mut peer = running.connect().await;
    peer.send(get(&running.stage.media(&format!("{}.m4s", running.stage.first))))
        .await;
    // Each read makes room for another write; all of it takes longer than the limit.
    for _ in 0..10 {
        sleep(Duration::from_millis(60)).await;
        let mut piece = vec![0; 1 << 20];
        timeout(LONG, peer.socket.read_exact(&mut piece))
            .await
            .unwrap()
            .unwrap();
        peer.read.extend(piece);
    }
    let (status, _, body) = peer.answer(true).await;
    assert!(status == 200 && body.len() > 25 << 20);
    assert_eq!(running.refused("write").await, 0);
}

#[tokio::test]
async fn a_head_beyond_its_limits_is_refused() {
    let running = Running::start(config()).await;
    for headers in [
        format!("X: {}\r\n", "x".repeat(70_000)),
        format!("X: {}\r\n", "x".repeat(17_000)),
        "X: y\r\n".repeat(65),
    ] {
        let mut peer = running.connect().await;
        let _ = peer
            .socket
            .write_all(request("GET", "/time", &headers).as_bytes())
            .await;
        let (answer, _) = peer.rest().await;
        assert!(answer.starts_with("HTTP/1.1 431 ") || answer.is_empty(), "{answer}");
    }
    assert_eq!(running.refused("malformed").await, 3);
}

#[tokio::test]
async fn no_request_is_smuggled_in_another() {
    let running = Running::start(config()).await;
    let inner = "GET /time HTTP/1.1\r\nHost: origin\r\nX: smuggled\r\n\r\n";
    let len = inner.len();
    for (name, headers) in [
        (
            "both",
            format!("Content-Length: {len}\r\nTransfer-Encoding: chunked\r\n"),
        ),
        (
            "both, the other way",
            format!("Transfer-Encoding: chunked\r\nContent-Length: {len}\r\n"),
        ),
        ("two lengths", format!("Content-Length: 0\r\nContent-Length: {len}\r\n")),
        ("a list of lengths", format!("Content-Length: 0, {len}\r\n")),
        ("a signed length", format!("Content-Length: +{len}\r\n")),
        ("another coding", "Transfer-Encoding: chunked, identity\r\n".to_owned()),
        ("a masked coding", "Transfer-Encoding: xchunked\r\n".to_owned()),
        ("a space before the colon", format!("Content-Length : {len}\r\n")),
        ("a folded line", format!("X: y\r\n Content-Length: {len}\r\n")),
        ("a length", format!("Content-Length: {len}\r\n")),
        ("two hosts", "Host: other\r\n".to_owned()),
    ] {
        let mut peer = running.connect().await;
        peer.send(format!("{}{inner}", request("GET", "/time", &headers))).await;
        let (answer, _) = peer.rest().await;
        let answers = answer.matches("HTTP/1.1 ").count();
        assert!(answers <= 1 && !answer.contains(" 200 "), "{name}: {answer}");
    }
    let mut old = running.connect().await;
    old.send(format!(
        "GET /time HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"
    ))
    .await;
    assert!(!old.rest().await.0.contains(" 200 "));
}

#[tokio::test]
async fn what_is_no_http_costs_its_own_connection() {
    let running = Running::start(config()).await;
    for garbage in [
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03",
        "GET\r\n\r\n",
        "GET /\x01 HTTP/1.1\r\n\r\n",
        "\0\0\0\0\0\0\0\0\r\n\r\n",
    ] {
        let mut peer = running.connect().await;
        peer.send(garbage).await;
        let answer = peer.rest().await.0;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{garbage:?}: {answer}"
        );
    }
    let mut peer = running.connect().await;
    peer.send(get("/time")).await;
    assert_eq!(peer.answer(true).await.0, 200);
    peer.send("CONNECT origin:443 HTTP/1.1\r\nHost: origin\r\n\r\n").await;
    assert_eq!(peer.answer(true).await.0, 405);
}

#[tokio::test]
async fn connections_are_limited_in_all_and_by_address() {
    for (limits, reason) in [
        (
            Config {
                max_connections: 2,
                ..config()
            },
            "connections",
        ),
        (
            Config {
                max_connections_per_address: 2,
                ..config()
            },
            "connections_per_address",
        ),
    ] {
        let running = Running::start(limits).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut peer = running.connect().await;
            peer.send(get("/time")).await;
            assert_eq!(peer.answer(true).await.0, 200);
            held.push(peer);
        }
        assert_eq!(running.connect().await.rest().await.0, "");
        assert_eq!(running.refused(reason).await, 1);
        held.pop();
        while running.stage.metrics.connections.get() > 1 {
            sleep(Duration::from_millis(5)).await;
        }
        let mut peer = running.connect().await;
        peer.send(get("/time")).await;
        assert_eq!(peer.answer(true).await.0, 200);
    }
}

#[tokio::test]
async fn h2c_with_prior_knowledge_is_answered_and_one_waiting_request_does_not_stop_another() {
    let mut running = Running::live().await;
    let mut client = running.http2().await;
    let uri = |path: &str| format!("http://origin{path}");
    let send = |client: &mut client::SendRequest<_>, method: &str, path: &str| {
        let request = Request::builder()
            .method(method)
            .uri(uri(path))
            .body(Empty::<Bytes>::new())
            .unwrap();
        client.send_request(request)
    };
    let open = running.stage.first + 3;
    let waiting = send(
        &mut client,
        "GET",
        &format!("/live/demo/v0.m3u8?_HLS_msn={open}&_HLS_part=2"),
    );
    let waiting = tokio::spawn(waiting);
    let segment = send(
        &mut client,
        "GET",
        &running.stage.media(&format!("{}.m4s", running.stage.first)),
    )
    .await
    .unwrap();
    assert_eq!(
        (segment.status(), &segment.headers()["access-control-allow-origin"]),
        (StatusCode::OK, &"*".parse().unwrap())
    );
    let len: usize = segment.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(segment.into_body().collect().await.unwrap().to_bytes().len(), len);
    let head = send(&mut client, "HEAD", &running.stage.media("init.0.mp4"))
        .await
        .unwrap();
    assert!(head.headers().contains_key("content-length") && head.headers().contains_key("date"));
    assert!(head.into_body().collect().await.unwrap().to_bytes().is_empty());
    assert!(!waiting.is_finished());
    running.stage.push(PART).await;
    assert_eq!(
        timeout(LONG, waiting).await.unwrap().unwrap().unwrap().status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn an_http2_stream_that_takes_nothing_ends_its_connection_though_pings_go_on() {
    let running = Running::over(
        {
            let mut stage = Stage::with(&config()).await;
            stage.frame_bytes = 100_000;
            stage.push(SEGMENT + 1).await;
            stage
        },
        Config {
            write_ms: 200,
            ..config()
        },
    )
    .await;
    let mut client = running.http2().await;
    let path = format!(
        "http://origin{}",
        running.stage.media(&format!("{}.m4s", running.stage.first))
    );
    let request = Request::builder().uri(path).body(Empty::<Bytes>::new()).unwrap();
    let stalled = client.send_request(request).await.unwrap(); // more than its window, and never read
    let begun = Instant::now();
    while running.refused("write").await == 0 {
        assert!(begun.elapsed() < LONG);
        sleep(Duration::from_millis(20)).await;
    }
    while running.stage.metrics.connections.get() > 0 {
        sleep(Duration::from_millis(5)).await;
    }
    drop(stalled);
}

#[tokio::test]
async fn an_http2_connection_without_a_request_is_closed_after_the_idle_limit() {
    let running = Running::start(Config {
        write_ms: 100,
        idle_ms: 1_000,
        ..config()
    })
    .await;
    let mut client = running.http2().await;
    let request = Request::builder()
        .uri("http://origin/time")
        .body(Empty::<Bytes>::new())
        .unwrap();
    client
        .send_request(request)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap();
    let begun = Instant::now();
    while running.stage.metrics.connections.get() > 0 {
        assert!(begun.elapsed() < LONG);
        sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(800), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn stopping_lets_requests_finish_and_closes_what_is_quiet() {
    let mut running = Running::live().await;
    let (quiet, mut waiting) = (running.connect().await, running.connect().await);
    let mut kept = running.connect().await;
    kept.send(get("/time")).await;
    kept.answer(true).await;
    waiting
        .send(get(&format!(
            "/live/demo/v0.m3u8?_HLS_msn={}&_HLS_part=2",
            running.stage.first + 3
        )))
        .await;
    while running.stage.metrics.waiting.get() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    running.shutdown.cancel();
    assert_eq!(quiet.rest().await.0, "");
    assert_eq!(kept.rest().await.0, "");
    assert!(TcpStream::connect(running.address).await.is_err());
    assert!(!running.serving.is_finished());
    running.stage.push(PART).await;
    assert_eq!(waiting.answer(true).await.0, 200);
    timeout(LONG, running.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_closed() {
    let running = Running::start(Config {
        drain_ms: 100,
        ..config()
    })
    .await;
    let mut waiting = running.connect().await;
    waiting.send(get("/live/demo/master.m3u8")).await;
    while running.stage.metrics.waiting.get() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    running.shutdown.cancel();
    timeout(Duration::from_secs(2), running.serving).await.unwrap().unwrap();
    assert_eq!(waiting.rest().await.0, "");
    assert_eq!(running.stage.metrics.waiting.get(), 0);
}
