//! Cuts a track into parts and segments. Pure: samples in, parts and segments out. `fragment`
//! writes the bytes, marks decide where a segment ends, `window` keeps the list.
//!
//! A part closes at the first sample boundary at or after `part_ms` - 1 ms, and never grows past
//! PART-TARGET if closing a sample earlier avoids it. PART-TARGET is floor((`part_ms` - 1) / 0.85)
//! ms, so that full parts are 85 to 100 % of it (RFC 8216bis 4.4.4.9); a track whose frames do not
//! fit gets the smallest target that the parts of its first segment keep.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use media_core::{Anchor, Ticks, Timescale};
use net_core::Rope;

use crate::{
    Part, Segment, fragment,
    sample::{Reference, Sample},
    sets::Sets,
};

/// Memory of a sample beside its bytes, here and in its part.
const SAMPLE_BYTES: usize = size_of::<Sample>() + 128;

/// PART-TARGET that parts of about `part` keep.
pub(crate) fn part_target(part: Duration) -> Duration {
    let ms = u64::try_from(part.as_millis()).unwrap_or(u64::MAX).max(2);
    Duration::from_millis((ms - 1) * 100 / 85)
}

/// PART-TARGET for a track of `frame_rate` frames a second, not longer than [`part_target`]: a part
/// takes as many frames as fit, and is 85 % of its target at the least.
pub(crate) fn part_target_within(part: Duration, frame_rate: Option<f64>) -> Duration {
    let target = part_target(part);
    let Some(rate) = frame_rate.filter(|rate| *rate > 1.0) else {
        return target;
    };
    // Stamps are rounded to a millisecond.
    let full = ((target.as_secs_f64() + 0.001) * rate).floor() / rate;
    let fits = full <= 0.0 || full + 0.001 >= part.as_secs_f64();
    if fits { target } else { Duration::from_secs_f64((full / 0.85 * 1_000.0).floor() / 1_000.0) }
}

/// Cuts one track.
#[derive(Debug)]
pub(crate) struct Segmenter {
    timescale: Timescale,
    anchor: Anchor,
    /// Shortest full part.
    part_least: Ticks,
    /// Longest part; unknown until the first segment shows whether its frames fit.
    part_most: Option<Ticks>,
    /// `mfhd` sequence number of the next part.
    sequence: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    segment: Segment,
    /// Parameter sets in front of its key frames.
    sets: Sets,
    /// No more samples follow: the rest is gap parts.
    interrupted: bool,
    samples: Vec<Sample>,
    part: Span,
    /// Memory that its parts and samples take.
    bytes: usize,
}

/// The sum of the samples in the open part.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: Ticks,
    duration: Ticks,
    independent: bool,
}

impl Segmenter {
    pub(crate) fn new(timescale: Timescale, anchor: Anchor, part: Duration) -> Self {
        // Stamps are rounded to a millisecond, which must not make a part wait for another frame.
        let part_least = part.saturating_sub(Duration::from_millis(1));
        let part_least = Ticks::from_duration(part_least, timescale);
        Self { timescale, anchor, part_least, part_most: None, sequence: 1, open: None }
    }

    /// The open segment: its complete parts.
    pub(crate) fn open(&self) -> Option<&Segment> {
        self.open.as_ref().map(|open| &open.segment)
    }

