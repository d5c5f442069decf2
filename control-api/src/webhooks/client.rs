//! One attempt of a delivery: a request on a connection of its own. Redirects are not followed,
//! because they would lead to addresses that were not checked.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use control_domain::features::webhooks::url::WebhookUrl;
use futures_util::future::{Either, select};
use http::{HeaderValue, Request, Uri, header, uri::Scheme};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::address::is_internal;
use crate::traces;

/// Time for an attempt, with the look-up of the name.
const LIMIT: Duration = Duration::from_secs(15);
/// Time for a connection to one address.
const CONNECT: Duration = Duration::from_secs(5);
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;
/// Bytes of a response's body that are read, so that a receiver can end its response.
const MAX_BODY_BYTES: usize = 1 << 10;
/// Largest head of a response in bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Maximum number of headers of a response.
const MAX_HEADERS: usize = 100;
/// The media type of an event in structured mode (CloudEvents HTTP binding 1.0.2, 3.2).
const CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// Why there is no response. The texts are shown to the webhook's owner.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the address is not valid")]
    Address,
    #[error("the address must be https")]
    Plain,
    #[error("the name of the host cannot be resolved")]
    Unresolved,
    #[error("the host has an internal address, to which deliveries are not allowed")]
    Internal,
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("no TLS connection: {0}")]
    Tls(io::Error),
    #[error("no valid response: {0}")]
    Http(#[from] hyper::Error),
    #[error("no response in time")]
    Late,
    #[error("the webhook's secret cannot be read")]
    Secret,
}

impl Failure {
    /// A short name, which has no part of the address.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Plain => "plain",
            Self::Unresolved => "unresolved",
            Self::Internal => "internal",
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Http(_) => "http",
            Self::Late => "timeout",
            Self::Secret => "secret",
        }
    }
}

/// The headers of a delivery that are signed, and the signature.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) id: String,
    pub(super) timestamp: u64,
    pub(super) signature: String,
}

/// Sends deliveries.
pub(super) struct Client {
    tls: TlsConnector,
    allow_internal: bool,
    /// Time for an attempt.
    limit: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("allow_internal", &self.allow_internal).finish()
    }
}

impl Client {
    /// A client that trusts these authorities.
    ///
    /// # Errors
    /// The TLS settings are not supported.
    pub(super) fn new(roots: RootCertStore, allow_internal: bool) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(config).into(), allow_internal, limit: LIMIT })
    }

    /// Whether deliveries may go to an address, as far as it is known without a look-up.
    pub(super) fn accepts(&self, url: &WebhookUrl) -> bool {
        let Ok(uri) = url.as_str().parse::<Uri>() else { return false };
        let Some(host) = uri.host() else { return false };
        let is_inside = bare(host).parse().is_ok_and(is_internal);
        self.allow_internal || (url.is_https() && !is_inside)
    }

    /// Posts an event. Returns the status of the response.
    ///
    /// # Errors
    /// A [`Failure`].
    pub(super) async fn post(
        &self,
        url: &WebhookUrl,
        signed: &Signed,
        body: Bytes,
    ) -> Result<u16, Failure> {
        timeout(self.limit, self.exchange(url, signed, body)).await.unwrap_or(Err(Failure::Late))
    }

    async fn exchange(
        &self,
        url: &WebhookUrl,
        signed: &Signed,
        body: Bytes,
    ) -> Result<u16, Failure> {
        let uri = url.as_str().parse::<Uri>().map_err(|_| Failure::Address)?;
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        // Without TLS the events could be read on their way through the internet.
        if !is_https && !self.allow_internal {
            return Err(Failure::Plain);
        }
        let host = bare(uri.host().ok_or(Failure::Address)?);
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let request = request(&uri, signed, body)?;
        let stream = connect(&self.resolve(host, port).await?).await?;
        if !is_https {
            return send(stream, request).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Failure::Address)?;
        let stream = self.tls.connect(name, stream).await.map_err(Failure::Tls)?;
        send(stream, request).await
    }

    /// The addresses of a host to which deliveries may go.
    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(address) => vec![(address, port).into()],
            Err(_) => lookup_host((host, port)).await.map_err(|_| Failure::Unresolved)?.collect(),
        };
        if found.is_empty() {
            return Err(Failure::Unresolved);
        }
        let is_allowed = |at: &SocketAddr| self.allow_internal || !is_internal(at.ip());
        let allowed = found.into_iter().filter(is_allowed).take(MAX_ADDRESSES).collect::<Vec<_>>();
        match allowed.is_empty() {
            true => Err(Failure::Internal),
            false => Ok(allowed),
        }
    }
}

/// A host without the brackets of IPv6.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The request of a delivery.
fn request(uri: &Uri, signed: &Signed, body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().ok_or(Failure::Address)?.as_str();
    let mut request = Request::post(path);
    // The receiver's spans join the trace of the delivery.
    if let Some(parent) = traces::traceparent() {
        request = request.header(traces::TRACEPARENT, parent);
    }
    request
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, CONTENT_TYPE)
        .header(header::USER_AGENT, concat!("streamforge/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, HeaderValue::from_static("close"))
        .header("webhook-id", &signed.id)
        .header("webhook-timestamp", signed.timestamp)
        .header("webhook-signature", &signed.signature)
        .body(Full::new(body))
        .map_err(|_| Failure::Address)
}

/// Connects to the first address that accepts.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
    let mut failure = Failure::Unresolved;
    for address in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(err)) => failure = Failure::Connect(err),
            Err(late) => failure = Failure::Connect(late.into()),
        }
    }
    Err(failure)
}

/// Sends the request on a connection, and reads the status.
async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin,
    request: Request<Full<Bytes>>,
) -> Result<u16, Failure> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await?;
    let exchange = pin!(async move {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let (mut body, mut read) = (response.into_body(), 0);
        while read <= MAX_BODY_BYTES
            && let Some(Ok(frame)) = body.frame().await
        {
            read += frame.data_ref().map_or(0, Bytes::len);
        }
        Ok::<_, Failure>(status)
    });
    match select(exchange, pin!(connection)).await {
        Either::Left((status, _)) => status,
        // The connection has ended after the response, or with an error, which the request has too.
        Either::Right((_, exchange)) => exchange.await,
    }
}

#[cfg(test)]
mod tests;
