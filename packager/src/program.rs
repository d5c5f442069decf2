//! All tracks of one broadcast, in step: events of the hub in, segments and snapshots out. Sans-I/O: `now` is an argument.
//!
//! The master track (the source's video, else its audio) carries the marks. An audio track beside it is cut at its first access
//! unit at or after each mark; so its units are held until the master has come as far, and for a quarter of a second. Where audio stays
//! away it is filled with silence: no playlist falls behind the others. A rendition's video is cut at the same places (`follower`); it
//! appears when its first segment is complete, and what is served at first waits for those that have been announced.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use media_core::{
    Broadcast, Frame, Mark, Timescale,
    broadcast::{Consumer, Event, Presence, TrackInfo},
    codec::Config,
};

use crate::{
    Segment,
    metrics::Metrics,
    period::Periods,
    track::{Kind, Line, Role},
    window::Window,
};

mod listing;
mod memory;

use listing::Listing;
pub use memory::Full;
use memory::Memory;

/// Audio that has come since is alive: it goes on while the master is in a gap.
const ALIVE: Duration = Duration::from_secs(1);
/// How many of the longest segments playlists reach back to at the least: a live list never holds less than three (RFC 8216bis
/// 6.2.2), and the oldest leaves while the newest is being made.
const LISTED_SEGMENTS: u32 = 4;
/// Units held at most; more than they wait for with any audio.
const MAX_HELD: usize = 1024;
/// Cuts remembered for renditions that appear later, which come some seconds after the source at the most.
const MAX_HISTORY: usize = 16;

/// One broadcast being packaged.
#[derive(Debug)]
pub struct Program {
    broadcast: Arc<Broadcast>,
    settings: Settings,
    metrics: Metrics,
    /// By index in the broadcast's catalogue.
    lines: Vec<Line>,
    /// Index of the track that carries marks.
    master: usize,
    /// How far the master has come: presentation time of its newest frame, 90 kHz.
    reached: i64,
    /// The longest that a segment may be, as of the newest cut.
    longest: Duration,
    periods: Periods,
    listing: Listing,
    /// The newest cuts, oldest first.
    history: VecDeque<Past>,
    /// EXT-X-DISCONTINUITY-SEQUENCE of the next segment.
    discontinuities: u64,
    /// The master's segments start where no independent frame is.
    gridded: bool,
    /// We were too slow: what comes before the next mark belongs to a segment whose start was missed.
    skipping: bool,
    /// The first segment has a discontinuity before it: another broadcast was listed at this address.
    replaces: bool,
    ended: bool,
    memory: Memory,
}

/// What all programs share.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Part duration aimed at.
    pub part: Duration,
    /// How far playlists reach back.
    pub window: Duration,
    /// Memory that a broadcast may take, in bytes.
    pub window_bytes: usize,
}

/// A cut of the master that has been.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Past {
    pub(crate) mark: Mark,
    /// Where the master's segment starts, 90 kHz.
    pub(crate) start: i64,
    /// The mark is a gap's, and the master shows a still picture there: audio goes on.
    pub(crate) held: bool,
    /// EXT-X-DISCONTINUITY-SEQUENCE of the segment, its own discontinuity not counted.
    pub(crate) discontinuities: u64,
    pub(crate) gridded: bool,
}

impl Program {
    /// Packages the broadcast that `consumer` reads, from where its reading begins. `before`: the discontinuity sequence that
    /// another broadcast under its name had reached; this one then starts with a discontinuity.
    pub fn new(consumer: &Consumer, settings: Settings, metrics: Metrics, before: Option<u64>) -> Self {
        let broadcast = Arc::clone(consumer.broadcast());
        let discontinuity = broadcast.first_discontinuity().max(before.unwrap_or(0));
        let periods = Periods::new(Timescale::VIDEO.ticks(broadcast.segment()));
        let memory = Memory::new(settings.window_bytes, &metrics);
        let tracks = broadcast.tracks();
        let mut program = Self {
            broadcast,
            settings,
            metrics,
            lines: Vec::with_capacity(tracks.len()),
            master: consumer.master(),
            reached: i64::MIN,
            longest: Duration::MAX,
            periods,
            listing: Listing::default(),
            history: VecDeque::new(),
            discontinuities: discontinuity,
            gridded: false,
            skipping: false,
            replaces: before.is_some(),
            ended: false,
            memory,
        };
        let marked_by_video = consumer
            .configs()
            .get(program.master)
            .is_some_and(|(_, config)| config.is_video());
        for (info, (_, config)) in tracks.into_iter().zip(consumer.configs()) {
            // Video beside a master that is audio was added after the broadcast had begun.
            program.add(info, Arc::clone(config), config.is_video() && !marked_by_video);
        }
        program
    }

