//! A broadcast's log, behind its lock: appending, group starts, and removal of old entries. `cut`
//! decides where cuts are, `timeline` decides times.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    event::{CutRule, Event, Presence, TrackStart},
    limits::Limits,
    pushed::{Pushed, Refused, TrackNotice},
    situation::Situation,
};
use crate::{
    AccessUnit, Error, Frame, Mark, MediaSpan, MediaTime, Ticks, TrackIndex, TrackName,
    codec::{Config, avc},
    cut::Cutter,
    timeline::{Arrival, Timeline},
    track::Track,
};

/// The largest accepted distance between decoding and presentation: 4 s, 16 reordered
/// frames at 4 fps.
const MAX_COMPOSITION: MediaSpan = MediaSpan::from_millis(4_000);
/// Maximum number of gaps that one call declares. The wall clock bounds media time, so more are due
/// only after the process was suspended.
const MAX_GAPS: usize = 64;

/// Maximum number of configuration changes of a publisher within [`CHANGES_SPAN`]: each costs
/// players a discontinuity.
const MAX_CHANGES: u32 = 30;
/// Time in which [`MAX_CHANGES`] is counted.
const CHANGES_SPAN: Duration = Duration::from_secs(60);

/// Memory of a log entry besides its payload, including the allocator's share.
const ENTRY_BYTES: usize = size_of::<Entry>() + 64;

#[derive(Debug)]
pub(super) struct State {
    /// The tracks with which the publisher began, then later ones of the source and renditions in
    /// the order of appearance.
    pub(super) tracks: Vec<Track>,
    /// Number of renditions whose handles exist, and how many of these have no track yet.
    pub(super) attached: usize,
    pub(super) awaited: usize,
    /// The track whose frames decide the cuts: the source's video, otherwise its audio.
    pub(super) master: TrackIndex,
    /// Video of the source that was added while an audio track is the master: it becomes the master
    /// with its first key frame that can start a segment.
    pub(super) heir: Option<TrackIndex>,
    pub(super) log: VecDeque<Entry>,
    /// Position of the log's front since the start.
    pub(super) front: u64,
    pub(super) bytes: usize,
    pub(super) timeline: Timeline,
    pub(super) cutter: Cutter,
    /// Whether a segment has started at a key frame that is not independent, without a
    /// discontinuity since.
    pub(super) recovers: bool,
    /// `pts - dts` of the newest frame with a mark: the reordering delay that maps decode times to
    /// presentation times.
    pub(super) reorder: MediaSpan,
    /// The master's newest accepted frame.
    pub(super) taken: Option<Arrival>,
    /// The recent configuration changes.
    pub(super) changes: Option<Changes>,
    /// Number of changes of a track's configuration.
    pub(super) reconfigurations: u64,
    /// The newest notice about a track's clock, until the publisher gets it.
    pub(super) notice: Option<TrackNotice>,
    pub(super) presence: Presence,
    /// The cut rule as of the newest mark.
    pub(super) rule: CutRule,
    /// The situation at the front of the log.
    pub(super) oldest: Situation,
    /// The claim number of the publisher whose frames are accepted; 0 without one.
    pub(super) publisher: u64,
}

/// Configuration changes since the first of them, which is less than [`CHANGES_SPAN`] old.
#[derive(Debug, Clone, Copy)]
pub(super) struct Changes {
    since: Instant,
    count: u32,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) event: Event,
    pub(super) arrived: Instant,
    pub(super) bytes: usize,
}

impl State {
    pub(super) fn configure(&mut self, track: TrackIndex, config: &Config, start: Instant) {
        if *self.tracks[track.get()].config == *config {
            return;
        }
        let config = Arc::new(config.clone());
        self.tracks[track.get()].config = Arc::clone(&config);
        self.tracks[track.get()].reconfigured = self.cutter.has_started();
        self.reconfigurations += 1;
        self.cutter.expect_discontinuity();
        self.declare(Event::Config { track, config }, start);
    }

    /// Adds a track of the source. Returns its index.
    pub(super) fn add(&mut self, name: TrackName, config: Config, start: Instant) -> TrackIndex {
        let (track, video) = (TrackIndex::new(self.tracks.len()), config.is_video());
        if video && !self.tracks[self.master.get()].config.is_video() {
            self.heir = Some(track);
        }
        self.timeline.add_track(track, video);
        self.begin_track(Track::new(name, Arc::new(config), true), start);
        track
    }

    /// Appends a track to the tracks and its beginning to the log.
    pub(super) fn begin_track(&mut self, track: Track, start: Instant) {
        let begun = track.start(TrackIndex::new(self.tracks.len()));
        self.tracks.push(track);
        self.declare(Event::Track(begun), start);
    }

