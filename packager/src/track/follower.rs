//! A rendition's video: cut at the master's marks and nowhere else, so that each segment has the master's number, start and duration to
//! the tick; and what is told of it where frames do not come. Where the master's marks stand is `program`'s to say.
//!
//! Its frames come later than the source's. A cut waits in a queue until the rendition's key frame comes for it, or until it is told as a
//! gap; what was told stays. What is missing of an open segment is told as gap parts in it: a player that takes parts loses no more than
//! that, and the segment as a whole is a gap (RFC 8216bis 4.4.4.7, 4.4.4.9).

use std::{collections::VecDeque, sync::Arc, time::Duration};

use media_core::{Frame, Mark, Timescale, codec::Config};

use super::{Kind, Line, video_clock::Clock};
use crate::metrics::Metrics;

/// How far the master gets past what is missing before it is told of, where nobody makes it: time for a new worker's first frames.
const PATIENCE: Duration = Duration::from_millis(750);
/// The same where someone is at it, but slow.
const LATE: Duration = Duration::from_secs(5);
/// How long the end of what is being made is waited for when the source has gone.
const TAIL: Duration = Duration::from_secs(1);
/// A picture that must be shown for longer, since the next did not come, is followed by a gap; as in the source.
const HOLE: Duration = Duration::from_millis(1_500);
/// Ticks by which a mark may stand after its picture: two stamps, each rounded to a millisecond, and some.
const NEAR: i64 = 135;
/// Cuts that wait at most; more than come in [`LATE`].
const MAX_CUTS: usize = 64;

/// Where a segment of the master starts, as other tracks learn of it.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    /// The hub's mark.
    pub(crate) mark: Mark,
    /// Where the master's segment starts, in 90 kHz ticks: the mark's time, but for a source that is decoded late.
    pub(crate) start: i64,
    /// The master shows a still picture there, and the mark's gap is of its frames alone.
    pub(crate) held: bool,
    /// EXT-X-DISCONTINUITY-SEQUENCE of the segment, its own discontinuity not counted.
    pub(crate) discontinuities: u64,
    /// Number of the init segment that this track's segment needs.
    pub(crate) init: u32,
    /// What that describes; `None`: what is known when the segment starts.
    pub(crate) config: Option<Arc<Config>>,
}

/// A rendition's way into segments.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    clock: Clock,
    /// Cuts that were neither reached nor told as gaps, oldest first.
    cuts: VecDeque<Cut>,
    /// Nobody makes it at present.
    absent: bool,
    /// It was given up since its last segment began: too far behind the master.
    overdue: bool,
    /// Frames are missing: what comes is of no use before a key frame at a cut.
    lost: bool,
    /// The open segment is a gap of the source's own.
    away: bool,
}

impl Follower {
    pub(crate) fn new() -> Self {
        Self {
            lost: true,
            ..Self::default()
        }
    }

    /// Whether nothing is to be expected of it.
    pub(crate) fn is_missing(&self) -> bool {
        self.absent || self.overdue
    }

    /// Whether frames are missing, so that it goes on at a cut.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether the open segment is a gap of the source's own.
    pub(crate) fn is_away(&self) -> bool {
        self.away
    }

    /// The cut that waits for segment `msn`.
    pub(crate) fn waiting(&self, msn: u64) -> Option<&Cut> {
        self.cuts.iter().find(|cut| cut.mark.msn == msn)
    }

    /// Another cut that it will come to.
    pub(crate) fn await_cut(&mut self, cut: Cut) {
        if self.cuts.len() == MAX_CUTS {
            self.cuts.pop_front();
        }
        self.cuts.push_back(cut);
    }

    /// Nobody makes it any more; or frames of it were missed.
    pub(crate) fn lose(&mut self, absent: bool) {
        self.absent |= absent;
        self.lost = true;
    }

    /// Someone makes it again.
    pub(crate) fn come_back(&mut self) {
        (self.absent, self.overdue) = (false, false);
    }

