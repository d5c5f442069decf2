//! Ends of connections: a server that shuts down, and a peer that moves.

use super::*;

#[tokio::test]
async fn a_draining_server_completes_requests_and_refuses_new_connections() {
    let mut running = Running::live().await;
    let mut client = running.client().await;
    assert_eq!(client.get("/time").await.status, StatusCode::OK);
    let path = format!("/live/demo/v0.m3u8?_HLS_msn={}&_HLS_part=2", running.stage.first + 3);
    let mut waiting = client.send(Method::GET, &path, &[]).await;
    waiting.finish().await.unwrap();
    let metrics = running.stage.metrics.clone();
    until(|| metrics.waiting.get() == 1).await;
    running.shared.drain().trigger();
    timeout(LONG, &mut running.serving).await.unwrap().unwrap();
    // A new client is refused.
    let endpoint = running.certificate.client(|_| ());
    assert!(endpoint.connect(running.address, NAME).unwrap().await.is_err());
    running.stage.push(PART).await;
    assert_eq!(whole(waiting).await.status, StatusCode::OK);
    let end = timeout(LONG, client.driver).await.unwrap().unwrap();
    assert!(end.is_h3_no_error(), "{end}");
    running.shared.tasks().close();
    timeout(LONG, running.shared.tasks().wait()).await.unwrap();
    assert_eq!(metrics.server.connections.get(), 0);
}

#[tokio::test]
async fn retiring_does_not_truncate_a_response_in_progress() {
    let mut stage = Stage::new().await;
    stage.frame_bytes = 40_000;
    stage.push(SEGMENT + 1).await;
    let socket = QuicSocket::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let running = Running::over(stage, socket, Certificate::new(), config(), |_| ());
    let relay = path::Relay::start(running.address, path::Rate::Bytes(2_000_000)).await;
    let mut client = running.client_with(relay.address, |_| ()).await;
    let path = running.stage.media(&format!("{}.m4s", running.stage.first));
    let mut stream = client.send(Method::GET, &path, &[]).await;
    stream.finish().await.unwrap();
    stream.recv_response().await.unwrap();
    running.shared.retire().trigger();
    // quinn has all bytes long before they have arrived.
    let mut come = 0;
    while let Some(data) = timeout(LONG, stream.recv_data()).await.unwrap().unwrap() {
        come += data.remaining();
    }
    assert_eq!(come, running.stage.get(&path).await.body.len());
}

/// The last stream that a client can open (RFC 9114 5.2).
const LAST_POSSIBLE: u64 = (1 << 62) - 4;
/// H3_NO_ERROR and H3_REQUEST_REJECTED.
const NO_ERROR: u64 = 0x100;
const REJECTED: u64 = 0x10b;

/// Calls `act` and waits until the server has sent something several times, of which nothing
/// arrives: a client that is too busy to read.
async fn unheard(relay: &path::Relay, act: impl FnOnce()) {
    relay.mute();
    let before = relay.received();
    act();
    until(|| relay.received() >= before + 4).await;
}

#[tokio::test]
async fn a_request_that_crosses_the_goodbye_gets_a_response() {
    let running = Running::live().await;
    let relay = path::Relay::start(running.address, path::Rate::Free).await;
    let (_endpoint, quic, _control) = settled_at(&running, relay.address, |_| ()).await;
    let (_send, recv) = send_bare(&quic, &get_frame("/time")).await;
    assert_eq!(outcome(recv).await, Ok(0xc0 | 25));
    unheard(&relay, || running.shared.retire().trigger()).await;
    // The client sends it before it has read that the server is going.
    let (_send, crossing) = send_bare(&quic, &get_frame("/time")).await;
    relay.unmute();
    assert_eq!(outcome(crossing).await, Ok(0xc0 | 25));
    assert_eq!(closed(&quic).await, NO_ERROR);
    assert_eq!(goaways(&quic).await, [LAST_POSSIBLE, 8]);
}

