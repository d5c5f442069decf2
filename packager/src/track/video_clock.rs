//! A video track's clock: decode times shifted so that a segment that starts with a key frame
//! starts, to the tick, with its earliest presentation time. So segments of a source with reordered
//! frames and of a rendition without them start together.
//!
//! The wire's spacing is kept, except of a rendition's frames that would be decoded after its
//! segment's end. `trun` version 1 carries the negative composition offsets that follow (ISO/IEC
//! 14496-12 8.8.8).

use bytes::Bytes;
use media_core::{Frame, Ticks};

use crate::sample::Sample;

/// Places frames of one track, in ticks of 90 kHz; holds the newest until the next settles its
/// duration.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// `pts - dts` of the newest key frame that started a segment.
    shift: Ticks,
    held: Option<PendingFrame>,
    /// Duration of the newest complete sample, which the last frame of a broadcast gets too.
    lasted: Ticks,
    /// Presentation time of the latest frame shown so far.
    latest: Ticks,
}

/// The place of a frame whose duration is not known yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Where it is decoded.
    pub(crate) decode: Ticks,
    /// Where it ends if it lasts as long as the frame before it.
    pub(crate) end: Ticks,
}

/// A frame whose duration is not known yet.
#[derive(Debug)]
struct PendingFrame {
    decode: Ticks,
    composition: i32,
    key: bool,
    payload: Bytes,
}

impl Clock {
    /// The decode time of `frame`, later than that of the frame before.
    pub(crate) fn place(&mut self, frame: &Frame) -> Ticks {
        self.latest = self.latest.max(frame.pts);
        // Only the start of a segment changes the shift, so that the spacing within a segment
        // stays.
        if frame.key && frame.mark.is_some() {
            self.shift = frame.pts - frame.dts;
        }
        let decode = frame.dts + self.shift;
        // A smaller shift than before would put the frame before its predecessor.
        self.held.as_ref().map_or(decode, |held| decode.max(held.decode + Ticks::ONE))
    }

    /// The decode time of a rendition's frame, later than that of the frame before. `start`: it is
    /// the first of a segment that starts there, and is shown there.
    ///
    /// No decode time is later than the latest presentation time so far, so that all of them lie
    /// before the end of the segment.
    pub(crate) fn follow(&mut self, frame: &Frame, start: Option<Ticks>) -> Ticks {
        let decode = match start {
            Some(start) => {
                self.shift = frame.pts - frame.dts;
                self.latest = start;
                start
            }
            None => {
                self.latest = self.latest.max(frame.pts);
                (frame.dts + self.shift).min(self.latest)
            }
        };
        self.held.as_ref().map_or(decode, |held| decode.max(held.decode + Ticks::ONE))
    }

    /// The place of the frame held.
    pub(crate) fn held(&self) -> Option<Place> {
        let decode = self.held.as_ref()?.decode;
        Some(Place { decode, end: decode + self.lasted.max(Ticks::ONE) })
    }

    /// Duration of the newest complete sample; 0 before there is one.
    pub(crate) fn lasted(&self) -> Ticks {
        self.lasted
    }

    /// The frame held, complete now that the next decode time is known.
    pub(crate) fn complete(&mut self, next_decode: Ticks) -> Option<Sample> {
        let PendingFrame { decode, composition, key, payload } = self.held.take()?;
        self.lasted = (next_decode - decode).max(Ticks::ONE);
        let duration = u32::try_from(self.lasted.get()).unwrap_or(u32::MAX);
        Some(Sample { duration, composition, key, head: Bytes::new(), payload })
    }

    /// Forgets the frame held.
    pub(crate) fn discard(&mut self) {
        self.held = None;
    }

    /// Completes the last frame. It lasts as long as the frame before it, or `unknown` if it is the
    /// only one; longer, if a frame that is decoded earlier is shown last. It ends at `most` at the
    /// latest.
    pub(crate) fn finish(&mut self, unknown: Ticks, most: Ticks) -> Option<Sample> {
        let decode = self.held.as_ref()?.decode;
        // The picture that is shown last may be decoded before others, so the end counts from it.
        let lasts = if self.lasted > Ticks::ZERO { self.lasted } else { unknown.max(Ticks::ONE) };
        self.complete((decode.max(self.latest) + lasts).min(most))
    }

    /// Holds `frame`, placed at `decode`, until the next.
    pub(crate) fn hold(&mut self, frame: Frame, decode: Ticks) {
        let composition = i32::try_from((frame.pts - decode).get()).unwrap_or(0);
        self.held = Some(PendingFrame {
            decode,
            composition,
            key: frame.independent,
            payload: frame.payload,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use media_core::{Mark, MediaTime};

    use super::*;

    fn frame(dts: i64, pts: i64, marked: bool) -> Frame {
        let mark = marked.then_some(Mark {
            msn: 0,
            pts: MediaTime::from_ticks(pts),
            gap: false,
            discontinuity: false,
        });
        Frame {
            dts: Ticks::new(dts),
            pts: Ticks::new(pts),
            key: marked,
            independent: marked,
            mark,
            arrived: Instant::now(),
            payload: Bytes::new(),
        }
    }

    /// Pushes frames and returns (decode, duration, composition) of each but the last.
    fn placed(frames: &[Frame]) -> Vec<(i64, u32, i32)> {
        let mut clock = Clock::default();
        let mut samples = Vec::new();
        for frame in frames {
            let decode = clock.place(frame);
            let at = clock.held().map(|held| held.decode);
            let sample = clock.complete(decode);
            samples.extend(
                at.zip(sample).map(|(at, sample)| (at.get(), sample.duration, sample.composition)),
            );
            clock.hold(frame.clone(), decode);
        }
        samples
    }

    #[test]
    fn reordered_frames_start_at_their_earliest_presentation_time() {
        // I P B B as decoded, two frames of reordering delay: shown at 6000, 15000, 9000, 12000.
        let frames = [
            frame(0, 6_000, true),
            frame(3_000, 15_000, false),
            frame(6_000, 9_000, false),
            frame(9_000, 12_000, false),
        ];
        assert_eq!(
            placed(&frames),
            [(6_000, 3_000, 0), (9_000, 3_000, 6_000), (12_000, 3_000, -3_000)]
        );
    }

    #[test]
    fn a_new_reordering_delay_shortens_overlapping_frames_and_decode_times_increase() {
        let frames = [
            frame(0, 6_000, true),
            frame(3_000, 9_000, false),
            frame(6_000, 6_000, true),
            frame(9_000, 9_000, false),
        ];
        assert_eq!(placed(&frames), [(6_000, 3_000, 0), (9_000, 1, 0), (9_001, 1, -3_001)]);
    }
}
