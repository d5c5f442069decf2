//! The source's video, which carries the marks: it is the master, and its segments start at its own
//! frames.

use media_core::{Frame, Ticks};

use super::{output::Output, video_clock::Clock};
use crate::metrics::Metrics;

/// The master's video, from frames to segments.
#[derive(Debug, Default)]
pub(super) struct Source {
    clock: Clock,
}

impl Source {
    /// Completes the frame before `frame`. Returns the decode time of `frame`.
    pub(super) fn place(&mut self, output: &mut Output, frame: &Frame, metrics: &Metrics) -> Ticks {
        let decode = self.clock.place(frame);
        self.complete(output, decode, metrics);
        decode
    }

    /// Holds `frame`, placed at `decode`, until the next frame settles its duration.
    pub(super) fn append(&mut self, output: &mut Output, frame: Frame, decode: Ticks) {
        if frame.key || frame.mark.is_some() {
            output.keep_still(&frame);
        }
        self.clock.hold(frame, decode);
    }

    /// Completes the newest frame, which lasts until `end`.
    pub(super) fn complete(&mut self, output: &mut Output, end: Ticks, metrics: &Metrics) {
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
        unknown: Ticks,
        longest: Ticks,
        metrics: &Metrics,
    ) {
        let open = output.segmenter.open();
        let most = open.map_or(Ticks::MAX, |open| open.start + longest);
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
        output.start(mark(0, 0), Ticks::ZERO, true);
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
        source.finish(&mut output, Ticks::new(18_000), Ticks::new(360_000), &metrics);
        output.close(Ticks::ZERO, &metrics);
        assert_eq!(segments(&output), [(0, 0, 9_000, false)]);
    }

    #[test]
    fn a_single_frame_lasts_one_part_within_the_longest_segment_duration() {
        for (longest, duration) in [(360_000, 18_000), (12_000, 12_000)] {
            let (mut source, mut output, metrics) = source(&[0]);
            source.finish(&mut output, Ticks::new(18_000), Ticks::new(longest), &metrics);
            output.close(Ticks::ZERO, &metrics);
            assert_eq!(segments(&output), [(0, 0, duration, false)]);
        }
    }

    #[test]
    fn a_frame_lasts_until_a_gap_that_follows() {
        let (mut source, mut output, metrics) = source(&[0, 1]);
        source.complete(&mut output, Ticks::new(10_000), &metrics);
        output.close(Ticks::ZERO, &metrics);
        assert_eq!(segments(&output), [(0, 0, 10_000, false)]);
    }
}
