//! Why there are no listening sockets, with a remedy.

use std::{io, net::SocketAddr};

use super::{
    bind::is_absent,
    wanted::{Kind, Purpose, Wanted},
};

/// Why there are no listening sockets.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A socket of the service manager is of another kind.
    #[error(
        "the service manager's socket {index} is neither ListenStream= nor ListenDatagram= with a \
         port"
    )]
    NoListener { index: usize },
    /// A socket of the service manager cannot be used.
    #[error("the service manager's socket {index}: {source}")]
    Given { index: usize, source: io::Error },
    /// The service manager has a socket that is not configured.
    #[error(
        "the service manager hands over {kind} {address}, which is no listener of the \
         configuration (those of TLS are off without a certificate): set a `listen` to it, or take \
         it out of the socket unit"
    )]
    NotWanted { kind: Kind, address: SocketAddr },
    /// A configured listener cannot be bound.
    #[error(
        "{}.listen: {} {}: {source}; {}",
        wanted.purpose.section(),
        wanted.purpose.kind(),
        wanted.address,
        remedy(source)
    )]
    Unbound { wanted: Wanted, source: io::Error },
    /// No file descriptors are left.
    #[error("{}: {source}", purpose.name())]
    NotDuplicated { purpose: Purpose, source: io::Error },
}

/// The remedy for a listener that cannot be bound.
fn remedy(err: &io::Error) -> &'static str {
    match err.kind() {
        io::ErrorKind::AddrInUse => "another program uses the port: stop it, or set another port",
        _ if is_absent(err) => "this machine does not have the address: set another address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: set another port",
        _ => "set another address",
    }
}
