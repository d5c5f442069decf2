//! Limits the bytes sent to an address that is not validated to three times the bytes received from
//! it (RFC 9000 8.1).
//!
//! quinn sends a datagram while the limit leaves room for one byte, so that up to one datagram too
//! much leaves. Here the datagram beyond the limit is held until more bytes have arrived. An
//! address is validated when its peer uses the connection id that was sent to it: nobody else has
//! seen that id.
//!
//! Only the datagrams of a handshake count: those with a long header, and those with a short one
//! for the connection id that the client chose. Datagrams for another connection of the same
//! address do not count; otherwise, an attacker who spoofs a viewer's address could block the
//! datagrams to that viewer. Addresses beyond the last [`MAX_ADDRESSES`], and those whose handshake
//! has exceeded its limit, are left to quinn's check alone.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use quinn::udp::EcnCodepoint;
use tokio::time::Instant;

use super::keys::ID_LEN;

/// The bytes sent to an address are at most this many times the bytes received (RFC 9000 8.1).
const FACTOR: u64 = 3;
/// Limit of tracked addresses, the same as of handshakes at once. Each holds at most one datagram.
const MAX_ADDRESSES: usize = 1_024;
/// Shorter connection ids of a client, in bytes, do not distinguish connections.
const LEAST_ID: usize = 4;
/// The longest connection id of QUIC version 1, in bytes (RFC 9000 17.2).
const MAX_ID: usize = 20;

/// The addresses that are not validated.
#[derive(Debug)]
pub(super) struct Budgets {
    addresses: HashMap<SocketAddr, Budget>,
    /// The addresses in order of arrival. Some have been removed since, and may have
    /// been added again.
    order: VecDeque<Arrival>,
    /// The time for which an address is tracked: a handshake takes no longer.
    lifetime: Duration,
}

/// An address, and when it was added.
#[derive(Debug)]
struct Arrival {
    address: SocketAddr,
    /// Equal to that of its budget, unless the address was removed and added again.
    since: Instant,
}

/// The bytes exchanged with one address during its handshake.
#[derive(Debug)]
struct Budget {
    /// The time of its first datagram.
    since: Instant,
    /// UDP payload bytes received from the address.
    received: u64,
    /// UDP payload bytes sent to the address.
    sent: u64,
    /// The client's connection id in its last handshake.
    client: Vec<u8>,
    /// The connection id that was sent to the address last.
    id: Option<[u8; ID_LEN]>,
    /// The first datagram beyond the limit.
    held: Option<HeldDatagram>,
}

/// A datagram that waits until it may be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HeldDatagram {
    pub(super) destination: SocketAddr,
    pub(super) contents: Vec<u8>,
    pub(super) ecn: Option<EcnCodepoint>,
    pub(super) src_ip: Option<IpAddr>,
}

