//! One track of a program on its way into segments: its clock, its segmenter, its window, and for audio the units and marks that wait
//! for each other. When a mark stands or a unit may go is `program`'s to say.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use media_core::{Anchor, Frame, Mark, Timescale, codec::Config};

use crate::{
    Rope, Segment, Track, metrics::Metrics, program::Past, sample::Sample, segmenter::Segmenter, sets::Sets,
    window::Window,
};

mod audio_clock;
mod follower;
pub(crate) mod silence;
mod video_clock;

use audio_clock::Placed;
use follower::{Cut, Follower};
use silence::silent_frame;

/// How long a unit waits, at the least, for the master to tell whether a mark stands before it; and a mark for units.
const HOLD: Duration = Duration::from_millis(250);
/// How long a unit waits at the most, where audio is sent that far ahead of video.
const MAX_HOLD: Duration = Duration::from_secs(1);
/// Audio of which no unit has come for this long has stopped.
const QUIET: Duration = Duration::from_millis(500);
/// How much longer than the longest segment audio may make one before its end is known: less than what rounds to a second.
const OVERRUN: Duration = Duration::from_millis(400);
/// Marks that wait at most for the first units of a track that joins.
const MAX_MARKS: usize = 16;

/// The bit rate that a still picture, which is sent once a part, may have though the track never had as much: that of a good
/// 1080p broadcast twice.
const MAX_STILL_BPS: u64 = 20_000_000;

/// What a unit that waits takes beside its bytes.
const UNIT_BYTES: usize = size_of::<(Frame, Arc<Config>)>() + 64;

/// One track on its way into segments.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) segmenter: Segmenter,
    pub(crate) window: Window,
    pub(crate) kind: Kind,
    /// The configuration of frames that come now; the window's is that of the open segment.
    pub(crate) config: Arc<Config>,
    /// Made of the source by the ladder.
    pub(crate) rendition: bool,
    /// It joined a presentation that others had begun: it starts with its first whole segment.
    pub(crate) late: bool,
    /// The init segment that the newest cut's segment needs: its number, and what it describes if that is known already.
    plan: (u32, Option<Arc<Config>>),
    /// What key frames of the next segment carry: nothing while the first init segment is the only one.
    sets: Sets,
    /// The independent frame that the newest group or segment of video begins with, if it does, and if the newest init
    /// segment is for it.
    pub(crate) still: Option<Bytes>,
    /// Some of a segment turned out to be missing since the master's newest cut.
    pub(crate) interrupted: bool,
    /// Parts or segments came since the last snapshot.
    pub(crate) dirty: bool,
    pub(crate) snapshot: Option<Arc<Track>>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// The track that carries the marks, if it is video.
    Video(video_clock::Clock),
    /// Video that is cut at another's marks.
    Follower(Box<Follower>),
    Audio(Box<Audio>),
}

/// What a track is to its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It carries the marks.
    Master,
    /// The source's, beside the master.
    Source,
    Rendition,
}

#[derive(Debug)]
pub(crate) struct Audio {
    pub(crate) clock: audio_clock::Clock,
    pub(crate) silence: Option<Bytes>,
    held: VecDeque<(Frame, Arc<Config>)>,
    /// Memory that the units held take.
    held_bytes: usize,
    /// Marks that stand before units that have not come.
    pub(crate) cuts: VecDeque<Cut>,
    /// The most that units came behind the master lately, and ahead of it, in 90 kHz ticks.
    pub(crate) lag: i64,
    pub(crate) lead: i64,
    /// When the newest unit came.
    pub(crate) arrived: Option<Instant>,
}

impl Audio {
    pub(crate) fn new(config: &media_core::codec::aac::Config) -> Self {
        Self {
            clock: audio_clock::Clock::new(config.timescale, config.timescale.hz(), config.frame_samples),
            silence: silent_frame(config),
            held: VecDeque::new(),
            held_bytes: 0,
            cuts: VecDeque::new(),
            lag: 0,
            lead: 0,
            arrived: None,
        }
    }

