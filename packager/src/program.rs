//! All tracks of one broadcast, in step: events of the hub in, segments and snapshots out.
//! Sans-I/O: `now` is an argument, and a program reads nothing of its broadcast but its events and
//! facts that never change.
//!
//! The master track (the source's video, else its audio) carries the marks. Audio beside it is cut
//! at its first access unit at or after each mark, so its units are held until the master has
//! reached them, and for a quarter of a second. If audio stops, silence takes its place, so that no
//! playlist falls behind the others. A rendition's video is cut at the same places; it is listed
//! when its first segment is complete, and the first snapshot waits for renditions that are
//! announced.
//!
//! - `marks`: the master's cuts. `listed_tracks`: the tracks that are listed. `memory`: the bound
//!   on the bytes held.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use media_core::{
    Anchor, BroadcastId, ChannelName, Frame, Mark, MediaSpan, MediaTime, Ticks, Timescale,
    TrackIndex,
    broadcast::{Consumer, Event, Presence, Situation, TrackStart},
    settings::Latency,
};

use crate::{
    Presentation,
    metrics::Metrics,
    rendered::Rendered,
    track::{Progress, Role, Track},
    window::Window,
};

mod listed_tracks;
mod marks;
mod memory;

use listed_tracks::{ListedTracks, State};
use marks::Marks;
pub use memory::Full;
use memory::Memory;

/// Audio is alive if a unit arrived within this time: it continues while the master is in a gap.
const ALIVE: Duration = Duration::from_secs(1);
/// Playlists reach back this many of the longest segments at the least: a live list never holds
/// less than three (RFC 8216bis 6.2.2), and the oldest leaves while the newest is being made.
const LISTED_SEGMENTS: u32 = 4;

/// One broadcast being packaged.
///
/// Pass each event to [`Program::apply`], and call [`Program::handle_timeout`] when
/// [`Program::poll_timeout`] is due; take a [`Program::snapshot`] after either. [`Program::finish`]
/// ends it.
#[derive(Debug)]
pub struct Program {
    identity: Identity,
    /// The result of all events so far.
    situation: Situation,
    settings: Settings,
    metrics: Metrics,
    /// By index in the broadcast's catalogue.
    tracks: Vec<Track>,
    /// Index in the broadcast of the track that carries marks.
    master: TrackIndex,
    /// The time that the master has reached: presentation time of its newest frame.
    reached: MediaTime,
    /// The longest that a segment may be, as of the newest cut.
    longest: Duration,
    listed: ListedTracks,
    marks: Marks,
    /// The hub dropped frames that were not read in time. Frames before the next mark belong to a
    /// segment whose start was missed.
    skipping: bool,
    ended: bool,
    memory: Memory,
}

/// The facts about a broadcast that its events do not have. They never change.
#[derive(Debug)]
struct Identity {
    id: BroadcastId,
    channel: ChannelName,
    anchor: Anchor,
    /// The segment duration aimed at.
    segment: Duration,
    /// How far viewers are behind.
    latency: Latency,
}

/// A snapshot of a program.
#[derive(Debug)]
pub struct Snapshot {
    /// The presentation to serve.
    pub presentation: Presentation,
    /// Indices in the presentation of the tracks that have changed since the snapshot before.
    pub changed: Vec<TrackIndex>,
}

/// Settings that all programs share.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Part duration aimed at.
    pub part: Duration,
    /// How far playlists reach back.
    pub window: Duration,
    /// Memory that a broadcast may take, in bytes.
    pub window_bytes: usize,
}

