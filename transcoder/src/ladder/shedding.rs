//! Which renditions are given up when encoders fall behind, and when they are tried again. Pure: `now` is an argument.
//!
//! The pipeline is as late as its slowest encoder, so the lag of any is the lag of all: the dearest goes first. One that went is tried again
//! when there has been no lag for a while, and the next time after twice as long.

use std::time::{Duration, Instant};

/// How far renditions may be behind the source for how long before one is given up.
const LATE: Duration = Duration::from_millis(1_500);
const PATIENCE: Duration = Duration::from_secs(1);
/// After a change: the backlog must be worked off before the next is judged.
const SETTLE: Duration = Duration::from_secs(3);
/// A worker that has just started has a group to catch up with.
const START: Duration = Duration::from_secs(8);
/// No lag for this long, and one is tried again; longer each time that it was in vain.
const CALM: Duration = Duration::from_secs(30);
const LONGEST_CALM: Duration = Duration::from_secs(960);
/// Behind the source by less than this is no lag.
const SMALL: Duration = Duration::from_millis(600);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Give up the dearest that is made.
    Shed,
    /// Make again the cheapest that was given up.
    Restore,
}

/// The judge of one ladder.
#[derive(Debug)]
pub(crate) struct Shedding {
    late_since: Option<Instant>,
    calm_since: Instant,
    /// Nothing is changed before.
    settled: Instant,
    /// A worker has started and has not caught up.
    starting: bool,
    calm: Duration,
}

impl Shedding {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            late_since: None,
            calm_since: now,
            settled: now,
            starting: false,
            calm: CALM,
        }
    }

    /// A worker starts: it is given time to catch up.
    pub(crate) fn start(&mut self, now: Instant) {
        self.settled = now + START;
        self.starting = true;
        self.late_since = None;
        self.calm_since = now;
    }

    /// What to do, when renditions are `lag` behind the source, and whether any has been given up. To be called several times a second
    /// while a worker has something to do.
    pub(crate) fn judge(&mut self, lag: Duration, any_shed: bool, now: Instant) -> Option<Change> {
        if lag > SMALL || !any_shed {
            self.calm_since = now;
        }
        if lag <= SMALL && self.starting {
            // Caught up before its time.
            (self.starting, self.settled) = (false, now);
        }
        let late = if lag > LATE {
            now.saturating_duration_since(*self.late_since.get_or_insert(now)) >= PATIENCE
        } else {
            self.late_since = None;
            false
        };
        if now < self.settled {
            return None;
        }
        let change = if late {
            Change::Shed
        } else if now.saturating_duration_since(self.calm_since) >= self.calm {
            self.calm = (self.calm * 2).min(LONGEST_CALM);
            Change::Restore
        } else {
            return None;
        };
        self.starting = false;
        self.settled = now + SETTLE;
        self.calm_since = now;
        self.late_since = None;
        Some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges a lag of `ms` for `seconds`, ten times a second; returns what was done when, in seconds since the start.
    fn run(shedding: &mut Shedding, start: Instant, from: u32, seconds: u32, ms: u64) -> Vec<(f64, Change)> {
        let ticks = (from * 10)..((from + seconds) * 10);
        ticks
            .filter_map(|tick| {
                let now = start + Duration::from_millis(100) * tick;
                let change = shedding.judge(Duration::from_millis(ms), true, now)?;
                Some((f64::from(tick) / 10.0, change))
            })
            .collect()
    }

    #[test]
    fn who_stays_late_is_shed_one_after_the_other() {
        let start = Instant::now();
        let mut shedding = Shedding::new(start);
        assert_eq!(run(&mut shedding, start, 0, 10, 1_000), []);
        assert_eq!(
            run(&mut shedding, start, 10, 6, 2_000),
            [(11.0, Change::Shed), (14.0, Change::Shed)]
        );
    }

    #[test]
    fn a_start_has_time_to_catch_up_and_loses_it_when_it_has() {
        let start = Instant::now();
        let mut shedding = Shedding::new(start);
        shedding.start(start);
        assert_eq!(run(&mut shedding, start, 0, 8, 5_000), []);
        assert_eq!(run(&mut shedding, start, 8, 1, 5_000), [(8.0, Change::Shed)]);

        let mut shedding = Shedding::new(start);
        shedding.start(start);
        assert_eq!(run(&mut shedding, start, 0, 1, 100), []);
        assert_eq!(run(&mut shedding, start, 1, 2, 5_000), [(2.0, Change::Shed)]);
    }

    #[test]
    fn after_a_calm_one_is_restored_and_after_a_longer_one_the_next() {
        let start = Instant::now();
        let mut shedding = Shedding::new(start);
        assert_eq!(
            run(&mut shedding, start, 0, 100, 100),
            [(30.0, Change::Restore), (90.0, Change::Restore)]
        );
        assert_eq!(run(&mut shedding, start, 100, 100, 700), []);
        let later = start + Duration::from_secs(1_000);
        assert_eq!(shedding.judge(Duration::ZERO, false, later), None, "nothing to restore");
    }
}
