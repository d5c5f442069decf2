//! Violations by a peer, and their consequences.

use super::*;

const GET: &[u8] = &[0xd1];
const HTTPS: &[u8] = &[0xd7];
const AUTHORITY: &[u8] = b"\x50\x06origin";
const TIME: &[u8] = b"\x51\x05/time";
/// The code of the reset for a malformed request (RFC 9114 8.1).
const MESSAGE_ERROR: u64 = 0x10e;
const FRAME_UNEXPECTED: u64 = 0x105;
const EXCESSIVE_LOAD: u64 = 0x107;
/// First byte of the field section of a 200; and of a status that the static table does not hold
/// completely.
const OK: u8 = 0xc0 | 25;
const OTHER: u8 = 0x5f;

fn section(lines: &[&[u8]]) -> Vec<u8> {
    frame(1, &[&[0, 0][..], &lines.concat()].concat())
}

#[tokio::test]
async fn malformed_requests_are_reset_and_the_connection_continues() {
    let running = Running::live().await;
    let (_endpoint, quic) = bare(&running).await;
    let good: [&[u8]; 4] = [GET, HTTPS, AUTHORITY, TIME];
    let with = |more: &'static [u8]| section(&[&good[..], &[more]].concat());
    for (name, request) in [
        ("two paths", with(TIME)),
        ("no authority", section(&[GET, HTTPS, TIME])),
        ("an empty authority", section(&[GET, HTTPS, b"\x50\x00", TIME])),
        ("no path", section(&[GET, HTTPS, AUTHORITY])),
        ("no method", section(&[HTTPS, AUTHORITY, TIME])),
        ("a status", with(&[OK])),
        ("another Host", with(b"\x24host\x05other")),
        ("a field of the connection", with(b"\x27\x03connection\x05close")),
        ("a coding of transfer", with(b"\x27\x0atransfer-encoding\x07chunked")),
        ("capitals", with(b"\x21X\x01y")),
        ("two lengths", with(b"\x54\x015\x54\x016")),
        ("a control character", with(b"\x21x\x02\r\n")),
    ] {
        let (_send, recv) = send_bare(&quic, &request).await;
        assert_eq!(outcome(recv).await, Err(MESSAGE_ERROR), "{name}");
    }
    let (_send, recv) = send_bare(&quic, &section(&good)).await;
    assert_eq!(outcome(recv).await, Ok(OK));
    let (_send, recv) = send_bare(&quic, &with(b"\x24host\x06origin")).await;
    assert_eq!(outcome(recv).await, Ok(OK));
    assert!(running.refused("malformed") >= 12);
}

#[tokio::test]
async fn a_request_body_with_a_wrong_content_length_is_not_accepted() {
    let running = Running::live().await;
    let (_endpoint, quic) = bare(&running).await;
    let post = section(&[&[0xc0 | 20], HTTPS, AUTHORITY, b"\x51\x09/api/echo", b"\x54\x014"]);
    let data = |bytes: &[u8]| [&post[..], &frame(0, bytes)].concat();
    let (_send, recv) = send_bare(&quic, &data(b"four")).await;
    assert_eq!(outcome(recv).await, Ok(OK));
    for bytes in [&b"fiver"[..], b"six"] {
        let (_send, recv) = send_bare(&quic, &data(bytes)).await;
        assert_ne!(outcome(recv).await, Ok(OK), "{bytes:?}");
    }
}

#[tokio::test]
async fn a_request_stream_that_ends_within_a_frame_closes_the_connection() {
    let running = Running::live().await;
    let get = section(&[GET, HTTPS, AUTHORITY, TIME]);
    let post = section(&[&[0xc0 | 20], HTTPS, AUTHORITY, b"\x51\x09/api/echo"]);
    for cut in [
        get[..1].to_vec(),
        get[..get.len() - 1].to_vec(),
        [&get[..], &[0, 5]].concat(),
        [&post[..], &[0, 5, b'f', b'o', b'u', b'r']].concat(),
    ] {
        let (_endpoint, quic) = bare(&running).await;
        let (_send, _recv) = send_bare(&quic, &cut).await;
        assert_eq!(closed(&quic).await, 0x106, "{cut:02x?}"); // H3_FRAME_ERROR
    }
    until(|| running.refused("malformed") == 4).await;
}

