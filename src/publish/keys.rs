//! Listed stream keys, each with the right that is granted for it.

use tokio_util::sync::CancellationToken;

use crate::config::Key;

/// A key, and the right granted for it.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    /// The key's hash, and its channel.
    pub(super) key: Key,
    /// Cancelled when the key is withdrawn: publishers with this key are then disconnected.
    pub(super) right: CancellationToken,
}

/// Keys of one origin: the configuration, or the daemon itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys(Vec<Listed>);

impl Keys {
    /// The keys of a configuration. A key that is in `before` keeps its right, so that its
    /// publisher continues.
    pub(super) fn new(keys: &[Key], before: &Self) -> Self {
        let mut listed = Self::default();
        for key in keys {
            match before.0.iter().find(|listed| listed.key == *key) {
                Some(known) => listed.0.push(known.clone()),
                None => listed.push(key.clone()),
            }
        }
        listed
    }

    /// Adds a key with a new right.
    pub(super) fn push(&mut self, key: Key) {
        self.0.push(Listed { key, right: CancellationToken::new() });
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entry of `key`.
    pub(super) fn find(&self, key: &str) -> Option<&Listed> {
        // All keys are compared, so that the time does not reveal the match.
        self.0.iter().fold(None, |found, listed| match listed.key.digest.matches(key) {
            true => Some(listed),
            false => found,
        })
    }

    /// Withdraws the rights of the keys that are not in `newer`. Returns their number.
    pub(super) fn withdraw_missing(&self, newer: &Self) -> usize {
        let kept = |key: &Key| newer.0.iter().any(|listed| listed.key == *key);
        let withdrawn = self.0.iter().filter(|listed| !kept(&listed.key));
        withdrawn.inspect(|listed| listed.right.cancel()).count()
    }
}
