//! Follows the rate of the wall clock: timestamps of a publisher's clock that is some hundred ppm
//! faster or slower than ours are stretched.
//!
//! The distance of decode times from the wall clock is measured once a second. Its median over
//! about a minute, which the jitter of the network does not affect, is corrected within ten
//! minutes, at an imperceptible rate.

use std::time::{Duration, Instant};

use crate::{MediaSpan, Timescale};

/// Number of measurements for a median.
const OBSERVATIONS: usize = 64;
/// Time between two measurements.
const INTERVAL: Duration = Duration::from_secs(1);
/// Time in which a distance is corrected, in seconds.
const WORK_OFF_S: i64 = 600;
/// The highest rate, in ppm.
const MAX_PPM: i64 = 500;
/// The unit of rates: one ppm is a millionth of a tick in each tick.
const MILLION: i64 = 1_000_000;

/// The correction of one publisher's clock.
#[derive(Debug, Default)]
pub(super) struct Drift {
    /// Correction of decode times so far, in millionths of a tick of 90 kHz.
    added: i64,
    /// The present rate of the correction, in ppm.
    ppm: i64,
    ran: Option<Instant>,
    /// Distances of decode times from the wall clock.
    distances: Vec<MediaSpan>,
    observed: Option<Instant>,
}

impl Drift {
    /// The distance to be added to mapped timestamps.
    pub(super) fn correction(&self) -> MediaSpan {
        MediaSpan::from_ticks(self.added.div_euclid(MILLION))
    }

    /// Starts again for another clock.
    pub(super) fn restart(&mut self) {
        self.ppm = 0;
        self.distances.clear();
        self.observed = None;
    }

    /// Advances the correction to `now`.
    pub(super) fn run(&mut self, now: Instant) {
        let ran = self.ran.replace(now).unwrap_or(now);
        // Most clocks need no correction.
        if self.ppm != 0 {
            let passed = MediaSpan::elapsed(ran, now).ticks();
            self.added = self.added.saturating_add(passed.saturating_mul(self.ppm));
        }
    }

    /// Records that a frame that arrived `now` is decoded `distance` after the wall clock's time.
    pub(super) fn observe(&mut self, distance: MediaSpan, now: Instant) {
        if self.observed.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            return;
        }
        self.observed = Some(now);
        self.distances.push(distance);
        if self.distances.len() == OBSERVATIONS {
            let median = *self.distances.select_nth_unstable(OBSERVATIONS / 2).1;
            // So many ticks are corrected within the time allowed by a rate of 1 ppm.
            let per_million = i64::from(Timescale::VIDEO.hz()) * WORK_OFF_S / MILLION;
            self.ppm = (-median.ticks() / per_million).clamp(-MAX_PPM, MAX_PPM);
            self.distances.clear();
        }
    }
}
