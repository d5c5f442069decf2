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
    Rope, Segment, Track,
    audio::{self, Placed},
    fragment::Sample,
    metrics::Metrics,
    segmenter::Segmenter,
    silence::silent_frame,
    video,
    window::Window,
};

/// How long a unit waits, at the least, for the master to tell whether a mark stands before it; and a mark for units.
const HOLD: Duration = Duration::from_millis(250);
/// How long a unit waits at the most, where audio is sent that far ahead of video.
const MAX_HOLD: Duration = Duration::from_secs(1);

/// One track on its way into segments.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) segmenter: Segmenter,
    pub(crate) window: Window,
    pub(crate) kind: Kind,
    /// The configuration of frames that come now; the window's is that of the open segment.
    pub(crate) config: Arc<Config>,
    /// Parts or segments came since the last snapshot.
    pub(crate) dirty: bool,
    pub(crate) snapshot: Option<Arc<Track>>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Video(video::Clock),
    Audio(Box<Audio>),
}

#[derive(Debug)]
pub(crate) struct Audio {
    pub(crate) clock: audio::Clock,
    pub(crate) silence: Option<Bytes>,
    pub(crate) held: VecDeque<(Frame, Arc<Config>)>,
    /// Marks that stand before units that have not come.
    pub(crate) marks: VecDeque<Mark>,
    /// The most that units came behind the master lately, and ahead of it, in 90 kHz ticks.
    pub(crate) lag: i64,
    pub(crate) lead: i64,
    /// When the newest unit came.
    pub(crate) arrived: Option<Instant>,
}

impl Audio {
    pub(crate) fn new(config: &media_core::codec::aac::Config) -> Self {
        Self {
            clock: audio::Clock::new(config.timescale.hz(), config.frame_samples),
            silence: silent_frame(config),
            held: VecDeque::new(),
            marks: VecDeque::new(),
            lag: 0,
            lead: 0,
            arrived: None,
        }
    }

    /// How long a unit waits for the master.
    pub(crate) fn hold(&self) -> Duration {
        (Timescale::VIDEO.duration(self.lead) * 3 / 2).clamp(HOLD, MAX_HOLD)
    }
}

impl Line {
    pub(crate) fn new(window: Window, config: Arc<Config>, anchor: Anchor, part: Duration) -> Self {
        let kind = match &*config {
            Config::Avc(_) => Kind::Video(video::Clock::default()),
            Config::Aac(aac) => Kind::Audio(Box::new(Audio::new(aac))),
        };
        Self {
            segmenter: Segmenter::new(config.timescale(), anchor, part),
            window,
            kind,
            config,
            dirty: true,
            snapshot: None,
        }
    }

    pub(crate) fn to_video(&self, ticks: i64) -> i64 {
        self.config.timescale().rescale(ticks, Timescale::VIDEO)
    }

    /// Where the next sample of the open segment goes.
    pub(crate) fn edge(&self) -> Option<i64> {
        match &self.kind {
            Kind::Audio(audio) => audio.clock.next(),
            Kind::Video(_) => self.segmenter.open().map(Segment::end),
        }
    }

    pub(crate) fn push(&mut self, sample: Sample, metrics: &Metrics) {
        let parts = self.segmenter.push(sample);
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
        self.segmenter.start(Segment {
            msn: mark.msn,
            start: at,
            duration: 0,
            init: self.window.init(),
            discontinuity: mark.discontinuity,
            gap: mark.gap,
            independent,
            parts: Vec::new(),
            bytes: Rope::default(),
        });
        self.dirty = true;
    }

