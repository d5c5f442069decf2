//! Audio, of the source or a rendition: access units and cuts that wait for each other, and silence
//! where units are missing.
//!
//! Audio beside a master is cut at the first access unit at or after each mark. So a unit is held
//! until the master has reached it, for [`HOLD`] at least; and a cut is held until units have
//! reached it, or until silence takes their place.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use media_core::{
    Frame, MediaSpan, MediaTime, Ticks,
    codec::{Config, aac},
};

use super::{
    audio_clock::{Clock, Placed, is_hole},
    cut::PendingCut,
    output::Output,
    progress::Progress,
    silence::silent_frame,
};
use crate::{Segment, metrics::Metrics, sample::Sample};

/// The shortest time that a unit waits for the master's frames, because a mark may precede it; and
/// that a mark waits for units.
const HOLD: Duration = Duration::from_millis(250);
/// The longest time that a unit waits, if the publisher sends audio ahead of video.
const MAX_HOLD: Duration = Duration::from_secs(1);
/// Audio has stopped if no unit arrived for this long.
const QUIET: Duration = Duration::from_millis(500);
/// How much longer than the longest segment an audio segment may become before its end is known:
/// less than half a second, so that its rounded duration is within EXT-X-TARGETDURATION.
const OVERRUN: Duration = Duration::from_millis(400);
/// The largest number of cuts that wait for the first units of a track that joins.
const MAX_CUTS: usize = 16;
/// The largest number of units held; more than any audio needs.
const MAX_HELD: usize = 1024;
/// Memory of a unit that waits, beside its bytes.
const UNIT_BYTES: usize = size_of::<PendingUnit>() + 64;

/// An audio track, from access units to segments. Times are ticks of the track unless another unit
/// is named.
#[derive(Debug)]
pub(super) struct Audio {
    clock: Clock,
    /// A silent unit for the current configuration, if one is known.
    silence: Option<Bytes>,
    /// Units that wait for the master, oldest first.
    held: VecDeque<PendingUnit>,
    /// Memory of the units held.
    held_bytes: usize,
    /// Cuts that wait for units, oldest first.
    cuts: VecDeque<PendingCut>,
    /// The largest recent delay of units behind the master.
    lag: MediaSpan,
    /// The largest recent lead of units before the master.
    lead: MediaSpan,
    /// When the newest unit arrived.
    arrived: Option<Instant>,
}

/// A unit that waits, and its configuration.
#[derive(Debug)]
struct PendingUnit {
    frame: Frame,
    config: Arc<Config>,
}

/// A cut that is due before the next unit.
#[derive(Debug)]
enum Due {
    /// Units are missing before it.
    AfterSilence(PendingCut),
    /// The unit is the first of its segment.
    At {
        pending: PendingCut,
        /// Where the segment starts.
        at: Ticks,
    },
}

impl Audio {
    /// Audio of this configuration, without units.
    pub(super) fn new(config: &aac::Config) -> Self {
        Self {
            clock: Clock::new(config.timescale, config.timescale.hz(), config.frame_samples),
            silence: silent_frame(config),
            held: VecDeque::new(),
            held_bytes: 0,
            cuts: VecDeque::new(),
            lag: MediaSpan::ZERO,
            lead: MediaSpan::ZERO,
            arrived: None,
        }
    }

    /// Units have this configuration from the next segment on.
    pub(super) fn configure(&mut self, config: &Config) {
        if let Config::Aac(config) = config {
            self.clock.change(config.timescale.hz(), config.frame_samples);
            self.silence = silent_frame(config);
        }
    }

    // Queries.

    /// Memory of the units held.
    pub(super) fn bytes(&self) -> usize {
        self.held_bytes
    }

    /// When the newest unit arrived.
    pub(super) fn arrived(&self) -> Option<Instant> {
        self.arrived
    }

