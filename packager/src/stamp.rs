//! Times in playlists and manifests: seconds with a fraction, and times in UTC. Written without an
//! allocation.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use media_core::{Ticks, Timescale};

/// Seconds to the microsecond: `4.004000`. Times on the timeline are rounded, and durations are
/// differences of rounded times, so that their sum has no rounding error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seconds(pub(crate) i64);

impl Seconds {
    /// A time on the timeline, to the nearest microsecond.
    pub(crate) fn at(place: Ticks, timescale: Timescale) -> Self {
        let (ticks, hz) = (place.get(), i64::from(timescale.hz()));
        // Whole seconds are converted separately, so that the product with a million does not
        // overflow.
        let (whole, rest) = (ticks.div_euclid(hz), ticks.rem_euclid(hz));
        Self(whole.saturating_mul(1_000_000).saturating_add((rest * 1_000_000 + hz / 2) / hz))
    }

    /// From `earlier` to here.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self(self.0 - earlier.0)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let micros = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

/// Seconds to the millisecond: `0.234`. For settings in whole milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Millis(pub(crate) Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.as_secs(), self.0.subsec_millis())
    }
}

/// A time in UTC, rounded down to the millisecond: `2026-11-03T09:15:00.250Z` (ISO 8601,
/// `xs:dateTime`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Utc(pub(crate) SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(self.0.max(SystemTime::UNIX_EPOCH)).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(millis: u64) -> String {
        Utc(SystemTime::UNIX_EPOCH + Duration::from_millis(millis)).to_string()
    }

    #[test]
    fn timestamps_are_written_as_utc_calendar_dates() {
        // By `date -u -d @N`.
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_400_001), "2000-02-29T00:00:00.001Z");
        assert_eq!(utc(1_709_251_199_999), "2024-02-29T23:59:59.999Z");
        assert_eq!(utc(1_793_697_300_250), "2026-11-03T09:15:00.250Z");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn rounded_durations_sum_to_the_total_duration() {
        let cd = Timescale::new(44_100).unwrap();
        let places: Vec<_> = (0..200).map(|n| Seconds::at(Ticks::new(1024) * n, cd)).collect();
        let sum: i64 = places.windows(2).map(|pair| pair[1].since(pair[0]).0).sum();
        assert_eq!(sum, Seconds::at(Ticks::new(199 * 1024), cd).0);
        assert_eq!(places[1].to_string(), "0.023220"); // 1024 / 44100 = 0.02321995..
        assert_eq!(Seconds(-1_500_000).to_string(), "-1.500000");
    }
}
