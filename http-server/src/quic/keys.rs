//! Keys that the successive owners of a socket share. They mark which process a connection belongs
//! to, and authenticate tokens (RFC 9000 5.1, 8.1, 10.3).
//!
//! The keys of reset and address tokens are the same in all processes, so that a new process can
//! reset connections of one that has ended, and accept a client that the old one asked to retry.
//! Each process has its own key for connection ids.

use std::{fmt, io, sync::Arc};

use quinn::crypto::{HandshakeTokenKey, HmacKey};
use quinn_proto::{ConnectionId, ConnectionIdGenerator, HashedConnectionIdGenerator, InvalidCid};
use ring::{
    hkdf, hmac,
    rand::{SecureRandom, SystemRandom},
};

/// Length in bytes of the connection ids that this server issues.
pub(super) const ID_LEN: usize = 8;
/// The first byte of [`Keys::note`]. A successor that does not know the format refuses it.
const VERSION: u8 = 1;
/// Length in bytes of the secret that all owners share.
const SECRET_LEN: usize = 32;
/// Limit of processes that hold connections of one socket: beyond it, the oldest is dropped.
pub(super) const MAX_OWNERS: usize = 8;

/// The keys of one socket, including those of former owners.
#[derive(Clone)]
pub(super) struct Keys {
    /// The source of the keys of reset and address tokens.
    secret: [u8; SECRET_LEN],
    /// Keys of connection ids: this process's first, then the former owners', latest first.
    ids: Vec<u64>,
}

impl Keys {
    /// Keys of a new socket.
    ///
    /// # Errors
    /// The system provides no randomness.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { secret: random()?, ids: vec![u64::from_le_bytes(random()?)] })
    }

    /// The keys in `note`, and a new key for this process.
    ///
    /// # Errors
    /// `InvalidData` if `note` is malformed, or lists no owner or too many; otherwise the system
    /// provides no randomness.
    pub(super) fn inherit(note: &[u8]) -> io::Result<Self> {
        // The bytes may be from another version of the program: their form is checked completely
        // before any is used.
        let read = || {
            let (&[VERSION], rest) = note.split_first_chunk()? else {
                return None;
            };
            let (secret, rest) = rest.split_first_chunk()?;
            let (ids, []) = rest.as_chunks() else { return None };
            let fits = !ids.is_empty() && ids.len() < MAX_OWNERS;
            fits.then(|| {
                (*secret, ids.iter().map(|id| u64::from_le_bytes(*id)).collect::<Vec<_>>())
            })
        };
        let invalid =
            || io::Error::new(io::ErrorKind::InvalidData, "malformed state of a QUIC socket");
        let (secret, mut ids) = read().ok_or_else(invalid)?;
        ids.insert(0, u64::from_le_bytes(random()?));
        Ok(Self { secret, ids })
    }

    /// The keys as bytes for [`Keys::inherit`]: version, secret, then the key of each owner, 8
    /// bytes each. They are secret. The oldest owner is left out if there are [`MAX_OWNERS`].
    pub(super) fn note(&self) -> Vec<u8> {
        let ids = self.ids.iter().take(MAX_OWNERS - 1);
        let ids = ids.flat_map(|id| id.to_le_bytes());
        [VERSION].into_iter().chain(self.secret).chain(ids).collect()
    }

    /// Number of former owners.
    pub(super) fn former(&self) -> usize {
        self.ids.len() - 1
    }

    /// Whether this process issued the connection id.
    pub(super) fn is_ours(&self, id: &[u8; ID_LEN]) -> bool {
        // A connection id contains a keyed hash of itself: only the owner of the key can have
        // issued it.
        let ours = self.ids.first().copied().map(HashedConnectionIdGenerator::from_key);
        ours.is_some_and(|ours| ours.validate(&ConnectionId::new(id)).is_ok())
    }

    /// The index of the former owner that issued the connection id, 0 for the latest; `None` if
    /// this process or no owner issued it.
    pub(super) fn owner(&self, id: &[u8; ID_LEN]) -> Option<usize> {
        let id = ConnectionId::new(id);
        let issued = |key: &u64| HashedConnectionIdGenerator::from_key(*key).validate(&id).is_ok();
        self.ids[1..].iter().position(issued)
    }

    /// Issues connection ids with this process's key.
    pub(super) fn connection_ids(&self) -> ConnectionIds {
        let mut all = self.ids.iter().copied().map(HashedConnectionIdGenerator::from_key);
        ConnectionIds { ours: all.next().unwrap_or_default(), former: all.collect() }
    }

    /// The key of stateless reset tokens (RFC 9000 10.3.2).
    pub(super) fn reset(&self) -> Arc<dyn HmacKey> {
        Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &self.derived(b"stateless reset")))
    }

    /// The key of Retry tokens (RFC 9000 8.1.2).
    pub(super) fn token(&self) -> Arc<dyn HandshakeTokenKey> {
        Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&self.derived(b"address token")))
    }

    fn derived(&self, purpose: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret);
        hmac::sign(&key, purpose).as_ref().to_vec()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// quinn's generator of connection ids. It also accepts ids of former owners, so that quinn
/// responds with a reset to a packet for a process that has ended.
pub(super) struct ConnectionIds {
    ours: HashedConnectionIdGenerator,
    former: Vec<HashedConnectionIdGenerator>,
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.ours.generate_cid()
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let mut all = [&self.ours].into_iter().chain(&self.former);
        if all.any(|generator| generator.validate(id).is_ok()) { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

/// Random bytes of the system.
fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| io::Error::other("the system has no randomness"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(keys: &Keys) -> [u8; ID_LEN] {
        keys.connection_ids().generate_cid()[..].try_into().unwrap()
    }

    #[test]
    fn a_successor_finds_the_owner_of_a_connection_id() {
        let first = Keys::new().unwrap();
        let second = Keys::inherit(&first.note()).unwrap();
        let third = Keys::inherit(&second.note()).unwrap();
        assert_eq!(third.former(), 2);
        assert_eq!(third.owner(&issue(&third)), None);
        assert_eq!(third.owner(&issue(&second)), Some(0));
        assert_eq!(third.owner(&issue(&first)), Some(1));
        assert_eq!(second.owner(&issue(&third)), None);
        let mut signatures = [[0; 32]; 2];
        first.reset().sign(b"id", &mut signatures[0]);
        third.reset().sign(b"id", &mut signatures[1]);
        assert_eq!(signatures[0], signatures[1]);
    }

    #[test]
    fn the_number_of_previous_owners_is_bounded() {
        let first = Keys::new().unwrap();
        let mut keys = first.clone();
        for _ in 0..2 * MAX_OWNERS {
            keys = Keys::inherit(&keys.note()).unwrap();
        }
        assert_eq!(keys.former(), MAX_OWNERS - 1);
        assert_eq!(keys.owner(&issue(&first)), None);
    }

    #[test]
    fn an_invalid_note_is_refused_and_keys_are_masked_in_debug_output() {
        let note = Keys::new().unwrap().note();
        for bad in [&[][..], &[VERSION], &note[..note.len() - 1], &[2; 41]] {
            assert_eq!(Keys::inherit(bad).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert_eq!(format!("{:?}", Keys::new().unwrap()), "***");
    }
}
