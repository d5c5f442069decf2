//! Connections to an origin: TCP, TLS over it, or a Unix socket, all within a time limit.
//!
//! HTTP/2 is negotiated by ALPN with `https` origins (RFC 7301) and used by prior knowledge over
//! Unix sockets; HTTP/1.1 is used with others.

use std::{
    fs, io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use http_server::BoxError;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::{net::UnixStream, time::timeout};
use tower::Service;

use super::{config::Origin, error::Error};

/// Interval at which silent peers are detected: HTTP/2 connections by pings, others by the kernel.
pub(super) const PING: Duration = Duration::from_secs(5);

/// Certificate authorities for `https` origins, and the TLS settings of connections to them.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Those of `ca`, or, if that is empty, the system's; `needed` if an origin uses TLS.
    ///
    /// # Errors
    /// None can be read.
    pub(super) fn new(ca: &Path, needed: bool) -> Result<Self, Error> {
        let file = || ca.to_owned();
        // A file replaces the authorities of the system, so that a private authority excludes all
        // public ones. A file that is not needed is read all the same: its faults show at the
        // start, not after a later change of the origins.
        let mut roots = RootCertStore::empty();
        if !ca.as_os_str().is_empty() {
            let pem = fs::read(ca).map_err(|source| Error::Read { file: file(), source })?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate =
                    certificate.map_err(|source| Error::Pem { file: file(), source })?;
                let added = roots.add(certificate);
                added.map_err(|source| Error::Certificate { file: file(), source })?;
            }
        } else if needed {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if needed && roots.is_empty() {
            return Err(match ca.as_os_str().is_empty() {
                true => Error::NoAuthority,
                false => Error::NoCertificate { file: file() },
            });
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

/// Connects within a time limit that includes TLS. Implements tower's `Service` for hyper's client.
#[derive(Clone)]
pub(super) struct Dial {
    /// TCP or a Unix socket, with TLS for `https` addresses.
    inner: HttpsConnector<Sockets>,
    /// `edge.connect_ms`.
    limit: Duration,
}

impl Dial {
    /// A connector for `origin`, with `limit`.
    pub(super) fn new(origin: &Origin, limit: Duration, tls: &Tls) -> Self {
        let sockets = match origin {
            Origin::Local(path) => Sockets::Unix(path.as_path().into()),
            Origin::Remote(_) => {
                // The limits detect a host that has disappeared without closing its connections: at
                // most 20 s after the last byte.
                let mut tcp = HttpConnector::new();
                tcp.enforce_http(false);
                tcp.set_nodelay(true);
                tcp.set_keepalive(Some(2 * PING));
                tcp.set_keepalive_interval(Some(PING));
                tcp.set_keepalive_retries(Some(2));
                #[cfg(target_os = "linux")]
                tcp.set_tcp_user_timeout(Some(4 * PING));
                // Several addresses share the limit.
                tcp.set_connect_timeout(Some(limit));
                Sockets::Tcp(tcp)
            }
        };
        Self::over(sockets, limit, tls)
    }

    /// A connector over `sockets`.
    fn over(sockets: Sockets, limit: Duration, tls: &Tls) -> Self {
        // ALPN offers both versions with TLS; the client decides what cleartext and Unix sockets
        // use.
        let inner = HttpsConnectorBuilder::new()
            .with_tls_config(ClientConfig::clone(&tls.0))
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(sockets);
        Self { inner, limit }
    }

    /// A connector that calls `connect`.
    #[cfg(test)]
    pub(super) fn in_memory(connect: Connect, limit: Duration, tls: &Tls) -> Self {
        Self::over(Sockets::Memory(connect), limit, tls)
    }
}

/// Connects to a server in the same process, or refuses to.
#[cfg(test)]
pub(super) type Connect = Arc<dyn Fn() -> io::Result<tokio::io::DuplexStream> + Send + Sync>;

/// A connection in progress.
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

impl Service<Uri> for Dial {
    type Response = MaybeHttpsStream<Stream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, limit) = (self.inner.call(uri), self.limit);
        Box::pin(async move {
            match timeout(limit, connecting).await {
                Ok(connected) => connected,
                Err(_) => {
                    Err(io::Error::new(io::ErrorKind::TimedOut, "not connected in time").into())
                }
            }
        })
    }
}

/// Connects to the authority of a URI, or to the Unix socket.
#[derive(Clone)]
enum Sockets {
    Tcp(HttpConnector),
    Unix(Arc<Path>),
    #[cfg(test)]
    Memory(Connect),
}

impl Service<Uri> for Sockets {
    type Response = Stream;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Only TCP may need to wait before a connection; a Unix socket is always ready.
        match self {
            Self::Tcp(tcp) => tcp.poll_ready(cx).map_err(Into::into),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self {
            Self::Tcp(tcp) => {
                let connecting = tcp.call(uri);
                Box::pin(async move { Ok(Stream(Box::pin(connecting.await?))) })
            }
            Self::Unix(path) => {
                let path = Arc::clone(path);
                Box::pin(async move {
                    Ok(Stream(Box::pin(TokioIo::new(UnixStream::connect(path).await?))))
                })
            }
            #[cfg(test)]
            Self::Memory(connect) => {
                let connected = connect();
                Box::pin(async move { Ok(Stream(Box::pin(TokioIo::new(connected?)))) })
            }
        }
    }
}

/// A connection of any kind.
pub(super) struct Stream(Pin<Box<dyn Io>>);

/// hyper's reading and writing, for a boxed connection of any type.
trait Io: Read + Write + Send {}

impl<T: Read + Write + Send> Io for T {}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}
