//! The listening sockets: one place that binds them, or takes those of the service manager or an
//! older process. The crates get sockets that are ready.
//!
//! `wanted`: the configured listeners. `open`: a socket and its purpose. `inherited`: the sockets
//! of other processes. `bind`: a socket of this process. `error`: why there is none.

mod bind;
mod error;
mod inherited;
mod open;
mod wanted;

use std::{
    io, mem,
    net::{SocketAddr, TcpListener},
};

use http_server::QuicSocket;
use tracing::{info, warn};

use bind::bind;
pub(crate) use bind::{is_absent, try_bind};
pub(crate) use error::Error;
pub(crate) use inherited::Inherited;
use open::Bound;
pub(crate) use open::{Any, Open};
pub(crate) use wanted::{Purpose, Wanted};

/// Attempts to find a port that is free for both TCP and UDP.
const PORT_TRIES: usize = 16;

/// All open sockets.
#[derive(Debug, Default)]
pub(crate) struct Sockets(Vec<Open>);

impl Sockets {
    /// Takes the configured sockets from `inherited`, and binds the others. With a port of 0, QUIC
    /// gets the port of HTTPS. If one purpose has several addresses, those that this machine does
    /// not have are skipped: a list may have both address families, and a machine only one.
    ///
    /// # Errors
    /// One line: an address is in use or not permitted, none of a purpose is available, or the
    /// service manager has a socket without a listener.
    pub(crate) fn open(wanted: &[Wanted], mut inherited: Inherited) -> Result<Self, Error> {
        let mut sockets = Self::default();
        let mut absent = Vec::new();
        // An address that this machine lacks is only noted here; every other failure ends the
        // start.
        let mut left_out = |wanted: Wanted, bound: io::Result<()>| match bound {
            Err(err) if is_absent(&err) => {
                absent.push((wanted, err));
                Ok(())
            }
            bound => bound.map_err(|source| Error::Unbound { wanted, source }),
        };
        let of = |purpose: Purpose| {
            wanted.iter().copied().filter(move |wanted| wanted.purpose == purpose)
        };
        let both = of(Purpose::Quic).next().is_some();
        for &wanted in wanted.iter().filter(|wanted| wanted.purpose != Purpose::Quic) {
            // If the kernel chooses the port of HTTPS, it must be free in UDP too, so both are
            // bound together.
            let chosen = both && wanted.purpose == Purpose::Https && wanted.address.port() == 0;
            match inherited.take(wanted) {
                Some(bound) => sockets.add(wanted.purpose, bound),
                None if chosen => left_out(wanted, sockets.pair(wanted))?,
                None => left_out(wanted, sockets.bind(wanted))?,
            }
        }
        // The ports of HTTPS are known here.
        for wanted in of(Purpose::Quic) {
            if let Some(bound) = inherited.take(wanted) {
                sockets.add(wanted.purpose, bound);
                continue;
            }
            let wanted = sockets.beside_https(wanted);
            // With a port of 0, `pair` may have bound this socket already.
            let is_wanted =
                |open: &Open| open.purpose == wanted.purpose && open.address == wanted.address;
            if !sockets.0.iter().any(is_wanted) {
                left_out(wanted, sockets.bind(wanted))?;
            }
        }
        // Not earlier, because another address of the same purpose may be available.
        for (wanted, source) in absent {
            if sockets.address(wanted.purpose).is_none() {
                return Err(Error::Unbound { wanted, source });
            }
            warn!(
                listener = wanted.purpose.name(), addr = %wanted.address, err = %source,
                "address not available on this machine, skipped"
            );
        }
        // A socket of the service manager that has no listener is a mistake in a unit file. The old
        // process may have had other listeners.
        for left in inherited.sockets {
            let (kind, address) = (left.socket.kind(), left.address);
            if inherited.strict {
                return Err(Error::NotWanted { kind, address });
            }
            info!(%kind, %address, "no longer listening");
        }
        Ok(sockets)
    }

    /// Binds a listener and adds it.
    fn bind(&mut self, wanted: Wanted) -> io::Result<()> {
        self.add(wanted.purpose, bind(wanted)?);
        Ok(())
    }

    /// Binds HTTPS to a port that is free for UDP too, and QUIC there.
    fn pair(&mut self, wanted: Wanted) -> io::Result<()> {
        let mut tries = 0;
        loop {
            let https = bind(wanted)?;
            let udp = Wanted { purpose: Purpose::Quic, address: https.0 };
            // The kernel chose a port that is free in TCP; if UDP has it in use, it chooses again.
            match bind(udp) {
                Ok(quic) => {
                    self.add(wanted.purpose, https);
                    self.add(Purpose::Quic, quic);
                    return Ok(());
                }
                Err(err) if tries == PORT_TRIES => return Err(err),
                Err(_) => tries += 1,
            }
        }
    }