impl Program {
    /// Packages the broadcast that `consumer` reads, from the consumer's position on. `before`: the
    /// discontinuity sequence that another broadcast under its name had reached; this one then
    /// starts with a discontinuity.
    pub fn new(
        consumer: &Consumer,
        settings: Settings,
        metrics: Metrics,
        before: Option<u64>,
    ) -> Self {
        let broadcast = consumer.broadcast();
        let discontinuity = broadcast.first_discontinuity().max(before.unwrap_or(0));
        let listed = ListedTracks::new(MediaSpan::from_duration(broadcast.segment()));
        let memory = Memory::new(settings.window_bytes, &metrics);
        let mut program = Self {
            identity: Identity {
                id: broadcast.id(),
                channel: broadcast.name().clone(),
                anchor: broadcast.anchor(),
                segment: broadcast.segment(),
                latency: broadcast.settings().latency,
            },
            situation: consumer.situation().clone(),
            settings,
            metrics,
            tracks: Vec::with_capacity(consumer.tracks().len()),
            master: consumer.master(),
            reached: MediaTime::MIN,
            longest: Duration::MAX,
            listed,
            marks: Marks::new(discontinuity, before.is_some()),
            skipping: false,
            ended: false,
            memory,
        };
        let master = consumer.tracks().get(program.master.get());
        let marked_by_video = master.is_some_and(|track| track.config.is_video());
        for track in consumer.tracks() {
            // Video beside a master that is audio was added after the broadcast had begun.
            program.add(track.clone(), track.config.is_video() && !marked_by_video);
        }
        program
    }

    // Queries.

