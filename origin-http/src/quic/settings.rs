//! How QUIC and TLS are set up for live media: what a peer may make us hold, and how fast we send.

use std::{io, sync::Arc, time::Duration};

use quinn::{
    EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, ValidationTokenConfig, VarInt, congestion,
    crypto::rustls::QuicServerConfig,
};
use rustls::server::{ResolvesServerCert, ServerSessionMemoryCache};

use crate::config::{Config, Https, ms};

use super::keys::Keys;

/// What is written to a connection and not yet acknowledged: 400 Mb/s at 40 ms. It refers to media that are held anyway, and to few copies.
pub(super) const SEND_WINDOW: u64 = 2 << 20;
/// Requests are short: what a client may have sent and we not have read, on a stream and in all.
const STREAM_WINDOW: u32 = 64 << 10;
const RECEIVE_WINDOW: u32 = 256 << 10;
/// The client's control and QPACK streams (RFC 9114 6.2), and some that mean nothing.
const UNIDIRECTIONAL: u32 = 8;
/// Chromium's. RFC 9002's 333 ms would leave a lost first flight for a second.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// Connections that have come and that nobody has looked at, which is a matter of microseconds; and what is kept of what each has sent: the
/// first flight and what comes with it in early data.
const MAX_INCOMING: usize = 1_024;
const INCOMING_BUFFER: u64 = 64 << 10;
const INCOMING_BUFFERS: u64 = 8 << 20;
/// A client that has a token of ours waits no longer for its answer (RFC 9000 8.1.2).
const RETRY_TOKEN: Duration = Duration::from_secs(10);
/// Sessions that may be resumed, one for each connection. Each can be used once, so its first request can be sent again by nobody.
const SESSIONS: usize = 16 << 10;

/// What the endpoint is before anybody connects.
pub(super) fn endpoint(keys: &Keys) -> EndpointConfig {
    let mut config = EndpointConfig::new(keys.reset());
    let generator = keys.clone();
    config.cid_generator(move || Box::new(generator.connection_ids()));
    config
}

/// What each connection is.
///
/// # Errors
/// rustls has no cipher suite for QUIC; a build without ring.
pub(super) fn server(
    config: &Config,
    https: &Https,
    certificates: Arc<dyn ResolvesServerCert>,
    keys: &Keys,
) -> io::Result<ServerConfig> {
    let crypto = QuicServerConfig::try_from(tls(https, certificates)?).map_err(io::Error::other)?;
    let mut server = ServerConfig::new(Arc::new(crypto), keys.token());
    // An address is validated by each connection: `budget` knows of no other way.
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    server
        .validation_token_config(tokens)
        .transport_config(Arc::new(transport(config)?))
        .migration(true)
        .retry_token_lifetime(RETRY_TOKEN)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFERS);
    Ok(server)
}

fn tls(https: &Https, certificates: Arc<dyn ResolvesServerCert>) -> io::Result<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    tls.alpn_protocols = vec![b"h3".to_vec()];
    tls.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    tls.send_tls13_tickets = 1;
    // All or nothing: how much it is, QUIC's own windows say (RFC 9001 4.6.1).
    tls.max_early_data_size = if https.early_data { u32::MAX } else { 0 };
    Ok(tls)
}

/// Congestion control is CUBIC, what TCP beside it does: quinn's BBR is of the first version and marked experimental. Acknowledgements come as
/// the peer likes: the extension that would thin them out is known to few clients. Datagrams are off; so is the spin bit, which tells who
/// listens how far away a viewer is.
fn transport(config: &Config) -> io::Result<TransportConfig> {
    let idle = IdleTimeout::try_from(ms(config.idle_ms)).map_err(io::Error::other)?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(config.max_streams.into())
        .max_concurrent_uni_streams(UNIDIRECTIONAL.into())
        .max_idle_timeout(Some(idle))
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        .initial_rtt(INITIAL_RTT)
        .congestion_controller_factory(Arc::new(congestion::CubicConfig::default()))
        .allow_spin(false)
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0);
    Ok(transport)
}
