//! The video of a rendition: cut at the master's marks and nowhere else, so that each segment has
//! the master's number, start and duration to the tick; and the gaps that are listed where frames
//! are missing.
//!
//! Its frames arrive later than the source's. A cut waits in a queue until the rendition's key
//! frame for it arrives, or until it is listed as a gap. A listed gap stays. Frames that are
//! missing from an open segment are listed as gap parts in it: a player that takes parts loses no
//! more than those, and the segment as a whole is a gap (RFC 8216bis 4.4.4.7, 4.4.4.9).
//!
//! All ticks are of 90 kHz, the clock of all video.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use media_core::{Frame, Mark, MediaSpan, MediaTime, Ticks, Timescale};

use super::{
    cut::PendingCut,
    output::Output,
    video_clock::{Clock, Place},
};
use crate::metrics::Metrics;

/// How far the master advances past missing frames before they are listed as a gap, if no worker
/// makes the rendition. A new worker sends its first frames within this time.
const PATIENCE: Duration = Duration::from_millis(750);
/// The same if a worker makes it, but is slow.
const LATE: Duration = Duration::from_secs(5);
/// A rendition that was listed as missing because it was late is expected again once its frames are
/// less than this behind the master.
const CAUGHT_UP: Duration = Duration::from_millis(2_500);
/// How long the last frames before a gap of the source are awaited.
const TAIL: Duration = Duration::from_secs(1);
/// A picture that would be shown for longer, because the next is missing, is followed by a gap, as
/// in the source.
const HOLE: Duration = Duration::from_millis(1_500);
/// Time by which a mark may lie after its picture: 1.5 ms, because both stamps are rounded to a
/// millisecond.
const NEAR: MediaSpan = MediaSpan::from_ticks(135);
/// The largest number of cuts that wait; more than the master makes in [`LATE`].
const MAX_CUTS: usize = 64;

/// The video of a rendition, from frames to segments.
#[derive(Debug)]
pub(super) struct Follower {
    clock: Clock,
    /// Cuts without a key frame that are not listed as gaps yet, oldest first.
    cuts: VecDeque<PendingCut>,
    /// No worker makes the rendition at present.
    absent: bool,
    /// The rendition was too far behind the master after its newest segment began, and is listed as
    /// missing.
    overdue: bool,
    /// Frames are missing, so the next ones cannot be used before a key frame at a cut.
    lost: bool,
    /// The open segment is a gap of the source's own.
    away: bool,
    /// The newest init segment was made for a gap, before the configuration of its frames was
    /// known.
    guessed: bool,
}

impl Follower {
    /// A rendition without frames: it starts at a cut.
    pub(super) fn new() -> Self {
        Self {
            clock: Clock::default(),
            cuts: VecDeque::new(),
            absent: false,
            overdue: false,
            lost: true,
            away: false,
            guessed: false,
        }
    }

    // Queries.

    /// Whether the rendition makes no segments at present.
    pub(super) fn is_missing(&self) -> bool {
        self.absent || self.overdue
    }

    /// Whether frames are missing from the open segment, and the source has them.
    pub(super) fn is_interrupted(&self) -> bool {
        self.lost && !self.away
    }

    /// The cut that waits for segment `msn`.
    pub(super) fn pending(&self, msn: u64) -> Option<&PendingCut> {
        self.cuts.iter().find(|pending| pending.cut.mark.msn == msn)
    }

    // Events.

    /// Another cut of the master waits for a key frame.
    pub(super) fn await_cut(&mut self, pending: PendingCut) {
        // Cuts older than `LATE` are listed as gaps, so only a fault fills the queue.
        if self.cuts.len() == MAX_CUTS {
            self.cuts.pop_front();
        }
        self.cuts.push_back(pending);
    }

    /// Frames were missed. `absent`: and no worker makes the rendition any more.
    pub(super) fn lose(&mut self, absent: bool) {
        self.absent |= absent;
        self.lost = true;
    }

    /// A worker starts to make the rendition, with the configuration of `output`.
    ///
    /// A worker that is late at a discontinuity is listed as missing before it has sent its
    /// configuration, so the init segment for that gap may describe another one. The cuts that wait
    /// then get the next init segment: otherwise none could start with the frames that arrive. If
    /// another discontinuity waits, its own init segment is for them.
    pub(super) fn recover_rendition(&mut self, output: &mut Output) {
        (self.absent, self.overdue) = (false, false);
        if !self.guessed || !output.awaits_init() {
            return;
        }
        if let Some(planned) = output.replace_init() {
            self.guessed = false;
            for pending in &mut self.cuts {
                pending.init = planned.number;
                pending.config = Some(Arc::clone(&planned.config));
            }
        }
    }

