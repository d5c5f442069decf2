//! An origin over HTTP/3 on loopback, with clients: quinn's and h3's for correct behaviour, bare
//! streams for the rest.

mod early;
mod handover;
mod leaving;
mod limits;
mod path;
mod responses;
mod urgency;

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};
use http_server::{
    QuicHandover, QuicSocket,
    testing::{self, Endpoint, Shared},
};
use net_core::{ConnectionLimit, Shutdown, TriggerOnDrop};
use prometheus_client::{encoding::text, registry::Registry};
use quinn::{
    ClientConfig, RecvStream, SendStream, TransportConfig, crypto::rustls::QuicClientConfig,
};
use rustls::{RootCertStore, crypto::ring, pki_types::PrivateKeyDer, sign::SingleCertAndKey};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{server, shared};
use crate::{
    Config, Https, PublicUrl, Router,
    stage::{PART, SEGMENT, Stage},
};

/// Limit of waits, for a machine under load.
const LONG: Duration = Duration::from_secs(30);
const NAME: &str = "origin";

/// A self-signed certificate, and the roots that trust it.
#[derive(Clone)]
struct Certificate {
    shown: Arc<SingleCertAndKey>,
    roots: Arc<RootCertStore>,
}

impl Certificate {
    fn new() -> Self {
        Self::of([NAME.to_owned()])
    }

    /// One that takes several datagrams.
    fn large() -> Self {
        let more = (0..200).map(|n| format!("another-name-of-the-same-origin-{n}.example"));
        Self::of([NAME.to_owned()].into_iter().chain(more))
    }

    fn of(names: impl IntoIterator<Item = String>) -> Self {
        let made =
            rcgen::generate_simple_self_signed(names.into_iter().collect::<Vec<_>>()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = ring::default_provider();
        let shown =
            rustls::sign::CertifiedKey::from_der(vec![made.cert.der().clone()], key, &provider)
                .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        Self { shown: Arc::new(shown.into()), roots: Arc::new(roots) }
    }
}

/// A server on one socket.
struct Running {
    stage: Stage,
    address: SocketAddr,
    certificate: Certificate,
    /// quinn's endpoint of it.
    endpoint: quinn::Endpoint,
    handover: QuicHandover,
    shared: Shared<Router>,
    serving: JoinHandle<()>,
    _abort: TriggerOnDrop,
}

/// Over HTTP/1.1 without TLS and over HTTP/3, players reach it under the same address.
fn config() -> Config {
    let public_url = PublicUrl::try_from("https://live.example".to_owned()).unwrap();
    Config { public_url, ..Config::default() }
}

impl Running {
    async fn live() -> Self {
        Self::start(config(), |_| ()).await
    }

    async fn start(config: Config, change: impl FnOnce(&mut Endpoint)) -> Self {
        let mut stage = Stage::with(&config).await;
        stage.push(3 * SEGMENT + 2 * PART + 1).await;
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        Self::over(stage, QuicSocket::new(udp).unwrap(), Certificate::new(), config, change)
    }

    fn over(
        stage: Stage,
        socket: QuicSocket,
        certificate: Certificate,
        config: Config,
        change: impl FnOnce(&mut Endpoint),
    ) -> Self {
        let (address, handover) = (socket.local_addr().unwrap(), socket.handover());
        let shown = Arc::clone(&certificate.shown) as Arc<_>;
        let mut endpoint = Endpoint::new(socket, &config.server(&Https::default()), shown).unwrap();
        change(&mut endpoint);
        let quic = endpoint.quic();
        let abort = Shutdown::default();
        let shared = shared(&stage, &config);
        let serving = {
            let (shared, abort) = (shared.clone(), abort.clone());
            tokio::spawn(async move { endpoint.serve(&shared, &abort).await })
        };
        Self {
            stage,
            address,
            certificate,
            endpoint: quic,
            handover,
            shared,
            serving,
            _abort: abort.trigger_on_drop(),
        }
    }

    async fn client(&self) -> Client {
        self.client_with(self.address, |_| ()).await
    }

    async fn client_with(
        &self,
        server: SocketAddr,
        change: impl FnOnce(&mut TransportConfig),
    ) -> Client {
        let endpoint = self.certificate.client(change);
        let quic = endpoint.connect(server, NAME).unwrap().await.unwrap();
        Client::over(endpoint, quic).await
    }

    fn refused(&self, reason: &str) -> u64 {
        self.count(&format!("http_refused_total{{reason=\"{reason}\"}} "))
    }

    fn evicted(&self, reason: &str) -> u64 {
        self.count(&format!("http_evicted_total{{reason=\"{reason}\"}} "))
    }

    /// Requests that have been served, or are in progress.
    fn served(&self) -> u64 {
        self.count("http_requests_total{")
    }

    /// The sum of all samples with this prefix.
    fn count(&self, sample: &str) -> u64 {
        let mut registry = Registry::default();
        self.stage.metrics.register(&mut registry);
        let mut metrics = String::new();
        text::encode(&mut metrics, &registry).unwrap();
        let found = metrics.lines().filter(|line| line.starts_with(sample));
        found.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    }
}

impl Certificate {
    /// A client's endpoint that trusts it, and resumes sessions with early data.
    fn client(&self, change: impl FnOnce(&mut TransportConfig)) -> quinn::Endpoint {
        self.client_of(vec![b"h3".to_vec()], change)
    }

