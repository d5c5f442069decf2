//! The server side of TLS: versions, cipher suites, sessions, and the handshake until requests may
//! arrive. [`Stream`] does the rest.
//!
//! RFC 8446 (TLS 1.3), RFC 5246 (TLS 1.2), RFC 7301 (ALPN). Early data (RFC 8446 8, RFC 8470):
//! sessions are stored in this process and used once, so that a recorded first flight can be
//! replayed to this process only before the original has arrived; and only safe requests are served
//! during the handshake.

mod stream;

use std::{fmt, io, sync::Arc};

use rustls::{
    CipherSuite, ServerConfig,
    crypto::ring::{cipher_suite as suite, default_provider},
    server::{Acceptor as Hello, ResolvesServerCert, ServerSessionMemoryCache},
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::socket::Protocol;
#[cfg(test)]
use stream::Flush;
pub(crate) use stream::Stream;

/// Number of stored sessions for resumption; the oldest are dropped. About 500 bytes each.
const SESSIONS: usize = 16 << 10;
/// Limit of early data in bytes: a few requests.
const EARLY_BYTES: u32 = 16 << 10;

/// Accepts TLS connections. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Acceptor {
    /// Prefers AES, for which processors have instructions.
    usual: Arc<ServerConfig>,
    /// Prefers ChaCha20, for clients without such instructions.
    chacha: Arc<ServerConfig>,
}

impl Acceptor {
    /// Creates the two configurations. They share certificates and stored sessions, so that either
    /// resumes the sessions of the other.
    ///
    /// `early_data`: requests may arrive in a client's first flight (RFC 8446 2.3).
    ///
    /// # Errors
    /// The cryptographic provider does not support the configured suites: a bug of this program.
    pub(crate) fn new(
        certificates: Arc<dyn ResolvesServerCert>,
        early_data: bool,
    ) -> io::Result<Self> {
        // Only suites with forward secrecy and authenticated encryption (RFC 9113 9.2.2 requires it
        // for HTTP/2).
        let mut suites = vec![
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        ];
        let chacha = [
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ];
        let sessions = ServerSessionMemoryCache::new(SESSIONS);
        let config = |cipher_suites: &[_]| {
            let provider = rustls::crypto::CryptoProvider {
                cipher_suites: cipher_suites.to_vec(),
                ..default_provider()
            };
            let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
                .with_safe_default_protocol_versions()
                .map_err(io::Error::other)?
                .with_no_client_auth()
                .with_cert_resolver(Arc::clone(&certificates));
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            config.ignore_client_order = true;
            config.session_storage = sessions.clone();
            // Half-RTT data: the response to early data leaves before the client's Finished
            // arrives, which is the purpose of early data.
            if early_data {
                config.max_early_data_size = EARLY_BYTES;
                config.send_half_rtt_data = true;
            }
            Ok::<_, io::Error>(Arc::new(config))
        };
        suites.extend(chacha);
        let usual = config(&suites)?;
        suites.rotate_right(chacha.len());
        let chacha = config(&suites)?;
        Ok(Self { usual, chacha })
    }

    /// Performs the handshake until the peer's requests may arrive; with early data that is before
    /// its end. A peer without ALPN gets HTTP/1.1.
    ///
    /// # Errors
    /// Errors of the socket; `InvalidData` if the bytes are not TLS, or have no version or suite in
    /// common with this server. An alert has been sent in that case.
    pub(crate) async fn accept<S>(&self, mut socket: S) -> io::Result<(Stream<S>, Protocol)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut hello = Hello::default();
        let accepted = loop {
            if stream::receive(&mut socket, |bytes| hello.read_tls(bytes)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // The client hello may arrive in several pieces. It is read before the session exists,
            // because it decides between the two configurations.
            match hello.accept() {
                Ok(Some(accepted)) => break accepted,
                Ok(None) => {}
                Err((err, alert)) => return Err(refuse(&mut socket, err, alert).await),
            }
        };
        // The server's order of suites decides otherwise, so a client without AES instructions
        // would get AES.
        let config = match prefers_chacha(accepted.client_hello().cipher_suites()) {
            true => Arc::clone(&self.chacha),
            false => Arc::clone(&self.usual),
        };
        let session = match accepted.into_connection(config) {
            Ok(session) => session,
            Err((err, alert)) => return Err(refuse(&mut socket, err, alert).await),
        };
        let mut stream = Stream::new(socket, session);
        let protocol = stream.handshake().await?;
        Ok((stream, protocol))
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

/// Sends the alert that explains why the handshake failed, and returns the error.
async fn refuse<S>(
    socket: &mut S,
    err: rustls::Error,
    mut alert: rustls::server::AcceptedAlert,
) -> io::Error
where
    S: AsyncWrite + Unpin,
{
    let mut bytes = Vec::new();
    // Writing to memory does not fail, and errors of the socket do not matter: the peer may be
    // gone.
    let _ = alert.write_all(&mut bytes);
    let _ = socket.write_all(&bytes).await;
    let _ = socket.shutdown().await;
    io::Error::new(io::ErrorKind::InvalidData, err)
}

/// Whether ChaCha20 is the first of the client's suites that this server supports.
fn prefers_chacha(offered: &[CipherSuite]) -> bool {
    let chacha = [
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    let ours = rustls::crypto::ring::ALL_CIPHER_SUITES;
    let first = offered.iter().find(|offer| ours.iter().any(|suite| suite.suite() == **offer));
    first.is_some_and(|first| chacha.contains(first))
}

#[cfg(test)]
mod tests;
