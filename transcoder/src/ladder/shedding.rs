//! Decides which renditions are stopped when encoders fall behind, and when they are started again.
//! Pure: `now` is an argument.
//!
//! The pipeline is as late as its slowest encoder, so the lag of any is the lag of all: the most
//! expensive is stopped first. It is started again after a while without lag, and the next time
//! after twice as long.

use std::time::{Duration, Instant};

/// Lag of renditions, and its duration, after which one is stopped.
const LATE: Duration = Duration::from_millis(1_500);
/// How long the lag must last: a single slow group is no reason.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time after a change for the backlog to shrink before the next decision.
const SETTLE: Duration = Duration::from_secs(3);
/// Time for a new worker to catch up with a group.
const START: Duration = Duration::from_secs(8);
/// Time without lag after which a rendition is started again; longer after each failed attempt.
const CALM: Duration = Duration::from_secs(30);
/// The limit of the doubled time: 16 minutes.
const LONGEST_CALM: Duration = Duration::from_secs(960);
/// A smaller delay is no lag.
const SMALL: Duration = Duration::from_millis(600);

/// A decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Stop the most expensive running rendition.
    Shed,
    /// Start the cheapest stopped rendition.
    Restore,
}

/// The state of the decisions for one ladder.
#[derive(Debug)]
pub(crate) struct Shedding {
    /// Since when the lag exceeds [`LATE`].
    late_since: Option<Instant>,
    /// Since when there is no lag while a rendition is stopped.
    calm_since: Instant,
    /// No change before this time.
    settled: Instant,
    /// Whether a worker has started and has not caught up.
    starting: bool,
    /// Time without lag before the next restart. It never decreases: a machine that was too slow
    /// twice is likely to be so again.
    calm: Duration,
}

impl Shedding {
    /// No lag yet, and the shortest wait before a restart.
    pub(crate) fn new(now: Instant) -> Self {
        Self { late_since: None, calm_since: now, settled: now, starting: false, calm: CALM }
    }

    /// A worker starts: it gets time to catch up.
    pub(crate) fn start(&mut self, now: Instant) {
        self.settled = now + START;
        self.starting = true;
        self.late_since = None;
        self.calm_since = now;
    }

    /// Decides, for renditions that are `lag` behind the source; `any_shed`: at least one is
    /// stopped. Call it several times a second while a worker has something to do.
    pub(crate) fn judge(&mut self, lag: Duration, any_shed: bool, now: Instant) -> Option<Change> {
        if lag > SMALL || !any_shed {
            self.calm_since = now;
        }
        if lag <= SMALL && self.starting {
            // It caught up early.
            (self.starting, self.settled) = (false, now);
        }
        // The wait counts also before `settled`, so that a rendition can be stopped as soon as
        // changes are permitted again.
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
            // Doubled at the start of the attempt: its failure is not observed as such.
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

    /// Applies a lag of `ms` for `seconds`, ten times a second. Returns the changes with their
    /// times, in seconds since the start.
    fn run(
        shedding: &mut Shedding,
        start: Instant,
        from: u32,
        seconds: u32,
        ms: u64,
    ) -> Vec<(f64, Change)> {
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
    fn late_renditions_are_shed_one_at_a_time() {
        let start = Instant::now();
        let mut shedding = Shedding::new(start);
        assert_eq!(run(&mut shedding, start, 0, 10, 1_000), []);
        assert_eq!(
            run(&mut shedding, start, 10, 6, 2_000),
            [(11.0, Change::Shed), (14.0, Change::Shed)]
        );
    }

    #[test]
    fn a_started_worker_has_8_s_to_catch_up_unless_it_has_caught_up_before() {
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
    fn renditions_are_restored_after_30_s_without_lag_and_then_after_60_s_more() {
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
