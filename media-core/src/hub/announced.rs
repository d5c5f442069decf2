//! The list of a hub's live broadcasts, and the wake-up of its readers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::Broadcast;

/// The live broadcasts, shared by a hub and the readers of its [events](super::Events).
#[derive(Debug, Default)]
pub(super) struct Announced {
    list: Mutex<List>,
    /// Notified after each change of the list.
    pub(super) changed: Notify,
}

/// The live broadcasts by their serial numbers.
#[derive(Debug, Default)]
pub(super) struct List {
    /// The highest serial number so far. No two broadcasts have the same, and none has 0.
    serial: u64,
    pub(super) live: BTreeMap<u64, Arc<Broadcast>>,
}

impl Announced {
    /// All live broadcasts, in the order in which they started.
    pub(super) fn live(&self) -> Vec<Arc<Broadcast>> {
        self.lock().live.values().cloned().collect()
    }

    /// Adds a broadcast under the next serial number.
    pub(super) fn insert(&self, broadcast: &Arc<Broadcast>) {
        let mut list = self.lock();
        list.serial += 1;
        let serial = list.serial;
        list.live.insert(serial, Arc::clone(broadcast));
    }

    /// Removes a broadcast, if it is in the list.
    pub(super) fn remove(&self, broadcast: &Arc<Broadcast>) {
        self.lock().live.retain(|_, live| !Arc::ptr_eq(live, broadcast));
    }

    /// Wakes the readers, which then compare the list with the broadcasts that they know. Call it
    /// after a change, when all locks are released that the readers may need.
    pub(super) fn wake(&self) {
        self.changed.notify_waiters();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
