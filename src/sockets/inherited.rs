//! Sockets of the service manager or of an older process, and which listener each belongs to: that
//! of the same kind and local address, independent of a unit file's names and order.
//! sd_listen_fds(3).

use std::net::SocketAddr;

use listenfd::ListenFd;

use super::{
    bind::quic,
    error::Error,
    open::{Any, Bound, Open},
    wanted::{Purpose, Wanted},
};

/// Sockets that were opened before this process.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    pub(super) sockets: Vec<Given>,
    /// Whether each must have a listener: a unit file with a socket for no listener is a mistake.
    pub(super) strict: bool,
}

/// One inherited socket.
#[derive(Debug)]
pub(super) struct Given {
    /// Present if the sender declares it.
    pub(super) purpose: Option<Purpose>,
    pub(super) address: SocketAddr,
    pub(super) socket: Any,
}

impl Inherited {
    /// The sockets from systemd (LISTEN_FDS), if any.
    ///
    /// # Errors
    /// [`Error::NoListener`], [`Error::Given`].
    pub(crate) fn from_service_manager() -> Result<Self, Error> {
        let mut given = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..given.len() {
            // A socket of another kind is not taken, so the other kind can be tried.
            let tcp = given.take_tcp_listener(index).ok().flatten();
            let socket = match tcp {
                Some(tcp) => Some(tcp.local_addr().map(|address| (address, Any::Tcp(tcp)))),
                None => given.take_udp_socket(index).ok().flatten().map(quic),
            };
            let socket = socket.ok_or(Error::NoListener { index })?;
            let (address, socket) = socket.map_err(|source| Error::Given { index, source })?;
            sockets.push(Given { purpose: None, address, socket });
        }
        Ok(Self { sockets, strict: true })
    }

    /// The sockets of an older process, which may have had other listeners.
    pub(crate) fn from_predecessor(sockets: Vec<Open>) -> Self {
        let given = |open: Open| Given {
            purpose: Some(open.purpose),
            address: open.address,
            socket: open.socket,
        };
        Self { sockets: sockets.into_iter().map(given).collect(), strict: false }
    }

    /// Removes the socket for a listener, if it was inherited.
    pub(super) fn take(&mut self, wanted: Wanted) -> Option<Bound> {
        let index = self.sockets.iter().position(|given| given.is(wanted))?;
        let given = self.sockets.swap_remove(index);
        Some((given.address, given.socket))
    }
}

impl Given {
    /// Whether this is the socket of a configured listener.
    fn is(&self, wanted: Wanted) -> bool {
        // The service manager's sockets have no purpose, so they are matched by kind; an older
        // process sends the purpose.
        let same_purpose = match self.purpose {
            Some(purpose) => purpose == wanted.purpose,
            None => self.socket.kind() == wanted.purpose.kind(),
        };
        // If the port is 0, the second process reuses the first one's free port.
        let by_chance = self.purpose.is_some() && wanted.address.port() == 0;
        let same_port = self.address.port() == wanted.address.port() || by_chance;
        // Without IPv6, [::] has become 0.0.0.0.
        let any = |address: SocketAddr| address.ip().is_unspecified();
        let same_host = self.address.ip() == wanted.address.ip()
            || self.purpose.is_some() && any(self.address) && any(wanted.address);
        same_purpose && same_port && same_host
    }
}
