//! Broadcasts that have ended and stay listed, so that players read their end.
//!
//! Each stays for the window's length, so a name whose broadcasts end and begin again and again
//! would hold many. Those of one name share one limit, `live.window_mb`: the oldest leave first.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use media_core::{BroadcastId, ChannelName};
use tokio_util::sync::CancellationToken;

/// The ended broadcasts of all names.
#[derive(Debug, Default)]
pub(super) struct Stays(Mutex<HashMap<ChannelName, VecDeque<Stay>>>);

#[derive(Debug)]
struct Stay {
    broadcast: BroadcastId,
    bytes: usize,
    over: CancellationToken,
}

impl Stays {
    /// Broadcast `broadcast` of `name` has ended and holds `bytes`. Broadcasts of the name that
    /// ended before leave until all of them hold at most `limit`. Returns the token that is
    /// cancelled when this one is to leave.
    pub(super) fn begin(
        &self,
        name: &ChannelName,
        broadcast: BroadcastId,
        bytes: usize,
        limit: usize,
    ) -> CancellationToken {
        let over = CancellationToken::new();
        let mut names = self.lock();
        let stays = names.entry(name.clone()).or_default();
        stays.push_back(Stay { broadcast, bytes, over: over.clone() });
        let mut held: usize = stays.iter().map(|stay| stay.bytes).sum();
        // The newest stays even if it alone exceeds the limit, because its players read its end
        // next.
        while held > limit
            && stays.len() > 1
            && let Some(oldest) = stays.pop_front()
        {
            held -= oldest.bytes;
            oldest.over.cancel();
        }
        over
    }

    /// Forgets the broadcast, which is not listed any more.
    pub(super) fn end(&self, name: &ChannelName, broadcast: BroadcastId) {
        let mut names = self.lock();
        if let Some(stays) = names.get_mut(name) {
            stays.retain(|stay| stay.broadcast != broadcast);
            // Names without a broadcast leave the map, so that it does not grow with the names that
            // were ever used.
            if stays.is_empty() {
                names.remove(name);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelName, VecDeque<Stay>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