    /// Takes a frame: the first of a segment if it is a key frame for a cut, else the next of the
    /// open segment. `reached`: the time that the master has reached.
    pub(super) fn take(
        &mut self,
        output: &mut Output,
        frame: Frame,
        reached: MediaTime,
        metrics: &Metrics,
    ) {
        // Otherwise a worker that usually needs longer than `PATIENCE` would never be in time
        // again.
        self.overdue &= presented(&frame) < before(reached, CAUGHT_UP);
        if let Some(index) = self.reached(&frame) {
            self.start_at(output, index, frame, metrics);
            return;
        }
        // A frame past a cut that did not start its segment belongs to a segment that has not
        // begun. A frame of another configuration needs another init segment, which can only start
        // at a cut.
        let past = self.cuts.front();
        let past = past.is_some_and(|pending| presented(&frame) >= pending.cut.mark.pts);
        self.lost |= past || output.awaits_init();
        if self.lost || !output.segmenter.takes_samples() {
            metrics.drop_frame("before_mark");
            return;
        }
        let decode = self.clock.follow(&frame, None);
        // The frame before it would be shown for too long: a gap is better than a frozen picture.
        let lasts = self.clock.held().map_or(Ticks::ZERO, |held| decode - held.decode);
        if lasts > longest(&self.clock) {
            metrics.drop_frame("before_mark");
            self.give_up(output, metrics);
            return;
        }
        let complete = self.clock.complete(decode);
        self.clock.hold(frame, decode);
        if let Some(sample) = complete {
            output.push(sample, metrics);
        }
    }

    /// Lists missing frames as gaps. `marked`: the time that the master has reached, as far as its
    /// marks are known.
    pub(super) fn list_missing(
        &mut self,
        output: &mut Output,
        marked: MediaTime,
        metrics: &Metrics,
    ) {
        loop {
            // First the rest of the open segment, up to the next cut; then that cut, if it is due.
            // Each iteration makes one cut, so the loop ends with the queue.
            let next = self.cuts.front().map_or(MediaTime::MAX, |pending| pending.cut.start);
            self.give_up_if_late(output, marked, next, metrics);
            let patience = if self.away { Duration::ZERO } else { PATIENCE };
            let until = output.in_ticks(next.min(before(marked, patience)));
            output.dirty |= output.segmenter.push_gaps(until) > 0;
            let Some(pending) = self.cuts.front() else { return };
            let patience = self.patience(pending);
            if before(marked, patience) < pending.cut.start {
                return;
            }
            if patience == LATE && output.window.has_started() {
                metrics.renditions_late.inc();
                self.overdue = true;
            }
            self.lost = true;
            if let Some(pending) = self.cuts.pop_front() {
                self.cut(output, &pending, true, metrics);
            }
        }
    }

    /// The broadcast is over: makes the cuts up to segment `last` of the master, which ends at
    /// `end`, and closes the rest.
    pub(super) fn finish(
        &mut self,
        output: &mut Output,
        last: u64,
        end: MediaTime,
        metrics: &Metrics,
    ) {
        while let Some(pending) =
            self.cuts.pop_front().filter(|pending| pending.cut.mark.msn <= last)
        {
            self.cut(output, &pending, true, metrics);
        }
        match output.segmenter.open() {
            Some(open) if open.msn <= last => self.end_segment(output, end, metrics),
            // The source has no segment of that number: it is a gap that began as the broadcast
            // ended.
            _ => output.segmenter.discard(),
        }
        output.dirty = true;
    }

    // Cuts.

    /// The newest cut whose segment `frame` can start.
    fn reached(&self, frame: &Frame) -> Option<usize> {
        let at_or_before = |pending: &PendingCut| pending.cut.mark.pts <= presented(frame) + NEAR;
        self.cuts.iter().rposition(at_or_before).filter(|_| frame.key)
    }

