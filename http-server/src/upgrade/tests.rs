use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::request::Parts;
use http_body_util::Full;
use net_core::ConnectionLimit;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, unconstrained},
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{
    connection,
    metrics::Reason,
    mount::{BoxedResponse, Mount, MountedService, RequestBody, Settings},
    service::{Client, PendingResponse, Refusal, Service},
    testing, tls,
};

/// Limit of waits, for a machine under load.
const LONG: Duration = Duration::from_secs(30);
/// The key of RFC 6455 1.3, and the value that proves its receipt.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// A Close frame of a server that goes away (RFC 6455 5.5.1, 7.4.1: 1001).
const GOING_AWAY: &[u8] = &[0x88, 2, 0x03, 0xe9];

/// A WebSocket at `/open/`, and at `/closed/` below a mount that allows no upgrade.
struct Origin([Mount; 2]);

struct Pending<'a>(BoxedResponse<'a>);

impl Future for Pending<'_> {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        self.0.as_mut().poll(cx)
    }
}

impl PendingResponse for Pending<'_> {
    fn poll_request_end(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Service for Origin {
    type Pending<'a> = Pending<'a>;

    fn call<B>(&self, request: Request<B>, client: Client) -> Pending<'_>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<crate::BoxError>,
    {
        let mount = Mount::find(&self.0, request.uri().path()).unwrap();
        Pending(self.0[mount].call(request, client))
    }

    fn refuse(&self, refusal: Refusal, _: Client, _: Option<&Parts>) -> Response<Body> {
        let mut response = Response::new(refusal.reason.into());
        *response.status_mut() = refusal.status;
        response
    }
}

/// Echoes messages.
struct Echo;

impl MountedService for Echo {
    fn call(&self, mut request: Request<RequestBody>, _: Client) -> BoxedResponse<'_> {
        let path = request.uri().path().to_owned();
        let mut response = match (on(&mut request, "websocket"), &*path) {
            (Some(upgrade), "/open/flood") => upgrade.accept(flood),
            (Some(upgrade), "/open/burst") => upgrade.accept(burst),
            (Some(upgrade), _) => upgrade.accept(echo),
            (None, _) => {
                let mut response = Response::new("a WebSocket is here".into());
                *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
                response
            }
        };
        response.headers_mut().insert("sec-websocket-accept", HeaderValue::from_static(ACCEPT));
        Box::pin(async { response })
    }
}

/// Sends each message back, and says when the server goes away.
async fn echo(mut stream: Upgraded) {
    let mut stopping = pin!(stream.stopping());
    loop {
        tokio::select! {
            message = message(&mut stream) => match message {
                Ok(message) => stream.write_all(&frame(&message, None)).await.unwrap(),
                Err(_) => return,
            },
            () = &mut stopping => {
                stream.write_all(GOING_AWAY).await.unwrap();
                return stream.shutdown().await.unwrap();
            }
        }
    }
}

/// Sends until it may not.
async fn flood(mut stream: Upgraded) {
    while stream.write_all(&[0; 64 << 10]).await.is_ok() {}
}

/// Sends until a write must wait for the client, and ends without it.
async fn burst(mut stream: Upgraded) {
    // A budget of tokio would make a write wait that the socket accepts.
    let waits = unconstrained(poll_fn(|cx| {
        while let Poll::Ready(sent) = Pin::new(&mut stream).poll_write(cx, &[0; 64 << 10]) {
            assert_ne!(sent.unwrap(), 0);
        }
        Poll::Ready(())
    }));
    waits.await;
}

