use std::{net::SocketAddr, time::Duration};

use media_core::{broadcast::Limits, hub::Settings};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::Readiness;

fn hub() -> Hub {
    let broadcast = Limits {
        bytes: 1 << 20,
        age: Duration::from_secs(10),
        segment: Duration::from_secs(2),
        stall: Duration::from_secs(2),
    };
    Hub::new(Settings { broadcast, reconnect: Duration::from_secs(10), max_channels: 1 })
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A server on a free port.
fn server() -> (Server, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (Server::new(vec![listener]).unwrap(), address)
}

#[tokio::test]
async fn readyz_follows_readiness_while_healthz_and_metrics_respond() {
    let readiness = Readiness::default();
    let mut registry = Registry::with_prefix("streamforge");
    register(&mut registry, hub());
    let (server, address) = server();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(server.serve(router(registry, readiness.clone()), shutdown.clone()));

    // Before it is ready, while it is, and afterwards.
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503 "));
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    for (ready, expected) in [(true, "HTTP/1.1 200 "), (false, "HTTP/1.1 503 ")] {
        readiness.set(ready);
        assert!(get(address, "/readyz").await.starts_with(expected));
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    }
    let other = get(address, "/other").await;
    assert!(
        other.starts_with("HTTP/1.1 404 ")
            && other.contains("\r\nx-content-type-options: nosniff\r\n")
    );

    let metrics = get(address, "/metrics").await;
    assert!(
        metrics.contains(
            "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
        )
    );
    assert!(metrics.ends_with("# EOF\n"));
    for line in [
        "streamforge_broadcasts{state=\"live\"} 0",
        "streamforge_process_resident_memory_bytes ",
        "streamforge_process_open_fds ",
    ] {
        assert!(metrics.contains(&format!("\n{line}")), "{line} in\n{metrics}");
    }

    shutdown.cancel();
    serving.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn unsupported_methods_get_405_and_unknown_ones_501() {
    for (method, expected) in [("POST", 405), ("FOO", 501)] {
        let request = http::Request::builder().method(method).uri("/healthz");
        let request = request.body(axum::body::Body::empty()).unwrap();
        let router = router(Registry::default(), Readiness::default());
        let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
        assert_eq!(response.status().as_u16(), expected, "{method}");
        assert_eq!(response.headers()[header::ALLOW], "GET,HEAD");
    }
}

#[tokio::test]
async fn an_idle_connection_does_not_delay_shutdown() {
    let (server, address) = server();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(
        server.serve(router(Registry::default(), Readiness::default()), shutdown.clone()),
    );
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn silent_connections_are_displaced_at_the_connection_limit() {
    let (server, address) = server();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(
        server.serve(router(Registry::default(), Readiness::default()), shutdown.clone()),
    );
    let mut silent = Vec::new();
    for _ in 0..2 * MAX_CONNECTIONS {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    // The oldest is closed; the newest still waits.
    assert_eq!(silent[0].read(&mut [0]).await.unwrap_or(0), 0);
    let mut newest = silent.pop().unwrap();
    newest.write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    newest.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    shutdown.cancel();
    serving.await.unwrap();
}
