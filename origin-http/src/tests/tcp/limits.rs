//! Limits of a peer of HTTP/1.1: time for a head, for a request, for a response; bytes,
//! connections.

use tokio::io::{DuplexStream, duplex, split};

use super::{
    frames::{END_HEADERS, HEADERS},
    *,
};
use crate::tests::shared;

/// A server of one connection in memory. Paused time advances only when both ends wait, so that
/// the speed of the machine does not matter.
struct InMemory {
    stage: Stage,
    peer: Peer<DuplexStream>,
}

impl InMemory {
    async fn start(config: Config) -> Self {
        let stage = Stage::with(&config).await;
        let (ours, theirs) = duplex(64 << 10);
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        tokio::spawn(shared(&stage, &config).serve(theirs, address, None));
        Self { stage, peer: Peer { socket: ours, read: Vec::new() } }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_nothing_or_half_a_preface_is_closed() {
    for sent in ["", "PRI * HTTP/2.0\r\n"] {
        let mut server = InMemory::start(Config { first_byte_ms: 100, ..config() }).await;
        let begun = Instant::now();
        server.peer.send(sent).await;
        assert_eq!(server.peer.rest().await, "");
        let limit = Duration::from_millis(100);
        assert!((limit..limit * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert_eq!(refused(&server.stage, "first_byte"), 1, "{sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_head_that_takes_too_long_is_closed_but_an_idle_connection_is_kept() {
    let mut server = InMemory::start(Config { header_ms: 200, idle_ms: 1_000, ..config() }).await;
    for _ in 0..2 {
        server.peer.send(get("/time")).await;
        assert_eq!(server.peer.response(true).await.0, 200);
        sleep(Duration::from_millis(400)).await; // twice what a head may take
    }
    let begun = Instant::now();
    let (mut read, mut write) = split(&mut server.peer.socket);
    let dribble = async {
        for byte in get("/time").bytes().cycle() {
            if write.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let closed = async { read.read_to_end(&mut Vec::new()).await };
    tokio::select! {
        _ = closed => {}
        () = dribble => {}
        () = sleep(LONG) => panic!("not closed"),
    }
    let limit = Duration::from_millis(200);
    assert!((limit..limit * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(refused(&server.stage, "header"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_is_closed_after_the_idle_limit() {
    let mut server = InMemory::start(Config { idle_ms: 1_000, ..config() }).await;
    server.peer.send(get("/time")).await;
    server.peer.response(true).await;
    let begun = Instant::now();
    assert_eq!(server.peer.rest().await, "");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(refused(&server.stage, "header"), 0);
}

#[tokio::test(start_paused = true)]
async fn the_idle_limit_begins_when_a_response_has_ended() {
    let idle = Duration::from_secs(1);
    let InMemory { mut stage, mut peer } =
        InMemory::start(Config { idle_ms: 1_000, ..config() }).await;
    stage.push(3 * SEGMENT + 2 * PART + 1).await;
    let open = stage.first + 3;
    peer.send(get(&format!("/live/demo/v0.m3u8?_HLS_msn={open}&_HLS_part=2"))).await;
    sleep(idle * 3 / 2).await;
    stage.push(PART).await;
    assert_eq!(peer.response(true).await.0, 200);
    // A segment that grows: its head has arrived long before its end.
    peer.send(get(&stage.media(&format!("{open}.m4s")))).await;
    while !peer.read.windows(4).any(|window| window == b"\r\n\r\n") {
        peer.more().await;
    }
    sleep(idle * 3 / 2).await;
    stage.push(3 * PART).await;
    assert_eq!(peer.response(true).await.0, 200);
    peer.send(get("/time")).await;
    assert_eq!(peer.response(true).await.0, 200);
    let begun = Instant::now();
    assert_eq!(peer.rest().await, "");
    assert!((idle..idle * 3 / 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_request_body_may_take_longer_than_header_ms() {
    let mut server = InMemory::start(Config { header_ms: 100, ..config() }).await;
    server.peer.send(request("POST", "/api/v1/x", "Content-Length: 8\r\n")).await;
    for piece in ["ab", "cd", "ef", "gh"] {
        sleep(Duration::from_millis(60)).await;
        server.peer.send(piece).await;
    }
    let (status, _, body) = server.peer.response(true).await;
    assert_eq!((status, &body[..]), (200, &b"POST /api/v1/x of 127.0.0.1 sent abcdefgh"[..]));
}

async fn large_segments(config: Config) -> Running {
    let mut running = Running::start(config).await;
    running.stage.frame_bytes = 1 << 20;
    running.stage.push(SEGMENT + 1).await;
    running
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_closed_after_write_ms() {
    let running = large_segments(Config { write_ms: 100, ..config() }).await;
    let mut peer = running.connect().await;
    peer.send(get(&running.stage.media(&format!("{}.m4s", running.stage.first)))).await;
    running.closed_by_write_limit().await;
}

#[tokio::test]
async fn a_request_head_beyond_its_limits_is_refused() {
    let running = Running::start(config()).await;
    for headers in [
        format!("X: {}\r\n", "x".repeat(70_000)),
        format!("X: {}\r\n", "x".repeat(17_000)),
        "X: y\r\n".repeat(65),
    ] {
        let mut peer = running.connect().await;
        let _ = peer.socket.write_all(request("GET", "/time", &headers).as_bytes()).await;
        let response = peer.rest().await;
        assert!(response.starts_with("HTTP/1.1 431 ") || response.is_empty(), "{response}");
    }
    assert_eq!(running.refused("malformed").await, 3);
}

#[tokio::test]
async fn no_request_is_smuggled_in_another() {
    let running = Running::start(config()).await;
    let inner = "GET /time HTTP/1.1\r\nHost: origin\r\nX: smuggled\r\n\r\n";
    let len = inner.len();
    for (name, headers) in [
        ("both", format!("Content-Length: {len}\r\nTransfer-Encoding: chunked\r\n")),
        ("both, the other way", format!("Transfer-Encoding: chunked\r\nContent-Length: {len}\r\n")),
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
        let response = peer.rest().await;
        let responses = response.matches("HTTP/1.1 ").count();
        assert!(responses <= 1 && !response.contains(" 200 "), "{name}: {response}");
    }
    let mut old = running.connect().await;
    old.send(format!("GET /time HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"))
        .await;
    assert!(!old.rest().await.contains(" 200 "));
}

#[tokio::test]
async fn invalid_http_closes_only_its_own_connection() {
    let running = Running::start(config()).await;
    for garbage in [
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03",
        "GET\r\n\r\n",
        "GET /\x01 HTTP/1.1\r\n\r\n",
        "\0\0\0\0\0\0\0\0\r\n\r\n",
    ] {
        let mut peer = running.connect().await;
        peer.send(garbage).await;
        let response = peer.rest().await;
        assert!(
            response.is_empty() || response.starts_with("HTTP/1.1 400 "),
            "{garbage:?}: {response}"
        );
    }
    let mut peer = running.connect().await;
    peer.send(get("/time")).await;
    assert_eq!(peer.response(true).await.0, 200);
    peer.send("CONNECT origin:443 HTTP/1.1\r\nHost: origin\r\n\r\n").await;
    assert_eq!(peer.response(true).await.0, 405);
}

#[tokio::test]
async fn active_connections_are_limited_in_total_and_per_address() {
    for (limits, reason) in [
        (Config { max_connections: 2, ..config() }, "connections"),
        (Config { max_connections_per_address: 2, ..config() }, "connections_per_address"),
    ] {
        let mut running = Running::start(limits).await;
        running.stage.push(3 * SEGMENT + 2 * PART + 1).await;
        let mut held = [running.connect().await, running.connect().await];
        for peer in &mut held {
            peer.send(running.next_part()).await;
        }
        running.waiting(2).await;
        assert_eq!(running.connect().await.rest().await, "");
        assert_eq!(running.refused(reason).await, 1);
        running.stage.push(PART).await;
        for peer in &mut held {
            assert_eq!(peer.response(true).await.0, 200);
        }
        // They are idle now, and the first is closed.
        let mut peer = running.connect().await;
        peer.send(get("/time")).await;
        assert_eq!(peer.response(true).await.0, 200);
        let [first, mut second] = held;
        assert_eq!(first.rest().await, "");
        second.send(get("/time")).await;
        assert_eq!(second.response(true).await.0, 200);
        assert_eq!((running.refused(reason).await, running.evicted(reason)), (1, 1));
    }
}

#[tokio::test]
async fn idle_connections_in_any_protocol_state_are_displaced_by_new_addresses() {
    let mut running = Running::start(Config { max_connections: 6, ..config() }).await;
    running.stage.push(3 * SEGMENT + 2 * PART + 1).await;
    let mut viewer = running.connect_from(1).await;
    viewer.send(running.next_part()).await;
    running.waiting(1).await;
    let mut crowd = Vec::new();
    for (index, words) in
        ["", "GET /time HTTP/1.1\r\nHo", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &get("/time"), "POST"]
            .into_iter()
            .enumerate()
    {
        let mut peer = running.connect_from(2 + u8::try_from(index % 2).unwrap()).await;
        peer.send(words).await;
        if words.starts_with("GET /time HTTP/1.1\r\nHost") {
            assert_eq!(peer.response(true).await.0, 200);
        }
        crowd.push(peer);
    }
    // Five others connect, and each gets its response at once; they stay, and have been idle for a
    // shorter time than the crowd.
    let mut others = Vec::new();
    for last in 10..15 {
        let mut peer = running.connect_from(last).await;
        peer.send(get("/time")).await;
        assert_eq!(peer.response(true).await.0, 200, "{last}");
        others.push(peer);
    }
    for peer in crowd {
        peer.rest().await;
    }
    for peer in &mut others {
        peer.send(get("/time")).await;
        assert_eq!(peer.response(true).await.0, 200);
    }
    running.stage.push(PART).await;
    assert_eq!(viewer.response(true).await.0, 200);
    assert_eq!((running.refused("connections").await, running.evicted("connections")), (0, 5));
}

#[tokio::test]
async fn a_connection_with_an_unfinished_request_is_displaced() {
    let running = Running::start(Config { max_connections: 1, ..config() }).await;
    for _ in 0..2 {
        let mut endless = running.connect().await;
        let half = request("GET", "/time", "Transfer-Encoding: chunked\r\n");
        endless.send(format!("{}{half}", get("/time"))).await;
        assert_eq!(endless.response(true).await.0, 200);
        let mut other = running.connect_from(9).await;
        other.send(get("/time")).await;
        assert_eq!(other.response(true).await.0, 200);
        assert_eq!(endless.rest().await, "");
        // A stream of HTTP/2 whose HEADERS do not end it, and one that does.
        let mut raw = running.raw(None).await;
        raw.send(&frames::frame(HEADERS, END_HEADERS, 1, &frames::block("/time", &[]))).await;
        raw.send(&frames::request_frame(3, "/time", &[])).await;
        while !raw.next_of(3).await.ends() {}
        let mut other = running.connect_from(9).await;
        other.send(get("/time")).await;
        assert_eq!(other.response(true).await.0, 200);
        raw.ended().await;
    }
    assert_eq!(running.refused("connections").await, 0);
}

#[tokio::test]
async fn a_connection_with_an_unread_response_is_not_displaced() {
    let mut running = large_segments(Config { max_connections: 1, ..config() }).await;
    let path = running.stage.media(&format!("{}.m4s", running.stage.first));
    let whole = running.stage.get(&path).await.body.len();
    for http2 in [false, true] {
        let (mut peer, mut response) = (None, None);
        if http2 {
            let mut client = running.http2().await;
            let request =
                Request::get(format!("http://origin{path}")).body(Empty::<Bytes>::new()).unwrap();
            response = Some((client.send_request(request).await.unwrap().into_body(), client));
        } else {
            let mut one = running.connect().await;
            one.send(get(&path)).await;
            one.more().await;
            peer = Some(one);
        }
        assert_eq!(running.connect_from(9).await.rest().await, "");
        let length = match (&mut peer, &mut response) {
            (Some(peer), _) => peer.response(true).await.2.len(),
            (_, Some((body, _))) => body.collect().await.unwrap().to_bytes().len(),
            _ => 0,
        };
        assert_eq!(length, whole);
        // It is idle now, and is closed.
        let mut other = running.connect_from(9).await;
        other.send(get("/time")).await;
        assert_eq!(other.response(true).await.0, 200);
        drop((peer, response, other));
        while running.stage.metrics.server.connections.get() > 0 {
            sleep(Duration::from_millis(2)).await;
        }
    }
    running.stage.push(1).await;
}