impl Budgets {
    /// Tracks each address for `lifetime`.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self { addresses: HashMap::new(), order: VecDeque::new(), lifetime }
    }

    /// Whether no address is tracked, so that nothing is limited.
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Counts a datagram received at `now`, and returns the held datagram that may be sent to its
    /// sender now.
    ///
    /// The datagram begins a handshake if its connection id is not one `of_ours`. A datagram for
    /// the connection id that was sent to the address validates the address, which is no longer
    /// tracked then.
    pub(super) fn received(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        now: Instant,
        of_ours: impl Fn(&[u8; ID_LEN]) -> bool,
    ) -> Option<HeldDatagram> {
        self.expire(now);
        // A client chooses the destination id of its first datagrams at random; later ones carry an
        // id of this server (RFC 9000 7.2).
        let begins = is_long(datagram) && !destination(datagram).is_some_and(of_ours);
        if begins && !self.addresses.contains_key(&from) {
            self.insert(from, now);
        }
        let budget = self.addresses.get_mut(&from)?;
        if let Some(client) = source(datagram).filter(|_| begins) {
            budget.client = client.to_vec();
        }
        // The peer uses the connection id that was sent to this address, which validates the
        // address.
        if budget.id.is_some_and(|id| destination(datagram) == Some(&id)) {
            return self.addresses.remove(&from)?.held;
        }
        budget.received += datagram.len() as u64;
        let fits = budget.held.as_ref()?.contents.len() as u64 <= budget.room();
        let held = budget.held.take_if(|_| fits)?;
        budget.sent += held.contents.len() as u64;
        Some(held)
    }

    /// Returns how many bytes of `contents` may be sent to the address, and counts them as sent;
    /// `contents` holds datagrams of `segment` bytes, the last of which may be shorter. `None` if
    /// there is no limit.
    ///
    /// Only whole datagrams are counted. The rest is for [`Self::hold`].
    pub(super) fn take(
        &mut self,
        to: SocketAddr,
        contents: &[u8],
        segment: usize,
    ) -> Option<usize> {
        let budget = self.addresses.get_mut(&to)?;
        // A long header shows this server's id in its source field. A short one counts only if it
        // is for the id of the client whose handshake is tracked: others belong to an established
        // connection of the same address.
        if is_long(contents) {
            budget.id = source(contents).and_then(|id| id.try_into().ok()).or(budget.id);
        } else if budget.client.len() < LEAST_ID || !contents.get(1..)?.starts_with(&budget.client)
        {
            return None;
        }
        let room = match budget.held {
            // A datagram is held already, and the order is kept.
            Some(_) => 0,
            None => usize::try_from(budget.room()).unwrap_or(usize::MAX),
        };
        let count = match contents.len() <= room {
            true => contents.len(),
            // Only whole datagrams are sent: a part of one would be malformed.
            false => room - room % segment.max(1),
        };
        budget.sent += count as u64;
        Some(count)
    }

    /// Undoes [`Self::take`] for bytes that were not sent.
    pub(super) fn give_back(&mut self, to: SocketAddr, count: usize) {
        if let Some(budget) = self.addresses.get_mut(&to) {
            budget.sent = budget.sent.saturating_sub(count as u64);
        }
    }

    /// Holds a datagram for later. If one is held already, the new one is dropped; QUIC recovers
    /// from the loss.
    pub(super) fn hold(&mut self, held: HeldDatagram) {
        if let Some(budget) = self.addresses.get_mut(&held.destination) {
            budget.held.get_or_insert(held);
        }
    }

    /// Tracks an address from `now` on, instead of the oldest if there are too many.
    fn insert(&mut self, address: SocketAddr, now: Instant) {
        while self.order.len() >= MAX_ADDRESSES {
            self.forget_oldest();
        }
        self.order.push_back(Arrival { address, since: now });
        self.addresses.insert(address, Budget::new(now));
    }

    /// Stops tracking the addresses whose time is over.
    fn expire(&mut self, now: Instant) {
        let lifetime = self.lifetime;
        let is_over = |arrival: &Arrival| now.saturating_duration_since(arrival.since) >= lifetime;
        while self.order.front().is_some_and(is_over) {
            self.forget_oldest();
        }
    }

    /// Stops tracking the oldest address. Its held datagram is dropped.
    fn forget_oldest(&mut self) {
        if let Some(Arrival { address, since }) = self.order.pop_front()
            // The address may have been validated, and have begun another handshake since.
            && self.addresses.get(&address).is_some_and(|budget| budget.since == since)
        {
            self.addresses.remove(&address);
        }
    }
}

impl Budget {
    /// No bytes exchanged yet.
    fn new(since: Instant) -> Self {
        Self { since, received: 0, sent: 0, client: Vec::new(), id: None, held: None }
    }

    /// Number of bytes that may be sent now.
    fn room(&self) -> u64 {
        (FACTOR * self.received).saturating_sub(self.sent)
    }
}

/// Whether the datagram has a long header, as those of a handshake have (RFC 8999 5.1).
pub(super) fn is_long(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & 0x80 != 0)
}

/// The destination connection id of a datagram, if it has the length of this server's ids (RFC 8999
/// 5).
pub(super) fn destination(datagram: &[u8]) -> Option<&[u8; ID_LEN]> {
    match datagram {
        [first, id @ ..] if first & 0x80 == 0 => id.first_chunk(),
        [_, _, _, _, _, len, id @ ..] if usize::from(*len) == ID_LEN => id.first_chunk(),
        _ => None,
    }
}

