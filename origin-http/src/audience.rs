//! The audience: the distinct viewers of each channel, counted by the requests of the last few
//! target durations.
//!
//! A viewer is an address and a user agent: two players behind one address with the same agent
//! count as one, and those behind a CDN count as the CDN's. Only a hash of both and the second of
//! the last request are stored.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Instant,
};

use http::{HeaderMap, header::USER_AGENT};
use media_core::ChannelName;

/// Number of target durations without a request after which a viewer has left.
const TARGET_DURATIONS: u64 = 3;
/// Maximum number of counted viewers of one channel.
const MAX_VIEWERS: usize = 1 << 17;
/// Number of locks of a channel, so that its viewers seldom wait for each other.
const SHARDS: usize = 16;

/// The viewers of all channels. Cheap to clone; all clones are one. Times are whole seconds since
/// its creation.
#[derive(Debug, Clone)]
pub struct Audience(Arc<Shared>);

/// The state that the clones share.
#[derive(Debug)]
struct Shared {
    /// The origin of its seconds.
    started: Instant,
    /// Specific to this process, so that nobody can choose colliding values.
    hasher: RandomState,
    /// The channels with viewers; bounded by the number of channels that are live.
    channels: RwLock<HashMap<ChannelName, Arc<Channel>>>,
}

/// The viewers of one channel, in shards by hash.
#[derive(Debug, Default)]
struct Channel {
    shards: [Mutex<Shard>; SHARDS],
}

/// Some of the viewers of one channel.
#[derive(Debug, Default)]
struct Shard {
    /// The second of each viewer's last request, since the start.
    seen: HashMap<u64, u64>,
    /// Maximum age of a viewer's last request.
    span: u64,
    /// Time at which those that have left were last removed.
    swept: u64,
}

impl Default for Audience {
    fn default() -> Self {
        let shared = Shared {
            started: Instant::now(),
            hasher: RandomState::new(),
            channels: RwLock::default(),
        };
        Self(Arc::new(shared))
    }
}

impl Audience {
    /// The number of viewers of a channel: those with a request in the last [`TARGET_DURATIONS`]
    /// target durations. At most [`MAX_VIEWERS`].
    pub fn viewers(&self, channel: &ChannelName) -> usize {
        self.viewers_at(channel, self.now())
    }

    /// Records a request of `address` for an existing resource of a channel, whose target duration
    /// is `target_duration_s` seconds.
    pub(crate) fn saw(
        &self,
        channel: &ChannelName,
        target_duration_s: u64,
        address: IpAddr,
        headers: &HeaderMap,
    ) {
        let agent = headers.get(USER_AGENT).map(|agent| agent.as_bytes());
        let viewer = self.0.hasher.hash_one((address, agent));
        self.saw_at(channel, target_duration_s, viewer, self.now());
    }

    /// Records a request of the viewer with this hash at second `now`.
    fn saw_at(&self, channel: &ChannelName, target_duration_s: u64, viewer: u64, now: u64) {
        let known = self.known(channel).unwrap_or_else(|| self.open(channel, now));
        // The read lock of the map is released here: requests of different viewers wait only for
        // the lock of a shard.
        let mut shard = known.shard(viewer);
        shard.span = target_duration_s.saturating_mul(TARGET_DURATIONS);
        // Viewers that have left are removed once in a while, so that a request does not search all
        // of them.
        if now.saturating_sub(shard.swept) > shard.span {
            shard.sweep(now);
        }
        // Beyond the limit new viewers are not counted, and known ones stay.
        if shard.seen.len() < MAX_VIEWERS / SHARDS || shard.seen.contains_key(&viewer) {
            shard.seen.insert(viewer, now);
        }
    }

    /// The number of viewers at second `now`.
    fn viewers_at(&self, channel: &ChannelName, now: u64) -> usize {
        self.known(channel).map_or(0, |channel| channel.viewers(now))
    }

    /// The channel, if it has been requested. The lock is held for the look-up only.
    fn known(&self, channel: &ChannelName) -> Option<Arc<Channel>> {
        let channels = self.0.channels.read().unwrap_or_else(PoisonError::into_inner);
        channels.get(channel).map(Arc::clone)
    }

    /// Adds a channel, and removes those without viewers: there are no more than are live, or were
    /// a moment ago.
    fn open(&self, channel: &ChannelName, now: u64) -> Arc<Channel> {
        let mut channels = self.0.channels.write().unwrap_or_else(PoisonError::into_inner);
        channels.retain(|_, channel| channel.viewers(now) > 0);
        Arc::clone(channels.entry(channel.clone()).or_default())
    }

    /// Seconds since the start.
    fn now(&self) -> u64 {
        self.0.started.elapsed().as_secs()
    }
}

impl Channel {
    /// The shard of a viewer. The upper half of the hash selects it, because the map uses the lower
    /// one.
    fn shard(&self, viewer: u64) -> MutexGuard<'_, Shard> {
        let shard = usize::try_from(viewer >> 32).unwrap_or_default() % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of viewers at second `now`. Those that have left are removed.
    fn viewers(&self, now: u64) -> usize {
        let viewers = |shard: &Mutex<Shard>| {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.sweep(now);
            shard.seen.len()
        };
        self.shards.iter().map(viewers).sum()
    }
}

impl Shard {
    /// Removes the viewers that have left.
    fn sweep(&mut self, now: u64) {
        let span = self.span;
        self.seen.retain(|_, &mut seen| now.saturating_sub(seen) <= span);
        self.swept = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ChannelName {
        text.parse().unwrap()
    }

    #[test]
    fn a_viewer_counts_once_until_three_target_durations_after_its_last_request() {
        let audience = Audience::default();
        for now in 0..10 {
            audience.saw_at(&name("one"), 4, 1 << 32, now);
            audience.saw_at(&name("one"), 4, 2 << 32, now);
            audience.saw_at(&name("two"), 4, 1 << 32, now);
        }
        audience.saw_at(&name("one"), 4, 3 << 32, 15);
        assert_eq!(audience.viewers_at(&name("one"), 15), 3);
        assert_eq!(audience.viewers_at(&name("two"), 15), 1);
        assert_eq!(audience.viewers_at(&name("one"), 9 + 12), 3);
        assert_eq!(audience.viewers_at(&name("one"), 9 + 13), 1);
        assert_eq!(audience.viewers_at(&name("one"), 99), 0);
        assert_eq!(audience.viewers_at(&name("three"), 15), 0);
    }

    #[test]
    fn one_address_with_two_user_agents_counts_as_two_viewers() {
        let audience = Audience::default();
        let address = IpAddr::from([192, 0, 2, 1]);
        let mut headers = HeaderMap::new();
        audience.saw(&name("one"), 4, address, &headers);
        audience.saw(&name("one"), 4, address, &headers);
        headers.insert(USER_AGENT, "player".parse().unwrap());
        audience.saw(&name("one"), 4, address, &headers);
        assert_eq!(audience.viewers(&name("one")), 2);
    }

    #[test]
    fn viewers_are_bounded_and_channels_without_viewers_are_dropped() {
        let audience = Audience::default();
        for viewer in 0..2 * MAX_VIEWERS as u64 {
            audience.saw_at(&name("one"), 4, viewer << 32 | viewer, 0);
        }
        assert_eq!(audience.viewers_at(&name("one"), 0), MAX_VIEWERS);
        for n in 0..100 {
            audience.saw_at(&name(&format!("c{n}")), 4, 1, 100 * n);
        }
        assert!(audience.0.channels.read().unwrap().len() <= 2);
    }
}
