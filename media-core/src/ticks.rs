//! Times in units of a track's timescale.

use crate::{MediaTime, Timescale};

/// A time in ticks of a timescale, which is the one of its track unless its field states another
/// (ISO/IEC 14496-12 8.4.2): an instant on the broadcast's timeline, counted from the same zero as
/// [`MediaTime`].
///
/// The number has no meaning without the timescale. So it becomes a media time, or ticks of another
/// timescale, only by methods that take the timescale.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticks(i64);

impl Ticks {
    /// A time of so many ticks; any number.
    pub const fn new(ticks: i64) -> Self {
        Self(ticks)
    }

    /// The number of ticks.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// `time` in ticks of `timescale`, rounded to the nearest tick.
    pub fn of(time: MediaTime, timescale: Timescale) -> Self {
        Self(Timescale::VIDEO.rescale(time.ticks(), timescale))
    }

    /// The media time of these ticks of `timescale`, rounded to the nearest tick of 90 kHz.
    pub fn media_time(self, timescale: Timescale) -> MediaTime {
        MediaTime::from_ticks(timescale.rescale(self.0, Timescale::VIDEO))
    }

    /// These ticks of `from` in ticks of `to`, rounded to the nearest tick.
    #[must_use]
    pub fn rescale(self, from: Timescale, to: Timescale) -> Self {
        Self(from.rescale(self.0, to))
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
    }
}
