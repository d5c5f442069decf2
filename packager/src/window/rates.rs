//! Rates of a track for playlists and manifests: bits and frames a second, measured over complete
//! segments.

use media_core::{Ticks, Timescale};

use crate::{Segment, Track};

/// The frame rate for playlists: the rate that the stream states if it is near the measured one,
/// else the usual rate nearest to that, else the measured rate. `None` if none of them is a frame
/// rate.
pub(super) fn frame_rate(measured: f64, stated: Option<f64>) -> Option<f64> {
    const USUAL: [f64; 8] =
        [24_000.0 / 1_001.0, 24.0, 25.0, 30_000.0 / 1_001.0, 30.0, 50.0, 60_000.0 / 1_001.0, 60.0];
    /// High-speed cameras exceed the usual rates. A higher rate than this is an error of
    /// timestamps.
    const MOST: f64 = 1_000.0;
    // One segment is a short measurement, and its first frame may last longer.
    let near = |rate: &f64| (rate - measured).abs() <= measured * 0.04;
    let usual =
        USUAL.into_iter().min_by(|a, b| (a - measured).abs().total_cmp(&(b - measured).abs()));
    stated
        .filter(near)
        .or(usual.filter(near))
        .or((measured > 0.0 && measured <= MOST).then_some(measured))
}

/// Bit rates over segments (RFC 8216bis 4.4.6.2: BANDWIDTH, AVERAGE-BANDWIDTH).
#[derive(Debug, Default)]
pub(super) struct Bits {
    /// All media since the start.
    total: Sum,
    /// Contiguous short segments, until they last long enough to count for the peak.
    run: Sum,
}

/// Segments of a track, added up.
#[derive(Debug, Default)]
struct Sum {
    bits: u64,
    duration: Ticks,
}

impl Bits {
    /// Adds the next complete segment of `track`, and updates the rates in it.
    pub(super) fn add(&mut self, segment: &Segment, track: &mut Track) {
        // Still pictures are no measure of the bit rate of the track's frames.
        if segment.gap || segment.still.is_some() {
            self.run = Sum::default();
            return;
        }
        // The average counts all media since the start; the peak is that of contiguous segments.
        self.total.add(segment);
        self.run.add(segment);
        let timescale = track.timescale();
        track.average_bps = self.total.bps(timescale);
        // Less than 3/4 s is too short for a rate, except of the first segment: without it there is
        // none.
        if self.run.duration * 4 >= Ticks::from(timescale.hz()) * 3 || track.peak_bps == 0 {
            track.peak_bps = track.peak_bps.max(self.run.bps(timescale));
            self.run = Sum::default();
        }
        track.peak_bps = track.peak_bps.max(track.average_bps);
    }
}

impl Sum {
    fn add(&mut self, segment: &Segment) {
        self.bits += segment.bytes.len() as u64 * 8;
        self.duration += segment.duration;
    }

    /// The bit rate over all of them, in bits a second, rounded up.
    fn bps(&self, timescale: Timescale) -> u64 {
        let (hz, ticks) = (f64::from(timescale.hz()), self.duration.get().max(1));
        #[expect(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
        let bps = (self.bits as f64 * hz / ticks as f64).ceil() as u64;
        bps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_rate_is_the_declared_the_nearest_standard_or_the_measured_rate() {
        let rate =
            |measured, stated| frame_rate(measured, stated).map(|rate| (rate * 1_000.0).round());
        assert_eq!(rate(29.9, Some(29.97)), Some(29_970.0));
        assert_eq!(rate(29.9, None), Some(29_970.0));
        assert_eq!(rate(49.0, Some(25.0)), Some(50_000.0), "fields are stated as frames");
        assert_eq!(rate(12.5, None), Some(12_500.0));
        assert_eq!(rate(240.0, None), Some(240_000.0));
        assert_eq!(rate(20_000.0, None), None, "stamps that stand still");
        assert_eq!(rate(0.0, None), None);
    }
}
