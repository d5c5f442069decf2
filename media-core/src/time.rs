//! Media time: instants on a broadcast's timeline.

use std::ops::{Add, Sub};

use crate::MediaSpan;

/// An instant on a broadcast's timeline, in ticks of 90 kHz since the broadcast's
/// [`Anchor`](crate::Anchor). It is the same for all tracks. Distances between instants are
/// [`MediaSpan`]s; arithmetic saturates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MediaTime(i64);

impl MediaTime {
    /// The instant of the broadcast's [`Anchor`](crate::Anchor).
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