    /// The newest cut that `frame` can start the segment of.
    fn reached(&self, frame: &Frame) -> Option<usize> {
        let at_or_before = |cut: &Cut| cut.mark.pts <= frame.pts.saturating_add(NEAR);
        self.cuts.iter().rposition(at_or_before).filter(|_| frame.key)
    }
}

impl Line {
    /// Takes a rendition's frame.
    pub(crate) fn follow(&mut self, frame: Frame, metrics: &Metrics) {
        let Kind::Follower(follower) = &mut self.kind else {
            return;
        };
        if let Some(index) = follower.reached(&frame) {
            self.follow_to(index, frame, metrics);
            return;
        }
        let past = follower.cuts.front().is_some_and(|cut| frame.pts >= cut.mark.pts);
        follower.lost |= past || !Arc::ptr_eq(&self.config, self.window.config());
        if follower.lost || !self.segmenter.takes_samples() {
            metrics.drop_frame("before_mark");
            return;
        }
        let decode = follower.clock.follow(&frame, None);
        let lasts = follower.clock.held().map_or(0, |(held, _)| decode - held);
        if lasts > longest(&follower.clock) {
            metrics.drop_frame("before_mark");
            self.give_up(metrics);
            return;
        }
        let complete = follower.clock.complete(decode);
        follower.clock.hold(frame, decode);
        if let Some((_, sample)) = complete {
            self.push(sample, metrics);
        }
    }

    /// Tells as gaps what does not come: `reached` is how far the master has come, in 90 kHz ticks.
    pub(crate) fn tell_missing(&mut self, reached: i64, metrics: &Metrics) {
        loop {
            let bridge = self.bridge();
            let Kind::Follower(follower) = &mut self.kind else {
                return;
            };
            let next = follower.cuts.front().map_or(i64::MAX, |cut| cut.start);
            if self.segmenter.takes_samples() {
                let patience = if follower.lost { PATIENCE } else { LATE };
                let expected = next.min(before(reached, patience));
                let held = follower.clock.held();
                if held.is_some_and(|(decode, _)| expected.saturating_sub(decode) > bridge) {
                    if !follower.lost {
                        metrics.renditions_late.inc();
                        follower.overdue = true;
                    }
                    self.give_up(metrics);
                }
            }
            let Kind::Follower(follower) = &mut self.kind else {
                return;
            };
            let patience = if follower.away { Duration::ZERO } else { PATIENCE };
            self.dirty |= self.segmenter.push_gaps(next.min(before(reached, patience))) > 0;
            let Some(cut) = follower.cuts.front() else { return };
            let whole = follower
                .clock
                .held()
                .is_none_or(|(_, end)| cut.start - end <= follower.clock.lasted() / 2);
            let patience = match (cut.mark.gap, follower.is_missing()) {
                (true, missing) if missing || follower.lost || whole => Duration::ZERO,
                (true, _) => TAIL,
                (false, true) => PATIENCE,
                (false, false) => LATE,
            };
            if before(reached, patience) < cut.start {
                return;
            }
            if patience == LATE && self.window.has_started() {
                metrics.renditions_late.inc();
                follower.overdue = true;
            }
            follower.lost = true;
            if let Some(cut) = follower.cuts.pop_front() {
                self.cut_at(cut, true, metrics);
            }
        }
    }

    /// Nothing follows: the cuts up to segment `last` of the master, which ends at `end`, are told of, and the rest is closed.
    pub(crate) fn finish_following(&mut self, last: u64, end: i64, metrics: &Metrics) {
        loop {
            let Kind::Follower(follower) = &mut self.kind else {
                return;
            };
            let Some(cut) = follower.cuts.pop_front().filter(|cut| cut.mark.msn <= last) else {
                break;
            };
            self.cut_at(cut, true, metrics);
        }
        match self.segmenter.open() {
            Some(open) if open.msn <= last => self.end_segment(end, metrics),
            // The source has none of that number: the gap that the clock began as it stopped.
            _ => self.segmenter.discard(),
        }
        self.dirty = true;
    }