    /// `frame` is a key frame for the cut at `index`. The cuts before that had none.
    fn start_at(&mut self, output: &mut Output, index: usize, frame: Frame, metrics: &Metrics) {
        let pending = &self.cuts[index];
        let known = match &pending.config {
            Some(config) => Arc::ptr_eq(config, &output.config),
            None => pending.init != output.window.init() || !output.awaits_init(),
        };
        // A segment that starts with a much later picture would show it far too early: it waits for
        // the next cut.
        let late = presented(&frame) - pending.cut.mark.pts > MediaSpan::from_duration(HOLE);
        if pending.cut.mark.gap || late || !known {
            metrics.drop_frame("before_mark");
            self.lost = true;
            return;
        }
        for _ in 0..index {
            if let Some(passed) = self.cuts.pop_front() {
                self.cut(output, &passed, true, metrics);
            }
        }
        if let Some(pending) = self.cuts.pop_front() {
            self.cut(output, &pending, false, metrics);
        }
        let start = output.segmenter.open().map(|open| open.start);
        (self.lost, self.overdue) = (false, false);
        output.keep_still(&frame);
        let decode = self.clock.follow(&frame, start);
        // It is shown where the segment starts, even if it is a later picture because the mark's
        // own is missing.
        self.clock.hold(Frame { pts: decode, ..frame }, decode);
    }

    /// How far the master advances past a cut before the cut is listed as a gap.
    fn patience(&self, pending: &PendingCut) -> Duration {
        // Nothing is missing before the cut if the newest picture lasts until it.
        let start = Ticks::of(pending.cut.start, Timescale::VIDEO);
        let half = self.clock.lasted().half();
        let whole = self.clock.held().is_none_or(|held| start - held.end <= half);
        // A gap of the source's own has no key frame to wait for, only the frames before it.
        match (pending.cut.mark.gap, self.is_missing()) {
            (true, missing) if missing || self.lost || whole => Duration::ZERO,
            (true, _) => TAIL,
            (false, true) => PATIENCE,
            (false, false) => LATE,
        }
    }

    /// Ends the open segment at the cut, and starts the next there. `gap`: it has no key frame.
    fn cut(&mut self, output: &mut Output, pending: &PendingCut, gap: bool, metrics: &Metrics) {
        let cut = &pending.cut;
        self.end_segment(output, cut.start, metrics);
        self.away = cut.mark.gap;
        output.interrupted |= gap && !cut.mark.gap;
        // Renditions are listed from their first media on.
        let started = output.window.has_started();
        if gap && !started {
            return; // The rendition is in no presentation before it has media.
        }
        let renewed = output.bind_init(pending);
        if !started {
            output.window.begin(cut.discontinuities);
        }
        // The master shows a still picture there; so does the rendition, with its own.
        let still = output.still_to_show().filter(|_| gap && cut.held);
        let gap = gap && still.is_none();
        let guessed = if renewed { pending.config.is_none() } else { self.guessed };
        self.guessed = gap && guessed;
        let start = output.in_ticks(cut.start);
        output.start(Mark { gap, ..cut.mark }, start, true);
        if let Some(still) = still {
            output.segmenter.show(still);
        }
    }

    /// Closes the open segment at `end`: the newest picture is shown until then, or the rest is a
    /// gap.
    fn end_segment(&mut self, output: &mut Output, end: MediaTime, metrics: &Metrics) {
        let end = output.in_ticks(end);
        if let Some(Place { decode, .. }) = self.clock.held() {
            let most = if self.lost { self.bridge(output) } else { longest(&self.clock) };
            if decode >= end {
                // The source ended between reordered pictures, of which this is the one that would
                // be shown last.
                self.clock.discard();
                metrics.drop_frame("past_end");
            } else if end - decode > most {
                self.give_up(output, metrics);
            } else if let Some(sample) = self.clock.complete(end) {
                output.push(sample, metrics);
            }
        }
        output.close(end, metrics);
    }

    // Missing frames.

    /// Interrupts the open segment if the frame after the newest is too late. `next`: the time of
    /// the next cut.
    fn give_up_if_late(
        &mut self,
        output: &mut Output,
        marked: MediaTime,
        next: MediaTime,
        metrics: &Metrics,
    ) {
        if !output.segmenter.takes_samples() {
            return;
        }
        let patience = if self.lost { PATIENCE } else { LATE };
        let expected = output.in_ticks(next.min(before(marked, patience)));
        let bridge = self.bridge(output);
        let held = self.clock.held();
        if held.is_some_and(|held| expected - held.decode > bridge) {
            if !self.lost {
                metrics.renditions_late.inc();
                self.overdue = true;
            }
            self.give_up(output, metrics);
        }
    }

    /// Completes the newest picture. The rest of the open segment will be gap parts.
    fn give_up(&mut self, output: &mut Output, metrics: &Metrics) {
        self.lost = true;
        let end = self.clock.held().map_or(Ticks::ZERO, |held| held.end);
        if let Some(sample) = self.clock.complete(end) {
            output.push(sample, metrics);
        }
        output.interrupt(metrics);
    }

