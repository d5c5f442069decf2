//! The states of all broadcasts' renditions, which the API and the packager read.

use std::sync::Arc;

use dashmap::DashMap;
use media_core::BroadcastId;

use super::rungs::{State, Status};

/// The states of broadcasts' renditions. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Statuses(Arc<DashMap<BroadcastId, Vec<Status>>>);

impl Statuses {
    /// Those of one broadcast, the most expensive first.
    pub fn of(&self, broadcast: BroadcastId) -> Vec<Status> {
        self.0.get(&broadcast).map(|status| status.clone()).unwrap_or_default()
    }

    /// The number of renditions in this state, of all broadcasts.
    pub fn count(&self, state: State) -> usize {
        let of = |status: &[Status]| status.iter().filter(|found| found.state == state).count();
        self.0.iter().map(|status| of(&status)).sum()
    }

    /// Replaces the states of a broadcast.
    pub(super) fn set(&self, broadcast: BroadcastId, status: Vec<Status>) {
        self.0.insert(broadcast, status);
    }

    /// Removes a broadcast that is over. Without this the map would grow with each broadcast.
    pub(super) fn forget(&self, broadcast: BroadcastId) {
        self.0.remove(&broadcast);
    }
}
