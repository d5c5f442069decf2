//! RTMPS: RTMP over TLS. Limits the time of a handshake, and the number of concurrent handshakes
//! after the ClientHello (RFC 8446 4.1.2), in total and for each address. The daemon provides the
//! certificate.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use net_core::ConnectionLimit;
use rustls::{
    ServerConfig,
    crypto::ring,
    server::{Acceptor, ResolvesServerCert},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::metrics::{Handshake, Metrics};

/// Maximum number of concurrent handshakes: each may hold some 100 KiB and costs a signature.
/// Others wait, within their time limit.
const HANDSHAKES: usize = 128;
/// Maximum number of concurrent handshakes of one address.
const HANDSHAKES_PER_ADDRESS: usize = 32;
/// A handshake that has lasted for this time has stalled, and is cancelled if another waits.
const STALL: Duration = Duration::from_secs(1);

/// TLS for the connections of a listener.
pub(crate) struct Tls {
    /// Shared by all connections.
    config: Arc<ServerConfig>,
    /// Permits of handshakes after their ClientHello.
    handshakes: Arc<ConnectionLimit>,
    /// Time limit of a handshake, including the wait for a permit.
    limit: Duration,
}

impl Tls {
    /// TLS 1.2 and 1.3 with the certificates of `certificates`; a handshake takes at most `limit`.
    ///
    /// # Errors
    /// The provider supports no version of TLS, which does not happen with ring.
    pub(crate) fn new(
        certificates: Arc<dyn ResolvesServerCert>,
        limit: Duration,
    ) -> io::Result<Self> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        Ok(Self {
            config: Arc::new(config),
            handshakes: ConnectionLimit::with_patience(
                "rtmps handshakes",
                HANDSHAKES,
                HANDSHAKES_PER_ADDRESS,
                STALL,
                Arc::new(()),
            ),
            limit,
        })
    }

    /// Performs the handshake with `peer`. The result is counted here.
    ///
    /// # Errors
    /// The failure; `TimedOut` if the limit has passed, or the handshake has stalled and another
    /// waits for its permit.
    pub(crate) async fn accept(
        &self,
        socket: TcpStream,
        peer: IpAddr,
        metrics: &Metrics,
    ) -> io::Result<TlsStream<TcpStream>> {
        let shaken = timeout(self.limit, async {
            // A peer that has sent no ClientHello uses no permit. A ClientHello is at most 64 KiB,
            // the limit of rustls.
            let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
            let full = |_| io::Error::new(io::ErrorKind::TimedOut, "too many TLS handshakes");
            let permit = self.handshakes.admit(Some(peer), self.limit).await.map_err(full)?;
            let stalled = "the TLS handshake stalled while others were waiting";
            tokio::select! {
                shaken = hello.into_stream(Arc::clone(&self.config)) => shaken,
                () = permit.usage().closed() => {
                    Err(io::Error::new(io::ErrorKind::TimedOut, stalled))
                }
            }
        });
        // The future is dropped at the time limit, and the socket with it: the peer gets no alert.
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