    /// How long the newest picture may be shown if the next is known to be missing: as long as a
    /// part.
    fn bridge(&self, output: &Output) -> Ticks {
        let part = Ticks::from_duration(output.window.part_target(), Timescale::VIDEO);
        let lasted = self.clock.lasted();
        part.max(lasted + lasted.half())
    }
}

/// How long a picture may be shown because the next is late.
fn longest(clock: &Clock) -> Ticks {
    Ticks::from_duration(HOLE, Timescale::VIDEO).max(clock.lasted() * 4)
}

fn before(time: MediaTime, by: Duration) -> MediaTime {
    time - MediaSpan::from_duration(by)
}

/// The media time of a picture: a rendition's clock is that of all video.
fn presented(frame: &Frame) -> MediaTime {
    frame.pts.media_time(Timescale::VIDEO)
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{T, frame, mark, output, pending, segments, video},
        *,
    };

    /// A rendition for which cuts wait every 2 s, and its output.
    fn follower(cuts: u64) -> (Follower, Output, Metrics) {
        let mut follower = Follower::new();
        for msn in 0..cuts {
            follower.await_cut(pending(mark(msn, T * i64::try_from(msn).unwrap())));
        }
        (follower, output(&video(), true, true), Metrics::default())
    }

    /// Frames of 30 a second with a key frame every 2 s.
    fn send(
        numbers: std::ops::Range<i64>,
        (follower, output, metrics): &mut (Follower, Output, Metrics),
    ) {
        for n in numbers {
            let reached = MediaTime::from_ticks(n * 3_000);
            follower.take(output, frame(n * 3_000, n % 60 == 0), reached, metrics);
        }
    }

    #[test]
    fn segments_start_exactly_at_cuts_and_at_no_other_key_frame() {
        let mut track = follower(2);
        send(0..180, &mut track);
        let (_, output, metrics) = track;
        assert_eq!(segments(&output), [(0, 0, T, false)]);
        // The master has not cut at the third key frame: the segment continues.
        let open = output.segmenter.open().map(|open| (open.msn, open.start.get()));
        assert_eq!((open, metrics.segments.get()), (Some((1, T)), 1));
    }

    #[test]
    fn a_cut_without_a_key_frame_makes_a_gap_as_long_as_the_master_segment() {
        let mut track = follower(4);
        send(0..60, &mut track);
        send(120..181, &mut track);
        let (follower, output, _) = track;
        assert_eq!(segments(&output), [(0, 0, T, false), (1, T, T, true), (2, 2 * T, T, false)]);
        assert!(output.interrupted && follower.cuts.is_empty());
    }

    #[test]
    fn a_frame_that_needs_another_init_segment_waits_for_a_cut() {
        let mut track = follower(1);
        send(0..30, &mut track);
        track.1.config = video();
        send(30..31, &mut track);
        assert!(track.0.is_interrupted() && track.0.lost);
    }

    #[test]
    fn a_slow_worker_has_more_patience_than_an_absent_one() {
        for (absent, patience) in [(false, LATE), (true, PATIENCE)] {
            let mut track = follower(3);
            send(0..120, &mut track);
            let (mut follower, mut output, metrics) = track;
            if absent {
                follower.lose(true);
            }
            let due = MediaTime::from_ticks(2 * T) + MediaSpan::from_duration(patience);
            follower.list_missing(&mut output, due - MediaSpan::ONE, &metrics);
            assert_eq!(segments(&output), [(0, 0, T, false)], "{absent}");
            follower.list_missing(&mut output, due, &metrics);
            assert_eq!(segments(&output), [(0, 0, T, false), (1, T, T, false)], "{absent}");
            assert!(output.segmenter.open().is_some_and(|open| open.gap && open.msn == 2));
            assert_eq!(metrics.renditions_late.get(), u64::from(!absent));
        }
    }

    #[test]
    fn the_newest_picture_bridges_at_most_one_part() {
        // All but 5 or all but 30 frames of a segment have arrived.
        for (count, gap) in [(55, false), (30, true)] {
            let mut track = follower(3);
            send(0..60 + count, &mut track);
            let (mut follower, mut output, metrics) = track;
            follower.lose(true);
            follower.list_missing(&mut output, MediaTime::from_ticks(3 * T), &metrics);
            assert_eq!(segments(&output), [(0, 0, T, false), (1, T, T, gap)], "{count}");
        }
    }

    #[test]
    fn cuts_that_wait_are_bounded() {
        let (follower, ..) = follower(10_000);
        assert_eq!(follower.cuts.len(), MAX_CUTS);
        assert!(follower.pending(9_999).is_some() && follower.pending(0).is_none());
    }
}