/// A binary message in one frame (RFC 6455 5.2).
fn frame(message: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    let mut frame = vec![0x82, 127 | if mask.is_some() { 0x80 } else { 0 }, 0, 0, 0, 0];
    frame.extend(length.to_be_bytes());
    frame.extend(mask.iter().flatten());
    let mask = mask.unwrap_or_default();
    frame.extend(message.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Reads such a message.
async fn message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let (mut head, mut mask) = ([0; 10], [0; 4]);
    stream.read_exact(&mut head).await?;
    assert_eq!(head[..2], [0x82, 127 | head[1] & 0x80]);
    if head[1] & 0x80 != 0 {
        stream.read_exact(&mut mask).await?;
    }
    let mut message = vec![0; u32::from_be_bytes(head[6..].try_into().unwrap()) as usize];
    stream.read_exact(&mut message).await?;
    message.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok(message)
}

/// The handshake of a WebSocket (RFC 6455 4.1).
fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: origin\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// Reads the head of a response.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(LONG, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// One connection over TCP on loopback, and its server.
struct Running {
    context: Arc<context::Context<Origin>>,
    limit: Arc<ConnectionLimit>,
    serving: JoinHandle<()>,
}

impl Running {
    /// Starts a connection, over TLS or not.
    async fn start(secure: bool) -> (Self, Box<dyn Stream>) {
        let settings = |upgrades| Settings {
            name: "echo",
            urgency: 3,
            max_body_bytes: 10,
            body_pause: LONG,
            upgrades,
        };
        let origin = Origin([
            Mount::new("/open/", settings(true), Echo),
            Mount::new("/closed/", settings(false), Echo),
        ]);
        let mut context = testing::context(origin);
        let config = &mut context.config;
        (config.first_byte, config.header, config.idle) = (LONG, LONG, LONG);
        let context = Arc::new(context);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, peer) = listener.accept().await.unwrap();
        let (certificates, roots) = testing::certificate();
        let acceptor = secure.then(|| tls::Acceptor::new(certificates, true).unwrap());
        let limit = ConnectionLimit::new("connections", 1, 1, Arc::new(()));
        let permit = limit.try_admit(None, Instant::now()).unwrap();
        let usage = Arc::clone(permit.usage());
        let connection = connection::serve(socket, peer, acceptor, Arc::clone(&context), usage);
        let serving = context.tasks.spawn(async move {
            connection.await;
            drop(permit);
        });
        let running = Self { context, limit, serving };
        if !secure {
            return (running, Box::new(client));
        }
        let suites = rustls::crypto::ring::DEFAULT_CIPHER_SUITES;
        let config = testing::client(roots, suites, &["http/1.1"]);
        let connector = TlsConnector::from(Arc::new(config));
        let client = connector.connect("origin".try_into().unwrap(), client).await.unwrap();
        (running, Box::new(client))
    }

    /// Waits for the end of the connection's task.
    async fn ended(self) {
        timeout(LONG, self.serving).await.unwrap().unwrap();
        assert_eq!(self.context.metrics.upgraded.get(), 0);
        assert!(self.limit.try_admit(None, Instant::now()).is_ok());
    }
}

