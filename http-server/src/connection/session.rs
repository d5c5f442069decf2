//! The facts about one connection that its requests need.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
};

use net_core::Usage;

use crate::{context::Context, socket::Protocol};

/// A connection whose protocol is known.
pub(super) struct Session<S> {
    pub(super) context: Arc<Context<S>>,
    /// Counts its exchanges.
    pub(super) usage: Arc<Usage>,
    pub(super) peer: SocketAddr,
    pub(super) protocol: Protocol,
    /// With TLS, true until the handshake is complete.
    pub(super) early: Option<Arc<AtomicBool>>,
}
