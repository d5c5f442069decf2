//! Times in units of a track's timescale.

use std::{
    iter::Sum,
    ops::{Add, AddAssign, Mul, Sub, SubAssign},
    time::Duration,
};

use crate::{MediaSpan, MediaTime, Timescale};

/// A time in ticks of a timescale, which is the one of its track unless its field states another
/// (ISO/IEC 14496-12 8.4.2): an instant on the broadcast's timeline, counted from the same zero as
/// [`MediaTime`], or a duration.
///
/// The number has no meaning without the timescale. So it becomes a media time, a [`Duration`], or
/// ticks of another timescale, only by methods that take the timescale.
///
/// Sums, differences and products are ticks of the same timescale. They saturate at the limits of
/// `i64`, because timestamps come from the network and arithmetic with them must not panic.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticks(i64);

impl Ticks {
    /// The instant of media time zero, and no duration.
    pub const ZERO: Self = Self(0);
    /// The shortest duration.
    pub const ONE: Self = Self(1);
    /// After all instants, and longer than all durations.
    pub const MAX: Self = Self(i64::MAX);

    /// A time of so many ticks; any number.
    #[inline]
    pub const fn new(ticks: i64) -> Self {
        Self(ticks)
    }

    /// The number of ticks.
    #[inline]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// `time` in ticks of `timescale`, rounded to the nearest tick.
    pub fn of(time: MediaTime, timescale: Timescale) -> Self {
        Self(Timescale::VIDEO.rescale(time.ticks(), timescale))
    }

    /// `duration` in ticks of `timescale`, rounded down.
    pub fn from_duration(duration: Duration, timescale: Timescale) -> Self {
        Self(timescale.ticks(duration))
    }

    /// These ticks of `timescale` as a duration, zero if negative. Of an instant it is the time
    /// since media time zero.
    pub fn duration(self, timescale: Timescale) -> Duration {
        timescale.duration(self.0)
    }

    /// The media time of these ticks of `timescale`, rounded to the nearest tick of 90 kHz.
    pub fn media_time(self, timescale: Timescale) -> MediaTime {
        MediaTime::from_ticks(timescale.rescale(self.0, Timescale::VIDEO))
    }

    /// These ticks of `timescale`, a duration, rounded to the nearest tick of 90 kHz.
    pub fn span(self, timescale: Timescale) -> MediaSpan {
        MediaSpan::from_ticks(timescale.rescale(self.0, Timescale::VIDEO))
    }

    /// `span` in ticks of `timescale`, rounded to the nearest tick.
    pub fn from_span(span: MediaSpan, timescale: Timescale) -> Self {
        Self(Timescale::VIDEO.rescale(span.ticks(), timescale))
    }

    /// These ticks of `timescale` in seconds, for text.
    pub fn seconds(self, timescale: Timescale) -> f64 {
        timescale.seconds(self.0)
    }

    /// These ticks of `from` in ticks of `to`, rounded to the nearest tick.
    #[must_use]
    pub fn rescale(self, from: Timescale, to: Timescale) -> Self {
        Self(from.rescale(self.0, to))
    }

    /// These ticks without their sign.
    #[inline]
    #[must_use]
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }

    /// Half of these ticks, rounded towards zero.
    #[inline]
    #[must_use]
    pub const fn half(self) -> Self {
        Self(self.0 / 2)
    }
}

/// A duration as `trun` stores it (ISO/IEC 14496-12 8.8.8).
impl From<u32> for Ticks {
    #[inline]
    fn from(ticks: u32) -> Self {
        Self(i64::from(ticks))
    }
}

impl Add for Ticks {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Ticks {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Ticks {
    type Output = Self;

    #[inline]
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl SubAssign for Ticks {
    #[inline]
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Mul<i64> for Ticks {
    type Output = Self;

    #[inline]
    fn mul(self, times: i64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl Sum for Ticks {
    fn sum<I: Iterator<Item = Self>>(durations: I) -> Self {
        durations.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_a_timescale_and_media_time_agree_to_the_nearest_tick() {
        let cd = Timescale::new(44_100).unwrap();
        assert_eq!(Ticks::of(MediaTime::from_ticks(90), cd), Ticks::new(44)); // 44.1
        assert_eq!(Ticks::new(44).media_time(cd), MediaTime::from_ticks(90)); // 89.8
        assert_eq!(Ticks::new(90_000).rescale(Timescale::VIDEO, cd), Ticks::new(44_100));
        assert_eq!(Ticks::new(-7).media_time(Timescale::VIDEO), MediaTime::from_ticks(-7));
        assert_eq!(Ticks::new(44).span(cd), MediaSpan::from_ticks(90));
        assert_eq!(Ticks::from_span(MediaSpan::from_ticks(-90), cd), Ticks::new(-44));
    }

    #[test]
    fn durations_are_rounded_down_to_ticks_and_are_never_negative() {
        let part = Duration::from_millis(199);
        assert_eq!(Ticks::from_duration(part, Timescale::VIDEO), Ticks::new(17_910));
        assert_eq!(Ticks::new(17_910).duration(Timescale::VIDEO), part);
        assert_eq!(Ticks::new(-1).duration(Timescale::VIDEO), Duration::ZERO);
        assert_eq!(Ticks::from_duration(Duration::MAX, Timescale::VIDEO), Ticks::MAX);
    }

    #[test]
    fn arithmetic_saturates() {
        let (least, one) = (Ticks::new(i64::MIN), Ticks::ONE);
        assert_eq!((Ticks::MAX + one, least - one), (Ticks::MAX, least));
        assert_eq!((Ticks::MAX * 2, Ticks::MAX * -2, least * -1), (Ticks::MAX, least, Ticks::MAX));
        assert_eq!([Ticks::MAX, one].into_iter().sum::<Ticks>(), Ticks::MAX);
        assert_eq!((Ticks::new(3).half(), Ticks::new(-3).half()), (one, Ticks::new(-1)));
        assert_eq!((least.abs(), Ticks::new(-3).abs()), (Ticks::MAX, Ticks::new(3)));
        let mut ticks = Ticks::from(u32::MAX);
        ticks += one;
        ticks -= Ticks::new(2);
        assert_eq!(ticks, Ticks::from(u32::MAX - 1));
    }
}
