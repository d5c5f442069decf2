//! Distances between media times.

use std::{
    iter::Sum,
    ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign},
    time::{Duration, Instant},
};

use crate::Timescale;

/// A distance between two instants at 90 kHz, in ticks of [`Timescale::VIDEO`]: a duration if it is
/// positive. The difference of two [`MediaTime`](crate::MediaTime)s is one, and so is a publisher's
/// timestamp, which is counted from an unknown zero.
///
/// Ticks of any other timescale are [`Ticks`](crate::Ticks). The two do not mix: their methods
/// convert with a timescale.
///
/// Arithmetic saturates at the limits of `i64`, because timestamps come from the network.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MediaSpan(i64);

impl MediaSpan {
    /// No distance.
    pub const ZERO: Self = Self(0);
    /// One tick of 90 kHz.
    pub const ONE: Self = Self(1);

    /// Ticks in a millisecond.
    const PER_MS: i64 = 90;

    /// A distance of `ticks` ticks of 90 kHz; negative towards earlier times.
    #[inline]
    pub const fn from_ticks(ticks: i64) -> Self {
        Self(ticks)
    }

    /// A distance of `ms` milliseconds, which is exact.
    #[inline]
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms.saturating_mul(Self::PER_MS))
    }

    /// `duration`, rounded down to a tick.
    #[inline]
    pub fn from_duration(duration: Duration) -> Self {
        Self(Timescale::VIDEO.ticks(duration))
    }

    /// The time from `since` to `now`, rounded down; zero if `since` is later.
    #[inline]
    pub fn elapsed(since: Instant, now: Instant) -> Self {
        Self::from_duration(now.saturating_duration_since(since))
    }

    /// The number of ticks of 90 kHz.
    #[inline]
    pub const fn ticks(self) -> i64 {
        self.0
    }

    /// The number of milliseconds, rounded towards zero.
    #[inline]
    pub const fn whole_millis(self) -> i64 {
        self.0 / Self::PER_MS
    }

    /// The distance as a duration, zero if negative.
    #[inline]
    pub fn duration(self) -> Duration {
        Timescale::VIDEO.duration(self.0)
    }

    /// The distance without its sign.
    #[inline]
    #[must_use]
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }
}

impl Add for MediaSpan {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for MediaSpan {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for MediaSpan {
    type Output = Self;

    #[inline]
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl SubAssign for MediaSpan {
    #[inline]
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Neg for MediaSpan {
    type Output = Self;

    #[inline]
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl Mul<i64> for MediaSpan {
    type Output = Self;

    #[inline]
    fn mul(self, times: i64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

/// Rounds towards zero. A divisor of zero panics, as it does for integers: divide by constants.
impl Div<u32> for MediaSpan {
    type Output = Self;

    #[inline]
    fn div(self, parts: u32) -> Self {
        Self(self.0 / i64::from(parts))
    }
}

impl Sum for MediaSpan {
    fn sum<I: Iterator<Item = Self>>(spans: I) -> Self {
        spans.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_down_and_are_never_negative() {
        let part = Duration::from_millis(199);
        assert_eq!(MediaSpan::from_duration(part), MediaSpan::from_ticks(17_910));
        assert_eq!(MediaSpan::from_duration(part + Duration::from_micros(11)).ticks(), 17_910);
        assert_eq!(MediaSpan::from_millis(199).duration(), part);
        assert_eq!(MediaSpan::from_millis(-1).duration(), Duration::ZERO);
        let now = Instant::now();
        assert_eq!(MediaSpan::elapsed(now, now + part), MediaSpan::from_millis(199));
        assert_eq!(MediaSpan::elapsed(now + part, now), MediaSpan::ZERO);
    }

    #[test]
    fn milliseconds_and_fractions_are_rounded_towards_zero() {
        let [more, less] = [179, -179].map(MediaSpan::from_ticks);
        assert_eq!((more.whole_millis(), less.whole_millis()), (1, -1));
        assert_eq!((more / 2, less / 2), (MediaSpan::from_ticks(89), MediaSpan::from_ticks(-89)));
    }

    #[test]
    fn arithmetic_saturates() {
        let [most, least] = [i64::MAX, i64::MIN].map(MediaSpan::from_ticks);
        let mut span = most;
        span += MediaSpan::ONE;
        assert_eq!(span, most);
        span = least;
        span -= MediaSpan::ONE;
        assert_eq!(span, least);
        assert_eq!((-least, least.abs()), (most, most));
        assert_eq!((most * 2, most * -2), (most, least));
        assert_eq!([most, most].into_iter().sum::<MediaSpan>(), most);
        assert_eq!(
            (MediaSpan::from_millis(i64::MAX), MediaSpan::from_millis(i64::MIN)),
            (most, least)
        );
    }
}