    /// Memory that all tracks use, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        memory::held(&self.tracks)
    }

    /// When [`Program::handle_timeout`] is due for units that wait.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.tracks.iter().filter_map(Track::poll_timeout).min()
    }

    /// Whether the publisher sends the track with this index in the broadcast's catalogue.
    pub(crate) fn is_source(&self, track: TrackIndex) -> bool {
        self.tracks.get(track.get()).is_some_and(|track| !track.output.window.is_rendition())
    }

    /// The snapshot to serve. `None` if nothing has changed; before each track of the source has a
    /// complete segment; and while renditions are waited for.
    pub fn snapshot(&mut self) -> Option<Snapshot> {
        self.list();
        self.memory.count(&self.tracks);
        let shown = self.listed.shown();
        let is_changed = |index: &TrackIndex| self.tracks[index.get()].output.dirty || self.ended;
        let changed = shown.iter().enumerate().filter(|(_, index)| is_changed(index));
        let changed: Vec<_> = changed.map(|(listed, _)| TrackIndex::new(listed)).collect();
        if changed.is_empty() {
            return None;
        }
        let tracks: Vec<_> =
            shown.iter().map(|&index| self.tracks[index.get()].snapshot()).collect();
        let master = &self.tracks[self.master.get()].output;
        let end = master.window.end().filter(|_| self.ended);
        let longest_ms = self.situation.rule.longest_segment().as_millis();
        let presentation = Presentation {
            broadcast: self.identity.id,
            channel: self.identity.channel.clone(),
            anchor_utc: self.identity.anchor.utc,
            ended: self.ended,
            end: end.map_or(MediaTime::ZERO, |end| master.media_time(end)),
            segment: self.identity.segment,
            part: self.settings.part,
            window: self.settings.window,
            target_duration_s: longest_ms.div_ceil(1000).try_into().unwrap_or(u64::MAX),
            latency: self.identity.latency,
            part_hold_back: 3 * self.listed.part_target().unwrap_or_default(),
            rendered: Rendered::new(tracks.len()),
            tracks,
            periods: self.listed.periods(),
        };
        Some(Snapshot { presentation, changed })
    }

    // Events.

    /// Takes one event of the hub. The oldest segments leave early if more is held than the memory
    /// limit.
    ///
    /// # Errors
    /// [`Full`]: no more segments can leave. The broadcast cannot go on; no further event is to be
    /// applied.
    pub fn apply(&mut self, event: Event, now: Instant) -> Result<(), Full> {
        self.situation.apply(&event);
        self.take(event, now);
        let rule = self.situation.rule;
        self.memory.enforce(&mut self.tracks, rule, &self.metrics)
    }

    fn take(&mut self, event: Event, now: Instant) {
        match event {
            Event::Frame { track, frame } if track == self.master => self.master_frame(frame, now),
            Event::Frame { track, frame } if frame.mark.is_some() && self.is_video(track) => {
                self.change_master(track, frame, now);
            }
            Event::Frame { track, frame } => self.other_frame(track, frame, now),
            Event::Track(track) => self.add(track, true),
            Event::Config { track, config } => {
                if let Some(track) = self.tracks.get_mut(track.get()) {
                    track.configure(config);
                }
            }
            Event::Absent { track } => {
                if let Some(track) = self.tracks.get_mut(track.get()) {
                    track.lose(true);
                }
            }
            Event::Gap(mark) => self.gap(mark, now),
            Event::GapUntil(time) => self.gap_until(time, now),
            // The situation holds these, and `apply` has updated it.
            Event::Presence(_) | Event::Rule(_) | Event::Awaited(_) => {}
            Event::Lagged { frames, .. } => {
                self.metrics.drop_frames("packager_lagged", frames);
                self.skipping = true;
                for track in &mut self.tracks {
                    track.lose(false);
                }
            }
        }
    }

    fn is_video(&self, track: TrackIndex) -> bool {
        self.tracks.get(track.get()).is_some_and(Track::is_video)
    }

    /// Takes the steps that are due at `now`: units that have waited long enough are appended.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.release(now);
    }

    // The catalogue.

    /// Adds a track of the catalogue, after those that are known. `late`: it appeared after the
    /// broadcast had begun.
    fn add(&mut self, begun: TrackStart, late: bool) {
        let TrackStart { name, rendition, config, .. } = begun;
        // The first snapshot does not need renditions, so they join like tracks that appear later.
        let late = late || rendition;
        let role = match rendition {
            _ if self.tracks.len() == self.master.get() => Role::Master,
            true => Role::Rendition,
            false => Role::Source,
        };
        let Settings { part, window, .. } = self.settings;
        let mut window = Window::new(
            name,
            Arc::clone(&config),
            rendition,
            self.marks.discontinuities(),
            part,
            window,
        );
        if let Some(most) = self.listed.part_target() {
            window.limit_parts(most);
        }
        let mut track = Track::new(window, config, self.identity.anchor, part, role, late);
        for cut in self.marks.history() {
            track.await_cut(cut);
        }
        self.tracks.push(track);
    }

    // Frames.

    /// Video that appeared later than audio carries the marks from this frame on.
    fn change_master(&mut self, track: TrackIndex, frame: Frame, now: Instant) {
        if let Some(mark) = frame.mark {
            self.list_missed(mark, now);
            let before = &self.tracks[self.master.get()];
            if let Some(open) = before.open() {
                let duration = mark.pts - before.output.media_time(open.start);
                self.listed.close_period(open.msn, duration);
            }
        }
        self.master = track;
        self.tracks[track.get()].lead(self.marks.discontinuities());
        self.master_frame(frame, now);
    }

    fn master_frame(&mut self, frame: Frame, now: Instant) {
        let frame = self.tracks[self.master.get()].output.on_clock(frame);
        let mark = frame.mark;
        // Frames were missed. The newest before the hole is complete, and those up to the next mark
        // have no segment.
        if std::mem::take(&mut self.skipping) {
            self.complete_master();
            self.skipping = mark.is_none();
        }
        if self.skipping {
            self.metrics.drop_frame("before_segment");
            return;
        }
        if let Some(mark) = mark {
            self.list_missed(mark, now);
        }
        let track = &mut self.tracks[self.master.get()];
        if mark.is_none() && track.output.awaits_init() {
            // The frame needs another init segment, which starts at the next mark.
            self.metrics.drop_frame("before_discontinuity");
            return;
        }
        let Some(position) = track.place(&frame, &self.metrics) else {
            return;
        };
        // The cut is made between placing and appending, because placing completes the frame
        // before, which is the last of the old segment, and this frame is the first of the next.
        self.reached = self.reached.max(position.reached);
        if let Some(mark) = mark {
            self.cut(mark, position.decode, position.independent, false);
        }
        self.tracks[self.master.get()].append(frame, position.decode, &self.metrics);
        self.release(now);
    }

    /// Takes a frame of a track beside the master.
    fn other_frame(&mut self, track: TrackIndex, frame: Frame, now: Instant) {
        let Some(track) = self.tracks.get_mut(track.get()) else {
            self.metrics.drop_frame("not_packaged");
            return;
        };
        let frame = track.output.on_clock(frame);
        if track.take(frame, self.reached, &self.metrics) {
            self.release(now);
        }
    }

    /// Completes the master's newest frame, after which none follows.
    fn complete_master(&mut self) {
        let longest = self.situation.rule.longest_segment();
        let longest = Ticks::from_duration(longest, Timescale::VIDEO);
        let unknown = Ticks::from_duration(self.settings.part, Timescale::VIDEO);
        self.tracks[self.master.get()].complete(unknown, longest, &self.metrics);
    }

    // Cuts.

    /// A segment of the master starts at `at`, on its clock, and cuts wait on the other tracks.
    /// `alive`: the mark may be that of a gap, but audio continues beside it.
    fn cut(&mut self, mark: Mark, at: Ticks, independent: bool, alive: bool) {
        self.longest = self.situation.rule.longest_segment();
        let due = (!mark.gap || alive) && self.discontinuity_is_due(mark.gap);
        let mark = self.marks.settle(mark, due);
        self.reach_back();
        let track = &mut self.tracks[self.master.get()];
        let previous = track.open().map(|open| (open.msn, open.start));
        let held = track.cut(mark, at, independent, alive, &self.metrics);
        if let Some((msn, start)) = previous {
            self.listed.close_period(msn, track.output.span(at - start));
        }
        let gridded = self.marks.regrid(mark, independent, self.situation.rule.gridded);
        track.output.window.set_gridded(gridded);
        let start = track.open().map_or(at, |open| open.start);
        let cut = self.marks.push(mark, track.output.media_time(start), held);
        for track in beside(&mut self.tracks, self.master) {
            track.await_cut(&cut);
        }
        self.listed.open_period(&mut self.tracks, &cut, self.marks.resumes());
        let oldest = self.tracks.iter().filter_map(|track| track.output.window.oldest());
        if let Some(oldest) = oldest.min() {
            self.listed.expire_periods(oldest);
        }
    }

    /// Before the first segment is complete: playlists reach back at least [`LISTED_SEGMENTS`] of
    /// the longest segments.
    fn reach_back(&mut self) {
        if self.tracks[self.master.get()].output.window.has_started() {
            return;
        }
        self.settings.window = self.settings.window.max(LISTED_SEGMENTS * self.longest);
        for track in &mut self.tracks {
            track.output.window.reach_back(self.settings.window);
        }
    }

    /// Whether a track of the source needs another init segment. A track that starts late does not
    /// before it has started; nor does the master in a `gap` of its frames.
    fn discontinuity_is_due(&self, gap: bool) -> bool {
        let mut tracks = self.tracks.iter().enumerate();
        tracks.any(|(index, track)| {
            let silent = gap && index == self.master.get();
            !silent && track.open().is_some() && track.output.wants_init()
        })
    }

    // Gaps.

    fn gap(&mut self, mark: Mark, now: Instant) {
        self.skipping = false;
        self.list_missed(mark, now);
        self.start_gap(mark, now);
    }

    /// The open gap lasts until `time` or longer: its parts are made up to there.
    fn gap_until(&mut self, time: MediaTime, now: Instant) {
        let master = &self.tracks[self.master.get()].output;
        let Some(start) = master.segmenter.clocked().map(|open| master.media_time(open.start))
        else {
            return;
        };
        self.reached = self.reached.max(time);
        // The next mark is at that time at the latest. It may have been missed.
        let time = time.min(start + MediaSpan::from_duration(self.identity.segment));
        for track in &mut self.tracks {
            track.push_gaps(time);
        }
        self.release(now);
    }

    /// Segments whose marks the hub dropped before they were read are listed as gaps: numbers have
    /// no holes. `mark` is the next that was read.
    fn list_missed(&mut self, mark: Mark, now: Instant) {
        let open = self.tracks[self.master.get()].open();
        let Some((msn, start)) = open.map(|open| (open.msn, open.start)) else {
            return;
        };
        // The numbers between the open segment and the mark belong to segments that were not read.
        let missing = mark.msn.saturating_sub(msn + 1);
        if missing == 0 {
            return;
        }
        self.complete_master();
        let track = &self.tracks[self.master.get()];
        let end = track.edge().unwrap_or(start);
        let end = track.output.media_time(end).min(mark.pts);
        // They share the time from the end of media to the mark.
        let span = u128::from((mark.pts - end).ticks().unsigned_abs());
        for n in 0..missing {
            let along = i64::try_from(u128::from(n) * span / u128::from(missing));
            self.start_gap(
                Mark {
                    msn: msn + 1 + n,
                    pts: end + MediaSpan::from_ticks(along.unwrap_or(0)),
                    gap: true,
                    discontinuity: false,
                },
                now,
            );
        }
    }

    fn start_gap(&mut self, mark: Mark, now: Instant) {
        self.reached = self.reached.max(mark.pts);
        // The newest frame lasts until the gap. Units of audio that are held then belong before it,
        // or go on beside it.
        let at = self.tracks[self.master.get()].end_media(mark.pts, &self.metrics);
        let alive = self.audio_is_alive(now);
        self.cut(mark, at, false, alive);
        let progress = self.progress();
        for track in beside(&mut self.tracks, self.master) {
            track.meet_gap(&progress, alive, now, &self.metrics);
        }
    }

    /// Whether audio of the source continues beside a master that is silent.
    fn audio_is_alive(&self, now: Instant) -> bool {
        let mut tracks = self.tracks.iter().enumerate();
        self.situation.presence == Presence::Live
            && tracks.any(|(index, track)| {
                index != self.master.get() && track.has_audio_since(now, ALIVE)
            })
    }

    // Progress.

    fn progress(&self) -> Progress {
        let master = &self.tracks[self.master.get()].output;
        let segment = self.identity.segment;
        // In a gap the next mark is one segment after the last at the latest, and may not have been
        // seen yet.
        let next = master.segmenter.clocked();
        let next =
            next.map(|open| master.media_time(open.start) + MediaSpan::from_duration(segment));
        Progress {
            reached: self.reached,
            marked: next.map_or(self.reached, |next| self.reached.min(next)),
            segment,
            longest: self.longest,
        }
    }

    /// Appends the units that the master has reached, or that have waited long enough.
    fn release(&mut self, now: Instant) {
        let progress = self.progress();
        for track in beside(&mut self.tracks, self.master) {
            track.release(&progress, now, &self.metrics);
        }
    }

    /// Adds the tracks that can be listed by now.
    fn list(&mut self) {
        let state = State {
            segment: self.identity.segment,
            awaited: self.situation.awaited,
            history: self.marks.history(),
            reached: self.reached,
            ended: self.ended,
        };
        self.listed.update(&mut self.tracks, &state);
    }

    // The end.

    /// The broadcast is over: completes the open segments.
    pub fn finish(&mut self) {
        let listed: Vec<_> = self.tracks.iter().map(|track| track.output.window.newest()).collect();
        // Nothing waits for the master any more, because none of its frames follow.
        self.reached = MediaTime::MAX;
        self.complete_master();
        let progress = self.progress();
        for track in beside(&mut self.tracks, self.master) {
            track.release_all(&progress, &self.metrics);
        }
        let open = self.tracks[self.master.get()].open();
        let open = open.map(|open| (open.msn, open.start));
        for track in &mut self.tracks {
            track.finish(&self.metrics);
        }
        // Renditions end where the source does, which is known only now.
        let master = &self.tracks[self.master.get()].output;
        if let (Some(last), Some(end)) = (master.window.newest(), master.window.end()) {
            let end = master.media_time(end);
            for track in &mut self.tracks {
                track.finish_following(last, end, &self.metrics);
            }
        }
        self.end_with_media(&listed);
        self.ended = true;
        self.list();
        if let Some((msn, start)) = open {
            let master = &self.tracks[self.master.get()].output;
            let end = master.window.end().unwrap_or(start);
            self.listed.close_period(msn, master.span(end - start));
        }
    }

    /// The lists end with the last media of their kind, because no player reaches the end of a gap.
    /// `listed`: the newest segment of each track before the end.
    fn end_with_media(&mut self, listed: &[Option<u64>]) {
        let patience = self.situation.rule.longest_segment();
        // Video and audio end at their own last media, because a rendition of one kind replaces
        // only its own kind.
        for video in [true, false] {
            let of_kind = self.tracks.iter().filter(|track| track.is_video() == video);
            let last = of_kind.filter_map(|track| track.output.window.last_media()).max();
            let tracks = self.tracks.iter_mut().zip(listed);
            for (track, listed) in tracks.filter(|(track, _)| track.is_video() == video) {
                track.output.window.withdraw_gaps(last.unwrap_or(0), patience, *listed);
            }
        }
    }
}

/// The tracks that do not carry marks.
fn beside(tracks: &mut [Track], master: TrackIndex) -> impl Iterator<Item = &mut Track> {
    let tracks = tracks.iter_mut().enumerate();
    tracks.filter(move |(index, _)| *index != master.get()).map(|(_, track)| track)
}

#[cfg(test)]
mod tests;