    /// Memory that the open segment takes.
    pub(crate) fn bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.bytes)
    }

    /// From now on no part is longer than this, unless a single sample is.
    pub(crate) fn limit_parts(&mut self, target: Duration) {
        self.part_most = Some(Ticks::from_duration(target, self.timescale));
    }

    /// Opens a segment whose key frames carry `sets`; the one before must be closed.
    pub(crate) fn start(&mut self, segment: Segment, sets: Sets) {
        let part = Span { start: segment.start, ..Span::default() };
        self.open =
            Some(Open { segment, sets, interrupted: false, samples: Vec::new(), part, bytes: 0 });
    }

    /// The open segment, which has no part yet, shows `still` in each part until it ends: a key
    /// frame that depends on no frame before it.
    pub(crate) fn show(&mut self, still: Bytes) {
        if let Some(open) = &mut self.open {
            open.bytes += still.len();
            open.segment.still = Some(still);
        }
    }

    /// The open segment, if the clock makes its parts instead of samples: a gap, or a still
    /// picture.
    pub(crate) fn clocked(&self) -> Option<&Segment> {
        let open = self.open.as_ref()?;
        open.is_clocked().then_some(&open.segment)
    }

    /// Appends a sample to the open segment, where the sample before it ended. Returns how many
    /// parts that closed.
    pub(crate) fn push(&mut self, mut sample: Sample) -> usize {
        let (least, most) = (self.part_least, self.part_most.unwrap_or(Ticks::MAX));
        let Some(open) = &mut self.open else { return 0 };
        let duration = Ticks::from(sample.duration);
        let mut closed = 0;
        // A part that this sample would make too long closes before it; one that it makes long
        // enough, after it.
        if open.part.duration > Ticks::ZERO && open.part.duration + duration > most {
            closed += self.close_part();
        }
        let Some(open) = &mut self.open else { return closed };
        open.part.duration += duration;
        open.part.independent |= sample.key;
        // Low-latency players may append the frame to an older init segment, so it carries its
        // parameter sets.
        open.sets.lead(&mut sample);
        open.bytes += SAMPLE_BYTES + sample.len();
        open.samples.push(sample);
        if open.part.duration >= least {
            closed += self.close_part();
        }
        closed
    }

    /// No more samples follow in the open segment. Returns how many parts that closed.
    pub(crate) fn interrupt(&mut self) -> usize {
        // The samples so far are complete media. Only the time after them is missing.
        let closed = self.close_part();
        if let Some(open) = &mut self.open {
            open.interrupted = true;
        }
        closed
    }

    /// Whether samples can be appended to the open segment.
    pub(crate) fn takes_samples(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.is_without_samples())
    }

    /// Appends full parts without samples of their own, gaps or the still picture, that end at
    /// `until` at the latest. Returns how many. Does nothing while samples may follow.
    pub(crate) fn push_gaps(&mut self, until: Ticks) -> usize {
        let least = self.clocked_part();
        let mut parts = 0;
        // Only whole parts: the segment may still end before the next one would.
        while let Some(open) = self.open.as_mut().filter(|open| open.is_without_samples())
            && open.segment.end() + least <= until
        {
            self.push_rest(least);
            parts += 1;
        }
        parts
    }

    /// The duration of the parts that the clock makes.
    fn clocked_part(&self) -> Ticks {
        self.part_least.min(self.part_most.unwrap_or(Ticks::MAX)).max(Ticks::ONE)
    }

    /// The bit rate that `still` has as the one sample of each part.
    pub(crate) fn still_bps(&self, still: &Bytes) -> u64 {
        let bits = still.len() as u64 * 8;
        let ticks = self.clocked_part().get().unsigned_abs();
        bits.saturating_mul(u64::from(self.timescale.hz())) / ticks
    }

    /// Appends a part without samples of its own.
    fn push_rest(&mut self, duration: Ticks) {
        let Some(open) = &mut self.open else { return };
        // A player may start with any part, so each has the whole picture.
        let Some(still) = open.segment.still.clone() else {
            open.push_gap(duration);
            return;
        };
        open.bytes += SAMPLE_BYTES;
        let mut sample = Sample {
            duration: u32::try_from(duration.get()).unwrap_or(u32::MAX),
            composition: 0,
            key: true,
            head: Bytes::new(),
            payload: still,
        };
        open.sets.lead(&mut sample);
        open.samples.push(sample);
        open.part = Span { start: open.segment.end(), duration, independent: true };
        self.close_part();
    }

    /// Forgets the open segment if the clock makes its parts and no part was made.
    pub(crate) fn discard_empty_gap(&mut self) {
        self.open.take_if(|open| open.is_clocked() && open.segment.parts.is_empty());
    }

    /// Forgets the open segment, if there is one.
    pub(crate) fn discard(&mut self) {
        self.open = None;
    }

    /// Closes the open segment. A gap, a still picture and an interrupted segment end at `end`;
    /// media end with their last sample. A segment without any sample, because two marks were
    /// closer than two samples, is a gap of no duration, so that numbers stay in step with the
    /// other tracks. A segment with a gap part is a gap (RFC 8216bis 4.4.4.7), because some of its
    /// media are missing.
    pub(crate) fn close(&mut self, end: Ticks) -> Option<Segment> {
        // Parts that the clock makes fill the time up to `end`, and the last may be shorter than
        // the others. Samples are complete, and only their part is not closed yet.
        self.push_gaps(end);
        self.close_part();
        let open = self.open.as_ref()?;
        if open.is_without_samples() && open.segment.end() < end {
            self.push_rest(end - open.segment.end());
        }
        let mut open = self.open.take()?;
        // A still picture with a gap in it is a gap: it needs no picture.
        open.segment.gap |=
            open.segment.parts.is_empty() || open.segment.parts.iter().any(|part| part.gap);
        open.segment.still.take_if(|_| open.segment.gap);
        open.segment.bytes = Rope::concat(open.segment.parts.iter().map(|part| &part.bytes));
        Some(open.segment)
    }

    fn close_part(&mut self) -> usize {
        let Some(open) = self.open.as_mut().filter(|open| !open.samples.is_empty()) else {
            return 0;
        };
        let Span { start, duration, independent } = open.part;
        let utc = self.anchor.utc_at(start, self.timescale);
        // `tfdt` and `prft` have unsigned times.
        let media_time = u64::try_from(start.get()).unwrap_or(0);
        let reference = Reference { utc, media_time };
        // Only the first chunk of a segment has a `styp`.
        let starts_segment = open.segment.parts.is_empty();
        let bytes = fragment::chunk(
            self.sequence,
            media_time,
            &open.samples,
            starts_segment,
            Some(reference),
        );
        self.sequence = self.sequence.wrapping_add(1);
        open.samples.clear();
        open.part = Span { start: start + duration, ..Span::default() };
        open.push_part(Part { start, duration, independent, gap: false, bytes });
        1
    }
}

impl Open {
    /// Whether the clock makes its parts.
    fn is_clocked(&self) -> bool {
        self.segment.gap || self.segment.still.is_some()
    }

    fn is_without_samples(&self) -> bool {
        self.is_clocked() || self.interrupted
    }

    fn push_part(&mut self, part: Part) {
        self.segment.duration += part.duration;
        // The bytes of other parts were counted with their samples.
        if part.gap {
            self.bytes += part.held_bytes();
        }
        self.segment.parts.push(Arc::new(part));
    }

    fn push_gap(&mut self, duration: Ticks) {
        let start = self.segment.end();
        self.push_part(Part {
            start,
            duration,
            independent: false,
            gap: true,
            bytes: Rope::default(),
        });
        self.part.start = start + duration;
    }
}

#[cfg(test)]
mod tests;
