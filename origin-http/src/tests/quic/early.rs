//! The first flight: early data (RFC 8470), address validation, and a first message in several
//! datagrams.

use super::*;

/// A client with a session and a token, which it needs to resume.
async fn returning(running: &Running) -> quinn::Endpoint {
    let client = running.client().await;
    let mut requests = client.requests.clone();
    let request = Request::get(format!("https://{NAME}/time")).body(()).unwrap();
    let mut stream = requests.send_request(request).await.unwrap();
    stream.finish().await.unwrap();
    whole(stream).await;
    client.quic.close(0u32.into(), b"");
    client.endpoint.wait_idle().await;
    client.endpoint
}

/// Sends a request as early data. Returns whether the server accepted it as such, and its response.
async fn request_early(running: &Running, method: Method, path: &str) -> (bool, Received) {
    let endpoint = returning(running).await;
    let connecting = endpoint.connect(running.address, NAME).unwrap();
    let Ok((quic, accepted)) = connecting.into_0rtt() else {
        panic!("no session to resume");
    };
    let mut client = Client::over(endpoint, quic).await;
    let response = client.request(method, path, &[], b"").await;
    (accepted.await, response)
}

#[tokio::test]
async fn a_get_gets_a_response_in_early_data() {
    let running = Running::live().await;
    let (accepted, response) = request_early(&running, Method::GET, "/live/demo/v0.m3u8").await;
    assert!(accepted);
    assert_eq!(response.status, StatusCode::OK);
}

#[tokio::test]
async fn an_unsafe_method_in_early_data_is_425() {
    let running = Running::live().await;
    let (accepted, response) = request_early(&running, Method::POST, "/api/echo").await;
    assert!(accepted);
    assert_eq!(response.status, StatusCode::TOO_EARLY);
}

#[tokio::test]
async fn an_unsafe_request_with_an_early_data_field_is_425() {
    let running = Running::live().await;
    let mut client = running.client().await;
    // RFC 8470 5.1.
    let marked = [("early-data", "1")];
    let refused = client.request(Method::DELETE, "/api/v1/x", &marked, b"").await;
    assert_eq!(refused.status, StatusCode::TOO_EARLY);
    assert_eq!(refused.headers["content-type"], "application/problem+json");
    assert!(!refused.body.is_empty());
    assert_eq!(client.request(Method::GET, "/time", &marked, b"").await.status, StatusCode::OK);
}

#[tokio::test]
async fn one_session_ticket_is_issued_per_connection() {
    let running = Running::live().await;
    let endpoint = returning(&running).await;
    until(|| running.endpoint.open_connections() == 0).await;
    let before = running.served();
    // The first connection uses the only ticket, and gets no other. Its datagrams are recorded, and
    // nothing of the server reaches it.
    let between = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let first = endpoint.connect(between.local_addr().unwrap(), NAME).unwrap();
    let Ok((quic, _)) = first.into_0rtt() else {
        panic!("no session to resume");
    };
    let mut client = Client::over(endpoint, quic).await;
    let mut stream = client.send(Method::GET, "/time", &[]).await;
    stream.finish().await.unwrap();
    let original = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut flight = Vec::new();
    let mut datagram = [0; 2_048];
    while running.served() == before || running.endpoint.open_connections() > 0 {
        let next = timeout(Duration::from_millis(10), between.recv(&mut datagram)).await;
        if let Ok(len) = next.map(Result::unwrap) {
            original.send_to(&datagram[..len], running.address).await.unwrap();
            flight.push(datagram[..len].to_vec());
        }
        if running.served() > before {
            client.quic.close(0_u32.into(), b"");
        }
    }
    assert_eq!(running.served(), before + 1);
    // The same datagrams begin another connection, whose early data are not accepted.
    let replay = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    replay.send_to(&flight[0], running.address).await.unwrap();
    until(|| running.endpoint.open_connections() == 1).await;
    for datagram in &flight[1..] {
        replay.send_to(datagram, running.address).await.unwrap();
    }
    assert_eq!(running.client().await.get("/time").await.status, StatusCode::OK);
    assert_eq!(running.served(), before + 2);
    let second = client.endpoint.connect(running.address, NAME).unwrap();
    assert!(second.into_0rtt().is_err());
}

#[tokio::test]
async fn under_load_the_server_validates_addresses_by_retry() {
    let running = Running::start(config(), |endpoint| endpoint.retry_from(0)).await;
    let relay = path::Relay::start(running.address, path::Rate::Free).await;
    let mut client = running.client_with(relay.address, |_| ()).await;
    assert_eq!(client.get("/live/demo/v0.m3u8").await.status, StatusCode::OK);
    // The first packet from the server is a Retry (RFC 9000 17.2.5).
    assert_eq!(relay.first_received() & 0xf0, 0xf0);
}

#[tokio::test]
async fn a_flood_of_initial_packets_opens_a_bounded_number_of_connections() {
    let running = Running::start(config(), |endpoint| endpoint.retry_from(8)).await;
    let (client, mut connecting) = (running.certificate.client(|_| ()), Vec::new());
    // No packet of the server arrives.
    let relay = path::Relay::start(running.address, path::Rate::OneWay).await;
    for _ in 0..64 {
        connecting.push(client.connect(relay.address, NAME).unwrap());
    }
    until(|| relay.sent() >= 64 && relay.received() >= 64).await;
    assert_eq!(running.endpoint.open_connections(), 8);
    assert_eq!(running.client().await.get("/time").await.status, StatusCode::OK);
}

#[tokio::test]
async fn incomplete_handshakes_are_limited_per_address_and_displace_the_oldest() {
    let config = Config { first_byte_ms: 60_000, ..config() };
    let running = Running::start(config, |endpoint| {
        endpoint.retry_from(0);
        endpoint.handshakes_per_address(4);
    })
    .await;
    // Each client validates its address by the Retry token, and receives no further packets.
    let client = running.certificate.client(|_| ());
    let (mut silent, mut relays) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let relay = path::Relay::start(running.address, path::Rate::Once).await;
        silent.push(client.connect(relay.address, NAME).unwrap());
        relays.push(relay);
    }
    until(|| running.stage.metrics.server.connections.get() == 4).await;
    // The fifth is served, and the oldest of the four is dropped for it.
    let mut fifth = running.client().await;
    assert_eq!(fifth.get("/time").await.status, StatusCode::OK);
    assert_eq!(running.evicted("connections_per_address"), 1);
    // The silent clients send nothing more. A packet sent again after quinn has dropped the
    // connection, three probe timeouts after its end, would begin another.
    drop(relays);
    until(|| running.stage.metrics.server.connections.get() == 4).await;
}

#[tokio::test]
async fn a_client_hello_split_over_two_datagrams_is_served() {
    let config = Config { first_byte_ms: 60_000, ..config() };
    let running = Running::start(config, |_| ()).await;
    let relay = path::Relay::start(running.address, path::Rate::Halting).await;
    let protocols = [vec![b"h3".to_vec()], vec![vec![b'x'; 250]; 6]].concat();
    let endpoint = running.certificate.client_of(protocols, |_| ());
    let quic = endpoint.connect(relay.address, NAME).unwrap().await.unwrap();
    let mut client = Client::over(endpoint, quic).await;
    assert_eq!(client.get("/time").await.status, StatusCode::OK);
    assert_eq!(client.get("/time").await.status, StatusCode::OK);
}