#[tokio::test]
async fn violations_on_unidirectional_streams_close_the_connection() {
    let running = Running::live().await;
    for (name, stream, ends, code) in [
        ("a push", &[1, 0][..], false, 0x103),
        ("a second control stream", &[0], false, 0x103),
        ("a table", &[2, 0x3f, 0xe1, 0x1f], false, 0x201),
        ("an acknowledgement of what was never sent", &[3, 0x80], false, 0x202),
        ("a decoder that leaves", &[3], true, 0x104),
    ] {
        let (_endpoint, quic) = bare(&running).await;
        // After the settings.
        let (_send, recv) = send_bare(&quic, &section(&[GET, HTTPS, AUTHORITY, TIME])).await;
        assert_eq!(outcome(recv).await, Ok(OK));
        let mut other = quic.open_uni().await.unwrap();
        other.write_all(stream).await.unwrap();
        if ends {
            other.finish().unwrap();
        }
        assert_eq!(closed(&quic).await, code, "{name}");
    }
    for (name, frames, code) in [
        ("fewer pushes", [frame(0xd, &[9]), frame(0xd, &[1])].concat(), 0x108),
        ("a push that was not promised", frame(3, &[0]), 0x108),
        ("data", frame(0, b"data"), 0x105),
    ] {
        let (_endpoint, quic, mut control) = settled(&running).await;
        control.write_all(&frames).await.unwrap();
        assert_eq!(closed(&quic).await, code, "{name}");
    }
    // The server's streams must be read.
    for n in 0..3 {
        let (_endpoint, quic) = bare(&running).await;
        let mut ours = Vec::new();
        for _ in 0..3 {
            ours.push(timeout(LONG, quic.accept_uni()).await.unwrap().unwrap());
        }
        ours[n].stop(quinn::VarInt::from_u32(0)).unwrap();
        assert_eq!(closed(&quic).await, 0x104, "stream {n}");
    }
    until(|| running.refused("malformed") == 11).await;
}

#[tokio::test]
async fn streams_of_unknown_type_are_stopped_and_the_connection_continues() {
    let running = Running::live().await;
    let (_endpoint, quic) = bare(&running).await;
    // More than may be open at once, so that earlier ones have to end.
    for _ in 0..20 {
        let mut unknown = timeout(LONG, quic.open_uni()).await.unwrap().unwrap();
        unknown.write_all(&[0x21, 1, 2, 3]).await.unwrap();
        let stopped = timeout(LONG, unknown.stopped()).await.unwrap().unwrap();
        assert_eq!(stopped.map(quinn::VarInt::into_inner), Some(0x103));
    }
    let (_send, recv) = send_bare(&quic, &section(&[GET, HTTPS, AUTHORITY, TIME])).await;
    assert_eq!(outcome(recv).await, Ok(OK));
}

#[tokio::test]
async fn an_unvalidated_address_gets_at_most_three_times_the_bytes_it_sent() {
    let hasty = Config { first_byte_ms: 500, ..config() };
    // A flight longer than that, and a first datagram three times whose size is not a multiple of
    // the server's.
    let odd = |transport: &mut TransportConfig| {
        transport.initial_mtu(1_250).min_mtu(1_250);
    };
    let socket = QuicSocket::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let running = Running::over(Stage::live().await, socket, Certificate::large(), hasty, |_| ());
    let relay = path::Relay::start(running.address, path::Rate::OneWay).await;
    let endpoint = running.certificate.client(odd);
    let _connecting = endpoint.connect(relay.address, NAME).unwrap();
    until(|| running.refused("first_byte") == 1).await;
    let (sent, received) = relay.bytes();
    assert!(received > 2 * sent, "{received} for {sent}: the limit was not reached");
    assert!(received <= 3 * sent, "{received} for {sent}");
    // A validated client gets the rest at once: a lost datagram would be sent again after hundreds
    // of milliseconds.
    let mut client = running.client_with(running.address, odd).await;
    assert_eq!(client.get("/time").await.status, StatusCode::OK);
    assert_eq!(client.quic.stats().path.lost_packets, 0);
}