#[tokio::test]
async fn a_websocket_echoes_over_tcp_and_tls() {
    for secure in [false, true] {
        let (running, mut client) = Running::start(secure).await;
        // The first message does not wait for the response.
        let first = frame(b"first", Some(*b"mask"));
        let bytes = [handshake("/open/x").as_bytes(), &first].concat();
        client.write_all(&bytes).await.unwrap();
        client.flush().await.unwrap();
        let response = head(&mut client).await;
        assert!(response.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{response}");
        for line in ["connection: upgrade", "upgrade: websocket"] {
            assert!(response.lines().any(|found| found == line), "{line} in {response}");
        }
        assert!(response.contains(ACCEPT) && !response.contains("content-length"), "{response}");
        assert_eq!(timeout(LONG, message(&mut client)).await.unwrap().unwrap(), b"first");
        // Larger than the bytes that TLS corks.
        for long in [vec![], vec![7; 300_000], b"last".to_vec()] {
            let (mut from, mut to) = tokio::io::split(&mut client);
            let sent = frame(&long, Some([1, 2, 3, 4]));
            let sending = async {
                to.write_all(&sent).await.unwrap();
                to.flush().await.unwrap();
            };
            let both = async { tokio::join!(sending, message(&mut from)).1 };
            assert!(timeout(LONG, both).await.unwrap().unwrap() == long);
        }
        assert_eq!(running.context.metrics.upgraded.get(), 1);
        // It keeps its permit although it is silent.
        assert!(running.limit.try_admit(None, Instant::now()).is_err());
        client.shutdown().await.unwrap();
        running.ended().await;
    }
}

/// The client does not read.
#[tokio::test]
async fn an_upgraded_connection_ends_with_its_service_after_a_write_was_refused() {
    for secure in [false, true] {
        let (running, mut client) = Running::start(secure).await;
        let begun = Instant::now();
        client.write_all(handshake("/open/flood").as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        head(&mut client).await;
        let context = Arc::clone(&running.context);
        running.ended().await;
        assert!(begun.elapsed() >= context.config.write, "{:?}", begun.elapsed());
        assert_ne!(context.metrics.refusals(Reason::Write), 0, "secure: {secure}");
    }
}

/// The client does not read until the service has ended.
#[tokio::test]
async fn an_upgraded_connection_ends_with_its_service_while_a_write_waits() {
    for secure in [false, true] {
        let (running, mut client) = Running::start(secure).await;
        client.write_all(handshake("/open/burst").as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        head(&mut client).await;
        let context = Arc::clone(&running.context);
        running.ended().await;
        // TLS holds bytes back, which the client must accept within the limit of writes.
        assert_eq!(context.metrics.refusals(Reason::Write) > 0, secure);
        let mut rest = Vec::new();
        let _ = timeout(LONG, client.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.len() > 64 << 10, "{}", rest.len());
    }
}

#[tokio::test]
async fn a_mount_without_upgrades_responds_as_to_any_request() {
    let (running, mut client) = Running::start(false).await;
    for _ in 0..2 {
        client.write_all(handshake("/closed/x").as_bytes()).await.unwrap();
        let response = head(&mut client).await;
        assert!(response.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{response}");
        // The connection still carries requests.
        let mut body = [0; "a WebSocket is here".len()];
        client.read_exact(&mut body).await.unwrap();
    }
    assert_eq!(running.context.metrics.upgraded.get(), 0);
    client.shutdown().await.unwrap();
    running.ended().await;
}

#[tokio::test]
async fn an_upgraded_connection_ends_at_a_graceful_stop() {
    for secure in [false, true] {
        for retires in [true, false] {
            let (running, mut client) = Running::start(secure).await;
            client.write_all(handshake("/open/x").as_bytes()).await.unwrap();
            client.flush().await.unwrap();
            head(&mut client).await;
            let context = &running.context;
            if retires { &context.retire } else { &context.drain }.trigger();
            let mut rest = Vec::new();
            timeout(LONG, client.read_to_end(&mut rest)).await.unwrap().unwrap();
            assert_eq!(rest, GOING_AWAY);
            context.tasks.close();
            timeout(LONG, context.tasks.wait()).await.unwrap();
            running.ended().await;
        }
    }
}

#[tokio::test]
async fn an_upgraded_connection_that_does_not_end_in_time_is_cut() {
    let (running, mut client) = Running::start(false).await;
    client.write_all(handshake("/open/x").as_bytes()).await.unwrap();
    head(&mut client).await;
    until_upgraded(&running).await;
    // The server drops the connection's task.
    running.serving.abort();
    let mut rest = Vec::new();
    timeout(LONG, client.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.is_empty());
    assert_eq!(running.context.metrics.upgraded.get(), 0);
}

async fn until_upgraded(running: &Running) {
    while running.context.metrics.upgraded.get() == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_upgrade_needs_http_1_1_both_fields_and_no_body() {
    for request in [
        handshake("/open/x").replace("HTTP/1.1", "HTTP/1.0"),
        handshake("/open/x").replace("WebSocket\r\n", "h2c, web\r\n"),
        handshake("/open/x").replace("keep-alive, Upgrade", "keep-alive"),
        handshake("/open/x").replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\nx"),
    ] {
        let (_running, mut client) = Running::start(false).await;
        client.write_all(request.as_bytes()).await.unwrap();
        let response = head(&mut client).await;
        assert!(response.contains(" 426 "), "{request}{response}");
    }
}

#[test]
fn a_protocol_is_found_in_a_list() {
    let on = |fields: &[&'static str]| {
        let mut request = Request::new(Full::new(Bytes::new()));
        request.extensions_mut().insert(Offer::default());
        for field in fields {
            request.headers_mut().append(UPGRADE, HeaderValue::from_static(field));
        }
        super::on(&mut request, "websocket").is_some()
    };
    for listed in [&["websocket"][..], &["h2c, WebSocket"], &["h2c", "\twebsocket ,x"]] {
        assert!(on(listed), "{listed:?}");
    }
    for other in [&[][..], &[""], &["websocket/2"], &["web, socket"]] {
        assert!(!on(other), "{other:?}");
    }
    let mut without = Request::new(());
    without.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    assert!(super::on(&mut without, "websocket").is_none());
}
