//! What a socket's successive owners share: by whose number a connection goes, and what only we can have made (RFC 9000 5.1, 8.1, 10.3).
//!
//! Reset and address tokens are the same in all of them, so that a new process can end connections of one that is gone, and take a client
//! whom the old one asked to try again. Each has its own key for connection ids.

use std::{fmt, io, sync::Arc};

use quinn::crypto::{HandshakeTokenKey, HmacKey};
use quinn_proto::{ConnectionId, ConnectionIdGenerator, HashedConnectionIdGenerator, InvalidCid};
use ring::{
    hkdf, hmac,
    rand::{SecureRandom, SystemRandom},
};

/// Length of a connection id that we issue.
pub(super) const ID_LEN: usize = 8;
const VERSION: u8 = 1;
const SECRET_LEN: usize = 32;
/// Processes that may hold connections of one socket: the oldest of more is given up.
pub(super) const MAX_OWNERS: usize = 8;

/// Keys of one socket, those of former owners with them.
#[derive(Clone)]
pub(super) struct Keys {
    secret: [u8; SECRET_LEN],
    /// Of connection ids: ours, then former owners', the last first.
    ids: Vec<u64>,
}

impl Keys {
    /// Of a socket that nobody had before.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            secret: random()?,
            ids: vec![u64::from_le_bytes(random()?)],
        })
    }

    /// As `note` says them, and one more for us.
    ///
    /// # Errors
    /// `InvalidData` if it is no such note.
    pub(super) fn inherit(note: &[u8]) -> io::Result<Self> {
        let read = || {
            let (&[VERSION], rest) = note.split_first_chunk()? else {
                return None;
            };
            let (secret, rest) = rest.split_first_chunk()?;
            let (ids, []) = rest.as_chunks() else { return None };
            let fits = !ids.is_empty() && ids.len() < MAX_OWNERS;
            fits.then(|| {
                (
                    *secret,
                    ids.iter().map(|id| u64::from_le_bytes(*id)).collect::<Vec<_>>(),
                )
            })
        };
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not what a process leaves of a QUIC socket");
        let (secret, mut ids) = read().ok_or_else(invalid)?;
        ids.insert(0, u64::from_le_bytes(random()?));
        Ok(Self { secret, ids })
    }

    /// What [`Keys::inherit`] reads. It is a secret.
    pub(super) fn note(&self) -> Vec<u8> {
        let ids = self.ids.iter().take(MAX_OWNERS - 1);
        let ids = ids.flat_map(|id| id.to_le_bytes());
        [VERSION].into_iter().chain(self.secret).chain(ids).collect()
    }

    /// How many had the socket before us.
    pub(super) fn former(&self) -> usize {
        self.ids.len() - 1
    }

    /// Whether a connection id is one that we issue.
    pub(super) fn is_ours(&self, id: &[u8; ID_LEN]) -> bool {
        let ours = self.ids.first().copied().map(HashedConnectionIdGenerator::from_key);
        ours.is_some_and(|ours| ours.validate(&ConnectionId::new(id)).is_ok())
    }

    /// Which of the former owners issued a connection id, if one did.
    pub(super) fn owner(&self, id: &[u8; ID_LEN]) -> Option<usize> {
        let id = ConnectionId::new(id);
        let issued = |key: &u64| HashedConnectionIdGenerator::from_key(*key).validate(&id).is_ok();
        self.ids[1..].iter().position(issued)
    }

    /// Issues ids of ours.
    pub(super) fn connection_ids(&self) -> ConnectionIds {
        let mut all = self.ids.iter().copied().map(HashedConnectionIdGenerator::from_key);
        ConnectionIds {
            ours: all.next().unwrap_or_default(),
            former: all.collect(),
        }
    }

    pub(super) fn reset(&self) -> Arc<dyn HmacKey> {
        Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &self.derived(b"stateless reset")))
    }

    pub(super) fn token(&self) -> Arc<dyn HandshakeTokenKey> {
        Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&self.derived(b"address token")))
    }

    fn derived(&self, what: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret);
        hmac::sign(&key, what).as_ref().to_vec()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Our connection ids. Those of former owners are known, so that what comes for one that is gone is answered by a reset.
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
        if all.any(|generator| generator.validate(id).is_ok()) {
            Ok(())
        } else {
            Err(InvalidCid)
        }
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

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
    fn a_successor_knows_whose_a_connection_is() {
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
    fn a_long_line_forgets_its_oldest() {
        let first = Keys::new().unwrap();
        let mut keys = first.clone();
        for _ in 0..2 * MAX_OWNERS {
            keys = Keys::inherit(&keys.note()).unwrap();
        }
        assert_eq!(keys.former(), MAX_OWNERS - 1);
        assert_eq!(keys.owner(&issue(&first)), None);
    }

    #[test]
    fn what_is_no_note_is_refused() {
        let note = Keys::new().unwrap().note();
        for bad in [&[][..], &[VERSION], &note[..note.len() - 1], &[2; 41]] {
            assert_eq!(Keys::inherit(bad).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert_eq!(format!("{:?}", Keys::new().unwrap()), "***");
    }
}
