//! Decode times by arrival, for a track whose timestamps are no clock. A loop that follows the
//! arrivals' phase and rate smooths the jitter of the network.

use std::time::{Duration, Instant};

use super::limits::LEAST_STEP;
use crate::{MediaSpan, MediaTime};

/// The loop's initial interval between two frames: a 30th of a second.
const FIRST_INTERVAL: MediaSpan = MediaSpan::from_ticks(3_000);
/// A frame that arrives this much later than expected, a quarter of a second, is placed at its
/// arrival.
const SNAP: MediaSpan = MediaSpan::from_millis(250);
/// Timestamps that stay this close to the wall clock, half a second, for [`STEADY`] are a clock
/// again.
const STRAY: MediaSpan = MediaSpan::from_millis(500);
/// Time for which timestamps must stay within [`STRAY`] of the wall clock.
const STEADY: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub(super) struct Retimed {
    /// The learnt interval between two frames.
    interval: MediaSpan,
    steady: Steady,
}

/// The timestamp since which timestamps have kept to the wall clock.
#[derive(Debug, Clone, Copy)]
struct Steady {
    stamp: MediaSpan,
    arrived: Instant,
}

impl Retimed {
    pub(super) fn new(stamp: MediaSpan, arrived: Instant) -> Self {
        Self { interval: FIRST_INTERVAL, steady: Steady { stamp, arrived } }
    }

    pub(super) fn interval(&self) -> MediaSpan {
        self.interval
    }

    /// Whether the timestamps, of which `stamp` is the newest, are a clock again.
    pub(super) fn is_steady(&mut self, stamp: MediaSpan, arrived: Instant) -> bool {
        let passed = MediaSpan::elapsed(self.steady.arrived, arrived);
        let stray = stamp - self.steady.stamp - passed;
        if stray.abs() > STRAY {
            self.steady = Steady { stamp, arrived };
        }
        arrived.saturating_duration_since(self.steady.arrived) >= STEADY
    }

    /// The decode time of a frame that arrives at `wall`, after one at `last`.
    pub(super) fn next(&mut self, last: Option<MediaTime>, wall: MediaTime) -> MediaTime {
        let Some(last) = last else { return wall };
        let expected = last + self.interval;
        // A frame that is far too late begins a new phase. One that is far too early belongs to a
        // burst, and follows the frame before it as closely as possible.
        let late = wall - expected;
        if late > SNAP {
            return wall;
        }
        if late < -SNAP {
            return last + LEAST_STEP;
        }
        // A phase-locked loop: an eighth of the error corrects the phase, a 64th the interval.
        self.interval = (self.interval + late / 64).max(LEAST_STEP);
        (expected + late / 8).max(last + LEAST_STEP)
    }
}