#[tokio::test]
async fn a_first_request_that_crosses_the_goodbye_may_be_repeated() {
    let running = Running::live().await;
    let relay = path::Relay::start(running.address, path::Rate::Free).await;
    let (_endpoint, quic, _control) = settled_at(&running, relay.address, |_| ()).await;
    unheard(&relay, || running.shared.retire().trigger()).await;
    let (_send, crossing) = send_bare(&quic, &get_frame("/time")).await;
    relay.unmute();
    assert_eq!(outcome(crossing).await, Err(REJECTED));
    assert_eq!(closed(&quic).await, NO_ERROR);
    assert_eq!(goaways(&quic).await, [0]);
}

#[tokio::test]
async fn a_goodbye_does_not_wait_behind_media_that_do_not_arrive() {
    let mut stage = Stage::new().await;
    // More than the server sends without an acknowledgement.
    stage.frame_bytes = 100_000;
    stage.push(SEGMENT + 1).await;
    let socket = QuicSocket::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let running = Running::over(stage, socket, Certificate::new(), config(), |_| ());
    let relay = path::Relay::start(running.address, path::Rate::Free).await;
    let wide = |transport: &mut TransportConfig| {
        transport.stream_receive_window((16u32 << 20).into());
    };
    let (_endpoint, quic, _control) = settled_at(&running, relay.address, wide).await;
    let path = running.stage.media(&format!("{}.m4s", running.stage.first));
    relay.mute();
    let (_send, mut recv) = send_bare(&quic, &get_frame(&path)).await;
    until(|| running.served() == 1).await;
    running.shared.retire().trigger();
    // Longer than a GOAWAY is waited for.
    tokio::time::sleep(Duration::from_secs(1)).await;
    relay.unmute();
    let response = timeout(LONG, recv.read_to_end(16 << 20)).await.unwrap().unwrap();
    assert!(response.len() > running.stage.get(&path).await.body.len());
    assert_eq!(closed(&quic).await, NO_ERROR);
    assert_eq!(goaways(&quic).await, [LAST_POSSIBLE, 4]);
}

#[tokio::test]
async fn an_idle_connection_is_closed_with_h3_no_error() {
    let brief = Config { idle_ms: 1_000, write_ms: 100, ..config() };
    let running = Running::start(brief, |_| ()).await;
    let keep = |transport: &mut TransportConfig| {
        transport.keep_alive_interval(Some(Duration::from_millis(200)));
    };
    let mut client = running.client_with(running.address, keep).await;
    assert_eq!(client.get("/time").await.status, StatusCode::OK);
    let end = timeout(LONG, client.driver).await.unwrap().unwrap();
    assert!(end.is_h3_no_error(), "{end}");
}

#[tokio::test]
async fn a_response_continues_after_connection_migration() {
    let mut running = Running::live().await;
    let mut client = running.client().await;
    let path = running.stage.media(&format!("{}.m4s", running.stage.first + 3));
    let mut stream = client.send(Method::GET, &path, &[]).await;
    stream.finish().await.unwrap();
    stream.recv_response().await.unwrap();
    let before = client.endpoint.local_addr().unwrap();
    client.endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    assert_ne!(client.endpoint.local_addr().unwrap(), before);
    running.stage.push(3 * PART).await;
    let mut come = 0;
    while let Some(data) = timeout(LONG, stream.recv_data()).await.unwrap().unwrap() {
        come += data.remaining();
    }
    assert_eq!(come, running.stage.get(&path).await.body.len());
    assert_eq!(client.get("/time").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_sends_goaway_still_gets_responses() {
    let mut running = Running::live().await;
    let (_endpoint, quic, mut control) = settled(&running).await;
    let path = format!("/live/demo/v0.m3u8?_HLS_msn={}&_HLS_part=2", running.stage.first + 3);
    let (_send, waiting) = send_bare(&quic, &get_frame(&path)).await;
    let metrics = running.stage.metrics.clone();
    until(|| metrics.waiting.get() == 1).await;
    // GOAWAY limits only pushes (RFC 9114 5.2): later requests get responses, too.
    control.write_all(&frame(7, &[0])).await.unwrap();
    for _ in 0..3 {
        let (_send, recv) = send_bare(&quic, &get_frame("/time")).await;
        assert_eq!(outcome(recv).await, Ok(0xc0 | 25));
    }
    running.stage.push(PART).await;
    assert_eq!(outcome(waiting).await, Ok(0xc0 | 25));
}
