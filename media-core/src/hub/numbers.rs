//! Segment numbers that only increase from broadcast to broadcast of a channel, because players
//! identify a live playlist by them.
//!
//! Nothing is stored over a restart, so numbers begin at the clock. A clock that is set back, or a
//! broadcast that ran a little ahead of it, must not make them decrease: so the hub remembers the
//! last numbers of each channel. Broadcasts that follow each other fast must not outrun the clock
//! either, because the numbers would decrease at a restart.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use crate::ChannelName;

/// Maximum number of remembered channels. Those with the lowest numbers are removed first.
const MAX_CHANNELS: usize = 4_096;
/// Maximum lead of a channel's next number over the time since the clock last gave it one. A single
/// broadcast leads by some ten.
const MOST_AHEAD: u64 = 32;
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
        Self { msn, discontinuity: msn.saturating_sub(START_OF_2026) / DISCONTINUITY_S }
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
        Self { msn: self.msn.saturating_add(passed.as_secs()), discontinuity: self.discontinuity }
    }
}

/// The numbers that have been used.
#[derive(Debug, Default)]
pub(super) struct Used {
    channels: HashMap<ChannelName, Channel>,
    /// Lower bound for new broadcasts: numbers of another process at an instant.
    elsewhere: Option<Elsewhere>,
}

/// The numbers of another process.
#[derive(Debug, Clone, Copy)]
struct Elsewhere {
    /// Above all that it had used at `at`.
    numbers: Numbers,
    at: Instant,
}

/// A media sequence number that came from the clock.
#[derive(Debug, Clone, Copy)]
struct Clocked {
    msn: u64,
    /// When it came from the clock.
    at: Instant,
}

/// The numbers of one channel.
#[derive(Debug)]
struct Channel {
    /// The lowest that are free.
    next: Numbers,
    /// The last number that came from the clock; `None` before the first.
    clocked: Option<Clocked>,
}

impl Channel {
    /// Time until its next number is no more than [`MOST_AHEAD`] ahead of the clock. The wall clock
    /// may have been set back meanwhile, so the time since a number came from it counts.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let Clocked { msn, at } = self.clocked?;
        let due = msn.saturating_add(now.saturating_duration_since(at).as_secs());
        let ahead = self.next.msn.saturating_sub(due);
        (ahead > MOST_AHEAD).then(|| Duration::from_secs(ahead - MOST_AHEAD))
    }
}

impl Used {
    /// Takes the first numbers of a new broadcast of `name`.
    ///
    /// # Errors
    /// The channel's broadcasts have used their numbers faster than the clock: the time to wait.
    pub(super) fn first(
        &mut self,
        name: &ChannelName,
        now: Instant,
        utc: SystemTime,
    ) -> Result<Numbers, Duration> {
        let clock = Numbers::at(utc).max(self.elsewhere(now));
        let known = self.channels.get(name);
        let next = known.map_or_else(Numbers::default, |known| known.next);
        // A channel whose numbers are ahead of the clock gets more of them only as fast as time
        // passes. Otherwise its numbers begin at the clock again.
        let clocked = match known {
            Some(known) if next.msn > clock.msn => match known.wait(now) {
                Some(wait) => return Err(wait),
                None => known.clocked,
            },
            _ => Some(Clocked { msn: clock.msn, at: now }),
        };
        let first = clock.max(next);
        self.insert(name, Channel { next: first, clocked });
        Ok(first)
    }

    /// Records `next`, the numbers after a broadcast of `name` that has ended.
    pub(super) fn remember(&mut self, name: &ChannelName, next: Numbers) {
        let (known, clocked) = match self.channels.get(name) {
            Some(known) => (known.next, known.clocked),
            None => (Numbers::default(), None),
        };
        // A broadcast that was replaced may end after its successor has taken higher numbers.
        let next = known.max(next);
        self.insert(name, Channel { next, clocked });
    }

    fn insert(&mut self, name: &ChannelName, channel: Channel) {
        // The lowest numbers are those that the clock has passed by most, so they are needed least.
        if self.channels.len() >= MAX_CHANNELS && !self.channels.contains_key(name) {
            let least = self.channels.iter().min_by_key(|(_, channel)| channel.next.msn);
            if let Some(least) = least.map(|(name, _)| name.clone()) {
                self.channels.remove(&least);
            }
        }
        self.channels.insert(name.clone(), channel);
    }