    /// A key frame for the cut `index`: those before it had none.
    fn follow_to(&mut self, index: usize, frame: Frame, metrics: &Metrics) {
        let Kind::Follower(follower) = &mut self.kind else {
            return;
        };
        let cut = &follower.cuts[index];
        let known = match &cut.config {
            Some(config) => Arc::ptr_eq(config, &self.config),
            None => cut.init != self.window.init() || Arc::ptr_eq(self.window.config(), &self.config),
        };
        let late = frame.pts.saturating_sub(cut.mark.pts) > Timescale::VIDEO.ticks(HOLE);
        if cut.mark.gap || late || !known {
            metrics.drop_frame("before_mark");
            follower.lost = true;
            return;
        }
        let mut reached: VecDeque<_> = follower.cuts.drain(..=index).collect();
        let cut = reached.pop_back();
        for passed in reached {
            self.cut_at(passed, true, metrics);
        }
        if let Some(cut) = cut {
            self.cut_at(cut, false, metrics);
        }
        let start = self.segmenter.open().map(|open| open.start);
        let Kind::Follower(follower) = &mut self.kind else {
            return;
        };
        (follower.lost, follower.overdue) = (false, false);
        self.still = frame.independent.then(|| frame.payload.clone());
        let decode = follower.clock.follow(&frame, start);
        // Shown where the segment starts, though its own picture was not to be had and it is a later one.
        follower.clock.hold(Frame { pts: decode, ..frame }, decode);
    }

    /// Ends the open segment at `cut` and starts the next.
    fn cut_at(&mut self, cut: Cut, gap: bool, metrics: &Metrics) {
        self.end_segment(cut.start, metrics);
        if let Kind::Follower(follower) = &mut self.kind {
            follower.away = cut.mark.gap;
        }
        self.interrupted |= gap && !cut.mark.gap;
        let started = self.window.has_started();
        if gap && !started {
            return; // It is in no presentation before it has something to show.
        }
        self.bind_init(&cut);
        if !started {
            self.window.begin(cut.discontinuities);
        }
        let still = self.still_to_show().filter(|_| gap && cut.held);
        let gap = gap && still.is_none();
        self.start(Mark { gap, ..cut.mark }, cut.start, true);
        if let Some(still) = still {
            self.segmenter.show(still);
        }
    }

    /// The open segment ends at `end`: the newest picture is shown until then, or the rest is a gap.
    fn end_segment(&mut self, end: i64, metrics: &Metrics) {
        let bridge = self.bridge();
        let Kind::Follower(follower) = &mut self.kind else {
            return;
        };
        if let Some((decode, _)) = follower.clock.held() {
            let most = if follower.lost {
                bridge
            } else {
                longest(&follower.clock)
            };
            if decode >= end {
                // The source ended between reordered pictures, of which this is the one to be shown last.
                follower.clock.discard();
                metrics.drop_frame("past_end");
            } else if end - decode > most {
                self.give_up(metrics);
            } else if let Some((_, sample)) = follower.clock.complete(end) {
                self.push(sample, metrics);
            }
        }
        self.close(end, metrics);
    }

    /// Completes what there is of the open segment; the rest of it will be gap parts.
    fn give_up(&mut self, metrics: &Metrics) {
        let Kind::Follower(follower) = &mut self.kind else {
            return;
        };
        follower.lost = true;
        self.interrupted = true;
        let end = follower.clock.held().map_or(0, |(_, end)| end);
        if let Some((_, sample)) = follower.clock.complete(end) {
            self.push(sample, metrics);
        }
        let parts = self.segmenter.interrupt();
        self.count_parts(parts, metrics);
    }

    /// How long the newest picture may be shown where the next is known not to come: as long as a part takes.
    fn bridge(&self) -> i64 {
        let part = Timescale::VIDEO.ticks(self.window.part_target());
        match &self.kind {
            Kind::Follower(follower) => part.max(follower.clock.lasted() * 3 / 2),
            _ => part,
        }
    }
}

/// How long a picture may be shown because the next is late.
fn longest(clock: &Clock) -> i64 {
    Timescale::VIDEO.ticks(HOLE).max(4 * clock.lasted())
}

fn before(time: i64, by: Duration) -> i64 {
    time.saturating_sub(Timescale::VIDEO.ticks(by))
}