    /// Units need this configuration from the next on.
    fn change(&mut self, config: &media_core::codec::aac::Config) {
        self.clock.change(config.timescale.hz(), config.frame_samples);
        self.silence = silent_frame(config);
    }

    /// The next cut, if it is `due`.
    fn take_cut(&mut self, due: impl FnOnce(&Cut) -> bool) -> Option<Cut> {
        due(self.cuts.front()?).then(|| self.cuts.pop_front())?
    }

    /// Keeps a unit until the master has come as far.
    pub(crate) fn hold_unit(&mut self, frame: Frame, config: Arc<Config>) {
        self.held_bytes += UNIT_BYTES + frame.payload.len();
        self.held.push_back((frame, config));
    }

    /// The unit that has waited longest.
    pub(crate) fn first_held(&self) -> Option<&Frame> {
        self.held.front().map(|(frame, _)| frame)
    }

    /// Lets go of the unit that has waited longest.
    pub(crate) fn release_unit(&mut self) -> Option<(Frame, Arc<Config>)> {
        let unit = self.held.pop_front()?;
        self.held_bytes -= UNIT_BYTES + unit.0.payload.len();
        Some(unit)
    }

    /// How many units wait.
    pub(crate) fn units_held(&self) -> usize {
        self.held.len()
    }

    /// How long a unit waits for the master.
    pub(crate) fn hold(&self) -> Duration {
        (Timescale::VIDEO.duration(self.lead) * 3 / 2).clamp(HOLD, MAX_HOLD)
    }
}

impl Line {
    /// `late`: the presentation has begun without it.
    pub(crate) fn new(
        window: Window,
        config: Arc<Config>,
        anchor: Anchor,
        part: Duration,
        role: Role,
        late: bool,
    ) -> Self {
        let kind = match &*config {
            Config::Avc(_) if role == Role::Master => Kind::Video(video_clock::Clock::default()),
            Config::Avc(_) => Kind::Follower(Box::new(Follower::new())),
            Config::Aac(aac) => Kind::Audio(Box::new(Audio::new(aac))),
        };
        let mut segmenter = Segmenter::new(window.timescale(), anchor, part);
        if late {
            // A later one must keep what was settled for all.
            segmenter.limit_parts(window.part_target());
        }
        Self {
            segmenter,
            plan: (window.init(), Some(Arc::clone(&config))),
            window,
            kind,
            config,
            rendition: role == Role::Rendition,
            late,
            sets: Sets::default(),
            still: None,
            interrupted: false,
            dirty: true,
            snapshot: None,
        }
    }

    pub(crate) fn to_video(&self, ticks: i64) -> i64 {
        self.window.timescale().rescale(ticks, Timescale::VIDEO)
    }

    pub(crate) fn in_ticks(&self, ticks: i64) -> i64 {
        Timescale::VIDEO.rescale(ticks, self.window.timescale())
    }

    /// A frame of the hub, whose times are ticks of its configuration's timescale, on the track's clock.
    pub(crate) fn on_clock(&self, frame: Frame) -> Frame {
        let (from, to) = (self.config.timescale(), self.window.timescale());
        Frame {
            dts: from.rescale(frame.dts, to),
            pts: from.rescale(frame.pts, to),
            ..frame
        }
    }

    /// The master of audio alone makes room for `self`: it carries the marks from here on, and its first segment, which is still to
    /// come, has this discontinuity sequence.
    pub(crate) fn lead(&mut self, discontinuities: u64) {
        self.kind = Kind::Video(video_clock::Clock::default());
        self.window.begin(discontinuities);
    }

    /// Whether frames that come now need another init segment than was planned for. Of renditions others decide.
    pub(crate) fn wants_init(&self) -> bool {
        let planned = self.plan.1.as_ref();
        !self.rendition && planned.is_some_and(|planned| !Arc::ptr_eq(planned, &self.config))
    }

    /// Where the next sample of the open segment goes.
    pub(crate) fn edge(&self) -> Option<i64> {
        match &self.kind {
            Kind::Audio(audio) => audio.clock.next(),
            Kind::Video(_) | Kind::Follower(_) => self.segmenter.open().map(Segment::end),
        }
    }

