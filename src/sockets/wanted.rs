//! The listeners of the configuration: purpose and address.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

/// A configured socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) purpose: Purpose,
    pub(crate) address: SocketAddr,
}

/// The purpose of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Purpose {
    /// Publishers and RTMP players.
    Rtmp,
    /// The same over TLS.
    Rtmps,
    /// Players, without TLS.
    Http,
    /// Players over TLS: HTTP/1.1 and HTTP/2.
    Https,
    /// HTTP/3: UDP on the ports of HTTPS.
    Quic,
    /// Metrics and health checks.
    Admin,
}

impl Purpose {
    /// The listener's name in logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmp",
            Self::Rtmps => "rtmps",
            Self::Http => "http",
            Self::Https => "https",
            Self::Quic => "quic",
            Self::Admin => "admin",
        }
    }

    /// The section of the configuration with its `listen`.
    pub(crate) fn section(self) -> &'static str {
        match self {
            Self::Quic => "https",
            other => other.name(),
        }
    }

    /// The socket type that the purpose needs.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Quic => Kind::Udp,
            _ => Kind::Tcp,
        }
    }
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Udp,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}
