//! The settings of a server. The caller has checked them.

use std::time::Duration;

/// Limits of all listeners of a server together.
#[derive(Debug, Clone)]
pub struct Config {
    /// Maximum number of connections.
    pub max_connections: usize,
    /// Maximum number of connections from one address, or one /64 of IPv6.
    pub max_connections_per_address: usize,
    /// Maximum number of concurrent requests on one connection of HTTP/2 or HTTP/3 (RFC 9113 5.1.2,
    /// RFC 9000 4.6).
    pub max_streams: u32,
    /// Largest request head in bytes. HTTP/2 and HTTP/3 count a field as its name, its value and 32
    /// bytes more (RFC 9113 6.5.2, RFC 9114 4.2.2).
    pub max_header_bytes: u32,
    /// Maximum number of header fields of a request.
    pub max_headers: u32,
    /// Time within which a new connection must send its first bytes, or complete its handshake.
    pub first_byte: Duration,
    /// Time for a request's head from its first byte.
    pub header: Duration,
    /// Time for which a connection without a request is kept.
    pub idle: Duration,
    /// Time within which a peer must accept some of the bytes that are sent to it.
    pub write: Duration,
    /// Time that requests may take to finish when the server stops.
    pub drain: Duration,
    /// Whether requests may arrive in a client's first flight (RFC 8446 2.3, RFC 8470).
    pub early_data: bool,
}

impl Config {
    /// The largest request head in bytes.
    pub(crate) fn header_bytes(&self) -> usize {
        usize::try_from(self.max_header_bytes).unwrap_or(usize::MAX)
    }

    /// The maximum number of header fields.
    pub(crate) fn headers(&self) -> usize {
        usize::try_from(self.max_headers).unwrap_or(usize::MAX)
    }
}
