//! The broadcast's media times on GStreamer's clock and back, to the tick.
//!
//! GStreamer's times are nanoseconds that cannot be negative; the broadcast's are 90 kHz ticks that
//! may start anywhere. A tick is more than eleven thousand nanoseconds, so rounding both ways loses
//! nothing.

use std::sync::OnceLock;

use gstreamer as gst;
use media_core::{MediaSpan, MediaTime};

/// Maximum distance of an encoder's or source's time before the first unit's decode time: a minute.
const MARGIN: MediaSpan = MediaSpan::from_millis(60_000);

/// Converts media times to GStreamer's and back. The first unit fixes its zero.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// The media time of GStreamer's zero: a minute before the first unit, for units that are
    /// earlier.
    zero: OnceLock<MediaTime>,
}

impl Clock {
    /// `time` in GStreamer's time; `None` if that is before its zero, or too large.
    pub(super) fn time(&self, time: MediaTime) -> Option<gst::ClockTime> {
        let zero = *self.zero.get_or_init(|| time - MARGIN);
        let since = i128::from(time.ticks()) - i128::from(zero.ticks());
        // 100 000 / 9 nanoseconds a tick, rounded to the nearest.
        let nanos = u64::try_from((since * 100_000 + 4) / 9).ok()?;
        // An encoder's own offset (x264enc: a thousand hours) must fit as well.
        (nanos < u64::MAX / 4).then(|| gst::ClockTime::from_nseconds(nanos))
    }

    /// The media time of a buffer's time. Encoders shift the times of buffers and compensate in the
    /// segment, so only both together are correct.
    pub(super) fn media_time(
        &self,
        segment: Option<&gst::Segment>,
        time: Option<gst::ClockTime>,
    ) -> Option<MediaTime> {
        let segment = segment?.downcast_ref::<gst::ClockTime>()?;
        let nanos = match segment.to_running_time_full(time?)? {
            gst::Signed::Positive(time) => i128::from(time.nseconds()),
            gst::Signed::Negative(time) => -i128::from(time.nseconds()),
        };
        // The inverse of `time`, rounded to the nearest tick. Euclidean division rounds negative
        // times in the same direction.
        let since = (nanos * 9 + 50_000).div_euclid(100_000);
        let ticks = since + i128::from(self.zero.get()?.ticks());
        i64::try_from(ticks).ok().map(MediaTime::from_ticks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_survive_conversion_to_gstreamer_time_and_back() {
        gst::init().unwrap();
        for first in [0, -1_000_000, 7, 1 << 40, 1 << 50, i64::MAX - (1 << 50)] {
            let clock = Clock::default();
            let segment = gst::FormattedSegment::<gst::ClockTime>::new().upcast();
            for after in [0, 1, 2, 3, 4, 5, 3003, 3600, -3600, 90_000 * 60 * 60 * 24 * 365] {
                let at = MediaTime::from_ticks(first + after);
                let time = clock.time(at);
                assert!(time.is_some());
                assert_eq!(clock.media_time(Some(&segment), time), Some(at));
            }
        }
    }

    #[test]
    fn times_outside_the_range_have_no_gstreamer_time() {
        gst::init().unwrap();
        let clock = Clock::default();
        assert!(clock.time(MediaTime::ZERO).is_some());
        assert_eq!(clock.time(MediaTime::ZERO - MARGIN - MediaSpan::ONE), None);
        assert_eq!(clock.time(MediaTime::MIN), None);
        assert_eq!(clock.time(MediaTime::MAX), None);
    }
}
