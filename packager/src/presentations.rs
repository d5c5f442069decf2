//! Where the origin finds presentations: by the channel's name, and by the broadcast's identity.

use std::sync::Arc;

use dashmap::DashMap;
use media_core::{BroadcastId, ChannelName};

use crate::Live;

/// Where presentations are found, by channel and by broadcast. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Presentations(Arc<Found>);

#[derive(Debug, Default)]
struct Found {
    channels: DashMap<ChannelName, Arc<Live>>,
    broadcasts: DashMap<BroadcastId, Arc<Live>>,
}

impl Presentations {
    /// The presentation under a channel's name: live, waiting for its publisher, or ended less than a window ago.
    pub fn channel(&self, name: &ChannelName) -> Option<Arc<Live>> {
        self.0.channels.get(name).map(|live| Arc::clone(&live))
    }

    /// The same by the broadcast's identity, though another may have its name by now.
    pub fn broadcast(&self, id: BroadcastId) -> Option<Arc<Live>> {
        self.0.broadcasts.get(&id).map(|live| Arc::clone(&live))
    }

    /// The greatest discontinuity sequence that any has reached; 0 if there is none.
    pub fn discontinuities(&self) -> u64 {
        let reached = self.0.broadcasts.iter().filter_map(|live| {
            let presentation = live.current()?;
            Some(presentation.tracks.first()?.discontinuities())
        });
        reached.max().unwrap_or(0)
    }

    /// Whether there is nothing to be found: nothing is live, and what has ended has been forgotten.
    pub fn is_empty(&self) -> bool {
        self.0.broadcasts.is_empty()
    }

    /// Makes `live` known, under its name too unless another has it: that one is shown until there is something to show of
    /// this one. Returns it.
    pub(crate) fn insert(&self, live: &Arc<Live>) -> Option<Arc<Live>> {
        self.0.broadcasts.insert(live.broadcast(), Arc::clone(live));
        let before = self.channel(live.channel());
        if before.is_none() {
            self.name(live);
        }
        before
    }

    pub(crate) fn name(&self, live: &Arc<Live>) {
        self.0.channels.insert(live.channel().clone(), Arc::clone(live));
    }

    pub(crate) fn remove(&self, live: &Arc<Live>) {
        self.0.broadcasts.remove(&live.broadcast());
        let held = self
            .0
            .channels
            .remove_if(live.channel(), |_, held| Arc::ptr_eq(held, live));
        // One that has nothing to show yet, and waited for the name.
        let heir = self
            .0
            .broadcasts
            .iter()
            .find(|other| other.channel() == live.channel())
            .map(|other| Arc::clone(&other));
        if let Some(heir) = heir.filter(|_| held.is_some()) {
            self.name(&heir);
        }
    }
}
