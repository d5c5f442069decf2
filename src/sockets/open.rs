//! An open socket of any kind.

use std::net::{SocketAddr, TcpListener};

use http_server::{QuicHandover, QuicSocket};

use super::wanted::{Kind, Purpose};

/// A socket itself.
#[derive(Debug)]
pub(crate) enum Any {
    /// A listener of any purpose but QUIC.
    Tcp(TcpListener),
    /// With the note of its former owners.
    Quic(QuicSocket),
    /// A QUIC socket in use, as a handle for a hand-over.
    Served(QuicHandover),
}

impl Any {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Tcp(_) => Kind::Tcp,
            Self::Quic(_) | Self::Served(_) => Kind::Udp,
        }
    }
}

/// An open socket, and its purpose.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) purpose: Purpose,
    pub(crate) address: SocketAddr,
    pub(crate) socket: Any,
}

/// A socket and its address.
pub(super) type Bound = (SocketAddr, Any);
