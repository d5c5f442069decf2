//! Back ends that admit, refuse, are slow, gone, or lie.

use std::{
    io::{Read, Write},
    sync::Mutex,
    time::Duration,
};

use ingest_rtmp::StreamKey;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivatePkcs8KeyDer,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use super::*;
use crate::publish::tests::request;

/// A back end of a test: each request gets the same bytes as its response.
struct Server {
    url: String,
    /// The requests, head and body.
    requests: Arc<Mutex<Vec<String>>>,
    /// Accepted connections.
    connections: Arc<AtomicU64>,
}

impl Server {
    /// Responds with `response` after `delay`.
    async fn start(response: impl Into<Vec<u8>>, delay: Duration) -> Self {
        Self::serving(response.into(), delay, usize::MAX).await
    }

    /// The same, and closes each connection after `most` responses, without announcing it.
    async fn serving(response: Vec<u8>, delay: Duration, most: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/auth?site=1", listener.local_addr().unwrap());
        let (requests, connections) = (Arc::default(), Arc::<AtomicU64>::default());
        let server = Self { url, requests: Arc::clone(&requests), connections };
        let (response, accepted) = (Arc::new(response), Arc::clone(&server.connections));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(respond(
                    socket,
                    Arc::clone(&response),
                    delay,
                    most,
                    Arc::clone(&requests),
                ));
            }
        });
        server
    }

    async fn saying(status: &str) -> Self {
        Self::start(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"), Duration::ZERO).await
    }

    fn last(&self) -> String {
        self.requests.lock().unwrap().last().cloned().unwrap()
    }

    fn asked(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

/// Reads requests of one connection, and responds to each.
async fn respond(
    mut socket: TcpStream,
    response: Arc<Vec<u8>>,
    delay: Duration,
    most: usize,
    requests: Arc<Mutex<Vec<String>>>,
) {
    let mut input = Vec::new();
    for _ in 0..most {
        let request = loop {
            let text = String::from_utf8_lossy(&input).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head = head.to_ascii_lowercase();
                let length = head.split_once("content-length: ").unwrap().1;
                let length: usize = length.lines().next().unwrap().trim().parse().unwrap();
                if body.len() >= length {
                    break text;
                }
            }
            match socket.read_buf(&mut input).await {
                Ok(count) if count > 0 => {}
                _ => return,
            }
        };
        input.clear();
        requests.lock().unwrap().push(request);
        sleep(delay).await;
        if response.is_empty() || socket.write_all(&response).await.is_err() {
            return;
        }
    }
}

fn back_end(url: &str, format: Format) -> Arc<BackEnd> {
    with(Webhook::at(url, format))
}

fn with(settings: Webhook) -> Arc<BackEnd> {
    Arc::new(BackEnd::new(&settings, Notices::default()).unwrap())
}

fn secret() -> PublishRequest {
    let mut request = request("show");
    request.query = Some(StreamKey::new("token=s3cret"));
    request
}

/// The decision about a publisher of `show` with a secret.
async fn decide(back_end: &Arc<BackEnd>) -> Result<String, Refusal> {
    let decision = back_end.decide(&secret()).await;
    if let Err(refusal) = &decision {
        let detail = refusal.detail.as_deref().expect("the operator reads the cause");
        assert!(!format!("{refusal:?}").contains("s3cret"), "{refusal:?}");
        assert!(!detail.contains("site=1"), "the address's query may be secret: {detail}");
    }
    decision.map(|grant| grant.channel.to_string())
}

#[tokio::test]
async fn a_back_end_of_mediamtx_admits_and_refuses_by_its_status() {
    for status in ["200 OK", "201 Created", "204 No Content"] {
        let server = Server::saying(status).await;
        let back_end = back_end(&server.url, Format::MediaMtx);
        assert_eq!(decide(&back_end).await.unwrap(), "show", "{status}");
        let asked = server.last();
        assert!(asked.starts_with("POST /auth?site=1 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("content-type: application/json\r\n"), "{asked}");
        assert!(asked.contains("\"token\":\"s3cret\""), "{asked}");
    }
    for (status, reason, cause) in [
        ("401 Unauthorized", Reason::Denied, "refused with status 401"),
        ("404 Not Found", Reason::Denied, "refused with status 404"),
        ("500 Internal Server Error", Reason::Failed, "failed with status 500"),
        ("302 Found", Reason::Failed, "redirected to another address"),
        ("308 Permanent Redirect", Reason::Failed, "redirected to another address"),
    ] {
        let server = Server::saying(status).await;
        let refusal = decide(&back_end(&server.url, Format::MediaMtx)).await.unwrap_err();
        assert_eq!(refusal.reason, reason, "{status}");
        assert!(refusal.detail.as_ref().unwrap().contains(cause), "{refusal:?}");
        assert_eq!(server.asked(), 1, "{status}: asked once");
    }
}

#[tokio::test]
async fn a_key_that_is_no_name_is_refused_without_a_question_to_mediamtx() {
    let server = Server::saying("200 OK").await;
    let back_end = back_end(&server.url, Format::MediaMtx);
    let refusal = back_end.decide(&request("../show")).await.unwrap_err();
    assert_eq!((refusal.reason, server.asked()), (Reason::Name, 0));
}

#[tokio::test]
async fn a_back_end_of_nginx_rtmp_admits_refuses_and_renames() {
    let redirect =
        |location: &str| format!("HTTP/1.1 302 Found\r\n{location}Content-Length: 0\r\n\r\n");
    for (response, channel) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(), "show"),
        (redirect("Location: public-name\r\n"), "public-name"),
        (redirect("location:   public-name \r\n"), "public-name"),
        (redirect("Location: \r\n"), "show"),
        (redirect(""), "show"),
    ] {
        let server = Server::start(response.clone(), Duration::ZERO).await;
        let back_end = back_end(&server.url, Format::NginxRtmp);
        assert_eq!(decide(&back_end).await.unwrap(), channel, "{response}");
        let asked = server.last();
        assert!(
            asked.contains("&addr=192.0.2.7&clientid=1&call=publish&name=show&type="),
            "{asked}"
        );
        assert!(asked.ends_with("&token=s3cret"), "{asked}");
    }
    for (location, cause) in [
        ("Location: ../../etc\r\n", "invalid channel in Location"),
        ("Location: http://127.0.0.1/name\r\n", "invalid channel in Location"),
        ("Location: rtmp://127.0.0.1/live/name\r\n", "does not relay"),
        ("Location: RTMP://127.0.0.1/live/name\r\n", "does not relay"),
        ("Location: \u{fc}ber\r\n", "not a text of visible characters"),
    ] {
        let server = Server::start(redirect(location), Duration::ZERO).await;
        let refusal = decide(&back_end(&server.url, Format::NginxRtmp)).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::Failed, "{location}");
        assert!(refusal.detail.as_ref().unwrap().contains(cause), "{refusal:?}");
    }
    let server = Server::saying("403 Forbidden").await;
    let refusal = decide(&back_end(&server.url, Format::NginxRtmp)).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::Denied);
}

