//! The sender of a request, as far as it is known before and after its credentials are checked.

use std::net::IpAddr;

use uuid::Uuid;

/// The connection of a request: an extension of the request, which the listener's adapter adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The address of the peer.
    pub address: IpAddr,
    /// Whether the peer is another process of this daemon, which passes on a request of a client.
    pub ours: bool,
}

/// The operator at the daemon's machine: an extension of requests through the daemon's control
/// socket, which only its user can open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operator;

/// The account or API key of an authenticated request: an extension of the request, which the check
/// of the credentials adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Account(pub Uuid);
