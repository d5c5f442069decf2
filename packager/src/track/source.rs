//! The source's video, which carries the marks: it is the master, and its segments start at its own
//! frames.

use media_core::Frame;

use super::{output::Output, video_clock::Clock};
use crate::metrics::Metrics;

/// The master's video on its way into segments.
#[derive(Debug, Default)]
pub(super) struct Source {
    clock: Clock,
}

impl Source {
    /// Completes the frame before `frame`. Returns the decode time of `frame`, in 90 kHz ticks.
    pub(super) fn place(&mut self, output: &mut Output, frame: &Frame, metrics: &Metrics) -> i64 {
        let decode = self.clock.place(frame);
        self.complete(output, decode, metrics);
        decode
    }

    /// Holds `frame`, placed at `decode`, until the next frame settles its duration.
    pub(super) fn append(&mut self, output: &mut Output, frame: Frame, decode: i64) {
        if frame.key || frame.mark.is_some() {
            output.keep_still(&frame);
        }
        self.clock.hold(frame, decode);
    }

    /// Completes the newest frame, which lasts until `end`.
    pub(super) fn complete(&mut self, output: &mut Output, end: i64, metrics: &Metrics) {
        if let Some(sample) = self.clock.complete(end) {
            output.push(sample, metrics);
        }
    }

    /// Completes the newest frame, after which none follows. It lasts as long as the frame before
    /// it, or `unknown` if it is the only one; the segment gets no longer than `longest`. All are
    /// 90 kHz ticks.
    pub(super) fn finish(
        &mut self,
        output: &mut Output,
        unknown: i64,
        longest: i64,
        metrics: &Metrics,
    ) {
        let open = output.segmenter.open();
        let most = open.map_or(i64::MAX, |open| open.start.get().saturating_add(longest));
        if let Some(sample) = self.clock.finish(unknown, most) {
            output.push(sample, metrics);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{frame, mark, output, segments, video},
        *,
    };

    /// Frames of 30 a second at these numbers, in one segment.
    fn source(numbers: &[i64]) -> (Source, Output, Metrics) {
        let (mut source, mut output) = (Source::default(), output(&video(), false, false));
        let metrics = Metrics::default();
        output.start(mark(0, 0), 0, true);
        for &n in numbers {
            let frame = frame(n * 3_000, n == 0);
            let decode = source.place(&mut output, &frame, &metrics);
            source.append(&mut output, frame, decode);
        }
        (source, output, metrics)
    }

    #[test]
    fn the_last_frame_lasts_as_long_as_the_one_before_it() {
        let (mut source, mut output, metrics) = source(&[0, 1, 2]);
        source.finish(&mut output, 18_000, 360_000, &metrics);
        output.close(0, &metrics);
        assert_eq!(segments(&output), [(0, 0, 9_000, false)]);
    }

    #[test]
    fn an_only_frame_lasts_a_part_and_no_segment_becomes_longer_than_the_longest() {
        for (longest, duration) in [(360_000, 18_000), (12_000, 12_000)] {
            let (mut source, mut output, metrics) = source(&[0]);
            source.finish(&mut output, 18_000, longest, &metrics);
            output.close(0, &metrics);
            assert_eq!(segments(&output), [(0, 0, duration, false)]);
        }
    }

    #[test]
    fn a_frame_lasts_until_a_gap_that_follows() {
        let (mut source, mut output, metrics) = source(&[0, 1]);
        source.complete(&mut output, 10_000, &metrics);
        output.close(0, &metrics);
        assert_eq!(segments(&output), [(0, 0, 10_000, false)]);
    }
}
