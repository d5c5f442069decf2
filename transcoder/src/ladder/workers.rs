//! The workers that run, for the operator's list.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use media_core::{Broadcast, BroadcastId, ChannelName};

/// A worker that makes the renditions of one broadcast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Its process; `None` if it has ended already.
    pub pid: Option<u32>,
    /// The channel of its broadcast.
    pub channel: ChannelName,
    /// Its broadcast.
    pub broadcast: BroadcastId,
    /// The name of its encoder.
    pub encoder: &'static str,
    /// When it was started.
    pub since: SystemTime,
}

/// The workers that run; a broadcast has one at a time, so that their number is bounded by that of
/// broadcasts. Clones share the list.
#[derive(Debug, Clone, Default)]
pub struct Workers(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    next: AtomicU64,
    running: Mutex<BTreeMap<u64, Worker>>,
}

/// A worker in the list until this is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    workers: Workers,
    number: u64,
}

impl Workers {
    /// The workers that run, the oldest first.
    pub fn list(&self) -> Vec<Worker> {
        self.running().values().cloned().collect()
    }

    /// Adds a worker that was started now.
    pub(super) fn add(
        &self,
        pid: Option<u32>,
        broadcast: &Broadcast,
        encoder: &'static str,
    ) -> Entry {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (channel, since) = (broadcast.name().clone(), SystemTime::now());
        let worker = Worker { pid, channel, broadcast: broadcast.id(), encoder, since };
        self.running().insert(number, worker);
        Entry { workers: self.clone(), number }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, Worker>> {
        // Each change is one insertion or removal, so a poisoned value is valid.
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.workers.running().remove(&self.number);
    }
}