    /// Counts a change of a track's configuration.
    ///
    /// # Errors
    /// [`Error::ChangesTooOften`].
    pub(super) fn count_change(&mut self, track: TrackIndex, start: Instant) -> Result<(), Error> {
        let now = self.log.back().map_or(start, |entry| entry.arrived);
        let recent =
            |changes: &Changes| now.saturating_duration_since(changes.since) < CHANGES_SPAN;
        let before = self.changes.filter(recent).unwrap_or(Changes { since: now, count: 0 });
        self.changes = Some(Changes { count: before.count + 1, ..before });
        if before.count < MAX_CHANGES {
            return Ok(());
        }
        Err(Error::ChangesTooOften {
            track: self.tracks[track.get()].name.clone(),
            limit: MAX_CHANGES,
        })
    }

    /// The media time at `now`.
    pub(super) fn media_time(&self, now: Instant) -> MediaTime {
        self.timeline.at(now)
    }

    /// Time for which the master has been silent.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        self.taken.map_or(Duration::ZERO, |taken| self.timeline.silence(taken, now))
    }

    /// Appends the start of a gap segment, and before it the cut rule if that has changed.
    pub(super) fn declare_gap(&mut self, mark: Mark, now: Instant) {
        self.declare_rule(now);
        self.append(Event::Gap(mark), now, 0);
    }

    /// Appends the cut rule if it has changed. Call it before each mark.
    fn declare_rule(&mut self, now: Instant) {
        let rule = CutRule {
            gridded: self.recovers || self.cutter.is_gridded(),
            longest: self.cutter.longest_span(),
        };
        if rule != self.rule {
            self.rule = rule;
            self.append(Event::Rule(rule), now, 0);
        }
    }

    /// Changes the number of renditions without a track, and appends it.
    pub(super) fn await_renditions(&mut self, awaited: usize, start: Instant) {
        self.awaited = awaited;
        self.declare(Event::Awaited(awaited), start);
    }

    /// Changes the presence of a publisher, and appends it. Nothing follows the end.
    pub(super) fn change_presence(&mut self, presence: Presence, start: Instant) {
        if self.presence != Presence::Ended && self.presence != presence {
            self.presence = presence;
            self.declare(Event::Presence(presence), start);
        }
    }

    /// Declares the gaps that are due at media time `time`. Returns whether all were declared.
    pub(super) fn declare_gaps(&mut self, time: MediaTime, now: Instant) -> bool {
        for _ in 0..MAX_GAPS {
            let Some(mark) = self.cutter.next_gap(time) else {
                return true;
            };
            self.declare_gap(mark, now);
        }
        false
    }

    /// Appends a frame of `track`, and before it the mark, gaps and changes that it causes.
    ///
    /// # Errors
    /// Why the frame is refused.
    pub(super) fn push(
        &mut self,
        track: TrackIndex,
        unit: AccessUnit,
        limits: &Limits,
    ) -> Result<Pushed, Refused> {
        let AccessUnit { dts: stamp, pts, key, independent, arrived, payload } = unit;
        // Media that an outage has made late are dropped before they are placed on the timeline.
        if self.timeline.leaves_out(track, stamp, key && track == self.master, arrived) {
            return Err(Refused::AfterOutage);
        }
        let placed = self.timeline.map(track, stamp, arrived).map_err(|_| Refused::TooFarAhead)?;
        // A refused frame reports nothing, so the notice is kept until a frame is accepted.
        self.notice = placed.notice.map(|notice| TrackNotice { track, notice }).or(self.notice);
        let mut dts = placed.dts;
        let composition = (pts - stamp) + (placed.stamp - placed.dts);
        let composition = self.bounded(track, key, composition);
        if track == self.master && key && !self.cutter.has_started() {
            self.read_stated_group(track, &payload);
        }
        // Only the master's frames start segments. The heir, video that was added to audio,
        // replaces the master with its first key frame that can start one.
        let mark = if track == self.master {
            self.cut(track, &mut dts, composition, key, arrived)?
        } else if self.heir == Some(track) {
            Some(self.succeed(track, &mut dts, composition, key, arrived)?)
        } else {
            None
        };
        if let Some(mark) = mark {
            self.recovers &= !mark.discontinuity;
            self.recovers |= key && !independent;
            self.declare_rule(arrived);
        }
        if track == self.master {
            self.taken = Some(Arrival { dts, arrived });
        }
        self.enter_group(track, dts, key, mark);
        let state = &mut self.tracks[track.get()];
        let timescale = state.config.timescale();
        let bytes = payload.len();
        state.frames += 1;
        state.bytes += bytes as u64;
        state.rate.add(bytes as u64, arrived);
        let frame = Frame {
            dts: Ticks::of(dts, timescale),
            pts: Ticks::of(dts + composition, timescale),
            key,
            independent,
            mark,
            arrived,
            payload,
        };
        self.append(Event::Frame { track, frame }, arrived, bytes);
        self.evict(limits, arrived);
        Ok(Pushed { resume_at: self.timeline.ahead_until(arrived), notice: self.notice.take() })
    }

    /// The composition of a frame of `track` within its bounds.
    fn bounded(&self, track: TrackIndex, key: bool, composition: MediaSpan) -> MediaSpan {
        match self.tracks[track.get()].config.is_video() {
            // No frame that is decoded after a key frame is shown before it.
            true if key => composition.clamp(MediaSpan::ZERO, MAX_COMPOSITION),
            true => composition.clamp(-MAX_COMPOSITION, MAX_COMPOSITION),
            false => MediaSpan::ZERO,
        }
    }

    /// Records where groups begin, before a frame of `track` is appended; `mark` is the one in
    /// front of it.
    fn enter_group(&mut self, track: TrackIndex, dts: MediaTime, key: bool, mark: Option<Mark>) {
        // From a mark on, each other track of the source begins a group with its own next frame. A
        // discontinuity lets the changed configurations of all tracks apply.
        let position = self.end();
        if let Some(mark) = mark {
            let sources = self.tracks.iter_mut().enumerate().filter(|(_, track)| track.source);
            for (index, track) in sources {
                track.next_group = (index != self.master.get()).then_some(mark.pts);
                track.reconfigured &= !mark.discontinuity;
            }
        }
        let state = &mut self.tracks[track.get()];
        // Groups of the other tracks start at the first frame after the mark, because any audio
        // frame can be decoded.
        let starts_group = match state.config.is_video() {
            true => key,
            false => mark.is_some() || state.next_group.is_some_and(|time| dts >= time),
        };
        if starts_group {
            state.group = Some(position);
            state.next_group = None;
        }
    }

    /// Reads the encoder's statement about its groups, in the first picture.
    fn read_stated_group(&mut self, track: TrackIndex, payload: &[u8]) {
        let Config::Avc(config) = &*self.tracks[track.get()].config else {
            return;
        };
        if let Some(frames) = avc::stated_group(payload) {
            let fps = config.frame_rate.unwrap_or(30.0);
            self.cutter.expect_groups(Duration::from_secs_f64(f64::from(frames) / fps));
        }
    }

    /// The mark before a frame of the master track, if it starts a segment.
    fn cut(
        &mut self,
        track: TrackIndex,
        dts: &mut MediaTime,
        composition: MediaSpan,
        key: bool,
        arrived: Instant,
    ) -> Result<Option<Mark>, Refused> {
        // Marks are on the presentation clock of key frames: decode time plus the reordering delay
        // of the key frame that started the segment.
        let video = self.tracks[track.get()].config.is_video();
        let reorder = match video {
            true if key => composition,
            true => self.reorder,
            false => MediaSpan::ZERO,
        };
        let presented = |dts: MediaTime, reorder: MediaSpan| dts + reorder;
        let time = self.cutter.after_newest(presented(*dts, reorder));
        if self.tracks[track.get()].reconfigured
            && video
            && !(key && self.cutter.takes_discontinuity(time))
        {
            // The configuration of the open segment does not decode this frame, and the next
            // segment does not start here.
            return Err(Refused::BeforeKeyFrame);
        }
        // A frame without a mark keeps the delay of the frames around it, which must not make the
        // segment too long either.
        let unmarked = presented(*dts, self.reorder);
        if (self.cutter.is_hole(time) || self.cutter.is_beyond(unmarked))
            && let Some(mark) = self.cutter.begin_gap(time)
        {
            self.cutter.resume_anywhere();
            self.declare_gap(mark, arrived);
        }
        // A frame that can end a gap first declares the gap segments up to its own time. If that
        // part of the gap is published already, the frame goes after it.
        let resumes = key || self.cutter.resumes_anywhere();
        let mut time = time;
        if let Some(from) = self.cutter.resume_from().filter(|_| resumes) {
            if !self.declare_gaps(self.cutter.hindsight(time.max(from)), arrived) {
                return Err(Refused::InGap);
            }
            if let Some(from) = self.delay_to_resume(track, dts, reorder, arrived) {
                time = from;
            }
        }
        // The cutter must be asked for each frame, because it remembers the newest one. Its `None`
        // has different causes: nothing has started yet, a gap cannot end here, or the frame simply
        // continues the segment.
        let was_gap = self.cutter.in_gap();
        let started = self.cutter.has_started();
        match self.cutter.frame(time, key) {
            Some(mark) => {
                self.reorder = reorder;
                Ok(Some(mark))
            }
            None if !started => Err(Refused::BeforeKeyFrame),
            None if was_gap && !key => Err(Refused::BeforeKeyFrame),
            None if was_gap => Err(Refused::InGap),
            None => {
                self.cutter.reach(unmarked);
                Ok(None)
            }
        }
    }

    /// Keeps a frame that is too late for its time, after a stall or a return, by placing it a
    /// little later if possible. Returns the time at which it resumes.
    fn delay_to_resume(
        &mut self,
        track: TrackIndex,
        dts: &mut MediaTime,
        reorder: MediaSpan,
        arrived: Instant,
    ) -> Option<MediaTime> {
        let from = self.cutter.resume_from()?;
        let later = from - (*dts + reorder);
        let delayed = later > MediaSpan::ZERO && self.timeline.delay(track, later, arrived);
        if delayed {
            *dts = *dts + later;
        }
        delayed.then_some(from)
    }

    /// Makes the heir the master if a segment can start with its frame. Returns the mark before the
    /// frame.
    fn succeed(
        &mut self,
        track: TrackIndex,
        dts: &mut MediaTime,
        composition: MediaSpan,
        key: bool,
        arrived: Instant,
    ) -> Result<Mark, Refused> {
        if !key {
            return Err(Refused::BeforeKeyFrame);
        }
        self.delay_to_resume(track, dts, composition, arrived);
        let mark = self.cutter.change_master(*dts + composition);
        let mark = mark.ok_or(Refused::BeforeKeyFrame)?;
        (self.master, self.heir) = (track, None);
        self.reorder = composition;
        Ok(mark)
    }

    /// Appends an event. `bytes` is the size of its payload or configuration; the entry itself is
    /// counted too, so that many small entries are bounded like few large ones.
    pub(super) fn append(&mut self, event: Event, arrived: Instant, bytes: usize) {
        let bytes = bytes + ENTRY_BYTES;
        self.bytes += bytes;
        self.log.push_back(Entry { event, arrived, bytes });
    }

    /// Appends an event that is not a frame, with the arrival of the newest entry, or `start` if
    /// the log is empty.
    pub(super) fn declare(&mut self, event: Event, start: Instant) {
        let arrived = self.log.back().map_or(start, |entry| entry.arrived);
        let bytes = match &event {
            Event::Config { config, .. } | Event::Track(TrackStart { config, .. }) => {
                config.held_bytes()
            }
            _ => 0,
        };
        self.append(event, arrived, bytes);
    }

    pub(super) fn end(&self) -> u64 {
        self.front + self.log.len() as u64
    }

    /// The position from which a reader gets the newest group of each track; `renditions`:
    /// including those of renditions.
    pub(super) fn newest_groups(&self, renditions: bool) -> u64 {
        self.tracks
            .iter()
            .filter(|track| renditions || track.source)
            .filter_map(|track| track.group)
            .min()
            .unwrap_or(self.end())
            .max(self.front)
    }

    /// For each track, the start of its newest group at or after `next`.
    pub(super) fn starts(&self, next: u64) -> Vec<u64> {
        self.tracks.iter().map(|track| track.group.unwrap_or(next).max(next)).collect()
    }

    /// The situation at `next`.
    pub(super) fn situation_at(&self, next: u64) -> Situation {
        let mut situation = self.oldest.clone();
        let before = usize::try_from(next - self.front).unwrap_or(usize::MAX);
        self.log.iter().take(before).for_each(|entry| situation.apply(&entry.event));
        situation
    }

    /// The track with the marks of the frames at `next`, where `tracks` have appeared: that of the
    /// first mark from there on. If that track appears later, the one that it replaces: the first
    /// of the broadcast.
    pub(super) fn master_at(&self, next: u64, tracks: usize) -> TrackIndex {
        let before = usize::try_from(next - self.front).unwrap_or(usize::MAX);
        let marked = self.log.iter().skip(before).find_map(|entry| match &entry.event {
            Event::Frame { track, frame } => frame.mark.is_some().then_some(*track),
            _ => None,
        });
        let master = marked.unwrap_or(self.master);
        if master.get() < tracks { master } else { TrackIndex::FIRST }
    }

    pub(super) fn evict(&mut self, limits: &Limits, now: Instant) {
        // Entries older than the limit leave, but not the newest groups, where lagging readers
        // continue. If there are too many bytes, even those leave.
        let keep = self.newest_groups(true);
        while let Some(entry) = self.log.front() {
            let old =
                self.front < keep && now.saturating_duration_since(entry.arrived) > limits.age;
            if !old && self.bytes <= limits.bytes {
                break;
            }
            self.bytes -= entry.bytes;
            self.front += 1;
            if let Some(entry) = self.log.pop_front() {
                self.oldest.apply(&entry.event);
            }
        }
    }
}
