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

/// The viewers of all channels. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Audience(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    started: Instant,
    /// Specific to this process, so that nobody can choose colliding values.
    hasher: RandomState,
    channels: RwLock<HashMap<ChannelName, Arc<Channel>>>,
}

#[derive(Debug, Default)]
struct Channel {
    shards: [Mutex<Shard>; SHARDS],
}

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
    /// The number of viewers of a channel.
    pub fn viewers(&self, channel: &ChannelName) -> usize {
        self.viewers_at(channel, self.now())
    }

    /// Records a request of `address` for an existing resource of a channel.
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

    fn saw_at(&self, channel: &ChannelName, target_duration_s: u64, viewer: u64, now: u64) {
        let known = self
            .0
            .channels
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(channel)
            .map(Arc::clone);
        let known = known.unwrap_or_else(|| self.open(channel, now));
        let mut shard = known.shard(viewer);
        shard.span = target_duration_s.saturating_mul(TARGET_DURATIONS);
        if now.saturating_sub(shard.swept) > shard.span {
            shard.sweep(now);
        }
        if shard.seen.len() < MAX_VIEWERS / SHARDS || shard.seen.contains_key(&viewer) {
            shard.seen.insert(viewer, now);
        }
    }

    fn viewers_at(&self, channel: &ChannelName, now: u64) -> usize {
        let channel = self
            .0
            .channels
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(channel)
            .map(Arc::clone);
        channel.map_or(0, |channel| channel.viewers(now))
    }

    /// Adds a channel, and removes those without viewers: there are no more than are live, or were
    /// a moment ago.
    fn open(&self, channel: &ChannelName, now: u64) -> Arc<Channel> {
        let mut channels = self.0.channels.write().unwrap_or_else(PoisonError::into_inner);
        channels.retain(|_, channel| channel.viewers(now) > 0);
        Arc::clone(channels.entry(channel.clone()).or_default())
    }

    fn now(&self) -> u64 {
        self.0.started.elapsed().as_secs()
    }
}

impl Channel {
    fn shard(&self, viewer: u64) -> MutexGuard<'_, Shard> {
        let shard = usize::try_from(viewer >> 32).unwrap_or_default() % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

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
    fn a_viewer_counts_once_and_until_three_target_durations_after() {
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
    fn one_address_with_two_agents_is_two_viewers() {
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
    fn memory_is_bounded_by_viewers_and_by_channels_that_are_watched() {
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
