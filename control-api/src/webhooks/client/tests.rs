use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::*;

/// Accepts one connection, reads the head of the request, and sends these bytes. Returns the head.
async fn respond(response: Vec<u8>) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        converse(stream, &response).await
    });
    (port, server)
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, response: &[u8]) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"{}") {
        let mut piece = [0; 1_024];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(read) => head.extend_from_slice(&piece[..read]),
        }
    }
    // The client may have gone.
    let _ = stream.write_all(response).await;
    let _ = stream.shutdown().await;
    String::from_utf8(head).expect("text")
}

fn client(allow_internal: bool) -> Client {
    Client::new(RootCertStore::empty(), allow_internal).expect("TLS is supported")
}

async fn post(client: &Client, url: &str) -> Result<u16, Failure> {
    let signed = Signed { id: "an-id".to_owned(), timestamp: 7, signature: "v1,abc".to_owned() };
    client.post(&url.parse().expect("an address"), &signed, Bytes::from_static(b"{}")).await
}

#[tokio::test]
async fn a_request_has_the_headers_of_standard_webhooks_and_its_own_path() {
    let (port, server) = respond(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()).await;
    let status = post(&client(true), &format!("http://127.0.0.1:{port}/in?key=1")).await;
    assert_eq!(status.expect("a response"), 204);
    let head = server.await.expect("the server ends");
    assert!(head.starts_with("POST /in?key=1 HTTP/1.1\r\n"), "{head}");
    for field in [
        &format!("host: 127.0.0.1:{port}"),
        "webhook-id: an-id",
        "webhook-timestamp: 7",
        "webhook-signature: v1,abc",
        "content-type: application/cloudevents+json; charset=utf-8",
        "content-length: 2",
    ] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{field} in {head}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (target, contacted) = respond(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()).await;
    let head = format!("HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:{target}/\r\n\r\n");
    let (port, _server) = respond(head.into_bytes()).await;
    let status = post(&client(true), &format!("http://127.0.0.1:{port}/")).await;
    assert_eq!(status.expect("a response"), 307);
    assert!(!contacted.is_finished());
}

#[tokio::test]
async fn internal_addresses_are_refused_by_number_and_by_name_and_never_contacted() {
    let (port, contacted) = respond(Vec::new()).await;
    let client = client(false);
    let urls = ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0", "2130706433"]
        .map(|host| format!("https://{host}:{port}/"));
    for url in urls {
        let refused = post(&client, &url).await;
        assert!(
            matches!(refused, Err(Failure::Internal | Failure::Unresolved)),
            "{url} {refused:?}"
        );
    }
    for url in ["https://127.0.0.1/", "https://[fd00:ec2::254]/", "https://169.254.169.254/"] {
        assert!(!client.accepts(&url.parse().expect("an address")), "{url}");
        assert!(self::client(true).accepts(&url.parse().expect("an address")), "{url}");
    }
    let plain = post(&client, &format!("http://example.org:{port}/")).await;
    assert!(matches!(plain, Err(Failure::Plain)), "{plain:?}");
    assert!(client.accepts(&"https://example.org/".parse().expect("an address")));
    assert!(!client.accepts(&"http://example.org/".parse().expect("an address")));
    assert!(!contacted.is_finished());
}

#[tokio::test]
async fn a_receiver_must_have_a_certificate_of_a_trusted_authority() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a pair");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                converse(stream, b"HTTP/1.1 200 OK\r\n\r\n").await;
            }
        }
    });
    let url = format!("https://localhost:{port}/");
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a certificate");
    let trusting = Client::new(roots, true).expect("TLS is supported");
    assert_eq!(post(&trusting, &url).await.expect("a response"), 200);
    let refused = post(&client(true), &url).await;
    assert!(matches!(refused, Err(Failure::Tls(_))), "{refused:?}");
}

#[tokio::test]
async fn a_receiver_cannot_keep_or_flood_the_sender() {
    // Its body never ends.
    let mut endless = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n".to_vec();
    endless.resize(1 << 20, b'x');
    let (port, _server) = respond(endless).await;
    let status = post(&client(true), &format!("http://127.0.0.1:{port}/")).await;
    assert_eq!(status.expect("a response"), 200);
    // Its head is too large.
    let head = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(64 << 10));
    let (port, _server) = respond(head.into_bytes()).await;
    let failed = post(&client(true), &format!("http://127.0.0.1:{port}/")).await;
    assert!(matches!(failed, Err(Failure::Http(_))), "{failed:?}");
    // It says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let hasty = Client { limit: Duration::from_millis(100), ..client(true) };
    let failed = post(&hasty, &format!("http://127.0.0.1:{port}/")).await;
    assert!(matches!(failed, Err(Failure::Late)), "{failed:?}");
    // It is not there.
    drop(listener);
    let failed = post(&client(true), &format!("http://127.0.0.1:{port}/")).await;
    assert!(matches!(failed, Err(Failure::Connect(_))), "{failed:?}");
}