#[tokio::test]
async fn responses_that_are_no_answers_refuse_the_publisher() {
    let long = "x".repeat(100 << 10);
    for (response, cause) in [
        (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{long}", long.len()), "longer than"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(), "breaks off"),
        (format!("HTTP/1.1 200 OK\r\nX: {long}\r\n\r\n"), "head is longer"),
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "does not respond"),
        (String::new(), "does not respond"),
    ] {
        let server = Server::start(response.clone(), Duration::ZERO).await;
        let refusal = decide(&back_end(&server.url, Format::MediaMtx)).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::Failed);
        let detail = refusal.detail.as_ref().unwrap();
        assert!(detail.contains(cause), "{detail}");
        assert!(!detail.contains(&long), "the log is not filled");
    }
}

#[tokio::test]
async fn a_back_end_that_is_gone_refuses_at_once_with_its_address_in_the_log() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let gone = back_end(&format!("http://{address}/auth?site=1"), Format::MediaMtx);
    let refusal = decide(&gone).await.unwrap_err();
    let detail = refusal.detail.as_ref().unwrap();
    assert!(detail.contains(&format!("http://{address}")), "{detail}");
    assert!(detail.contains("refused"), "{detail}");
}

#[tokio::test]
async fn a_slow_back_end_costs_the_time_limit_and_holds_a_limited_number_of_requests() {
    let server = Server::start("", Duration::from_secs(60)).await;
    // Longer than the test, so that no permit becomes free.
    let slow = with(Webhook::at(&server.url, Format::MediaMtx).limited::<10_000, 2>());
    let decisions = (0..6).map(|_| {
        let slow = Arc::clone(&slow);
        tokio::spawn(async move { decide(&slow).await })
    });
    let decisions = decisions.collect::<Vec<_>>();
    while server.asked() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The others have the time to ask, too.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.asked(), 2, "the others wait for a permit");
    decisions.iter().for_each(tokio::task::JoinHandle::abort);

    let slow = with(Webhook::at(&server.url, Format::MediaMtx).limited::<300, 2>());
    let refusal = decide(&slow).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::Failed);
    assert!(refusal.detail.as_ref().unwrap().contains("within 300 ms"), "{refusal:?}");
    // A response that never ends is limited in the same way.
    let endless =
        Server::start("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", Duration::ZERO).await;
    let endless = with(Webhook::at(&endless.url, Format::MediaMtx).limited::<300, 2>());
    let refusal = decide(&endless).await.unwrap_err();
    assert!(refusal.detail.as_ref().unwrap().contains("within 300 ms"), "{refusal:?}");
}

#[tokio::test]
async fn connections_are_used_again_and_a_closed_one_is_replaced() {
    let server = Server::saying("200 OK").await;
    let back_end = back_end(&server.url, Format::MediaMtx);
    for _ in 0..5 {
        decide(&back_end).await.unwrap();
    }
    assert_eq!((server.asked(), server.connections.load(Ordering::Relaxed)), (5, 1));

    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec();
    let server = Server::serving(response, Duration::ZERO, 1).await;
    let back_end = self::back_end(&server.url, Format::MediaMtx);
    for _ in 0..20 {
        decide(&back_end).await.unwrap();
    }
    assert_eq!((server.asked(), server.connections.load(Ordering::Relaxed)), (20, 20));
}