/// The source connection id of a datagram with a long header (RFC 8999 5.1); `None` if it is longer
/// than QUIC version 1 permits.
fn source(datagram: &[u8]) -> Option<&[u8]> {
    let [_, _, _, _, _, len, rest @ ..] = datagram else {
        return None;
    };
    let (len, id) = rest.get(usize::from(*len)..)?.split_first()?;
    id.get(..usize::from(*len)).filter(|id| id.len() <= MAX_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; ID_LEN] = *b"our--id.";
    const LIFETIME: Duration = Duration::from_secs(10);

    fn address(n: u16) -> SocketAddr {
        (IpAddr::from([192, 0, 2, 1]), n).into()
    }

    /// A datagram of `len` bytes with a long header.
    fn long(destination: &[u8], source: &[u8], len: usize) -> Vec<u8> {
        let lengths = [destination, source].map(|id| u8::try_from(id.len()).unwrap());
        let mut datagram = vec![0xc0, 0, 0, 0, 1, lengths[0]];
        datagram.extend(destination);
        datagram.push(lengths[1]);
        datagram.extend(source);
        datagram.resize(len, 0);
        datagram
    }

    fn short(destination: &[u8]) -> Vec<u8> {
        [&[0x40][..], destination, b"sealed"].concat()
    }

    fn initial(len: usize) -> Vec<u8> {
        long(b"of the client", b"client", len)
    }

    /// A datagram of the server's first flight.
    fn ours() -> Vec<u8> {
        long(b"client", &ID, 1_200)
    }

    fn recv(budgets: &mut Budgets, from: u16, datagram: &[u8]) -> Option<HeldDatagram> {
        recv_at(budgets, from, datagram, Instant::now())
    }

    fn recv_at(
        budgets: &mut Budgets,
        from: u16,
        datagram: &[u8],
        now: Instant,
    ) -> Option<HeldDatagram> {
        budgets.received(address(from), datagram, now, |id| *id == ID)
    }

    fn held(contents: &[u8]) -> HeldDatagram {
        HeldDatagram {
            destination: address(1),
            contents: contents.to_vec(),
            ecn: None,
            src_ip: None,
        }
    }

    /// Budgets after three datagrams have been sent, and one is held.
    fn blocked() -> Budgets {
        let mut budgets = Budgets::new(LIFETIME);
        assert_eq!(recv(&mut budgets, 1, &initial(1_200)), None);
        assert_eq!(budgets.take(address(1), &ours().repeat(3), 1_200), Some(3_600));
        budgets.hold(held(&ours()));
        budgets
    }

    #[test]
    fn at_most_three_times_the_received_bytes_are_sent_to_an_unvalidated_address() {
        let mut budgets = Budgets::new(LIFETIME);
        assert_eq!(budgets.take(address(1), &ours(), 1_200), None, "nothing came from there");
        assert_eq!(recv(&mut budgets, 1, &initial(1_250)), None);
        let three = ours().repeat(3);
        assert_eq!(budgets.take(address(1), &three, 1_200), Some(3_600));
        // There is room for 150 bytes, which is less than a datagram.
        assert_eq!(budgets.take(address(1), &ours(), 1_200), Some(0));
        assert_eq!(budgets.take(address(1), &ours()[..150], 150), Some(150));
        assert_eq!(budgets.take(address(1), &short(b"client"), 13), Some(0));
        budgets.give_back(address(1), 150);
        assert_eq!(budgets.take(address(1), &ours()[..150], 150), Some(150));
        // Of a batch, the datagrams that fit.
        recv(&mut budgets, 1, &initial(900));
        assert_eq!(budgets.take(address(1), &three, 1_200), Some(2_400));
    }

    #[test]
    fn a_held_datagram_is_sent_when_the_budget_permits_and_later_ones_wait() {
        let mut budgets = blocked();
        budgets.hold(held(b"lost"));
        assert_eq!(recv(&mut budgets, 1, &initial(399)), None);
        assert_eq!(budgets.take(address(1), &short(b"client"), 13), Some(0));
        assert_eq!(recv(&mut budgets, 1, &initial(1)), Some(held(&ours())));
        assert_eq!(budgets.take(address(1), &short(b"client"), 13), Some(0));
    }

    #[test]
    fn an_address_that_uses_the_servers_connection_id_is_no_longer_limited() {
        for reply in [long(&ID, b"client", 50), short(&ID)] {
            let mut budgets = blocked();
            assert_eq!(recv(&mut budgets, 1, &long(b"another.", b"client", 50)), None);
            assert_eq!(recv(&mut budgets, 1, &short(b"another.")), None);
            assert_eq!(recv(&mut budgets, 2, &reply), None);
            assert_eq!(recv(&mut budgets, 1, &reply), Some(held(&ours())));
            assert!(budgets.is_empty());
            // A late datagram of the same handshake does not begin another.
            recv(&mut budgets, 1, &long(&ID, b"client", 1_200));
            assert!(budgets.is_empty());
        }
    }

    #[test]
    fn other_connections_of_a_limited_address_are_not_limited() {
        let mut budgets = blocked();
        assert_eq!(budgets.take(address(1), &short(b"another"), 14), None);
        // For clients with an empty or short id, datagrams that do not belong to the handshake.
        for client in [&b""[..], b"c", b"cli"] {
            let mut budgets = Budgets::new(LIFETIME);
            recv(&mut budgets, 1, &long(b"of the client", client, 1_200));
            assert_eq!(budgets.take(address(1), &short(client), 10), None);
            let flight = long(client, &ID, 1_200).repeat(4);
            assert_eq!(budgets.take(address(1), &flight, 1_200), Some(3_600));
        }
    }

    #[test]
    fn the_number_of_tracked_addresses_is_bounded() {
        let mut budgets = Budgets::new(LIFETIME);
        for n in 0..2 * u16::try_from(MAX_ADDRESSES).unwrap() {
            recv(&mut budgets, n, &initial(1_200));
            recv(&mut budgets, n, &short(b"anything"));
        }
        assert_eq!((budgets.addresses.len(), budgets.order.len()), (MAX_ADDRESSES, MAX_ADDRESSES));
        assert_eq!(budgets.take(address(0), &ours(), 1_200), None);
    }

    #[test]
    fn an_address_without_a_completed_handshake_is_forgotten_after_its_lifetime() {
        let (mut budgets, begin) = (Budgets::new(LIFETIME), Instant::now());
        recv_at(&mut budgets, 1, &initial(1_200), begin);
        recv_at(&mut budgets, 2, &initial(1_200), begin + LIFETIME / 2);
        recv_at(&mut budgets, 3, &short(b"anything"), begin + LIFETIME);
        assert_eq!(budgets.take(address(1), &ours(), 1_200), None);
        assert_eq!(budgets.take(address(2), &ours(), 1_200), Some(1_200));
        recv_at(&mut budgets, 3, &short(b"anything"), begin + 2 * LIFETIME);
        assert!(budgets.is_empty() && budgets.order.is_empty());
    }

    #[test]
    fn a_second_handshake_of_an_address_is_limited_for_its_whole_lifetime() {
        let (mut budgets, begin) = (Budgets::new(LIFETIME), Instant::now());
        recv_at(&mut budgets, 1, &initial(1_200), begin);
        budgets.take(address(1), &ours(), 1_200);
        recv_at(&mut budgets, 1, &short(&ID), begin);
        assert!(budgets.is_empty());
        recv_at(&mut budgets, 1, &initial(1_200), begin + LIFETIME / 2);
        recv_at(&mut budgets, 2, &short(b"anything"), begin + LIFETIME);
        assert_eq!(budgets.take(address(1), &ours(), 1_200), Some(1_200));
        // The same when other addresses displace the first.
        recv_at(&mut budgets, 1, &short(&ID), begin + LIFETIME);
        recv_at(&mut budgets, 1, &initial(1_200), begin + LIFETIME);
        let now = begin + LIFETIME;
        for n in 2..=u16::try_from(MAX_ADDRESSES).unwrap() {
            recv_at(&mut budgets, n, &initial(1_200), now);
        }
        assert_eq!(budgets.take(address(1), &ours(), 1_200), Some(1_200));
    }

    #[test]
    fn arbitrary_datagrams_never_panic() {
        let mut budgets = Budgets::new(LIFETIME);
        for len in 0..40 {
            for first in [0x00, 0xc0, 0xff] {
                let bytes = vec![first; len];
                recv(&mut budgets, 1, &bytes);
                let taken = budgets.take(address(1), &bytes, 0);
                assert!(taken.is_none_or(|count| count <= len), "{taken:?} of {len}");
                assert!(budgets.addresses.len() <= 1 && budgets.order.len() <= 1);
            }
        }
    }
}
