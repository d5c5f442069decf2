//! The rights to publish that stored keys grant, as long as publishers use them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use control_domain::id::{AccountId, ChannelId, StreamKeyId};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A right: the key that grants it, its channel, and the account that owns the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Right {
    /// The key.
    pub(super) key: StreamKeyId,
    /// The channel.
    pub(super) channel: ChannelId,
    /// The account.
    pub(super) owner: AccountId,
}

impl Right {
    /// Whether the end of this thing ends the right.
    pub(super) fn concerns(&self, subject: Uuid) -> bool {
        [self.key.uuid(), self.channel.uuid(), self.owner.uuid()].contains(&subject)
    }
}

/// The rights in use. There is one entry for each publisher, so the limit of publishers bounds it.
#[derive(Debug, Clone, Default)]
pub(super) struct Rights(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    granted: HashMap<u64, Granted>,
}

/// A right, and the token that ends its publisher.
#[derive(Debug)]
struct Granted {
    right: Right,
    token: CancellationToken,
}

/// A right in use, until it is dropped.
#[derive(Debug)]
pub(super) struct InUse {
    rights: Rights,
    entry: u64,
}

impl Rights {
    /// Adds a right that a publisher uses. The token is cancelled when it is withdrawn.
    pub(super) fn hold(&self, right: Right) -> (CancellationToken, InUse) {
        let token = CancellationToken::new();
        let mut entries = self.entries();
        let entry = entries.next;
        entries.next += 1;
        entries.granted.insert(entry, Granted { right, token: token.clone() });
        (token, InUse { rights: self.clone(), entry })
    }

    /// Withdraws the rights that `ends` selects. Returns their number.
    pub(super) fn withdraw(&self, ends: impl Fn(&Right) -> bool) -> usize {
        let entries = self.entries();
        let ended = entries.granted.values().filter(|Granted { right, token }| {
            let ends = ends(right) && !token.is_cancelled();
            if ends {
                token.cancel();
            }
            ends
        });
        ended.count()
    }

    /// The number of rights in use.
    pub(super) fn len(&self) -> usize {
        self.entries().granted.len()
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        // Each change is one insertion or removal, so a poisoned value is valid.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.rights.entries().granted.remove(&self.entry);
    }
}