    /// Takes one event of the hub. The oldest segments leave early where more is held than there may
    /// be.
    ///
    /// # Errors
    /// [`Full`]: no more can leave. The broadcast cannot go on; no further event is to be applied.
    pub fn apply(&mut self, event: Event, now: Instant) -> Result<(), Full> {
        self.take(event, now);
        self.keep_within_memory()
    }

    fn take(&mut self, event: Event, now: Instant) {
        match event {
            Event::Frame { track, frame } if track == self.master => self.master_frame(frame, now),
            Event::Frame { track, frame } if frame.mark.is_some() && self.is_video(track) => {
                self.change_master(track, frame, now);
            }
            Event::Frame { track, frame } => self.follower_frame(track, frame, now),
            Event::Config { track, config } => self.configure(track, config),
            Event::Absent { track } => {
                if let Some(line) = self.lines.get_mut(track) {
                    line.lose(true);
                }
            }
            Event::Gap(mark) => self.gap(mark, now),
            Event::Lagged { frames, .. } => {
                self.metrics.drop_frames("packager_lagged", frames);
                self.skipping = true;
                for line in &mut self.lines {
                    line.lose(false);
                }
            }
        }
    }

    /// When [`Program::handle_timeout`] is due: held units, or the next gap part.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let held = self.lines.iter().filter_map(|line| match &line.kind {
            Kind::Audio(audio) => audio.first_held().map(|frame| frame.arrived + audio.hold()),
            Kind::Video(_) | Kind::Follower(_) => None,
        });
        held.min()
    }

    /// Whether the track with this index in the hub's catalogue is what the publisher sends.
    pub(crate) fn is_source(&self, track: usize) -> bool {
        self.lines.get(track).is_some_and(|line| !line.window.is_rendition())
    }

    fn is_video(&self, track: usize) -> bool {
        self.lines.get(track).is_some_and(|line| line.config.is_video())
    }

    /// Whether the clock, not the publisher, drives the window at present.
    pub fn in_gap(&self) -> bool {
        self.lines[self.master].segmenter.clocked().is_some()
    }

    /// Lets the clock act: units that waited long enough, and the parts of a gap up to now.
    pub fn handle_timeout(&mut self, now: Instant) {
        let master = &self.lines[self.master];
        let gap = master.segmenter.clocked().map(|open| master.to_video(open.start));
        if let (Some(start), Some(time)) = (gap, self.broadcast.gap_time(now)) {
            self.reached = self.reached.max(time);
            // The next mark stands there at the latest, and may not have been seen yet.
            let time = time.min(start + Timescale::VIDEO.ticks(self.broadcast.segment()));
            let apart = |line: &Line| matches!(line.kind, Kind::Follower(_));
            for line in self.lines.iter_mut().filter(|line| !apart(line)) {
                // Rounded down: what resumes does so at `time` or later.
                let until = line.in_ticks(time.min(line.next_cut())) - 1;
                line.dirty |= line.segmenter.push_gaps(until) > 0;
            }
        }
        self.release(now);
    }

    /// Nothing follows: completes what is open.
    pub fn finish(&mut self) {
        let listed: Vec<_> = self.lines.iter().map(|line| line.window.newest()).collect();
        self.reached = i64::MAX;
        self.complete_master();
        for index in self.followers() {
            if let Kind::Audio(_) = self.lines[index].kind {
                self.release_line(index, None);
            }
        }
        let open = self.lines[self.master]
            .segmenter
            .open()
            .map(|open| (open.msn, open.start));
        let apart = |line: &Line| matches!(line.kind, Kind::Follower(_));
        for line in self.lines.iter_mut().filter(|line| !apart(line)) {
            // A gap that the clock began as it stopped: nothing was told of it.
            line.segmenter.discard_empty_gap();
            line.dirty = true;
            // A gap ends where its last part did: the clock that made it has stopped.
            let end = line.segmenter.open().map_or(0, Segment::end);
            line.close(end, &self.metrics);
        }
        let window = &self.lines[self.master].window;
        if let (Some(last), Some(end)) = (window.newest(), window.end()) {
            let end = self.lines[self.master].to_video(end);
            for line in &mut self.lines {
                line.finish_following(last, end, &self.metrics);
            }
        }
        self.end_with_media(&listed);
        self.ended = true;
        self.list();
        if let Some((msn, start)) = open {
            let end = self.lines[self.master].window.end().unwrap_or(start);
            let duration = self.lines[self.master].to_video(end - start);
            self.periods.close(msn, duration);
        }
    }

    /// The lists end with the last media of their kind: no player reaches the end of a gap. `listed`: the newest segment of
    /// each track before the end.
    fn end_with_media(&mut self, listed: &[Option<u64>]) {
        let patience = self.broadcast.longest_segment();
        for video in [true, false] {
            let last = self
                .lines
                .iter()
                .filter(|line| line.config.is_video() == video)
                .filter_map(|line| line.window.last_media())
                .max();
            let lines = self.lines.iter_mut().zip(listed);
            for (line, listed) in lines.filter(|(line, _)| line.config.is_video() == video) {
                line.window.withdraw_gaps(last.unwrap_or(0), patience, *listed);
            }
        }
    }

    /// A track of the catalogue, after those that are known. `late`: it appeared after the broadcast had begun.
    fn add(&mut self, info: TrackInfo, config: Arc<Config>, late: bool) {
        let late = late || info.rendition;
        let role = match info.rendition {
            _ if self.lines.len() == self.master => Role::Master,
            true => Role::Rendition,
            false => Role::Source,
        };
        let Settings { part, window, .. } = self.settings;
        let mut window = Window::new(
            info.name,
            Arc::clone(&config),
            info.rendition,
            self.discontinuities,
            part,
            window,
        );
        if let Some(most) = self.listing.part_target() {
            window.limit_parts(most);
        }
        let mut line = Line::new(window, config, self.broadcast.anchor(), part, role, late);
        for past in &self.history {
            line.await_cut(past);
        }
        self.lines.push(line);
    }

    fn configure(&mut self, track: usize, config: Arc<Config>) {
        if let Some(line) = self.lines.get_mut(track) {
            line.configure(config);
        } else if track == self.lines.len()
            && let Some(info) = self.broadcast.tracks().into_iter().nth(track)
        {
            self.add(info, config, true);
        }
    }

    /// Video that came later than audio carries the marks from this frame on.
    fn change_master(&mut self, track: usize, frame: Frame, now: Instant) {
        if let Some(mark) = frame.mark {
            self.tell_of_missing(mark, now);
            let before = &self.lines[self.master];
            if let Some(open) = before.segmenter.open() {
                self.periods.close(open.msn, mark.pts - before.to_video(open.start));
            }
        }
        self.master = track;
        self.lines[track].lead(self.discontinuities);
        self.master_frame(frame, now);
    }

    fn master_frame(&mut self, frame: Frame, now: Instant) {
        let frame = self.lines[self.master].on_clock(frame);
        let mark = frame.mark;
        if std::mem::take(&mut self.skipping) {
            self.complete_master();
            self.skipping = mark.is_none();
        }
        if self.skipping {
            self.metrics.drop_frame("before_segment");
            return;
        }
        if let Some(mark) = mark {
            self.tell_of_missing(mark, now);
        }
        let line = &mut self.lines[self.master];
        if mark.is_none() && !Arc::ptr_eq(&line.config, line.window.config()) {
            // It needs another init segment, which comes with the next mark.
            self.metrics.drop_frame("before_discontinuity");
            return;
        }
        match &mut line.kind {
            Kind::Video(clock) => {
                let decode = clock.place(&frame);
                if let Some((_, sample)) = clock.complete(decode) {
                    line.push(sample, &self.metrics);
                }
                self.reached = self.reached.max(decode);
                if let Some(mark) = mark {
                    self.cut_master(mark, decode, frame.independent, false);
                }
                let line = &mut self.lines[self.master];
                if frame.key || mark.is_some() {
                    line.still = frame.independent.then(|| frame.payload.clone());
                }
                if let Kind::Video(clock) = &mut line.kind {
                    clock.hold(frame, decode);
                }
                self.release(now);
            }
            Kind::Audio(audio) => {
                if let Some(mark) = mark {
                    if line.segmenter.open().is_none_or(|open| open.gap) {
                        audio.clock.restart(frame.dts);
                    }
                    let at = audio.clock.next().unwrap_or(frame.dts);
                    self.cut_master(mark, at, true, false);
                }
                let line = &mut self.lines[self.master];
                self.reached = self.reached.max(line.to_video(frame.dts));
                line.push_unit(frame, &self.metrics);
                self.release(now);
            }
            Kind::Follower(_) => {}
        }
    }

    /// Completes the frame that waits for the next, which will not come.
    fn complete_master(&mut self) {
        let longest = Timescale::VIDEO.ticks(self.broadcast.longest_segment());
        let unknown = Timescale::VIDEO.ticks(self.settings.part);
        let line = &mut self.lines[self.master];
        let most = line
            .segmenter
            .open()
            .map_or(i64::MAX, |open| open.start.saturating_add(longest));
        if let Kind::Video(clock) = &mut line.kind
            && let Some((_, sample)) = clock.finish(unknown, most)
        {
            line.push(sample, &self.metrics);
        }
    }

    /// Segments whose marks we were too slow to see are gaps, and our fault: numbers have no holes.
    fn tell_of_missing(&mut self, mark: Mark, now: Instant) {
        let Some((msn, end)) = self.lines[self.master]
            .segmenter
            .open()
            .map(|open| (open.msn, open.start))
        else {
            return;
        };
        let missing = mark.msn.saturating_sub(msn + 1);
        if missing == 0 {
            return;
        }
        self.complete_master();
        let line = &self.lines[self.master];
        let end = line.to_video(line.edge().unwrap_or(end)).min(mark.pts);
        for n in 0..missing {
            let along =
                i64::try_from(u128::from(n) * u128::from((mark.pts - end).unsigned_abs()) / u128::from(missing));
            let pts = end + along.unwrap_or(0);
            self.start_gap(
                Mark {
                    msn: msn + 1 + n,
                    pts,
                    gap: true,
                    discontinuity: false,
                },
                now,
            );
        }
    }

    /// A segment of the master track starts at `at`, in its ticks; the followers learn of it. `alive`: the mark is a gap's, and
    /// audio goes on beside it.
    fn cut_master(&mut self, mut mark: Mark, at: i64, independent: bool, alive: bool) {
        self.longest = self.broadcast.longest_segment();
        mark.discontinuity |= std::mem::take(&mut self.replaces);
        // The mark that said so was missed, if it is not this one.
        mark.discontinuity |= (!mark.gap || alive) && self.discontinuity_is_due(mark.gap);
        if !self.lines[self.master].window.has_started() {
            self.settings.window = self.settings.window.max(LISTED_SEGMENTS * self.longest);
            for line in &mut self.lines {
                line.window.reach_back(self.settings.window);
            }
        }
        let line = &mut self.lines[self.master];
        let first = line.segmenter.open().is_none();
        // What a gap shows is of the configuration before it.
        line.renew_init(mark.discontinuity && !mark.gap || first);
        let previous = line.segmenter.open().map(|open| (open.msn, open.start));
        line.close(at, &self.metrics);
        if let Some((msn, start)) = previous {
            self.periods.close(msn, self.lines[self.master].to_video(at - start));
        }
        let line = &mut self.lines[self.master];
        let still = line.still_to_show().filter(|_| alive);
        let held = still.is_some();
        let gap = mark.gap && !held;
        line.start(Mark { gap, ..mark }, at, independent || held);
        if let Some(still) = still {
            line.segmenter.show(still);
            self.metrics.stills.inc();
        }
        let start = line.segmenter.open().map_or(at, |open| open.start);
        self.gridded &= mark.gap || !mark.discontinuity;
        self.gridded |= !independent && !mark.gap && self.broadcast.is_gridded();
        line.window.set_gridded(self.gridded);
        let past = Past {
            mark,
            start: line.to_video(start),
            held,
            discontinuities: self.discontinuities,
            gridded: self.gridded,
        };
        self.discontinuities += u64::from(mark.discontinuity);
        let resumes = self.history.back().is_some_and(|before| before.mark.gap);
        if self.history.len() == MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(past);
        for index in self.followers() {
            self.lines[index].await_cut(&past);
        }
        self.open_period(past, resumes);
        if let Some(oldest) = self.lines.iter().filter_map(|line| line.window.oldest()).min() {
            self.periods.expire(oldest);
        }
    }

    /// Whether a track of the source needs another init segment. One that starts late does not, before it has started; nor does
    /// the master in a `gap` of its frames.
    fn discontinuity_is_due(&self, gap: bool) -> bool {
        let mut lines = self.lines.iter().enumerate();
        lines.any(|(index, line)| {
            let silent = gap && index == self.master;
            !silent && line.segmenter.open().is_some() && line.wants_init()
        })
    }

    fn follower_frame(&mut self, track: usize, frame: Frame, now: Instant) {
        let Some(line) = self.lines.get_mut(track) else {
            self.metrics.drop_frame("not_packaged");
            return;
        };
        let frame = line.on_clock(frame);
        let Kind::Audio(audio) = &mut line.kind else {
            line.follow(frame, &self.metrics);
            return;
        };
        let time = line.window.timescale().rescale(frame.pts, Timescale::VIDEO);
        if self.reached > i64::MIN {
            // A peak that is forgotten over some hundred units.
            audio.lag = (audio.lag - audio.lag / 256).max(self.reached.saturating_sub(time));
            audio.lead = (audio.lead - audio.lead / 256).max(time.saturating_sub(self.reached));
        }
        audio.arrived = Some(frame.arrived);
        audio.hold_unit(frame, Arc::clone(&line.config));
        if audio.units_held() > MAX_HELD {
            audio.release_unit();
            self.metrics.drop_frame("audio_overrun");
        }
        self.release(now);
    }

    fn gap(&mut self, mark: Mark, now: Instant) {
        self.skipping = false;
        self.tell_of_missing(mark, now);
        self.start_gap(mark, now);
    }

    fn start_gap(&mut self, mark: Mark, now: Instant) {
        self.reached = self.reached.max(mark.pts);
        let line = &mut self.lines[self.master];
        let mut at = line.in_ticks(mark.pts);
        match &mut line.kind {
            Kind::Video(clock) => {
                let complete = clock.complete(at);
                if let Some((_, sample)) = complete {
                    line.push(sample, &self.metrics);
                }
            }
            Kind::Audio(_) => {
                at = line
                    .segmenter
                    .open()
                    .filter(|open| !open.gap)
                    .and(line.edge())
                    .unwrap_or(at)
            }
            Kind::Follower(_) => {}
        }
        let alive = self.audio_is_alive(now);
        self.cut_master(mark, at, false, alive);
        for index in self.followers() {
            if let Kind::Follower(_) = &self.lines[index].kind {
                self.release_line(index, Some(now));
            } else if alive {
                // The master alone is silent: its marks cut this track like any others.
                if let Kind::Audio(audio) = &mut self.lines[index].kind
                    && let Some(last) = audio.cuts.back_mut()
                {
                    last.mark.gap = false;
                }
                self.release_line(index, Some(now));
            } else {
                self.release_line(index, None);
                self.lines[index].cut_at_gap(&self.metrics);
            }
        }
    }

    /// Whether audio of the source goes on beside a master that is silent.
    fn audio_is_alive(&self, now: Instant) -> bool {
        let alive = |arrived| now.saturating_duration_since(arrived) < ALIVE;
        let goes_on = |index: usize| match &self.lines[index].kind {
            Kind::Audio(audio) => !self.lines[index].rendition && audio.arrived.is_some_and(alive),
            Kind::Video(_) | Kind::Follower(_) => false,
        };
        self.broadcast.presence() == Presence::Live && self.followers().any(goes_on)
    }

    /// How far the master has come, as far as its marks are known: in a gap the next stands T after the last at the latest, and may
    /// not have been seen yet.
    fn told(&self) -> i64 {
        let master = &self.lines[self.master];
        let next = master
            .segmenter
            .clocked()
            .map(|open| master.to_video(open.start) + Timescale::VIDEO.ticks(self.broadcast.segment()));
        next.map_or(self.reached, |next| self.reached.min(next))
    }

    /// Indices of the tracks that do not carry marks.
    fn followers(&self) -> impl Iterator<Item = usize> + use<> {
        let master = self.master;
        (0..self.lines.len()).filter(move |&index| index != master)
    }

    /// Lets go of the units that the master has reached, or that waited long enough.
    fn release(&mut self, now: Instant) {
        for index in self.followers() {
            self.release_line(index, Some(now));
        }
    }

    /// `now`: `None` to let all go.
    fn release_line(&mut self, index: usize, now: Option<Instant>) {
        let reached = self.told();
        let line = &mut self.lines[index];
        line.tell_missing(reached, &self.metrics);
        let timescale = line.window.timescale();
        loop {
            let Kind::Audio(audio) = &mut line.kind else { return };
            let Some(frame) = audio.first_held() else { break };
            let time = timescale.rescale(frame.pts, Timescale::VIDEO);
            let waited = now.is_none_or(|now| now.saturating_duration_since(frame.arrived) >= audio.hold());
            // To its end, so that a mark there is known as its part closes.
            let end = time.saturating_add(timescale.rescale(audio.clock.unit(), Timescale::VIDEO));
            if end > self.reached && !waited {
                break;
            }
            if let Some((frame, config)) = audio.release_unit() {
                line.take_unit(frame, &config, self.longest, &self.metrics);
                line.cut_where_reached(&self.metrics);
            }
        }
        line.fill_to_marks(self.reached, self.broadcast.segment(), &self.metrics);
        if let Some(now) = now {
            line.fill_parts(reached, now, &self.metrics);
        }
    }
}

#[cfg(test)]
mod tests;
