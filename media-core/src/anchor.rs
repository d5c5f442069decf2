//! The anchor that maps a broadcast's media time to the wall clock.

use std::time::{Duration, Instant, SystemTime};

use crate::{MediaSpan, MediaTime, Ticks, Timescale};

/// Media time zero of a broadcast on both clocks, fixed for the life of the broadcast.
/// PROGRAM-DATE-TIME, availabilityStartTime and `prft` are computed from it.
#[derive(Debug, Clone, Copy)]
pub struct Anchor {
    /// Wall clock at media time zero.
    pub utc: SystemTime,
    /// Monotonic clock at media time zero.
    pub instant: Instant,
}

impl Anchor {
    /// Distance from media time zero to a broadcast's first frame, so that frames that were sent
    /// earlier but arrive later (audio before video, B-frames) still have a positive time.
    pub const LEAD: Duration = Duration::from_secs(10);

    /// The anchor of a broadcast whose first frame arrives `now`.
    pub fn new(now: Instant, utc: SystemTime) -> Self {
        Self {
            utc: utc.checked_sub(Self::LEAD).unwrap_or(SystemTime::UNIX_EPOCH),
            instant: now.checked_sub(Self::LEAD).unwrap_or(now),
        }
    }

    /// The media time at `now`; zero before the anchor.
    pub fn media_time(&self, now: Instant) -> MediaTime {
        MediaTime::ZERO + MediaSpan::elapsed(self.instant, now)
    }

    /// The wall clock at an instant in ticks of `timescale`.
    pub fn utc_at(&self, instant: Ticks, timescale: Timescale) -> SystemTime {
        self.utc + instant.duration(timescale)
    }
}