    /// Memory that is taken: complete segments, the open one, and units that wait.
    pub(crate) fn bytes(&self) -> usize {
        let waiting = match &self.kind {
            Kind::Audio(audio) => audio.held_bytes,
            Kind::Video(_) | Kind::Follower(_) => 0,
        };
        self.window.bytes() + self.segmenter.bytes() + waiting
    }

    /// Where the next cut stands that waits for audio, in 90 kHz ticks: the open segment goes no further.
    pub(crate) fn next_cut(&self) -> i64 {
        match &self.kind {
            Kind::Audio(audio) => audio.cuts.front().map_or(i64::MAX, |cut| cut.mark.pts),
            Kind::Video(_) | Kind::Follower(_) => i64::MAX,
        }
    }

    pub(crate) fn push(&mut self, sample: Sample, metrics: &Metrics) {
        let parts = self.segmenter.push(sample);
        self.count_parts(parts, metrics);
    }

    pub(crate) fn count_parts(&mut self, parts: usize, metrics: &Metrics) {
        if parts > 0 {
            metrics.parts.inc_by(parts as u64);
            self.dirty = true;
        }
    }

    /// Closes the open segment, if there is one, into the window; `end` is where a gap ends.
    pub(crate) fn close(&mut self, end: i64, metrics: &Metrics) {
        let Some(segment) = self.segmenter.close(end) else {
            return;
        };
        if self.late && segment.gap && !self.window.has_started() {
            return; // It appears with its first whole segment.
        }
        metrics.segments.inc();
        metrics.gaps.inc_by(u64::from(segment.gap));
        metrics.bytes.inc_by(segment.bytes.len() as u64);
        self.window.push(segment);
        self.segmenter.limit_parts(self.window.part_target());
        self.dirty = true;
    }

    pub(crate) fn start(&mut self, mark: Mark, at: i64, independent: bool) {
        // What was told stays: where a gap was told of past `at`, by the rounding of another timescale, the segment starts after it.
        let at = self.window.end().map_or(at, |end| at.max(end));
        let segment = Segment {
            msn: mark.msn,
            start: at,
            duration: 0,
            init: self.window.init(),
            discontinuity: mark.discontinuity,
            gap: mark.gap,
            independent,
            still: None,
            parts: Vec::new(),
            bytes: Rope::default(),
        };
        self.segmenter.start(segment, self.sets.clone());
        self.dirty = true;
    }

    /// Which init segment the segment at the next cut needs; `anew`: the configuration may change there.
    ///
    /// Numbers are told of before a rendition's frames come. So at a discontinuity a rendition always has another, which describes
    /// what is known when the segment starts; elsewhere it has another if its configuration is known to be another.
    pub(crate) fn plan_init(&mut self, anew: bool) -> (u32, Option<Arc<Config>>) {
        let (number, config) = &self.plan;
        let changed = config.as_ref().is_some_and(|config| !Arc::ptr_eq(config, &self.config));
        if self.rendition && anew {
            self.plan = (number + 1, None);
        } else if changed && (self.rendition || anew) {
            self.plan = (number + 1, Some(Arc::clone(&self.config)));
        }
        self.plan.clone()
    }

    /// Makes the init segment that the segment at `cut` needs, unless it is there.
    pub(crate) fn bind_init(&mut self, cut: &Cut) {
        if cut.init == self.window.init() {
            return;
        }
        let config = cut.config.as_ref().unwrap_or(&self.config);
        let config = Arc::clone(config);
        if self.plan.0 == cut.init {
            self.plan.1 = Some(Arc::clone(&config));
        }
        self.change_init(cut.init, config);
    }

    /// The next segment needs another init segment.
    fn change_init(&mut self, number: u32, config: Arc<Config>) {
        if let (Kind::Audio(audio), Config::Aac(aac)) = (&mut self.kind, &*config) {
            audio.change(aac);
        }
        if !Arc::ptr_eq(&config, self.window.config()) {
            self.still = None;
        }
        self.sets = Sets::of(&config);
        self.window.configure(number, config);
    }

