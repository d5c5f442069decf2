//! Number of players of each broadcast. The limit of connections bounds it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use media_core::BroadcastId;

/// The players of all broadcasts. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Audience(Arc<Mutex<HashMap<BroadcastId, u64>>>);

impl Audience {
    /// Number of players of a broadcast; 0 if it is unknown.
    pub(crate) fn viewers(&self, broadcast: BroadcastId) -> u64 {
        self.lock().get(&broadcast).copied().unwrap_or(0)
    }

    /// Counts one more player until the result is dropped.
    pub(crate) fn join(&self, broadcast: BroadcastId) -> Viewer {
        *self.lock().entry(broadcast).or_default() += 1;
        Viewer { audience: self.clone(), broadcast }
    }

    /// A poisoned lock is used, because the counts are only displayed.
    fn lock(&self) -> MutexGuard<'_, HashMap<BroadcastId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One player. Dropping it ends the count.
#[derive(Debug)]
pub(crate) struct Viewer {
    audience: Audience,
    broadcast: BroadcastId,
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let mut viewers = self.audience.lock();
        if let Some(count) = viewers.get_mut(&self.broadcast) {
            *count -= 1;
            // Without this, every broadcast that was ever played would keep an entry.
            if *count == 0 {
                viewers.remove(&self.broadcast);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_viewer_is_counted_while_it_plays_and_removed_afterward() {
        let audience = Audience::default();
        let (one, two) =
            (BroadcastId::new(SystemTime::UNIX_EPOCH), BroadcastId::new(SystemTime::UNIX_EPOCH));
        let first = audience.join(one);
        let second = audience.clone().join(one);
        assert_eq!((audience.viewers(one), audience.viewers(two)), (2, 0));
        drop(first);
        assert_eq!(audience.viewers(one), 1);
        drop(second);
        assert!(audience.lock().is_empty());
    }
}
