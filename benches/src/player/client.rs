//! GET over HTTP/1.1, HTTP/1.1 with TLS, HTTP/2 and HTTP/3, with one interface.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use h3_quinn::OpenStreams;
use http::{HeaderValue, Request, header::ACCEPT_ENCODING};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tokio_rustls::TlsConnector;

use super::{Fault, STALL, Tally};
use crate::{
    certificate::{Certificate, NAME},
    quic,
};

/// Every response except that of a growing segment is faster.
const SLOW: Duration = Duration::from_secs(3);

/// The protocol of a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 without TLS.
    Plain,
    /// HTTP/1.1 with TLS.
    Tls,
    /// HTTP/2 with TLS.
    H2,
    /// HTTP/3.
    H3,
}

impl Protocol {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Tls, Self::H2, Self::H3];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "HTTP/1.1",
            Self::Tls => "HTTP/1.1 over TLS",
            Self::H2 => "HTTP/2",
            Self::H3 => "HTTP/3",
        }
    }
}

/// The addresses of a server.
#[derive(Debug)]
pub struct Origin {
    /// HTTP/1.1.
    pub plain: SocketAddr,
    /// TLS, and HTTP/3.
    pub tls: SocketAddr,
    /// Its certificate.
    pub certificate: Certificate,
    /// Number of responses, and bytes of their bodies.
    pub answered: AtomicU64,
    /// See `answered`.
    pub bytes: AtomicU64,
    /// Responses that took longer than [`SLOW`], by protocol and kind.
    pub slow: Tally,
}

/// A player's connection to a server; over HTTP/1.1 one more for each clone.
pub struct Client {
    /// The server, and the counts of all players.
    origin: Arc<Origin>,
    /// The protocol of the connection.
    protocol: Protocol,
    /// Sends requests on the connection.
    sender: Sender,
    /// The tasks that drive the connection; they end with the client.
    _driver: Arc<JoinSet<()>>,
    /// The QUIC endpoint, for a change of port.
    endpoint: Option<quinn::Endpoint>,
}

/// The request side of a connection.
enum Sender {
    /// One request at a time.
    Http1(http1::SendRequest<Empty<Bytes>>),
    /// A stream for each request.
    Http2(http2::SendRequest<Empty<Bytes>>),
    /// A stream for each request.
    Http3(h3::client::SendRequest<OpenStreams, Bytes>),
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// The server cannot be reached, or does not speak this protocol.
    pub async fn connect(origin: &Arc<Origin>, protocol: Protocol) -> Result<Self, Fault> {
        let mut driver = JoinSet::new();
        let connecting = Self::sender(origin, protocol, &mut driver);
        let (sender, endpoint) = match timeout(STALL, connecting).await {
            Ok(connected) => connected.map_err(|err| Fault::of("connect", err))?,
            Err(_) => return Err(Fault("connect: no answer in time".to_owned())),
        };
        Ok(Self {
            origin: Arc::clone(origin),
            protocol,
            sender,
            _driver: Arc::new(driver),
            endpoint,
        })
    }

    /// Connects, and spawns the tasks that drive the connection into `driver`.
    async fn sender(
        origin: &Origin,
        protocol: Protocol,
        driver: &mut JoinSet<()>,
    ) -> Result<(Sender, Option<quinn::Endpoint>), crate::Failure> {
        if protocol == Protocol::H3 {
            let endpoint = quic::client(origin.certificate.client(b"h3")?)?;
            let sender = quic::connect(&endpoint, origin.tls, driver).await?;
            return Ok((Sender::Http3(sender), Some(endpoint)));
        }
        let address = if protocol == Protocol::Plain { origin.plain } else { origin.tls };
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        if protocol == Protocol::Plain {
            let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
            driver.spawn(async move { drop(connection.await) });
            return Ok((Sender::Http1(sender), None));
        }
        let alpn: &[u8] = if protocol == Protocol::H2 { b"h2" } else { b"http/1.1" };
        let connector = TlsConnector::from(Arc::new(origin.certificate.client(alpn)?));
        let stream = connector.connect(ServerName::try_from(NAME)?, socket).await?;
        // Without this check a player could measure HTTP/1.1 instead of HTTP/2.
        if stream.get_ref().1.alpn_protocol() != Some(alpn) {
            return Err("the server has chosen another protocol".into());
        }
        let io = TokioIo::new(stream);
        Ok((
            match protocol {
                Protocol::H2 => {
                    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                    driver.spawn(async move { drop(connection.await) });
                    Sender::Http2(sender)
                }
                _ => {
                    let (sender, connection) = http1::handshake(io).await?;
                    driver.spawn(async move { drop(connection.await) });
                    Sender::Http1(sender)
                }
            },
            None,
        ))
    }

    /// The same for one more flow of requests: a stream of the connection if possible, otherwise
    /// another connection.
    ///
    /// # Errors
    /// See [`Client::connect`].
    pub async fn another(&self) -> Result<Self, Fault> {
        let sender = match &self.sender {
            Sender::Http1(_) => return Self::connect(&self.origin, self.protocol).await,
            Sender::Http2(sender) => Sender::Http2(sender.clone()),
            Sender::Http3(sender) => Sender::Http3(sender.clone()),
        };
        Ok(Self {
            origin: Arc::clone(&self.origin),
            protocol: self.protocol,
            sender,
            _driver: Arc::clone(&self._driver),
            endpoint: self.endpoint.clone(),
        })
    }