    /// The picture to show while no frames come. None if it takes more than players of this track can be expected to read.
    pub(crate) fn still_to_show(&self) -> Option<Bytes> {
        let most = self.window.peak_bps().max(MAX_STILL_BPS);
        let still = self.still.as_ref();
        still.filter(|still| self.segmenter.still_bps(still) <= most).cloned()
    }

    /// The master cuts here: another init segment if the configuration is another, and `anew` that it may be.
    pub(crate) fn renew_init(&mut self, anew: bool) {
        let (number, config) = self.plan_init(anew);
        if let Some(config) = config.filter(|_| number != self.window.init()) {
            self.change_init(number, config);
        }
    }

    /// The frames that come now need this configuration; a rendition's may have been missing.
    pub(crate) fn configure(&mut self, config: Arc<Config>) {
        self.config = config;
        if let Kind::Follower(follower) = &mut self.kind {
            follower.come_back();
        }
    }

    /// Frames were missed; `absent`: and none follow, until it is configured again.
    pub(crate) fn lose(&mut self, absent: bool) {
        if let Kind::Follower(follower) = &mut self.kind {
            follower.lose(absent);
        }
    }

    /// The master has cut; this track will.
    pub(crate) fn await_cut(&mut self, past: &Past) {
        let (init, config) = self.plan_init(past.mark.discontinuity);
        let cut = Cut {
            mark: past.mark,
            start: past.start,
            held: past.held,
            discontinuities: past.discontinuities,
            init,
            config,
        };
        match &mut self.kind {
            Kind::Video(_) => {}
            Kind::Follower(follower) => follower.await_cut(cut),
            Kind::Audio(audio) => {
                if self.late && self.segmenter.open().is_none() && audio.cuts.len() == MAX_MARKS {
                    audio.cuts.pop_front();
                }
                audio.cuts.push_back(cut);
            }
        }
    }

    /// The init segment that segment `msn` needs, or will need; `None`: it has, or will have, no such segment, or only a gap.
    pub(crate) fn init_of(&self, msn: u64) -> Option<u32> {
        let known = self.window.segment(msn).map(|segment| &**segment);
        let known = known.or(self.segmenter.open().filter(|open| open.msn == msn));
        if let Some(segment) = known {
            return (!segment.gap).then_some(segment.init);
        }
        match &self.kind {
            Kind::Video(_) => None,
            Kind::Follower(follower) => follower.waiting(msn).map(|cut| cut.init),
            Kind::Audio(audio) => audio.cuts.iter().find(|cut| cut.mark.msn == msn).map(|cut| cut.init),
        }
    }

    /// Whether some of a segment is missing since this was asked before, or will be.
    pub(crate) fn take_interrupted(&mut self) -> bool {
        let lost = matches!(&self.kind, Kind::Follower(follower) if follower.is_lost() && !follower.is_away());
        std::mem::take(&mut self.interrupted) || lost
    }