    /// Another process uses numbers below these at `now`.
    pub(super) fn begin_after(&mut self, numbers: Numbers, now: Instant) {
        self.elsewhere = Some(Elsewhere { numbers, at: now });
    }

    /// Numbers above all used ones.
    pub(super) fn highest(&self, now: Instant) -> Numbers {
        let next = self.channels.values().map(|channel| channel.next);
        next.fold(self.elsewhere(now), Numbers::max)
    }

    fn elsewhere(&self, now: Instant) -> Numbers {
        let elsewhere = self
            .elsewhere
            .map(|Elsewhere { numbers, at }| numbers.after(now.saturating_duration_since(at)));
        elsewhere.unwrap_or_default()
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
    fn segment_numbers_follow_the_clock_and_never_decrease_for_a_channel() {
        let (now, mut used) = (Instant::now(), Used::default());
        let first = used.first(&name(0), now, utc(START_OF_2026 + 6_000)).unwrap();
        assert_eq!((first.msn, first.discontinuity), (START_OF_2026 + 6_000, 10));
        let next = Numbers { msn: first.msn + 7, discontinuity: 30 };
        used.remember(&name(0), next);
        // The clock was set back by an hour.
        assert_eq!(used.first(&name(0), now, utc(START_OF_2026 + 2_400)), Ok(next));
        assert_eq!(
            used.first(&name(1), now, utc(START_OF_2026 + 2_400)).unwrap().msn,
            START_OF_2026 + 2_400
        );
        used.remember(&name(0), Numbers::default());
        assert_eq!(used.highest(now), next);
    }

    #[test]
    fn short_broadcasts_in_quick_succession_wait_for_the_clock() {
        let (start, mut used) = (Instant::now(), Used::default());
        let after = |ms: u64| {
            (start + Duration::from_millis(ms), utc(START_OF_2026) + Duration::from_millis(ms))
        };
        // For ten minutes a publisher begins a broadcast of five segments every 50 ms.
        let mut begun = 0;
        for ms in (0..600_000).step_by(50) {
            let (now, utc) = after(ms);
            if let Ok(Numbers { msn, discontinuity }) = used.first(&name(0), now, utc) {
                begun += 1;
                let ahead = msn - (START_OF_2026 + ms / 1_000);
                assert!(ahead <= MOST_AHEAD + 1, "{ahead} ahead after {ms} ms");
                used.remember(&name(0), Numbers { msn: msn + 5, discontinuity: discontinuity + 1 });
            }
        }
        assert!((120..140).contains(&begun), "one in five seconds: {begun}");
        let (now, later) = after(600_000);
        let wait = used.first(&name(0), now, later).unwrap_err();
        assert!(used.first(&name(0), now + wait, later + wait).is_ok());
        // A clock that is set back is not the publisher's fault.
        let (now, early) = (now + 2 * wait, later - Duration::from_secs(3_600));
        assert!(used.first(&name(0), now, early).is_ok());
        assert_eq!(used.first(&name(1), now, later).unwrap().discontinuity, 1);
    }

    #[test]
    fn numbers_of_a_previous_process_increase_with_time() {
        let (now, mut used) = (Instant::now(), Used::default());
        let elsewhere = Numbers { msn: 5_000, discontinuity: 9 };
        used.begin_after(elsewhere, now);
        let later = used.first(&name(0), now + Duration::from_secs(60), utc(1_000)).unwrap();
        assert_eq!((later.msn, later.discontinuity), (5_060, 9));
    }

    #[test]
    fn the_number_of_remembered_channels_is_bounded_and_the_highest_msn_is_kept() {
        let mut used = Used::default();
        for n in 0..MAX_CHANNELS + 100 {
            let msn = if n == 0 { 1_000_000 } else { n as u64 };
            used.remember(&name(n), Numbers { msn, discontinuity: 0 });
        }
        assert_eq!(used.channels.len(), MAX_CHANNELS);
        assert!(used.channels.contains_key(&name(0)));
    }
}
