//! Timescales, and conversions of bare ticks, for the types of time alone.

use std::{num::NonZeroU32, time::Duration};

/// Ticks a second of a track's clock (ISO/IEC 14496-12 8.4.2, `mdhd` timescale).
/// [`Ticks`](crate::Ticks) and [`MediaSpan`](crate::MediaSpan) convert with it.
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
    pub(crate) fn rescale(self, ticks: i64, to: Timescale) -> i64 {
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
    pub(crate) fn ticks(self, duration: Duration) -> i64 {
        let hz = u64::from(self.hz());
        // Whole seconds and the rest are converted apart, so that no product overflows for any
        // duration.
        let below = u64::from(duration.subsec_nanos()) * hz / 1_000_000_000;
        let ticks = duration.as_secs().saturating_mul(hz).saturating_add(below);
        i64::try_from(ticks).unwrap_or(i64::MAX)
    }

    /// `ticks` as a duration, zero if negative.
    pub(crate) fn duration(self, ticks: i64) -> Duration {
        let ticks = u64::try_from(ticks).unwrap_or(0);
        let hz = u64::from(self.hz());
        // Whole seconds apart, as in `ticks`.
        let nanos = (ticks % hz) * 1_000_000_000 / hz;
        Duration::new(ticks / hz, u32::try_from(nanos).unwrap_or(0))
    }

    /// `ticks` in seconds, for text.
    pub(crate) fn seconds(self, ticks: i64) -> f64 {
        ticks as f64 / f64::from(self.hz())
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