/// Serves one exchange of each connection over TLS, with a certificate for `localhost`. Returns the
/// address and the certificate in PEM.
fn over_tls() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key);
    let config = Arc::new(config.unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/auth?site=1", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(session, socket);
            let mut bytes = [0; 4096];
            let mut input = Vec::new();
            // The body ends with the object's brace.
            while !input.ends_with(b"}") {
                match stream.read(&mut bytes) {
                    Ok(count) if count > 0 => input.extend_from_slice(&bytes[..count]),
                    _ => break,
                }
            }
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    (url, made.cert.pem())
}

#[tokio::test]
async fn a_back_end_over_tls_needs_a_certificate_of_a_trusted_authority() {
    let (url, certificate) = over_tls();
    let ca = std::env::temp_dir().join(format!("streamforge-tls-{}", std::process::id()));
    let trusting = |certificate: &str| {
        std::fs::write(&ca, certificate).unwrap();
        let mut settings = Webhook::at(&url, Format::MediaMtx);
        settings.ca = ca.clone();
        with(settings)
    };
    assert_eq!(decide(&trusting(&certificate)).await.unwrap(), "show");
    let (_, another) = over_tls();
    let refusal = decide(&trusting(&another)).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::Failed);
    assert!(refusal.detail.as_ref().unwrap().contains("certificate"), "{refusal:?}");
    std::fs::remove_file(&ca).unwrap();
}

#[tokio::test]
async fn a_back_end_of_nginx_rtmp_is_notified_when_an_admitted_publisher_stops() {
    let server = Server::saying("200 OK").await;
    let mut settings = Webhook::at(&server.url, Format::NginxRtmp);
    settings.done_url = settings.url.clone();
    let notices = Notices::default();
    let back_end = Arc::new(BackEnd::new(&settings, notices.clone()).unwrap());
    let grant = back_end.decide(&secret()).await.unwrap();
    assert_eq!(server.asked(), 1);
    drop(grant);
    timeout(Duration::from_secs(10), notices.finish()).await.unwrap();
    assert_eq!(server.asked(), 2);
    let notice = server.last();
    assert!(notice.contains("&clientid=1&call=publish_done&name=show&token=s3cret"), "{notice}");
    // A refused one was never published.
    let refusing = Server::saying("403 Forbidden").await;
    settings.url = Webhook::at(&refusing.url, Format::NginxRtmp).url;
    let back_end = Arc::new(BackEnd::new(&settings, notices.clone()).unwrap());
    assert!(back_end.decide(&secret()).await.is_err());
    timeout(Duration::from_secs(10), notices.finish()).await.unwrap();
    assert_eq!((refusing.asked(), server.asked()), (1, 2));
}

#[tokio::test]
async fn notices_to_a_slow_back_end_are_bounded_in_number() {
    let slow = Server::start("", Duration::from_secs(60)).await;
    let settings = Webhook::at(&slow.url, Format::NginxRtmp).limited::<300, 2>();
    let url = settings.url.as_ref().unwrap().uri().clone();
    let notices = Notices::default();
    let back_end = Arc::new(BackEnd::new(&settings, notices.clone()).unwrap());
    for _ in 0..MAX_NOTICES + 10 {
        back_end.notify(url.clone(), Bytes::new());
    }
    assert_eq!(notices.tasks.len(), MAX_NOTICES);
    timeout(Duration::from_secs(20), notices.finish()).await.unwrap();
    assert_eq!(notices.permits.available_permits(), MAX_NOTICES);
}

#[tokio::test]
async fn the_right_continues_with_another_back_end() {
    let server = Server::saying("200 OK").await;
    let before = back_end(&server.url, Format::MediaMtx);
    let right = before.decide(&secret()).await.unwrap().withdrawn;
    let mut after = back_end(&server.url, Format::NginxRtmp);
    BackEnd::continue_right(&mut after, &before);
    after.right().cancel();
    assert!(right.is_cancelled());
}

#[test]
fn certificate_authorities_are_checked_at_the_start() {
    let ca = std::env::temp_dir().join(format!("streamforge-ca-{}", std::process::id()));
    let refused = |text: &str| {
        std::fs::write(&ca, text).unwrap();
        let mut settings = Webhook::at("https://id.example/", Format::MediaMtx);
        settings.ca = ca.clone();
        BackEnd::new(&settings, Notices::default()).unwrap_err().to_string()
    };
    assert!(refused("").contains("no certificate in it"));
    assert!(
        refused("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
            .contains("publish.webhook.ca")
    );
    std::fs::remove_file(&ca).unwrap();
    let mut missing = Webhook::at("http://id.example/", Format::MediaMtx);
    missing.ca = ca.clone();
    assert!(BackEnd::new(&missing, Notices::default()).is_err());
}