    /// Changes to another port, like a phone that changes its network. Only QUIC supports this.
    pub fn migrate(&self) {
        if let Some(endpoint) = &self.endpoint
            && let Ok(socket) = quic::free_socket()
        {
            let _ = endpoint.rebind(socket);
        }
    }

    /// Status and body of the response to a GET; no pause may be longer than [`STALL`]. `what`
    /// names the resource.
    ///
    /// # Errors
    /// The connection was closed, nothing arrived in time, or a body ended before its length.
    pub async fn get(&mut self, what: &str, path: &str) -> Result<(u16, Vec<u8>), Fault> {
        let begun = Instant::now();
        let answer = match &mut self.sender {
            Sender::Http3(sender) => Self::get_h3(sender, what, &self.origin, path).await,
            sender => Self::get_tcp(sender, what, &self.origin, path).await,
        }?;
        // The whole time counts, including the wait of a blocking request.
        if begun.elapsed() > SLOW {
            self.origin.slow.add(&format!("{}: {what}", self.protocol.name()));
        }
        self.origin.answered.fetch_add(1, Relaxed);
        self.origin.bytes.fetch_add(answer.1.len() as u64, Relaxed);
        Ok(answer)
    }

    /// [`Client::get`] by hyper.
    async fn get_tcp(
        sender: &mut Sender,
        what: &str,
        origin: &Origin,
        path: &str,
    ) -> Result<(u16, Vec<u8>), Fault> {
        let fault = |err: hyper::Error| Fault::of(what, kind(&err));
        let response = match sender {
            Sender::Http1(sender) => {
                let request = request(path, None)?;
                within(what, async {
                    sender.ready().await?;
                    sender.send_request(request).await
                })
                .await?
            }
            Sender::Http2(sender) => {
                let request = request(path, Some(origin.tls))?;
                within(what, async {
                    sender.ready().await?;
                    sender.send_request(request).await
                })
                .await?
            }
            Sender::Http3(_) => return Err(Fault("HTTP/3 is no TCP".to_owned())),
        }
        .map_err(fault)?;
        let (status, mut body, mut all) =
            (response.status().as_u16(), response.into_body(), Vec::new());
        while let Some(frame) = within(what, body.frame()).await? {
            if let Ok(data) = frame.map_err(fault)?.into_data() {
                all.extend_from_slice(&data);
            }
        }
        Ok((status, all))
    }

    /// [`Client::get`] by h3.
    async fn get_h3(
        sender: &mut h3::client::SendRequest<OpenStreams, Bytes>,
        what: &str,
        origin: &Origin,
        path: &str,
    ) -> Result<(u16, Vec<u8>), Fault> {
        let request = request(path, Some(origin.tls))?.map(drop);
        let fault = |err: h3::error::StreamError| Fault::of(what, first_words(&err.to_string()));
        let mut stream = within(what, sender.send_request(request)).await?.map_err(fault)?;
        within(what, stream.finish()).await?.map_err(fault)?;
        let head = within(what, stream.recv_response()).await?.map_err(fault)?;
        let mut all = Vec::new();
        while let Some(mut data) = within(what, stream.recv_data()).await?.map_err(fault)? {
            // A buffer may consist of several slices.
            while data.has_remaining() {
                let chunk = data.chunk();
                all.extend_from_slice(chunk);
                let length = chunk.len();
                data.advance(length);
            }
        }
        // hyper checks the length of a body; h3 does not.
        let length = head
            .headers()
            .get("content-length")
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        match length {
            Some(length) if length != all.len() => {
                Err(Fault(format!("{what}: a body is not as long as it says")))
            }
            _ => Ok((head.status().as_u16(), all)),
        }
    }
}

/// The result, or a fault if it takes longer than [`STALL`].
async fn within<T>(what: &str, coming: impl Future<Output = T>) -> Result<T, Fault> {
    let come = timeout(STALL, coming).await;
    come.map_err(|_| Fault(format!("{what}: nothing for {} s", STALL.as_secs())))
}

/// A GET request that accepts gzip. HTTP/2 and HTTP/3 have the authority in the URI, HTTP/1.1 in
/// `Host`.
fn request(path: &str, authority: Option<SocketAddr>) -> Result<Request<Empty<Bytes>>, Fault> {
    let request = match authority {
        Some(server) => Request::get(format!("https://{NAME}:{}{path}", server.port())),
        None => Request::get(path).header("host", NAME),
    };
    let mut request = request.body(Empty::new()).map_err(|err| Fault::of("request", err))?;
    request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    Ok(request)
}

/// hyper's error without its variable parts.
fn kind(err: &hyper::Error) -> String {
    let cause = std::error::Error::source(err).map(ToString::to_string);
    first_words(&format!("{err} {}", cause.unwrap_or_default()))
}

/// At most twelve words, so that faults can be counted by their text.
fn first_words(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().take(12).collect();
    words.join(" ")
}