    /// Whether segments are not to be expected of it at present.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(&self.kind, Kind::Follower(follower) if follower.is_missing())
    }

    /// Places one unit on the clock and into the open segment.
    pub(crate) fn push_unit(&mut self, frame: Frame, metrics: &Metrics) {
        let Kind::Audio(audio) = &mut self.kind else { return };
        match audio.clock.place(frame.dts, &metrics.audio) {
            Placed::Overlap => metrics.drop_frame("audio_overlap"),
            Placed::At { silence, duration } => {
                self.push_silence(silence, metrics);
                self.push(
                    Sample {
                        duration,
                        composition: 0,
                        key: true,
                        head: Bytes::new(),
                        payload: frame.payload,
                    },
                    metrics,
                );
            }
        }
    }

    /// A silent unit. Without one for this configuration an empty sample keeps the clock: decoders conceal it.
    pub(crate) fn silence(&self) -> Bytes {
        match &self.kind {
            Kind::Audio(audio) => audio.silence.clone().unwrap_or_default(),
            Kind::Video(_) | Kind::Follower(_) => Bytes::new(),
        }
    }

    pub(crate) fn push_silence(&mut self, units: i64, metrics: &Metrics) {
        let payload = self.silence();
        for _ in 0..units {
            let Kind::Audio(audio) = &mut self.kind else { return };
            let duration = audio.clock.pass();
            metrics.audio.silence.inc();
            self.push(
                Sample {
                    duration,
                    composition: 0,
                    key: true,
                    head: Bytes::new(),
                    payload: payload.clone(),
                },
                metrics,
            );
        }
    }

    /// A follower's unit whose marks are known: cuts where it is at or after one, and appends it. Where the master is so far behind that the
    /// open segment would become longer than `longest`, it is left out: the next mark finds silence.
    pub(crate) fn take_unit(&mut self, frame: Frame, config: &Arc<Config>, longest: Duration, metrics: &Metrics) {
        if self.late && self.segmenter.open().is_none() && !self.begins_with(&frame) {
            metrics.drop_frame("before_segment");
            return;
        }
        let timescale = self.window.timescale();
        loop {
            let Kind::Audio(audio) = &mut self.kind else { return };
            let in_media = self.segmenter.open().is_some_and(|open| !open.gap);
            // Within media the clock's own time decides; after a gap, or at the start, the wire's.
            let at = if in_media {
                audio.clock.next().unwrap_or(frame.dts)
            } else {
                frame.dts
            };
            let place = |cut: &Cut| Timescale::VIDEO.rescale(cut.mark.pts, timescale);
            // A hole before the unit is filled with silence up to each mark in it, so that silence belongs to its own segment.
            let several = audio.cuts.get(1).is_some_and(|next| place(next) <= frame.dts);
            let in_gap = self.segmenter.open().is_some() && !in_media;
            let (next, unit) = (audio.clock.next().filter(|_| in_media), audio.clock.unit());
            let hole = |cut: &Cut| match next {
                Some(next) => {
                    next < place(cut) && place(cut) <= frame.dts && audio_clock::is_hole(next, frame.dts, unit)
                }
                None => in_gap && audio_clock::is_hole(place(cut), frame.dts, unit),
            };
            if let Some(cut) = audio.take_cut(|cut| several || hole(cut)) {
                self.cut_with_silence(cut, metrics);
                continue;
            }
            let Some(cut) = audio.take_cut(|cut| at >= place(cut)) else {
                break;
            };
            self.bind_init(&cut);
            self.close(at, metrics);
            self.start(cut.mark, at, true);
            if let Kind::Audio(audio) = &mut self.kind
                && !in_media
            {
                audio.clock.restart(at);
            }
        }
        let most = timescale.ticks(longest.saturating_add(OVERRUN));
        let full = |open: &Segment| self.window.has_started() && frame.dts.saturating_sub(open.start) > most;
        if self.segmenter.open().is_none_or(|open| open.gap) {
            metrics.drop_frame("before_segment");
        } else if self.segmenter.open().is_some_and(full) {
            metrics.drop_frame("before_mark");
        } else if !Arc::ptr_eq(config, self.window.config()) {
            // What follows needs another init segment, which the next key frame brings: until then it is not heard.
            metrics.drop_frame("before_discontinuity");
            let payload = self.silence();
            self.push_unit(Frame { payload, ..frame }, metrics);
        } else {
            self.push_unit(frame, metrics);
        }
    }

    /// Cuts at once at a mark that the clock has reached: the next unit goes after it, whenever it comes.
    pub(crate) fn cut_where_reached(&mut self, metrics: &Metrics) {
        let Kind::Audio(audio) = &mut self.kind else { return };
        let open = self.segmenter.open().is_some_and(|open| !open.gap);
        let Some(next) = audio.clock.next().filter(|_| open) else {
            return;
        };
        let same = Arc::ptr_eq(&self.config, self.window.config());
        let timescale = self.window.timescale();
        let reached = |cut: &Cut| same && next >= Timescale::VIDEO.rescale(cut.mark.pts, timescale);
        if let Some(cut) = audio.take_cut(reached) {
            self.bind_init(&cut);
            self.close(next, metrics);
            self.start(cut.mark, next, true);
        }
    }

    /// Where the master is well past a mark and no unit has come: silence up to the mark, and the cut.
    pub(crate) fn fill_to_marks(&mut self, reached: i64, segment: Duration, metrics: &Metrics) {
        if self.late && self.segmenter.open().is_none() {
            return; // It begins with units, not with silence.
        }
        loop {
            let Kind::Audio(audio) = &mut self.kind else { return };
            let patience = Timescale::VIDEO
                .ticks(HOLD)
                .max(audio.lag * 2)
                .min(Timescale::VIDEO.ticks(segment));
            let due = |cut: &Cut| reached.saturating_sub(cut.mark.pts) >= patience;
            let Some(cut) = audio.take_cut(due) else {
                return;
            };
            self.cut_with_silence(cut, metrics);
        }
    }

    /// Where units have stopped: silence for the open segment's parts, which must come in time though its mark has not.
    pub(crate) fn fill_parts(&mut self, reached: i64, now: Instant, metrics: &Metrics) {
        let in_media = self.segmenter.open().is_some_and(|open| !open.gap);
        let Kind::Audio(audio) = &mut self.kind else { return };
        let patience = Timescale::VIDEO.duration(audio.lag * 2).max(QUIET);
        let stopped = |arrived| now.saturating_duration_since(arrived) >= patience;
        if !in_media || !audio.held.is_empty() || !audio.arrived.is_none_or(stopped) {
            return;
        }
        let until = reached.saturating_sub(Timescale::VIDEO.ticks(HOLD));
        let until = audio.cuts.front().map_or(until, |cut| until.min(cut.mark.pts));
        let until = Timescale::VIDEO.rescale(until, self.window.timescale()) - audio.clock.unit();
        if audio.clock.next().is_some_and(|next| next < until) {
            let silence = audio.clock.fill(until);
            self.push_silence(silence, metrics);
        }
    }

    /// Cuts at a mark whose units do not come: silence fills what is missing before it.
    fn cut_with_silence(&mut self, cut: Cut, metrics: &Metrics) {
        let mut at = self.in_ticks(cut.mark.pts);
        let Kind::Audio(audio) = &mut self.kind else { return };
        if self.segmenter.open().is_some_and(|open| !open.gap) {
            let silence = audio.clock.fill(at);
            self.push_silence(silence, metrics);
            at = self.edge().unwrap_or(at);
        } else {
            audio.clock.restart(at);
        }
        self.bind_init(&cut);
        self.close(at, metrics);
        self.start(cut.mark, at, true);
    }

    /// Whether the first unit of a track that joins can start a segment: at a mark, the newest that it has reached.
    fn begins_with(&mut self, frame: &Frame) -> bool {
        let Kind::Audio(audio) = &mut self.kind else {
            return false;
        };
        let timescale = self.window.timescale();
        let place = |cut: &Cut| Timescale::VIDEO.rescale(cut.mark.pts, timescale);
        while audio.cuts.get(1).is_some_and(|next| place(next) <= frame.dts) {
            audio.cuts.pop_front();
        }
        let Some(cut) = audio.cuts.front() else { return false };
        let late = frame.dts - place(cut);
        self.window.begin(cut.discontinuities);
        (0..=audio.clock.unit()).contains(&late) && !cut.mark.gap
    }

    /// All marks left stand at or before a gap's start: nothing follows that could be cut at them.
    pub(crate) fn cut_at_gap(&mut self, metrics: &Metrics) {
        loop {
            let Kind::Audio(audio) = &mut self.kind else { return };
            let Some(cut) = audio.cuts.pop_front() else { return };
            if !self.late || self.segmenter.open().is_some() {
                self.cut_with_silence(cut, metrics);
            }
        }
    }

    pub(crate) fn snapshot(&mut self) -> Arc<Track> {
        match &self.snapshot {
            Some(snapshot) if !self.dirty => Arc::clone(snapshot),
            _ => {
                let track = Arc::new(self.window.snapshot(self.segmenter.open()));
                self.snapshot = Some(Arc::clone(&track));
                self.dirty = false;
                track
            }
        }
    }
}
