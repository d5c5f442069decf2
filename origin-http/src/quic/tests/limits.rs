//! What a peer may not do, and what becomes of one that does.

use super::*;

const GET: &[u8] = &[0xd1];
const HTTPS: &[u8] = &[0xd7];
const AUTHORITY: &[u8] = b"\x50\x06origin";
const TIME: &[u8] = b"\x51\x05/time";
/// What a stream of a malformed request is reset with (RFC 9114 8.1).
const MESSAGE_ERROR: u64 = 0x10e;
const FRAME_UNEXPECTED: u64 = 0x105;
const EXCESSIVE_LOAD: u64 = 0x107;
/// First byte of the field section of a 200; and of a status that the static table has not whole.
const OK: u8 = 0xc0 | 25;
const OTHER: u8 = 0x5f;

fn section(lines: &[&[u8]]) -> Vec<u8> {
    frame(1, &[&[0, 0][..], &lines.concat()].concat())
}

#[tokio::test]
async fn malformed_requests_are_reset_and_their_connection_goes_on() {
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
async fn a_body_that_is_not_as_long_as_it_says_is_none() {
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
    let mut cut = data(b"four");
    cut.pop();
    let (_send, recv) = send_bare(&quic, &cut).await;
    assert_ne!(outcome(recv).await, Ok(OK));
}

#[tokio::test]
async fn a_head_that_is_too_large_packed_or_unpacked_is_refused() {
    let running = Running::live().await;
    let (_endpoint, quic) = bare(&running).await;
    // Two bytes for a field of some hundred: content-security-policy, 7 000 times.
    let bomb = [0xff, 85 - 63].repeat(7_000);
    let (_send, recv) = send_bare(&quic, &section(&[GET, HTTPS, AUTHORITY, TIME, &bomb])).await;
    assert_eq!(outcome(recv).await, Ok(OTHER));
    // A frame that says it has a gigabyte, and has not come.
    let mut long = Vec::new();
    varint::write(1, &mut long);
    varint::write(1 << 30, &mut long);
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
async fn settings_without_end_end_the_connection() {
    let running = Running::live().await;
    let endpoint = running.certificate.client(|_| ());
    let quic = endpoint.connect(running.address, NAME).unwrap().await.unwrap();
    let mut control = quic.open_uni().await.unwrap();
    let mut begin = vec![0, 4];
    varint::write(1 << 40, &mut begin);
    control.write_all(&begin).await.unwrap();
    assert!(timeout(LONG, quic.closed()).await.is_ok());
}

#[tokio::test]
async fn frames_out_of_order_end_the_connection() {
    let running = Running::live().await;
    let (_endpoint, quic) = bare(&running).await;
    let (_send, _recv) = send_bare(&quic, &frame(0, b"data")).await;
    let closed = timeout(LONG, quic.closed()).await.unwrap();
    let quinn::ConnectionError::ApplicationClosed(close) = closed else {
        panic!("{closed}");
    };
    assert_eq!(close.error_code.into_inner(), FRAME_UNEXPECTED);
    until(|| running.refused("malformed") == 1).await;
}

#[tokio::test]
async fn there_are_so_many_streams_and_no_more() {
    let few = Config {
        max_streams: 4,
        ..config()
    };
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
    drop(open);
    assert!(timeout(LONG, quic.open_bi()).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_head_that_does_not_come_in_time_is_not_waited_for() {
    let hasty = Config {
        header_ms: 100,
        ..config()
    };
    let running = Running::start(hasty, |_| ()).await;
    let (_endpoint, quic) = bare(&running).await;
    let (mut send, recv) = quic.open_bi().await.unwrap();
    send.write_all(&section(&[GET])[..2]).await.unwrap();
    assert_eq!(outcome(recv).await, Err(0x10d)); // H3_REQUEST_INCOMPLETE
    assert_eq!(running.refused("header"), 1);
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_closed() {
    let hasty = Config {
        write_ms: 200,
        ..config()
    };
    let running = Running::start(hasty, |_| ()).await;
    let narrow = |transport: &mut TransportConfig| {
        transport.stream_receive_window(8_192u32.into());
    };
    let mut client = running.client_with(running.address, narrow).await;
    let path = running.stage.media(&format!("{}.m4s", running.stage.first));
    let mut stream = client.send(Method::GET, &path, &[]).await;
    stream.finish().await.unwrap();
    let closed = timeout(LONG, client.quic.closed()).await.unwrap();
    let quinn::ConnectionError::ApplicationClosed(close) = closed else {
        panic!("{closed}");
    };
    assert_eq!(close.error_code.into_inner(), EXCESSIVE_LOAD);
    assert_eq!(running.refused("write"), 1);
    let metrics = running.stage.metrics.clone();
    until(|| metrics.connections.get() == 0).await;
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_no_more() {
    let few = Config {
        max_connections_per_address: 2,
        ..config()
    };
    let running = Running::start(few, |_| ()).await;
    let (mut first, _second) = (running.client().await, running.client().await);
    let endpoint = running.certificate.client(|_| ());
    let third = endpoint.connect(running.address, NAME).unwrap().await.unwrap();
    assert!(timeout(LONG, third.closed()).await.is_ok());
    assert_eq!(running.refused("connections_per_address"), 1);
    assert_eq!(first.get("/time").await.status, StatusCode::OK);
}
