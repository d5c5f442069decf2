//! RTMPS: RTMP over TLS. Limits the time of a handshake, and the number of concurrent handshakes
//! after the ClientHello (RFC 8446 4.1.2). The daemon provides the certificate.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    ServerConfig,
    crypto::ring,
    server::{Acceptor, ResolvesServerCert},
};
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::metrics::{Handshake, Metrics};

/// Maximum number of concurrent handshakes: each may hold some 100 KiB and costs a signature.
/// Others wait, within their time limit.
const HANDSHAKES: usize = 128;

/// TLS for the connections of a listener.
pub(crate) struct Tls {
    config: Arc<ServerConfig>,
    places: Semaphore,
    limit: Duration,
}

impl Tls {
    /// TLS 1.2 and 1.3 with the certificates of `certificates`; a handshake takes at most `limit`.
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

    /// Performs the handshake. The result is counted here.
    ///
    /// # Errors
    /// The failure; `TimedOut` if the limit has passed.
    pub(crate) async fn accept(&self, socket: TcpStream, metrics: &Metrics) -> io::Result<TlsStream<TcpStream>> {
        let shaken = timeout(self.limit, async {
            // A peer that has sent no ClientHello uses no permit. A ClientHello is at most 64 KiB,
            // the limit of rustls.
            let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
            let _place = self.places.acquire().await.map_err(io::Error::other)?;
            hello.into_stream(Arc::clone(&self.config)).await
        });
        let shaken = shaken.await.unwrap_or_else(|_| {
            let words = format!("the TLS handshake took longer than {} ms", self.limit.as_millis());
            Err(io::Error::new(io::ErrorKind::TimedOut, words))
        });
        metrics.shake_hands(match &shaken {
            Ok(_) => Handshake::Done,
            Err(err) if err.kind() == io::ErrorKind::TimedOut => Handshake::TimedOut,
            Err(_) => Handshake::Failed,
        });
        shaken
    }
}
