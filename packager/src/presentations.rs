//! The index of presentations, by the channel's name and by the broadcast's identity. The origin
//! looks requests up in it.

use std::{pin::pin, sync::Arc};

use dashmap::DashMap;
use media_core::{BroadcastId, ChannelName};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Live;

mod stays;

use stays::Stays;

/// Presentations by channel and by broadcast. Cheap to clone; all clones share one index.
#[derive(Debug, Clone, Default)]
pub struct Presentations(Arc<Index>);

#[derive(Debug, Default)]
struct Index {
    channels: DashMap<ChannelName, Arc<Live>>,
    broadcasts: DashMap<BroadcastId, Arc<Live>>,
    stays: Stays,
    /// Notified when a presentation is removed.
    removed: Notify,
}

impl Presentations {
    /// The presentation under a channel's name. It is live, waits for its publisher, or ended less
    /// than a window ago.
    pub fn channel(&self, name: &ChannelName) -> Option<Arc<Live>> {
        self.0.channels.get(name).map(|live| Arc::clone(&live))
    }

    /// The presentation of a broadcast, even if another broadcast has its channel's name by now.
    pub fn broadcast(&self, id: BroadcastId) -> Option<Arc<Live>> {
        self.0.broadcasts.get(&id).map(|live| Arc::clone(&live))
    }

    /// The greatest discontinuity sequence that a presentation has reached; 0 if there is none.
    pub fn discontinuities(&self) -> u64 {
        let reached = self.0.broadcasts.iter().filter_map(|live| {
            let presentation = live.current()?;
            Some(presentation.tracks.first()?.discontinuities())
        });
        reached.max().unwrap_or(0)
    }

    /// Waits until no presentation is listed: no broadcast is live, and none has ended less than a
    /// window ago. Cancel-safe.
    pub async fn emptied(&self) {
        loop {
            let mut removed = pin!(self.0.removed.notified());
            // Enabled before the check: a removal between the check and the wait is not missed.
            removed.as_mut().enable();
            if self.0.broadcasts.is_empty() {
                return;
            }
            removed.await;
        }
    }

    /// Lists `live` by its identity, and under its channel's name unless another presentation has
    /// that. The other keeps the name until `live` has a snapshot. Returns the other.
    pub(crate) fn insert(&self, live: &Arc<Live>) -> Option<Arc<Live>> {
        self.0.broadcasts.insert(live.broadcast(), Arc::clone(live));
        let before = self.channel(live.channel());
        if before.is_none() {
            self.name(live);
        }
        before
    }

    /// Gives `live` the name of its channel, because it has a snapshot.
    pub(crate) fn name(&self, live: &Arc<Live>) {
        self.0.channels.insert(live.channel().clone(), Arc::clone(live));
    }

    /// `live` has ended, and holds `bytes` while it stays listed. Broadcasts of the same channel
    /// that ended before leave until all of them hold at most `limit` bytes. Returns the token that
    /// is cancelled when `live` has to leave.
    pub(crate) fn stay(&self, live: &Live, bytes: usize, limit: usize) -> CancellationToken {
        self.0.stays.begin(live.channel(), live.broadcast(), bytes, limit)
    }

    /// Removes `live` from the index. Its name goes to a broadcast of the same channel that waits
    /// for it.
    pub(crate) fn remove(&self, live: &Arc<Live>) {
        self.0.stays.end(live.channel(), live.broadcast());
        self.0.broadcasts.remove(&live.broadcast());
        // The name may belong to a newer broadcast by now, which keeps it.
        let held = self.0.channels.remove_if(live.channel(), |_, held| Arc::ptr_eq(held, live));
        // The name goes to a broadcast that has no snapshot yet and waits for it. A broadcast that
        // had it before does not get it back, because its numbers are lower.
        let heir = self
            .0
            .broadcasts
            .iter()
            .find(|other| other.channel() == live.channel() && other.current().is_none())
            .map(|other| Arc::clone(&other));
        if let Some(heir) = heir.filter(|_| held.is_some()) {
            self.name(&heir);
        }
        self.0.removed.notify_waiters();
    }
}

#[cfg(test)]
impl Presentations {
    /// Whether no ended broadcast stays listed.
    pub(crate) fn has_no_stays(&self) -> bool {
        self.0.stays.is_empty()
    }

    /// Whether no presentation is listed.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.broadcasts.is_empty()
    }
}

#[cfg(test)]
mod tests;
