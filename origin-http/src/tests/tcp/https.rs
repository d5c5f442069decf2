//! The same over TLS: offered protocols, connections that are cut, and the order of responses that
//! share a connection.

use std::sync::Arc;

use http_server::{QuicSocket, testing};
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{DuplexStream, duplex};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{frames::*, *};
use crate::tests::shared;

struct Secure {
    stage: Stage,
    address: SocketAddr,
    client: Arc<ClientConfig>,
    retire: CancellationToken,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Secure {
    async fn start(stage: Stage, config: Config, alpn: &[&str], quic: bool) -> Self {
        let (certificates, roots) = testing::certificate();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let udp = || QuicSocket::new(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let sockets = Sockets {
            https: vec![listener],
            quic: quic.then(udp).into_iter().collect(),
            ..Sockets::default()
        };
        let server = server(&stage, &config, sockets, Some(certificates));
        let (retire, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let serving = tokio::spawn(server.serve(retire.clone(), shutdown.clone()));
        let client = testing::client(roots, rustls::crypto::ring::DEFAULT_CIPHER_SUITES, alpn);
        Self { stage, address, client: Arc::new(client), retire, shutdown, serving }
    }

    async fn connect(&self) -> Peer<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.client));
        Peer {
            socket: connector.connect("origin".try_into().unwrap(), socket).await.unwrap(),
            read: Vec::new(),
        }
    }
}

#[tokio::test]
async fn responses_over_tls_advertise_http3_by_alt_svc_and_plain_ones_do_not() {
    for quic in [true, false] {
        let secure = Secure::start(Stage::live().await, config(), &["http/1.1"], quic).await;
        let mut peer = secure.connect().await;
        peer.send(get("/time")).await;
        let (status, headers, _) = peer.response(true).await;
        let offered = headers.get("alt-svc");
        assert_eq!((status, offered.is_some()), (200, quic), "{headers:?}");
        if let Some(offered) = offered {
            assert!(
                offered.starts_with("h3=\":") && offered.ends_with("\"; ma=86400"),
                "{offered}"
            );
        }
        secure.shutdown.cancel();
    }
    let running = Running::live().await;
    let mut peer = running.connect().await;
    peer.send(get("/time")).await;
    assert!(!peer.response(true).await.1.contains_key("alt-svc"));
}