    /// With the port of HTTPS, if the port is 0.
    fn beside_https(&self, wanted: Wanted) -> Wanted {
        let beside = |open: &&Open| {
            open.purpose == Purpose::Https && open.address.ip() == wanted.address.ip()
        };
        match self.0.iter().find(beside) {
            Some(https) if wanted.address.port() == 0 => {
                Wanted { address: https.address, ..wanted }
            }
            _ => wanted,
        }
    }

    /// Adds an open socket.
    fn add(&mut self, purpose: Purpose, (address, socket): Bound) {
        self.0.push(Open { purpose, address, socket });
    }

    /// All sockets.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Open> {
        self.0.iter()
    }

    /// The first address of this purpose, with the actual port.
    pub(crate) fn address(&self, purpose: Purpose) -> Option<SocketAddr> {
        let open = self.0.iter().find(|open| open.purpose == purpose)?;
        Some(open.address)
    }

    /// Duplicates of the listeners of this purpose; the originals stay here, for a hand-over.
    ///
    /// # Errors
    /// No file descriptors are left.
    pub(crate) fn tcp(&self, purpose: Purpose) -> Result<Vec<TcpListener>, Error> {
        let open = self.0.iter().filter(|open| open.purpose == purpose);
        let listeners = open.filter_map(|open| match &open.socket {
            Any::Tcp(listener) => Some(listener.try_clone()),
            Any::Quic(_) | Any::Served(_) => None,
        });
        let listeners: io::Result<Vec<TcpListener>> = listeners.collect();
        listeners.map_err(|source| Error::NotDuplicated { purpose, source })
    }

    /// The old process no longer reads its QUIC sockets: this process does from now on.
    pub(crate) fn begin(&self) {
        for open in &self.0 {
            if let Any::Served(quic) = &open.socket {
                quic.begin();
            }
        }
    }

    /// The QUIC sockets, for the server. The handles that stay can hand them over.
    pub(crate) fn quic(&mut self) -> Vec<QuicSocket> {
        let mut sockets = Vec::new();
        for open in &mut self.0 {
            if let Any::Quic(socket) = &open.socket {
                // The handle replaces the socket, so that a later hand-over can pass the descriptor
                // while the server reads from it.
                let served = Any::Served(socket.handover());
                if let Any::Quic(socket) = mem::replace(&mut open.socket, served) {
                    sockets.push(socket);
                }
            }
        }
        sockets
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use rustix::io::Errno;

    use super::*;

    const PURPOSES: [Purpose; 3] = [Purpose::Http, Purpose::Https, Purpose::Quic];

    /// Addresses for documentation, which no machine has; a machine without IPv6 also lacks the
    /// family of the second. RFC 5737, RFC 3849.
    const ABSENT: [&str; 2] = ["203.0.113.1:0", "[2001:db8::1]:0"];

    fn wanted(purpose: Purpose, address: &str) -> Wanted {
        Wanted { purpose, address: address.parse().unwrap() }
    }

    fn from_systemd(open: Vec<Open>) -> Inherited {
        let mut inherited = Inherited::from_predecessor(open);
        inherited.sockets.iter_mut().for_each(|given| given.purpose = None);
        inherited.strict = true;
        inherited
    }

    #[test]
    fn quic_shares_the_ephemeral_port_of_https() {
        let all = PURPOSES.map(|purpose| wanted(purpose, "127.0.0.1:0"));
        let mut sockets = Sockets::open(&all, Inherited::default()).unwrap();
        assert_eq!(sockets.iter().count(), 3);
        let https = sockets.address(Purpose::Https).unwrap();
        assert_eq!(sockets.address(Purpose::Quic), Some(https));
        assert_ne!(https.port(), 0);
        assert_eq!(sockets.quic()[0].local_addr().unwrap(), https);
        assert!(sockets.quic().is_empty(), "served once");
        TcpStream::connect(https).unwrap();
    }

    #[test]
    fn a_wildcard_ipv6_listener_accepts_both_address_families() {
        let sockets =
            Sockets::open(&[wanted(Purpose::Http, "[::]:0")], Inherited::default()).unwrap();
        let port = sockets.address(Purpose::Http).unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).unwrap();
    }

    #[test]
    fn addresses_that_the_machine_lacks_are_skipped_if_others_remain() {
        let all =
            PURPOSES.map(|purpose| [wanted(purpose, ABSENT[0]), wanted(purpose, "127.0.0.1:0")]);
        let sockets = Sockets::open(all.as_flattened(), Inherited::default()).unwrap();
        assert_eq!(sockets.iter().map(|open| open.purpose).collect::<Vec<_>>(), PURPOSES);
        assert!(sockets.iter().all(|open| open.address.ip().is_loopback()));
        assert_eq!(sockets.address(Purpose::Quic), sockets.address(Purpose::Https));
    }

    #[test]
    fn a_key_with_only_addresses_that_the_machine_lacks_is_an_error() {
        let absent = ABSENT.map(|address| wanted(Purpose::Rtmp, address));
        for absent in [&absent[..1], &absent] {
            let other = wanted(Purpose::Http, "127.0.0.1:0");
            let refusal = Sockets::open(&[absent, &[other]].concat(), Inherited::default())
                .unwrap_err()
                .to_string();
            assert!(refusal.starts_with(&format!("rtmp.listen: tcp {}: ", ABSENT[0])), "{refusal}");
            assert!(refusal.contains("does not have the address"), "{refusal}");
        }
    }

    #[test]
    fn an_unsupported_address_family_is_recognized_by_its_errno() {
        for (errno, absent) in [(Errno::AFNOSUPPORT, true), (Errno::ADDRINUSE, false)] {
            assert_eq!(is_absent(&errno.into()), absent, "{errno}");
        }
    }

    #[test]
    fn a_port_in_use_is_refused_with_its_key_and_the_cause() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let refusal =
            Sockets::open(&[wanted(Purpose::Http, &address.to_string())], Inherited::default())
                .unwrap_err()
                .to_string();
        assert!(refusal.starts_with(&format!("http.listen: tcp {address}: ")), "{refusal}");
        assert!(refusal.contains("another program uses the port"));
    }

    #[test]
    fn sockets_of_a_predecessor_are_reused_and_missing_ones_are_bound() {
        let first = Sockets::open(
            &PURPOSES.map(|purpose| wanted(purpose, "127.0.0.1:0")),
            Inherited::default(),
        )
        .unwrap();
        let before = PURPOSES.map(|purpose| first.address(purpose).unwrap());
        let mut all = PURPOSES.map(|purpose| wanted(purpose, "127.0.0.1:0")).to_vec();
        all.push(wanted(Purpose::Rtmp, "127.0.0.1:0"));
        let second = Sockets::open(&all, Inherited::from_predecessor(first.0)).unwrap();
        assert_eq!(PURPOSES.map(|purpose| second.address(purpose).unwrap()), before);
        assert!(second.address(Purpose::Rtmp).is_some());
    }

    #[test]
    fn unwanted_sockets_of_a_predecessor_are_closed() {
        let first =
            Sockets::open(&[wanted(Purpose::Http, "127.0.0.1:0")], Inherited::default()).unwrap();
        let address = first.address(Purpose::Http).unwrap();
        let second = Sockets::open(&[], Inherited::from_predecessor(first.0)).unwrap();
        assert_eq!(second.iter().count(), 0);
        TcpStream::connect(address).unwrap_err();
    }

    #[test]
    fn sockets_of_the_service_manager_are_matched_by_kind_and_address() {
        let first = Sockets::open(
            &PURPOSES.map(|purpose| wanted(purpose, "127.0.0.1:0")),
            Inherited::default(),
        )
        .unwrap();
        let all =
            PURPOSES.map(|purpose| Wanted { purpose, address: first.address(purpose).unwrap() });
        let second = Sockets::open(&all, from_systemd(first.0)).unwrap();
        assert_eq!(second.iter().map(|open| open.purpose).collect::<Vec<_>>(), PURPOSES);
    }

    #[test]
    fn an_unwanted_socket_of_the_service_manager_is_an_error_with_its_address() {
        let first =
            Sockets::open(&[wanted(Purpose::Http, "127.0.0.1:0")], Inherited::default()).unwrap();
        let address = first.address(Purpose::Http).unwrap();
        // A port that was assigned is not the one in the unit file.
        let refusal = Sockets::open(&[wanted(Purpose::Http, "127.0.0.1:0")], from_systemd(first.0))
            .unwrap_err()
            .to_string();
        assert!(
            refusal.contains(&format!("tcp {address}")) && refusal.contains("socket unit"),
            "{refusal}"
        );
    }
}