#[tokio::test]
async fn a_field_section_that_is_too_large_compressed_or_not_is_refused() {
    let running = Running::live().await;
    let (_endpoint, quic) = bare(&running).await;
    // Two bytes for a field of about a hundred: content-security-policy, 7 000 times.
    let bomb = [0xff, 85 - 63].repeat(7_000);
    let (_send, recv) = send_bare(&quic, &section(&[GET, HTTPS, AUTHORITY, TIME, &bomb])).await;
    assert_eq!(outcome(recv).await, Ok(OTHER));
    // A frame that declares a gigabyte, and whose bytes have not arrived.
    let mut long = Vec::new();
    testing::write_varint(1, &mut long);
    testing::write_varint(1 << 30, &mut long);
    let (mut send, recv) = quic.open_bi().await.unwrap();
    send.write_all(&long).await.unwrap();
    assert_eq!(outcome(recv).await, Ok(OTHER));
    let many = b"\x21x\x01y".repeat(65);
    let (_send, recv) = send_bare(&quic, &section(&[GET, HTTPS, AUTHORITY, TIME, &many])).await;
    assert_eq!(outcome(recv).await, Ok(OTHER));
    let (_send, recv) = send_bare(&quic, &section(&[GET, HTTPS, AUTHORITY, TIME])).await;
    assert_eq!(outcome(recv).await, Ok(OK));
}

#[tokio::test]
async fn endless_settings_close_the_connection() {
    let running = Running::live().await;
    let endpoint = running.certificate.client(|_| ());
    let quic = endpoint.connect(running.address, NAME).unwrap().await.unwrap();
    let mut control = quic.open_uni().await.unwrap();
    let mut begin = vec![0, 4];
    testing::write_varint(1 << 40, &mut begin);
    control.write_all(&begin).await.unwrap();
    assert!(timeout(LONG, quic.closed()).await.is_ok());
}

#[tokio::test]
async fn a_data_frame_before_headers_closes_the_connection() {
    let running = Running::live().await;
    let (_endpoint, quic) = bare(&running).await;
    let (_send, _recv) = send_bare(&quic, &frame(0, b"data")).await;
    assert_eq!(closed(&quic).await, FRAME_UNEXPECTED);
    until(|| running.refused("malformed") == 1).await;
}

#[tokio::test]
async fn the_number_of_request_streams_is_limited() {
    let few = Config { max_streams: 4, ..config() };
    let running = Running::start(few, |_| ()).await;
    let (_endpoint, quic) = bare(&running).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut stream = quic.open_bi().await.unwrap();
        stream.0.write_all(&section(&[GET])[..2]).await.unwrap();
        open.push(stream);
    }
    let fifth = tokio::select! {
        biased;
        _ = quic.open_bi() => true,
        () = tokio::task::yield_now() => false,
    };
    assert!(!fifth);
    // Its end would cut a frame.
    for (mut send, _recv) in open {
        send.reset(quinn::VarInt::from_u32(0x10c)).unwrap(); // H3_REQUEST_CANCELLED
    }
    assert!(timeout(LONG, quic.open_bi()).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_request_whose_headers_do_not_arrive_in_time_is_reset() {
    let hasty = Config { header_ms: 100, ..config() };
    let running = Running::start(hasty, |_| ()).await;
    let (_endpoint, quic) = bare(&running).await;
    let (mut send, recv) = quic.open_bi().await.unwrap();
    send.write_all(&section(&[GET])[..2]).await.unwrap();
    assert_eq!(outcome(recv).await, Err(0x10d)); // H3_REQUEST_INCOMPLETE
    assert_eq!(running.refused("header"), 1);
}

#[tokio::test]
async fn a_client_that_does_not_read_its_response_is_closed() {
    let hasty = Config { write_ms: 200, ..config() };
    let running = Running::start(hasty, |_| ()).await;
    let narrow = |transport: &mut TransportConfig| {
        transport.stream_receive_window(8_192u32.into());
    };
    let mut client = running.client_with(running.address, narrow).await;
    let path = running.stage.media(&format!("{}.m4s", running.stage.first));
    let mut stream = client.send(Method::GET, &path, &[]).await;
    stream.finish().await.unwrap();
    assert_eq!(closed(&client.quic).await, EXCESSIVE_LOAD);
    assert_eq!(running.refused("write"), 1);
    let metrics = running.stage.metrics.clone();
    until(|| metrics.server.connections.get() == 0).await;
}

#[tokio::test]
async fn active_connections_are_limited_per_address() {
    let few = Config { max_connections_per_address: 2, ..config() };
    let mut running = Running::start(few, |_| ()).await;
    let path = format!("/live/demo/v0.m3u8?_HLS_msn={}&_HLS_part=0", running.stage.first + 4);
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = running.client().await;
        let mut stream = client.send(Method::GET, &path, &[]).await;
        stream.finish().await.unwrap();
        held.push((client, stream));
    }
    let metrics = running.stage.metrics.clone();
    until(|| metrics.waiting.get() == 2).await;
    let endpoint = running.certificate.client(|_| ());
    let third = endpoint.connect(running.address, NAME).unwrap().await.unwrap();
    assert!(timeout(LONG, third.closed()).await.is_ok());
    assert_eq!(running.refused("connections_per_address"), 1);
    running.stage.push(2 * SEGMENT).await;
    let mut clients = Vec::new();
    for (client, stream) in held {
        assert_eq!(whole(stream).await.status, StatusCode::OK);
        clients.push(client);
    }
    // The first is idle now, and is closed.
    let mut fourth = running.client().await;
    assert_eq!(fourth.get("/time").await.status, StatusCode::OK);
    let closed = timeout(LONG, clients[0].quic.closed()).await.unwrap();
    assert!(matches!(closed, quinn::ConnectionError::ApplicationClosed(_)), "{closed}");
    assert_eq!(clients[1].get("/time").await.status, StatusCode::OK);
    assert_eq!(running.evicted("connections_per_address"), 1);
}