#[tokio::test]
async fn media_over_tls_arrive_unchanged_on_one_connection() {
    let secure = Secure::start(Stage::live().await, config(), &["http/1.1"], false).await;
    let path = secure.stage.media(&format!("{}.m4s", secure.stage.first));
    let expected = secure.stage.get(&path).await.body;
    let mut peer = secure.connect().await;
    for _ in 0..3 {
        peer.send(get(&path)).await;
        let (status, _, body) = peer.response(true).await;
        assert!(status == 200 && body == expected);
    }
    peer.socket.shutdown().await.unwrap();
    let mut rest = Vec::new();
    // Only an announced end counts as an end.
    timeout(LONG, peer.socket.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn connections_without_a_tls_handshake_are_closed_and_counted() {
    let running =
        Secure::start(Stage::live().await, Config { first_byte_ms: 100, ..config() }, &[], false)
            .await;
    let plain = || async {
        Peer { socket: TcpStream::connect(running.address).await.unwrap(), read: Vec::new() }
    };
    let silent = plain().await;
    let mut garbage = plain().await;
    garbage.send(get("/time")).await;
    let mut half = plain().await;
    let mut session =
        ClientConnection::new(Arc::clone(&running.client), "origin".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    half.send(&hello).await;
    assert_eq!(silent.rest().await, "");
    assert!(garbage.rest().await.starts_with('\u{15}'), "an alert");
    half.rest().await;
    assert_eq!(refused(&running.stage, "first_byte"), 2);
    assert_eq!(refused(&running.stage, "handshake"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_is_closed_and_a_slow_reader_is_not() {
    const WRITE: Duration = Duration::from_millis(300);
    let settings = Config { write_ms: 300, ..config() };
    let mut stage = Stage::with(&settings).await;
    stage.frame_bytes = 100_000;
    stage.push(SEGMENT + 1).await;
    let path = stage.media(&format!("{}.m4s", stage.first));
    let whole = stage.get(&path).await.body;
    for secure in [false, true] {
        let before = refused(&stage, "write");
        let mut slow = pipe(&stage, settings.clone(), secure).await;
        slow.send(get(&path)).await;
        let begun = Instant::now();
        for _ in 0..10 {
            sleep(WRITE / 2).await;
            let mut piece = vec![0; 64 << 10];
            slow.socket.read_exact(&mut piece).await.unwrap();
            slow.read.extend(piece);
        }
        assert!(begun.elapsed() >= 5 * WRITE, "all of it takes longer than the limit");
        assert!(slow.response(true).await.2 == whole);
        assert_eq!(refused(&stage, "write"), before, "{secure}");
        let mut stuck = pipe(&stage, settings.clone(), secure).await;
        stuck.send(get(&path)).await;
        let begun = Instant::now();
        while refused(&stage, "write") == before {
            assert!(begun.elapsed() < 4 * WRITE, "{secure}");
            sleep(WRITE / 10).await;
        }
        assert!(begun.elapsed() >= WRITE, "{secure}");
    }
}

/// A client of HTTP/1.1 over a pipe with a small buffer, in which only waits take time: for paused
/// time.
async fn pipe(stage: &Stage, config: Config, secure: bool) -> Peer<Box<dyn Stream>> {
    let (certificates, roots) = testing::certificate();
    let certificates = secure.then_some(certificates);
    let (ours, theirs) = duplex(16 << 10);
    let shared = shared(stage, &config);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    tokio::spawn(shared.serve(ours, peer, certificates));
    let client = testing::client(roots, rustls::crypto::ring::DEFAULT_CIPHER_SUITES, &["http/1.1"]);
    let connector = TlsConnector::from(Arc::new(client));
    let socket: Box<dyn Stream> = match secure {
        true => Box::new(connector.connect("origin".try_into().unwrap(), theirs).await.unwrap()),
        false => Box::new(theirs),
    };
    Peer { socket, read: Vec::new() }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

#[tokio::test]
async fn unsafe_requests_in_early_data_get_425() {
    let secure = Secure::start(Stage::live().await, config(), &["http/1.1"], false).await;
    let mut first = secure.connect().await;
    first.send(get("/time")).await;
    first.response(true).await; // and a ticket
    for (request, expected) in [
        (request("POST", "/api/v1/x", "Content-Length: 0\r\n"), "HTTP/1.1 425 "),
        (get("/time"), "HTTP/1.1 200 "),
    ] {
        let mut session =
            ClientConnection::new(Arc::clone(&secure.client), "origin".try_into().unwrap())
                .unwrap();
        std::io::Write::write_all(&mut session.early_data().expect("a ticket"), request.as_bytes())
            .unwrap();
        let mut flight = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut flight).unwrap();
        }
        let mut socket = TcpStream::connect(secure.address).await.unwrap();
        socket.write_all(&flight).await.unwrap();
        // The client's last message of the handshake is never sent.
        let mut response = Vec::new();
        while !response.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut bytes = vec![0; 1 << 14];
            let count = timeout(LONG, socket.read(&mut bytes)).await.unwrap().unwrap();
            session.read_tls(&mut &bytes[..count]).unwrap();
            session.process_new_packets().unwrap();
            let mut plain = vec![0; 1 << 14];
            if let Ok(count) = std::io::Read::read(&mut session.reader(), &mut plain) {
                response.extend(&plain[..count]);
            }
        }
        let response = String::from_utf8_lossy(&response);
        assert!(response.starts_with(expected), "{response}");
    }
    // A proxy that forwards a client's early data marks the request (RFC 8470 5.1).
    first.send(request("DELETE", "/api/v1/x", "Early-Data: 1\r\n")).await;
    assert_eq!(first.response(true).await.0, 425);
}

#[tokio::test]
async fn a_retiring_server_completes_requests_and_then_closes_its_connections() {
    let mut secure = Secure::start(Stage::live().await, config(), &["h2", "http/1.1"], false).await;
    let running = Running::over(Stage::live().await, config()).await;
    let mut kept = running.connect().await;
    kept.send(get("/time")).await;
    assert!(!kept.response(true).await.1.contains_key("connection"));
    let mut raw = Raw::begin(secure.connect().await.socket, None).await;
    let waits = format!("/live/demo/v0.m3u8?_HLS_msn={}&_HLS_part=2", secure.stage.first + 3);
    raw.send(&request_frame(1, &waits, &[])).await;
    while secure.stage.metrics.waiting.get() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    secure.retire.cancel();
    running.retire.cancel();
    while TcpStream::connect(secure.address).await.is_ok()
        || TcpStream::connect(running.address).await.is_ok()
    {
        sleep(Duration::from_millis(5)).await;
    }
    // HTTP/1: the connection stays until the next response, which is the last.
    kept.send(get("/time")).await;
    let (status, headers, _) = kept.response(true).await;
    assert_eq!((status, &headers["connection"][..]), (200, "close"));
    assert_eq!(kept.rest().await, "");
    timeout(LONG, running.serving).await.expect("nobody is left").unwrap();
    // HTTP/2: requests in progress get their responses.
    loop {
        let frame = raw.next().await.unwrap();
        if frame.kind == PING {
            raw.send(&frame_ack(&frame.payload)).await;
        }
        if frame.kind == GOAWAY && frame.payload[..4] != [0x7f, 0xff, 0xff, 0xff] {
            break;
        }
    }
    assert!(!secure.serving.is_finished());
    secure.stage.push(PART).await;
    assert_eq!(raw.next_of(1).await.payload[0], 0x88);
    assert_eq!(raw.ended().await, None);
    timeout(LONG, secure.serving).await.expect("nobody is left").unwrap();
}

fn frame_ack(payload: &[u8]) -> Vec<u8> {
    frame(PING, 1, 0, payload)
}

/// A connection over TLS and a pipe with a small buffer, so that the order is decided late.
async fn narrow(stage: &Stage) -> Raw<TlsStream<DuplexStream>> {
    let (certificates, roots) = testing::certificate();
    let (ours, theirs) = duplex(16 << 10);
    let shared = shared(stage, &config());
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    tokio::spawn(shared.serve(ours, peer, Some(certificates)));
    let client = testing::client(roots, rustls::crypto::ring::DEFAULT_CIPHER_SUITES, &["h2"]);
    let connector = TlsConnector::from(Arc::new(client));
    let socket = connector.connect("origin".try_into().unwrap(), theirs).await.unwrap();
    Raw::begin(socket, None).await
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_that_sends_requests_gets_goaway_in_a_lull() {
    let stage = Stage::live().await;
    let shared = Arc::new(shared(&stage, &config()));
    let (ours, theirs) = duplex(64 << 10);
    let serving = Arc::clone(&shared);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    tokio::spawn(async move { serving.serve(ours, peer, None).await });
    let mut raw = Raw::begin(theirs, None).await;
    raw.send(&request_frame(1, "/time", &[])).await;
    while !raw.next_of(1).await.ends() {}
    shared.retire().trigger();
    // Each response is followed by a request, as by players.
    for n in 1..20 {
        sleep(Duration::from_millis(20)).await;
        let stream = 2 * n + 1;
        raw.send(&request_frame(stream, "/time", &[])).await;
        loop {
            let frame = raw.next().await.expect("the connection goes on");
            assert_ne!(frame.kind, GOAWAY, "before the response to request {n}");
            if frame.stream == stream && frame.ends() {
                break;
            }
        }
    }
    let frame = raw.next().await.expect("a frame in the lull");
    assert_eq!(frame.kind, GOAWAY);

    // A client that never pauses gets it nevertheless.
    let (ours, theirs) = duplex(64 << 10);
    let serving = Arc::clone(&shared);
    tokio::spawn(async move { serving.serve(ours, peer, None).await });
    let mut raw = Raw::begin(theirs, None).await;
    let begun = Instant::now();
    let mut stream = 1;
    loop {
        raw.send(&request_frame(stream, "/time", &[])).await;
        let frame = raw.next().await.expect("the connection goes on");
        if frame.kind == GOAWAY {
            break;
        }
        sleep(Duration::from_millis(20)).await;
        stream += 2;
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// The streams in the order in which their responses end.
async fn order(raw: &mut Raw<TlsStream<DuplexStream>>, count: usize) -> Vec<u32> {
    let mut ended = Vec::new();
    while ended.len() < count {
        let frame = raw.next().await.expect("the connection goes on");
        if frame.ends() {
            ended.push(frame.stream);
        }
    }
    ended
}

/// A response of the API of `size` bytes that declares its urgency, as media do.
fn ours(urgency: u8, size: usize) -> String {
    format!("/api/urgent/{urgency}/{size}")
}

const MEGABYTE: usize = 1 << 20;

#[tokio::test]
async fn a_playlist_requested_last_overtakes_segments_in_progress() {
    let stage = Stage::live().await;
    let mut raw = narrow(&stage).await;
    for stream in [1, 3, 5] {
        raw.send(&request_frame(stream, &ours(4, 8 * MEGABYTE), &[])).await;
    }
    let mut before = 0;
    while before < MEGABYTE {
        before += raw.next().await.unwrap().payload.len();
    }
    raw.send(&request_frame(7, "/live/demo/v0.m3u8", &[])).await;
    raw.send(&request_frame(9, &ours(2, MEGABYTE), &[])).await;
    let mut others = 0;
    let mut ended = Vec::new();
    while ended.len() < 2 {
        let frame = raw.next().await.unwrap();
        if matches!(frame.stream, 7 | 9) {
            if frame.ends() {
                ended.push(frame.stream);
            }
        } else {
            others += frame.payload.len();
        }
    }
    assert_eq!(ended, [7, 9]);
    // Bytes buffered before: by the schedule, TLS and the pipe.
    assert!(others <= 640 << 10, "{others} bytes of the segments came first");
}

#[tokio::test]
async fn responses_are_sent_in_order_of_the_servers_urgency() {
    let stage = Stage::live().await;
    let mut raw = narrow(&stage).await;
    for (stream, urgency) in [(1, 6), (3, 5), (5, 4), (7, 3), (9, 2)] {
        raw.send(&request_frame(stream, &ours(urgency, 2 * MEGABYTE), &[])).await;
    }
    assert_eq!(order(&mut raw, 5).await, [9, 7, 5, 3, 1]);
}

#[tokio::test]
async fn the_clients_priority_field_precedes_the_servers_urgency() {
    let stage = Stage::live().await;
    let mut raw = narrow(&stage).await;
    for (stream, urgency, requested) in [(1, 1, "u=7"), (3, 3, ""), (5, 6, "u=0"), (7, 2, "u=5, i")]
    {
        let fields = if requested.is_empty() { vec![] } else { vec![("priority", requested)] };
        raw.send(&request_frame(stream, &ours(urgency, 2 * MEGABYTE), &fields)).await;
    }
    assert_eq!(order(&mut raw, 4).await, [5, 3, 7, 1]);
}

#[tokio::test]
async fn a_stream_without_a_window_does_not_block_others() {
    let stage = Stage::live().await;
    let mut raw = narrow(&stage).await;
    // All windows are zero now, and then those of two streams are large.
    raw.send(&frame(SETTINGS, 0, 0, &setting(4, 0))).await;
    for (stream, urgency) in [(1, 1), (3, 3), (5, 4)] {
        raw.send(&request_frame(stream, &ours(urgency, 2 * MEGABYTE), &[])).await;
    }
    for stream in [3, 5] {
        raw.send(&frame(WINDOW_UPDATE, 0, stream, &(1_u32 << 29).to_be_bytes())).await;
    }
    let mut ended = order(&mut raw, 2).await;
    ended.sort_unstable();
    assert_eq!(ended, [3, 5]);
    raw.send(&frame(WINDOW_UPDATE, 0, 1, &(1_u32 << 29).to_be_bytes())).await;
    assert_eq!(order(&mut raw, 1).await, [1]);
}
#[tokio::test]
async fn the_task_of_a_connection_is_at_most_8_kib() {
    let stage = Stage::live().await;
    let (certificates, _) = testing::certificate();
    let (ours, _theirs) = duplex(1);
    let shared = shared(&stage, &config());
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    // Ten thousand may be idle at once; their buffers are additional.
    let task = shared.serve(ours, peer, Some(certificates));
    assert!(std::mem::size_of_val(&task) <= 8 << 10);
}

#[tokio::test]
async fn stalled_handshakes_and_idle_connections_are_displaced_by_new_ones() {
    let few = Config { max_connections: 1, ..config() };
    for alpn in ["http/1.1", "h2"] {
        let secure = Secure::start(Stage::live().await, few.clone(), &[alpn], false).await;
        let silent =
            Peer { socket: TcpStream::connect(secure.address).await.unwrap(), read: Vec::new() };
        let mut idle = secure.connect().await;
        assert_eq!(silent.rest().await, "");
        if alpn == "h2" {
            let mut raw = Raw::begin(idle.socket, None).await;
            raw.send(&request_frame(1, "/time", &[])).await;
            while !raw.next_of(1).await.ends() {}
            let _next = secure.connect().await;
            while raw.next().await.expect("a GOAWAY").kind != GOAWAY {}
            while raw.next().await.is_some() {}
        } else {
            idle.send(get("/time")).await;
            assert_eq!(idle.response(true).await.0, 200);
            let _next = secure.connect().await;
            // The end is announced (close_notify); otherwise this fails.
            let mut last_bytes = Vec::new();
            timeout(LONG, idle.socket.read_to_end(&mut last_bytes)).await.unwrap().unwrap();
        }
        assert_eq!(refused(&secure.stage, "connections"), 0);
        secure.shutdown.cancel();
    }
}
