//! Segment numbers that only increase from broadcast to broadcast of a channel, because players
//! identify a live playlist by them.
//!
//! Nothing is stored over a restart, so numbers begin at the clock. A clock that is set back, or a
//! broadcast that ran a little ahead of it, must not make them decrease: so the hub remembers the
//! last numbers of each channel.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use crate::ChannelName;

/// Maximum number of remembered channels. Those with the lowest numbers are removed first.
const MAX_CHANNELS: usize = 4_096;
/// 2026-01-01, in Unix seconds.
const START_OF_2026: u64 = 1_767_225_600;
/// Seconds for each discontinuity sequence number.
const DISCONTINUITY_S: u64 = 600;

/// The numbers of a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Its media sequence number, by default the Unix time in seconds.
    pub msn: u64,
    /// Its discontinuity sequence, by default the number of ten-minute spans since 2026. It must be
    /// small, because players use it as an array index (hls.js hangs on 10^9).
    pub discontinuity: u64,
}

impl Numbers {
    /// The numbers of a segment that begins at `utc`, from the clock only.
    fn at(utc: SystemTime) -> Self {
        let msn = utc.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Self {
            msn,
            discontinuity: msn.saturating_sub(START_OF_2026) / DISCONTINUITY_S,
        }
    }

    /// The greater of each number.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            msn: self.msn.max(other.msn),
            discontinuity: self.discontinuity.max(other.discontinuity),
        }
    }

    /// The numbers after `passed`, if marks are as frequent as allowed.
    fn after(self, passed: Duration) -> Self {
        Self {
            msn: self.msn.saturating_add(passed.as_secs()),
            discontinuity: self.discontinuity,
        }
    }
}

/// The numbers that have been used.
#[derive(Debug, Default)]
pub(super) struct Used {
    channels: HashMap<ChannelName, Numbers>,
    /// Lower bound for new broadcasts: numbers of another process at an instant.
    elsewhere: Option<(Numbers, Instant)>,
}

impl Used {
    /// The first numbers of a new broadcast of `name`.
    pub(super) fn first(&self, name: &ChannelName, now: Instant, utc: SystemTime) -> Numbers {
        let here = self.channels.get(name).copied().unwrap_or_default();
        Numbers::at(utc).max(here).max(self.elsewhere(now))
    }

    /// Records `next`, the numbers after a broadcast of `name` that has ended.
    pub(super) fn remember(&mut self, name: &ChannelName, next: Numbers) {
        let known = self.channels.get(name).copied().unwrap_or_default();
        if self.channels.len() >= MAX_CHANNELS && !self.channels.contains_key(name) {
            let least = self.channels.iter().min_by_key(|(_, numbers)| numbers.msn);
            if let Some(least) = least.map(|(name, _)| name.clone()) {
                self.channels.remove(&least);
            }
        }
        self.channels.insert(name.clone(), known.max(next));
    }

    /// Another process uses numbers below these at `now`.
    pub(super) fn begin_after(&mut self, numbers: Numbers, now: Instant) {
        self.elsewhere = Some((numbers, now));
    }

    /// Numbers above all used ones.
    pub(super) fn highest(&self, now: Instant) -> Numbers {
        self.channels.values().copied().fold(self.elsewhere(now), Numbers::max)
    }

    fn elsewhere(&self, now: Instant) -> Numbers {
        let after = |(numbers, at): (Numbers, Instant)| numbers.after(now.saturating_duration_since(at));
        self.elsewhere.map(after).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> ChannelName {
        format!("c{n}").parse().unwrap()
    }

    fn utc(s: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(s)
    }

    #[test]
    fn numbers_follow_the_clock_and_never_go_back_for_a_name() {
        let (now, mut used) = (Instant::now(), Used::default());
        let first = used.first(&name(0), now, utc(START_OF_2026 + 6_000));
        assert_eq!((first.msn, first.discontinuity), (START_OF_2026 + 6_000, 10));
        let next = Numbers {
            msn: first.msn + 7,
            discontinuity: 30,
        };
        used.remember(&name(0), next);
        // The clock was set back by an hour.
        assert_eq!(used.first(&name(0), now, utc(START_OF_2026 + 2_400)), next);
        assert_eq!(
            used.first(&name(1), now, utc(START_OF_2026 + 2_400)).msn,
            START_OF_2026 + 2_400
        );
        used.remember(&name(0), Numbers::default());
        assert_eq!(used.highest(now), next);
    }

    #[test]
    fn those_of_another_process_grow_with_time() {
        let (now, mut used) = (Instant::now(), Used::default());
        let elsewhere = Numbers {
            msn: 5_000,
            discontinuity: 9,
        };
        used.begin_after(elsewhere, now);
        let later = used.first(&name(0), now + Duration::from_secs(60), utc(1_000));
        assert_eq!((later.msn, later.discontinuity), (5_060, 9));
    }

    #[test]
    fn the_channels_remembered_are_bounded_and_those_ahead_stay() {
        let mut used = Used::default();
        for n in 0..MAX_CHANNELS + 100 {
            let msn = if n == 0 { 1_000_000 } else { n as u64 };
            used.remember(&name(n), Numbers { msn, discontinuity: 0 });
        }
        assert_eq!(used.channels.len(), MAX_CHANNELS);
        assert!(used.channels.contains_key(&name(0)));
    }
}