#[tokio::test]
async fn a_connection_with_an_unfinished_request_is_displaced() {
    let one = Config { max_connections: 1, ..config() };
    let running = Running::start(one, |_| ()).await;
    let mut client = running.client().await;
    let _endless = client.send(Method::GET, "/time", &[]).await;
    assert_eq!(client.get("/time").await.status, StatusCode::OK);
    assert_eq!(running.client().await.get("/time").await.status, StatusCode::OK);
    assert_eq!(
        (running.refused("connections"), running.evicted("connections_per_address")),
        (0, 0)
    );
    assert_eq!(running.evicted("connections"), 1);
}

#[tokio::test]
async fn a_connection_with_undelivered_last_bytes_is_displaced_at_once() {
    let one = Config { max_connections: 1, ..config() };
    let running = Running::start(one, |_| ()).await;
    let relay = path::Relay::start(running.address, path::Rate::Free).await;
    let mut first = running.client_with(relay.address, |_| ()).await;
    assert_eq!(first.get("/time").await.status, StatusCode::OK);
    relay.mute();
    let mut unheard = first.send(Method::GET, "/time", &[]).await;
    unheard.finish().await.unwrap();
    until(|| running.served() == 2).await;
    let mut second = running.client().await;
    assert_eq!(second.get("/time").await.status, StatusCode::OK);
    assert_eq!(running.evicted("connections"), 1);
    assert_eq!(running.stage.metrics.server.connections.get(), 1);
}

#[tokio::test]
async fn a_request_of_a_connection_that_makes_room_may_be_repeated() {
    let one = Config { max_connections: 1, ..config() };
    let running = Running::start(one, |_| ()).await;
    let (_endpoint, quic, _control) = settled(&running).await;
    let (_send, recv) = send_bare(&quic, &get_frame("/time")).await;
    assert_eq!(outcome(recv).await, Ok(0xc0 | 25));
    assert_eq!(running.client().await.get("/time").await.status, StatusCode::OK);
    assert_eq!(closed(&quic).await, 0x100); // H3_NO_ERROR
    assert_eq!(goaways(&quic).await, [4]);
}

#[tokio::test]
async fn a_connection_that_waits_for_its_permit_is_served() {
    // A connection waits for its permit for a second, which must not pass before the permit is
    // returned.
    let stopped = StoppedClock::new();
    let limit = ConnectionLimit::new("connections", 1, 1, Arc::new(()));
    // As many connections as may be closing at a time: a new one waits until one has ended.
    let now = tokio::time::Instant::now();
    let closing: Vec<_> = std::iter::from_fn(|| limit.try_admit(None, now).ok()).collect();
    let running = Running::start(config(), |endpoint| endpoint.limit(&limit)).await;
    let mut client = running.client().await;
    assert_eq!(client.get("/time").await.status, StatusCode::OK);
    assert_eq!(running.stage.metrics.server.connections.get(), 0);
    drop((closing, stopped));
    until(|| running.stage.metrics.server.connections.get() == 1).await;
    assert_eq!(client.get("/time").await.status, StatusCode::OK);
}

/// Stops tokio's clock, which sockets do not need, until it is dropped.
struct StoppedClock {
    _released: std::sync::mpsc::Sender<()>,
}

impl StoppedClock {
    fn new() -> Self {
        let (released, waits) = std::sync::mpsc::channel();
        // Paused time advances by itself when all tasks wait, but not beside blocking work. The
        // limit ends a test that waits for ever.
        tokio::task::spawn_blocking(move || waits.recv_timeout(LONG));
        tokio::time::pause();
        Self { _released: released }
    }
}

impl Drop for StoppedClock {
    fn drop(&mut self) {
        tokio::time::resume();
    }
}
