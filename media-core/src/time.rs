//! Timescales, media time, and the anchor that maps a broadcast's media time to the wall clock.

use std::{
    num::NonZeroU32,
    ops::{Add, Sub},
    time::{Duration, Instant, SystemTime},
};

use crate::{MediaSpan, Ticks};

/// Ticks a second of a track's clock (ISO/IEC 14496-12 8.4.2, `mdhd` timescale).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timescale(NonZeroU32);

impl Timescale {
    /// 90 000 ticks a second: the clock of all video, and of a publisher's timestamps.
    pub const VIDEO: Self = Self(NonZeroU32::new(90_000).expect("90 000 is not zero"));

    /// A timescale of `hz` ticks a second; `None` for zero.
    pub fn new(hz: u32) -> Option<Self> {
        NonZeroU32::new(hz).map(Self)
    }

    /// Ticks a second.
    pub fn hz(self) -> u32 {
        self.0.get()
    }

    /// `ticks` of this timescale in the timescale `to`, rounded to the nearest tick.
    pub fn rescale(self, ticks: i64, to: Timescale) -> i64 {
        if self == to {
            return ticks;
        }
        let (from, to) = (i64::from(self.hz()), i64::from(to.hz()));
        // A division of 128 bits is a call into the compiler's runtime, and every frame needs some.
        match ticks.checked_mul(to).and_then(|product| product.checked_add(from / 2)) {
            Some(product) => product.div_euclid(from),
            None => saturate(
                (i128::from(ticks) * i128::from(to) + i128::from(from / 2))
                    .div_euclid(i128::from(from)),
            ),
        }
    }

    /// `duration` in ticks, rounded down.
    pub fn ticks(self, duration: Duration) -> i64 {
        let hz = u64::from(self.hz());
        // Whole seconds and the rest are converted apart, so that no product overflows for any
        // duration.
        let below = u64::from(duration.subsec_nanos()) * hz / 1_000_000_000;
        let ticks = duration.as_secs().saturating_mul(hz).saturating_add(below);
        i64::try_from(ticks).unwrap_or(i64::MAX)
    }

    /// `ticks` as a duration, zero if negative.
    pub fn duration(self, ticks: i64) -> Duration {
        let ticks = u64::try_from(ticks).unwrap_or(0);
        let hz = u64::from(self.hz());
        // Whole seconds apart, as in `ticks`.
        let nanos = (ticks % hz) * 1_000_000_000 / hz;
        Duration::new(ticks / hz, u32::try_from(nanos).unwrap_or(0))
    }

    /// `ticks` in seconds, for text.
    pub fn seconds(self, ticks: i64) -> f64 {
        ticks as f64 / f64::from(self.hz())
    }
}

/// An instant on a broadcast's timeline, in ticks of [`Timescale::VIDEO`] since the broadcast's
/// [`Anchor`]. It is the same for all tracks. Distances between instants are [`MediaSpan`]s;
/// arithmetic saturates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MediaTime(i64);

impl MediaTime {
    /// The instant of the broadcast's [`Anchor`].
    pub const ZERO: Self = Self(0);
    /// Before all instants.
    pub const MIN: Self = Self(i64::MIN);
    /// After all instants.
    pub const MAX: Self = Self(i64::MAX);

    /// The instant `ticks` ticks of 90 kHz after media time zero.
    #[inline]
    pub const fn from_ticks(ticks: i64) -> Self {
        Self(ticks)
    }

    /// Ticks of 90 kHz since media time zero.
    #[inline]
    pub const fn ticks(self) -> i64 {
        self.0
    }
}

impl Add<MediaSpan> for MediaTime {
    type Output = Self;

    #[inline]
    fn add(self, later: MediaSpan) -> Self {
        Self(self.0.saturating_add(later.ticks()))
    }
}

impl Sub<MediaSpan> for MediaTime {
    type Output = Self;

    #[inline]
    fn sub(self, earlier: MediaSpan) -> Self {
        Self(self.0.saturating_sub(earlier.ticks()))
    }
}

impl Sub for MediaTime {
    type Output = MediaSpan;

    #[inline]
    fn sub(self, earlier: Self) -> MediaSpan {
        MediaSpan::from_ticks(self.0.saturating_sub(earlier.0))
    }
}

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

fn saturate(ticks: i128) -> i64 {
    i64::try_from(ticks).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rescaling_rounds_to_the_nearest_tick_on_both_sides_of_zero() {
        let cd = Timescale::new(44_100).unwrap();
        assert_eq!(Timescale::VIDEO.rescale(90, cd), 44); // 44.1
        assert_eq!(Timescale::VIDEO.rescale(-90, cd), -44);
        assert_eq!(Timescale::VIDEO.rescale(90_000, cd), 44_100);
        assert_eq!(Timescale::VIDEO.rescale(i64::MAX, Timescale::new(u32::MAX).unwrap()), i64::MAX);
    }

    #[test]
    fn durations_are_converted_to_ticks_and_back() {
        assert_eq!(Timescale::VIDEO.ticks(Duration::from_millis(200)), 18_000);
        assert_eq!(Timescale::VIDEO.duration(18_000), Duration::from_millis(200));
        assert_eq!(Timescale::VIDEO.duration(-1), Duration::ZERO);
        assert!(Timescale::new(0).is_none());
    }
}
