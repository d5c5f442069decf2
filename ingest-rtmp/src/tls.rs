//! RTMPS: RTMP inside TLS. A handshake is bounded in time, and how many there are at once, once a peer has said hello (RFC 8446 4.1.2); which
//! certificate is shown is the daemon's matter.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    ServerConfig,
    crypto::ring,
    server::{Acceptor, ResolvesServerCert},
};
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tracing::debug;

use crate::metrics::{Handshake, Metrics};

/// Handshakes at once: each may hold some 100 KiB and costs a signature. The rest wait, within their limit.
const HANDSHAKES: usize = 128;

/// What makes a connection private.
pub(crate) struct Tls {
    config: Arc<ServerConfig>,
    places: Semaphore,
    limit: Duration,
}

impl Tls {
    /// TLS 1.2 and 1.3 with what `certificates` shows; a handshake takes at most `limit`.
    pub(crate) fn new(certificates: Arc<dyn ResolvesServerCert>, limit: Duration) -> io::Result<Self> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        Ok(Self {
            config: Arc::new(config),
            places: Semaphore::new(HANDSHAKES),
            limit,
        })
    }

    /// Shakes hands; none if that failed, which is counted and logged here.
    pub(crate) async fn accept(&self, socket: TcpStream, metrics: &Metrics) -> Option<TlsStream<TcpStream>> {
        let shaken = timeout(self.limit, async {
            // Who has said nothing keeps nobody waiting. A hello is at most 64 KiB: rustls takes no more.
            let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
            let _place = self.places.acquire().await.map_err(io::Error::other)?;
            hello.into_stream(Arc::clone(&self.config)).await
        });
        match shaken.await {
            Ok(Ok(stream)) => {
                metrics.shake_hands(Handshake::Done);
                return Some(stream);
            }
            Ok(Err(err)) => {
                metrics.shake_hands(Handshake::Failed);
                debug!(%err, "no TLS handshake");
            }
            Err(_) => {
                metrics.shake_hands(Handshake::TimedOut);
                debug!("the TLS handshake took too long");
            }
        }
        None
    }
}