    /// Number of the init segment that the segment at `mark` will need.
    pub(crate) fn next_init(&self, mark: Mark) -> u32 {
        let changes = mark.discontinuity && !Arc::ptr_eq(&self.config, self.window.config());
        self.window.init() + u32::from(changes)
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
            Kind::Video(_) => Bytes::new(),
        }
    }

    pub(crate) fn push_silence(&mut self, units: i64, metrics: &Metrics) {
        let Kind::Audio(audio) = &self.kind else { return };
        let duration = u32::try_from(audio.clock.unit()).unwrap_or(1024);
        let payload = self.silence();
        for _ in 0..units {
            metrics.audio.silence.inc();
            self.push(
                Sample {
                    duration,
                    composition: 0,
                    key: true,
                    payload: payload.clone(),
                },
                metrics,
            );
        }
    }

    /// A follower's unit whose marks are known: cuts where it is at or after one, and appends it.
    pub(crate) fn take_unit(&mut self, frame: Frame, config: &Arc<Config>, metrics: &Metrics) {
        loop {
            let Kind::Audio(audio) = &mut self.kind else { return };
            let in_media = self.segmenter.open().is_some_and(|open| !open.gap);
            // Within media the clock's own time decides; after a gap, or at the start, the wire's.
            let at = if in_media {
                audio.clock.next().unwrap_or(frame.dts)
            } else {
                frame.dts
            };
            let Some(mark) = audio.marks.front().copied() else {
                break;
            };
            if at < Timescale::VIDEO.rescale(mark.pts, config.timescale()) {
                break;
            }
            audio.marks.pop_front();
            if mark.discontinuity && !Arc::ptr_eq(config, self.window.config()) {
                self.window.configure(Arc::clone(config));
            }
            self.close(at, metrics);
            self.start(mark, at, true);
            if let Kind::Audio(audio) = &mut self.kind
                && !in_media
            {
                audio.clock.restart(at);
            }
        }
        if self.segmenter.open().is_none_or(|open| open.gap) {
            metrics.drop_frame("before_segment");
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
        let (Some(next), Some(mark)) = (audio.clock.next().filter(|_| open), audio.marks.front().copied()) else {
            return;
        };
        let same = Arc::ptr_eq(&self.config, self.window.config());
        if same && next >= Timescale::VIDEO.rescale(mark.pts, self.config.timescale()) {
            audio.marks.pop_front();
            self.close(next, metrics);
            self.start(mark, next, true);
        }
    }

    /// Where the master is well past a mark and no unit has come: silence up to the mark, and the cut.
    pub(crate) fn fill_to_marks(&mut self, reached: i64, segment: Duration, metrics: &Metrics) {
        loop {
            let Kind::Audio(audio) = &mut self.kind else { return };
            let patience = Timescale::VIDEO
                .ticks(HOLD)
                .max(audio.lag * 2)
                .min(Timescale::VIDEO.ticks(segment));
            let Some(mark) = audio
                .marks
                .front()
                .copied()
                .filter(|mark| reached.saturating_sub(mark.pts) >= patience)
            else {
                return;
            };
            audio.marks.pop_front();
            self.cut_with_silence(mark, metrics);
        }
    }

    /// Cuts at a mark whose units do not come: silence fills what is missing before it.
    pub(crate) fn cut_with_silence(&mut self, mark: Mark, metrics: &Metrics) {
        let Kind::Audio(audio) = &mut self.kind else { return };
        let mut at = Timescale::VIDEO.rescale(mark.pts, self.config.timescale());
        if self.segmenter.open().is_some_and(|open| !open.gap) {
            let silence = audio.clock.fill(at);
            at = audio.clock.next().unwrap_or(at);
            self.push_silence(silence, metrics);
        } else {
            audio.clock.restart(at);
        }
        if mark.discontinuity && !Arc::ptr_eq(&self.config, self.window.config()) {
            self.window.configure(Arc::clone(&self.config));
        }
        self.close(at, metrics);
        self.start(mark, at, true);
    }

    /// All marks left stand at or before a gap's start: nothing follows that could be cut at them.
    pub(crate) fn cut_at_gap(&mut self, metrics: &Metrics) {
        loop {
            let Kind::Audio(audio) = &mut self.kind else { return };
            let Some(mark) = audio.marks.pop_front() else { return };
            self.cut_with_silence(mark, metrics);
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