    /// When the oldest unit held has waited long enough.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.held.front().map(|held| held.frame.arrived + self.hold())
    }

    /// Time of the next cut that waits for units. The open segment ends there.
    pub(super) fn next_cut(&self) -> MediaTime {
        self.cuts.front().map_or(MediaTime::MAX, |pending| pending.cut.mark.pts)
    }

    /// The cut that waits for segment `msn`.
    pub(super) fn pending(&self, msn: u64) -> Option<&PendingCut> {
        self.cuts.iter().find(|pending| pending.cut.mark.msn == msn)
    }

    /// How long a unit waits for the master: longer where audio is sent ahead of video.
    fn hold(&self) -> Duration {
        (self.lead.duration() * 3 / 2).clamp(HOLD, MAX_HOLD)
    }

    // Audio as the master.

    /// The decode time of `frame`, which may carry a mark.
    pub(super) fn place(&mut self, output: &Output, frame: &Frame) -> Ticks {
        if frame.mark.is_some() && !output.is_in_media() {
            self.clock.restart(frame.dts);
        }
        self.clock.next().unwrap_or(frame.dts)
    }

    /// The decode time of the next unit; `None` before the first.
    pub(super) fn edge(&self) -> Option<Ticks> {
        self.clock.next()
    }

    /// The start of a gap of the master whose mark is at `mark`: the end of the newest unit.
    pub(super) fn end_media(&self, output: &Output, mark: Ticks) -> Ticks {
        let end = self.clock.next().filter(|_| output.is_in_media());
        end.unwrap_or(mark)
    }

    /// Appends a unit, or leaves it out if it overlaps those before it.
    pub(super) fn append(&mut self, output: &mut Output, frame: Frame, metrics: &Metrics) {
        match self.clock.place(frame.dts, &metrics.audio) {
            Placed::Overlap => metrics.drop_frame("audio_overlap"),
            Placed::At { silence, duration } => {
                self.push_silence(output, silence, metrics);
                output.push(unit(duration, frame.payload), metrics);
            }
        }
    }

    // Audio beside a master.

    /// Holds a unit until the master, which has `reached` this time, has reached its end.
    pub(super) fn take(
        &mut self,
        output: &Output,
        frame: Frame,
        reached: MediaTime,
        metrics: &Metrics,
    ) {
        let time = output.media_time(frame.pts);
        if reached > MediaTime::MIN {
            // Peaks that fade over some hundred units, so that one late unit does not delay all
            // that follow.
            self.lag = (self.lag - self.lag / 256).max(reached - time);
            self.lead = (self.lead - self.lead / 256).max(time - reached);
        }
        self.arrived = Some(frame.arrived);
        self.held_bytes += UNIT_BYTES + frame.payload.len();
        let config = Arc::clone(&output.config);
        self.held.push_back(PendingUnit { frame, config });
        // A publisher could send any number of small units ahead of video.
        if self.held.len() > MAX_HELD {
            self.pop_held();
            metrics.drop_frame("audio_overrun");
        }
    }

    /// Another cut of the master waits for units.
    pub(super) fn await_cut(&mut self, output: &Output, pending: PendingCut) {
        // A track that joins begins at a newer cut, so the oldest are not needed.
        if output.is_joining() && self.cuts.len() == MAX_CUTS {
            self.cuts.pop_front();
        }
        self.cuts.push_back(pending);
    }

    /// Appends the units that the master has reached, or that have waited long enough at `now`
    /// (`None`: all), and fills in silence where units are missing.
    pub(super) fn release(
        &mut self,
        output: &mut Output,
        progress: &Progress,
        now: Option<Instant>,
        metrics: &Metrics,
    ) {
        while let Some(held) = self.held.front() {
            let frame = &held.frame;
            let waited =
                now.is_none_or(|now| now.saturating_duration_since(frame.arrived) >= self.hold());
            // The master must have reached the unit's end, so that a mark there is known when the
            // unit's part closes.
            let end = output.media_time(frame.pts) + output.span(self.clock.unit());
            if end > progress.reached && !waited {
                break;
            }
            if let Some(held) = self.pop_held() {
                self.take_unit(output, held, progress.longest, metrics);
                self.cut_where_reached(output, metrics);
            }
        }
        self.fill_to_marks(output, progress, metrics);
        if let Some(now) = now {
            self.fill_parts(output, progress.marked, now, metrics);
        }
    }

    /// The master has begun a gap. `alive`: audio continues beside it.
    pub(super) fn meet_gap(
        &mut self,
        output: &mut Output,
        progress: &Progress,
        alive: bool,
        now: Instant,
        metrics: &Metrics,
    ) {
        if alive {
            // The master alone is silent: its mark cuts this track like any other.
            if let Some(last) = self.cuts.back_mut() {
                last.cut.mark.gap = false;
            }
            self.release(output, progress, Some(now), metrics);
        } else {
            self.release(output, progress, None, metrics);
            self.cut_at_gap(output, metrics);
        }
    }

    fn pop_held(&mut self) -> Option<PendingUnit> {
        let held = self.held.pop_front()?;
        self.held_bytes -= UNIT_BYTES + held.frame.payload.len();
        Some(held)
    }

    /// Appends a unit whose marks are known, after the cuts that are due before it.
    ///
    /// The unit is left out if the master is so far behind that the open segment would become
    /// longer than `longest`: silence is filled in when the next mark is known.
    fn take_unit(
        &mut self,
        output: &mut Output,
        held: PendingUnit,
        longest: Duration,
        metrics: &Metrics,
    ) {
        let PendingUnit { frame, config } = held;
        if output.is_joining() && !self.begins_with(output, &frame) {
            metrics.drop_frame("before_segment");
            return;
        }
        self.cut_before(output, &frame, metrics);
        let most = longest.saturating_add(OVERRUN);
        let most = Ticks::from_duration(most, output.window.timescale());
        let full = |open: &Segment| output.window.has_started() && frame.dts - open.start > most;
        // The cases in order: no segment is open; the segment is as long as it may be; the unit
        // needs another init segment; the unit is appended.
        if !output.is_in_media() {
            metrics.drop_frame("before_segment");
        } else if output.segmenter.open().is_some_and(full) {
            metrics.drop_frame("before_mark");
        } else if !Arc::ptr_eq(&config, output.window.config()) {
            // The unit needs another init segment, which starts with the next key frame of video.
            // Silence takes its place.
            metrics.drop_frame("before_discontinuity");
            let payload = self.silence();
            self.append(output, Frame { payload, ..frame }, metrics);
        } else {
            self.append(output, frame, metrics);
        }
    }

    /// Makes the cuts that are due before `frame`.
    fn cut_before(&mut self, output: &mut Output, frame: &Frame, metrics: &Metrics) {
        while let Some(due) = self.due_before(output, frame) {
            match due {
                Due::AfterSilence(pending) => self.cut_with_silence(output, &pending, metrics),
                Due::At { pending, at } => {
                    let resumes = !output.is_in_media();
                    self.cut(output, &pending, at, metrics);
                    if resumes {
                        self.clock.restart(at);
                    }
                }
            }
        }
    }

    /// The next cut, if it is due before `frame`.
    fn due_before(&mut self, output: &Output, frame: &Frame) -> Option<Due> {
        let in_media = output.is_in_media();
        let in_gap = output.segmenter.open().is_some() && !in_media;
        let place = |pending: &PendingCut| output.in_ticks(pending.cut.mark.pts);
        let first = place(self.cuts.front()?);
        // A hole before the unit is filled with silence up to each mark in it, so that silence
        // belongs to its own segment.
        let several = self.cuts.get(1).is_some_and(|next| place(next) <= frame.dts);
        let unit = self.clock.unit();
        let hole = match self.clock.next().filter(|_| in_media) {
            Some(next) => next < first && first <= frame.dts && is_hole(next, frame.dts, unit),
            None => in_gap && is_hole(first, frame.dts, unit),
        };
        if several || hole {
            return self.cuts.pop_front().map(Due::AfterSilence);
        }
        // Within media the clock's own time decides; after a gap, or at the start, the stamp.
        let at = match in_media {
            true => self.clock.next().unwrap_or(frame.dts),
            false => frame.dts,
        };
        if at < first {
            return None;
        }
        self.cuts.pop_front().map(|pending| Due::At { pending, at })
    }

    /// Cuts at once at a mark that the clock has reached: the next unit belongs after it, whenever
    /// it arrives.
    fn cut_where_reached(&mut self, output: &mut Output, metrics: &Metrics) {
        let Some(next) = self.clock.next().filter(|_| output.is_in_media()) else {
            return;
        };
        // Not while another configuration waits: its units start a segment of their own.
        let reached = |pending: &PendingCut| {
            !output.awaits_init() && next >= output.in_ticks(pending.cut.mark.pts)
        };
        if self.cuts.front().is_some_and(reached)
            && let Some(pending) = self.cuts.pop_front()
        {
            self.cut(output, &pending, next, metrics);
        }
    }

    /// Whether the first unit of a track that joins can start a segment, at the newest mark that it
    /// has reached.
    fn begins_with(&mut self, output: &mut Output, frame: &Frame) -> bool {
        let place = |pending: &PendingCut| output.in_ticks(pending.cut.mark.pts);
        while self.cuts.get(1).is_some_and(|next| place(next) <= frame.dts) {
            self.cuts.pop_front();
        }
        let Some(pending) = self.cuts.front() else {
            return false;
        };
        let late = frame.dts - place(pending);
        output.window.begin(pending.cut.discontinuities);
        (Ticks::ZERO..=self.clock.unit()).contains(&late) && !pending.cut.mark.gap
    }

    // Silence.

    /// Fills in silence up to each mark that the master passed some time ago, and cuts there,
    /// because the units before it are missing.
    fn fill_to_marks(&mut self, output: &mut Output, progress: &Progress, metrics: &Metrics) {
        if output.is_joining() {
            return; // It starts with units, not with silence.
        }
        let patience = MediaSpan::from_duration(HOLD)
            .max(self.lag * 2)
            .min(MediaSpan::from_duration(progress.segment));
        let due = |pending: &PendingCut| progress.reached - pending.cut.mark.pts >= patience;
        while self.cuts.front().is_some_and(due) {
            if let Some(pending) = self.cuts.pop_front() {
                self.cut_with_silence(output, &pending, metrics);
            }
        }
    }

    /// Fills in silence for the open segment's parts where units have stopped at `now`: parts are
    /// due although the mark after them is not known yet. `marked`: the time up to which the
    /// master's marks are known.
    fn fill_parts(
        &mut self,
        output: &mut Output,
        marked: MediaTime,
        now: Instant,
        metrics: &Metrics,
    ) {
        let patience = (self.lag * 2).duration().max(QUIET);
        let stopped = |arrived| now.saturating_duration_since(arrived) >= patience;
        if !output.is_in_media() || !self.held.is_empty() || !self.arrived.is_none_or(stopped) {
            return;
        }
        // Units may be `HOLD` behind the master, so silence ends there, or at the next known mark.
        // It ends a unit earlier, because the last unit may reach past that time.
        let until = marked - MediaSpan::from_duration(HOLD);
        let until = until.min(self.next_cut());
        let until = output.in_ticks(until) - self.clock.unit();
        if self.clock.next().is_some_and(|next| next < until) {
            let silence = self.clock.fill(until);
            self.push_silence(output, silence, metrics);
        }
    }

    /// Makes all cuts that wait, at the start of a gap or before it, because no units follow.
    fn cut_at_gap(&mut self, output: &mut Output, metrics: &Metrics) {
        while let Some(pending) = self.cuts.pop_front() {
            if !output.is_joining() {
                self.cut_with_silence(output, &pending, metrics);
            }
        }
    }

    /// Cuts at a mark whose units are missing, after silence in place of the units before it.
    fn cut_with_silence(&mut self, output: &mut Output, pending: &PendingCut, metrics: &Metrics) {
        let mut at = output.in_ticks(pending.cut.mark.pts);
        if output.is_in_media() {
            // Whole units: the segment ends with the last, at the mark or just after it.
            let silence = self.clock.fill(at);
            self.push_silence(output, silence, metrics);
            at = self.clock.next().unwrap_or(at);
        } else {
            self.clock.restart(at);
        }
        self.cut(output, pending, at, metrics);
    }

    /// Ends the open segment at `at`, and starts the one of `pending` there.
    fn cut(&mut self, output: &mut Output, pending: &PendingCut, at: Ticks, metrics: &Metrics) {
        if output.bind_init(pending) {
            self.configure(output.window.config());
        }
        output.close(at, metrics);
        output.start(pending.cut.mark, at, true);
    }

    /// A silent unit. For a configuration without one it is an empty sample, which keeps the clock
    /// and which decoders conceal.
    fn silence(&self) -> Bytes {
        self.silence.clone().unwrap_or_default()
    }

    fn push_silence(&mut self, output: &mut Output, units: i64, metrics: &Metrics) {
        let payload = self.silence();
        for _ in 0..units {
            let duration = self.clock.pass();
            metrics.audio.silence.inc();
            output.push(unit(duration, payload.clone()), metrics);
        }
    }
}

/// The sample of an access unit.
fn unit(duration: u32, payload: Bytes) -> Sample {
    Sample { duration, composition: 0, key: true, head: Bytes::new(), payload }
}

#[cfg(test)]
mod tests;
