//! Follows the wall clock's rate: a publisher's clock that is some hundred millionths faster or slower than ours is stretched.
//!
//! The distance of decode times from the wall clock is observed once a second. Its median over about a minute, which the jitter of
//! the network does not move, is worked off within ten minutes, at a rate that nobody sees or hears.

use std::time::{Duration, Instant};

use crate::Timescale;

/// Observations for a median, one a second.
const OBSERVATIONS: usize = 64;
const INTERVAL: Duration = Duration::from_secs(1);
/// Time in which a distance is worked off, in seconds.
const WORK_OFF_S: i64 = 600;
/// The highest rate, in millionths.
const MAX_PPM: i64 = 500;
const MILLION: i64 = 1_000_000;

/// The correction of one publisher's clock.
#[derive(Debug, Default)]
pub(super) struct Drift {
    /// What has been added to decode times so far, in millionths of a tick of 90 kHz.
    added: i64,
    /// What is added at present, in millionths.
    ppm: i64,
    ran: Option<Instant>,
    /// Distances of decode times from the wall clock.
    distances: Vec<i64>,
    observed: Option<Instant>,
}

impl Drift {
    /// Ticks to be added to mapped timestamps.
    pub(super) fn ticks(&self) -> i64 {
        self.added.div_euclid(MILLION)
    }

    /// Another clock is to be followed from here on.
    pub(super) fn restart(&mut self) {
        self.ppm = 0;
        self.distances.clear();
        self.observed = None;
    }

    /// The correction grows with time.
    pub(super) fn run(&mut self, now: Instant) {
        let ran = self.ran.replace(now).unwrap_or(now);
        if self.ppm != 0 {
            let passed = Timescale::VIDEO.ticks(now.saturating_duration_since(ran));
            self.added = self.added.saturating_add(passed.saturating_mul(self.ppm));
        }
    }

    /// A frame that arrived `now` is decoded `distance` ticks after the wall clock's time.
    pub(super) fn observe(&mut self, distance: i64, now: Instant) {
        if self
            .observed
            .is_some_and(|last| now.saturating_duration_since(last) < INTERVAL)
        {
            return;
        }
        self.observed = Some(now);
        self.distances.push(distance);
        if self.distances.len() == OBSERVATIONS {
            let median = *self.distances.select_nth_unstable(OBSERVATIONS / 2).1;
            let per_million = i64::from(Timescale::VIDEO.hz()) * WORK_OFF_S / MILLION;
            self.ppm = (-median / per_million).clamp(-MAX_PPM, MAX_PPM);
            self.distances.clear();
        }
    }
}