    /// An endpoint with these protocols.
    fn client_of(
        &self,
        protocols: Vec<Vec<u8>>,
        change: impl FnOnce(&mut TransportConfig),
    ) -> quinn::Endpoint {
        let mut tls =
            rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_root_certificates(Arc::clone(&self.roots))
                .with_no_client_auth();
        tls.alpn_protocols = protocols;
        tls.enable_early_data = true;
        let mut transport = TransportConfig::default();
        change(&mut transport);
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        config.transport_config(Arc::new(transport));
        let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.set_default_client_config(config);
        endpoint
    }
}

type Requests = h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>;
type Stream = h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

struct Client {
    endpoint: quinn::Endpoint,
    quic: quinn::Connection,
    requests: Requests,
    /// The end of the connection.
    driver: JoinHandle<h3::error::ConnectionError>,
}

/// A complete response.
#[derive(Debug)]
struct Received {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Client {
    async fn over(endpoint: quinn::Endpoint, quic: quinn::Connection) -> Self {
        let (mut driver, requests) =
            h3::client::new(h3_quinn::Connection::new(quic.clone())).await.unwrap();
        let driver =
            tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
        Self { endpoint, quic, requests, driver }
    }

    async fn get(&mut self, path: &str) -> Received {
        self.request(Method::GET, path, &[], b"").await
    }

    async fn request(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Received {
        let mut stream = self.send(method, path, headers).await;
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body)).await.unwrap();
        }
        stream.finish().await.unwrap();
        whole(stream).await
    }

    /// Sends the head of a request, without its end.
    async fn send(&mut self, method: Method, path: &str, headers: &[(&str, &str)]) -> Stream {
        let mut request = Request::builder().method(method).uri(format!("https://{NAME}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.requests.send_request(request.body(()).unwrap()).await.unwrap()
    }
}

async fn whole(mut stream: Stream) -> Received {
    let whole = async {
        let (head, ()) = stream.recv_response().await.unwrap().into_parts();
        let mut body = BytesMut::new();
        while let Some(mut data) = stream.recv_data().await.unwrap() {
            body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        }
        Received { status: head.status, headers: head.headers, body: body.freeze() }
    };
    timeout(LONG, whole).await.expect("a response in time")
}

/// A frame as bytes.
fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    testing::write_varint(kind, &mut frame);
    testing::write_varint(payload.len() as u64, &mut frame);
    frame.extend_from_slice(payload);
    frame
}

/// A bare connection that has sent its settings.
async fn bare(running: &Running) -> (quinn::Endpoint, quinn::Connection) {
    let (endpoint, quic, control) = settled(running).await;
    // It stays open as long as the connection (RFC 9114 6.2.1).
    let kept = quic.clone();
    tokio::spawn(async move {
        kept.closed().await;
        drop(control);
    });
    (endpoint, quic)
}

/// The same, with its control stream.
async fn settled(running: &Running) -> (quinn::Endpoint, quinn::Connection, SendStream) {
    settled_at(running, running.address, |_| ()).await
}

/// The same, over a path to the server.
async fn settled_at(
    running: &Running,
    server: SocketAddr,
    change: impl FnOnce(&mut TransportConfig),
) -> (quinn::Endpoint, quinn::Connection, SendStream) {
    let endpoint = running.certificate.client(change);
    let quic = endpoint.connect(server, NAME).unwrap().await.unwrap();
    let mut control = quic.open_uni().await.unwrap();
    control.write_all(&[&[0][..], &frame(4, b"")].concat()).await.unwrap();
    (endpoint, quic, control)
}

/// The code with which the peer closes the connection.
async fn closed(quic: &quinn::Connection) -> u64 {
    match timeout(LONG, quic.closed()).await.expect("an end in time") {
        quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other}"),
    }
}

/// Sends bytes on a new stream and ends it.
async fn send_bare(quic: &quinn::Connection, bytes: &[u8]) -> (SendStream, RecvStream) {
    let (mut send, recv) = quic.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    send.finish().unwrap();
    (send, recv)
}

/// A GET request as a frame.
fn get_frame(path: &str) -> Vec<u8> {
    let mut path_field = vec![0x51];
    path_field.push(u8::try_from(path.len()).unwrap());
    path_field.extend(path.as_bytes());
    frame(1, &[b"\0\0\xd1\xd7\x50\x06origin", &path_field[..]].concat())
}

/// The streams that the server's GOAWAY frames name, until its control stream ends.
async fn goaways(quic: &quinn::Connection) -> Vec<u64> {
    let mut control = loop {
        let mut stream = quic.accept_uni().await.unwrap();
        let mut kind = [0];
        stream.read_exact(&mut kind).await.unwrap();
        if kind == [0] {
            break stream;
        }
    };
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = control.read_chunk(usize::MAX, true).await {
        bytes.extend_from_slice(&chunk.bytes);
    }
    let (mut found, mut rest) = (vec![], &bytes[..]);
    while let Some((kind, len)) = testing::read_varint(rest) {
        rest = &rest[len..];
        let (length, len) = testing::read_varint(rest).unwrap();
        let (payload, next) = rest[len..].split_at(usize::try_from(length).unwrap());
        if kind == 7 {
            found.push(testing::read_varint(payload).unwrap().0);
        }
        rest = next;
    }
    found
}

/// The end of a stream: the code of a reset, or the first byte of the field section of a response.
async fn outcome(mut recv: RecvStream) -> Result<u8, u64> {
    let read = timeout(LONG, recv.read_to_end(1 << 20)).await.expect("an end in time");
    match read {
        Ok(bytes) => {
            let (kind, first) = testing::read_varint(&bytes).unwrap();
            let (_, second) = testing::read_varint(&bytes[first..]).unwrap();
            assert_eq!(kind, 1);
            Ok(bytes[first + second + 2])
        }
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => Err(code.into_inner()),
        Err(other) => panic!("{other}"),
    }
}

/// Waits until the condition holds.
async fn until(mut so: impl FnMut() -> bool) {
    let come = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LONG, come).await.expect("it to become so");
}
