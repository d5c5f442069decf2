//! QUIC and TLS settings for live media: limits of the memory that a peer can occupy, and the rate
//! of sending.

use std::{io, sync::Arc, time::Duration};

use quinn::{
    EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, ValidationTokenConfig, VarInt,
    congestion, crypto::rustls::QuicServerConfig,
};
use rustls::server::{ResolvesServerCert, ServerSessionMemoryCache};

use crate::config::Config;

use super::keys::Keys;

/// Limit in bytes of unacknowledged data of a connection: enough for 400 Mb/s at 40 ms. The data
/// refer mostly to media that the server holds anyway.
pub(super) const SEND_WINDOW: u64 = 2 << 20;
/// Limit in bytes of data received and not yet read, on one stream and on a connection: requests
/// are short.
const STREAM_WINDOW: u32 = 64 << 10;
const RECEIVE_WINDOW: u32 = 256 << 10;
/// Limit of the client's unidirectional streams: control, two of QPACK (RFC 9114 6.2), and some of
/// unknown types.
const UNIDIRECTIONAL: u32 = 8;
/// Chromium's value. RFC 9002's 333 ms would delay the repair of a lost first flight by a second.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// Limit of connections that have arrived and are not accepted yet, which takes microseconds; and
/// limits of the bytes held of each: the first flight with its early data.
const MAX_INCOMING: usize = 1_024;
const INCOMING_BUFFER: u64 = 64 << 10;
const INCOMING_BUFFERS: u64 = 8 << 20;
/// Lifetime of a Retry token: a client does not wait longer for the response (RFC 9000 8.1.2).
const RETRY_TOKEN: Duration = Duration::from_secs(10);
/// Number of stored sessions for resumption, one for each connection. Each is used once, so that
/// early data cannot be replayed.
const SESSIONS: usize = 16 << 10;

/// The configuration of the endpoint, which holds before a connection exists.
pub(super) fn endpoint(keys: &Keys) -> EndpointConfig {
    let mut config = EndpointConfig::new(keys.reset());
    let generator = keys.clone();
    config.cid_generator(move || Box::new(generator.connection_ids()));
    config
}

/// The configuration of connections.
///
/// # Errors
/// rustls has no cipher suite for QUIC, as in a build without ring.
pub(super) fn server(
    config: &Config,
    certificates: Arc<dyn ResolvesServerCert>,
    keys: &Keys,
) -> io::Result<ServerConfig> {
    let crypto = QuicServerConfig::try_from(tls(config.early_data, certificates)?)
        .map_err(io::Error::other)?;
    let mut server = ServerConfig::new(Arc::new(crypto), keys.token());
    // Each connection validates the address again: `budget` cannot observe another way.
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    server
        .validation_token_config(tokens)
        .transport_config(Arc::new(transport(config)?))
        // A viewer keeps the connection when the network changes; the new path is validated by
        // quinn (RFC 9000 9).
        .migration(true)
        .retry_token_lifetime(RETRY_TOKEN)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFERS);
    Ok(server)
}

/// TLS 1.3 (RFC 9001 4.2) with the ALPN protocol `h3` (RFC 9114 3.1). One ticket a connection is
/// sent: a client needs one, and each is a stored session here.
fn tls(
    early_data: bool,
    certificates: Arc<dyn ResolvesServerCert>,
) -> io::Result<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    tls.alpn_protocols = vec![b"h3".to_vec()];
    tls.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    tls.send_tls13_tickets = 1;
    // Only 0 and the maximum are allowed: QUIC's flow control sets the real limit (RFC 9001 4.6.1).
    tls.max_early_data_size = if early_data { u32::MAX } else { 0 };
    Ok(tls)
}

/// The transport parameters.
///
/// Congestion control is CUBIC, as is usual for TCP: quinn implements the first version of BBR and
/// marks it experimental. The peer decides when it acknowledges: few clients know the extension
/// that reduces acknowledgements. Datagrams are off. The spin bit is off too, because it shows
/// observers a viewer's round-trip time.
///
/// # Errors
/// `Config::idle` is too long for QUIC (2^62 ms).
fn transport(config: &Config) -> io::Result<TransportConfig> {
    let idle = IdleTimeout::try_from(config.idle).map_err(io::Error::other)?;
    let mut transport = TransportConfig::default();
    transport
        // Each of these values is a bound of the memory that one connection can occupy.
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
