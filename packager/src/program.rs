//! All tracks of one broadcast, in step: events of the hub in, segments and snapshots out. Sans-I/O: `now` is an argument.
//!
//! The master track (the source's video, else its audio) carries the marks. An audio track beside it is cut at its first access
//! unit at or after each mark; so its units are held until the master has come as far, and for a quarter of a second. Where audio stays
//! away it is filled with silence: no playlist falls behind the others.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use media_core::{
    Broadcast, Frame, Mark, Timescale,
    broadcast::{Event, Presence, TrackInfo},
    codec::Config,
};

use crate::{
    Presentation, Segment,
    dash::Periods,
    line::{Kind, Line},
    metrics::Metrics,
    rendered::Rendered,
    window::Window,
};

/// Audio that has come since is alive: it goes on while the master is in a gap.
const ALIVE: Duration = Duration::from_secs(1);
/// How many of the longest segments playlists reach back to at the least: a live list never holds less than three (RFC 8216bis
/// 6.2.2), and the oldest leaves while the newest is being made.
const LISTED_SEGMENTS: u32 = 4;
/// Units held at most; more than they wait for with any audio.
const MAX_HELD: usize = 1024;

/// One broadcast being packaged.
#[derive(Debug)]
pub struct Program {
    broadcast: Arc<Broadcast>,
    settings: Settings,
    metrics: Metrics,
    lines: Vec<Line>,
    /// Index of the track that carries marks.
    master: usize,
    /// How far the master has come: presentation time of its newest frame, 90 kHz.
    reached: i64,
    periods: Periods,
    /// We were too slow: what comes before the next mark belongs to a segment whose start was missed.
    skipping: bool,
    /// The first segment has a discontinuity before it: another broadcast was listed at this address.
    replaces: bool,
    ended: bool,
}

/// What all programs share.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Part duration aimed at.
    pub part: Duration,
    /// How far playlists reach back.
    pub window: Duration,
}

impl Program {
    /// Packages `broadcast`, whose tracks have these configurations where reading begins. `before`: the discontinuity sequence that
    /// another broadcast under its name had reached; this one then starts with a discontinuity.
    pub fn new(
        broadcast: Arc<Broadcast>,
        configs: &[Arc<Config>],
        settings: Settings,
        metrics: Metrics,
        before: Option<u64>,
    ) -> Self {
        let discontinuity = broadcast.first_discontinuity().max(before.unwrap_or(0));
        let line = |(info, config): (TrackInfo, &Arc<Config>)| {
            let window = Window::new(
                info.name,
                Arc::clone(config),
                discontinuity,
                settings.part,
                settings.window,
            );
            Line::new(window, Arc::clone(config), broadcast.anchor(), settings.part)
        };
        let lines: Vec<_> = broadcast.tracks().into_iter().zip(configs).map(line).collect();
        let master = lines.iter().position(|line| line.config.is_video()).unwrap_or(0);
        let periods = Periods::new(Timescale::VIDEO.ticks(broadcast.segment()));
        Self {
            broadcast,
            settings,
            metrics,
            lines,
            master,
            reached: i64::MIN,
            periods,
            skipping: false,
            replaces: before.is_some(),
            ended: false,
        }
    }

    /// Takes one event of the hub.
    pub fn apply(&mut self, event: Event, now: Instant) {
        match event {
            Event::Frame { track, frame } if track == self.master => self.master_frame(frame, now),
            Event::Frame { track, frame } => self.follower_frame(track, frame, now),
            Event::Config { track, config } => {
                if let Some(line) = self.lines.get_mut(track) {
                    line.config = config;
                }
            }
            Event::Absent { .. } => {}
            Event::Gap(mark) => self.gap(mark, now),
            Event::Lagged { frames, .. } => {
                self.metrics.drop_frames("packager_lagged", frames);
                self.skipping = true;
            }
        }
    }

    /// When [`Program::handle_timeout`] is due: held units, or the next gap part.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let held = self.lines.iter().filter_map(|line| match &line.kind {
            Kind::Audio(audio) => audio.held.front().map(|(frame, _)| frame.arrived + audio.hold()),
            Kind::Video(_) => None,
        });
        held.min()
    }

    /// Whether the clock, not the publisher, drives the window at present.
    pub fn in_gap(&self) -> bool {
        self.lines[self.master].segmenter.open().is_some_and(|open| open.gap)
    }

    /// Lets the clock act: units that waited long enough, and the parts of a gap up to now.
    pub fn handle_timeout(&mut self, now: Instant) {
        let master = &self.lines[self.master];
        let gap = master
            .segmenter
            .open()
            .filter(|open| open.gap)
            .map(|open| master.to_video(open.start));
        if let (Some(start), Some(time)) = (gap, self.broadcast.gap_time(now)) {
            self.reached = self.reached.max(time);
            // The next mark stands there at the latest, and may not have been seen yet.
            let time = time.min(start + Timescale::VIDEO.ticks(self.broadcast.segment()));
            for line in &mut self.lines {
                // Rounded down: what resumes does so at `time` or later.
                let until = Timescale::VIDEO.rescale(time, line.config.timescale()) - 1;
                line.dirty |= line.segmenter.push_gaps(until) > 0;
            }
        }
        self.release(now);
    }

    /// Nothing follows: completes what is open.
    pub fn finish(&mut self) {
        self.reached = i64::MAX;
        for index in 0..self.lines.len() {
            let line = &mut self.lines[index];
            match &mut line.kind {
                Kind::Video(clock) => {
                    if let Some((_, sample)) = clock.finish() {
                        line.push(sample, &self.metrics);
                    }
                }
                Kind::Audio(_) if index != self.master => self.release_line(index, None),
                Kind::Audio(_) => {}
            }
        }
        for line in &mut self.lines {
            // A gap that the clock began as it stopped: nothing was told of it.
            line.segmenter.discard_empty_gap();
        }
        let open = self.lines[self.master]
            .segmenter
            .open()
            .map(|open| (open.msn, open.start));
        for line in &mut self.lines {
            // A gap ends where its last part did: the clock that made it has stopped.
            let end = line.segmenter.open().map_or(0, Segment::end);
            line.close(end, &self.metrics);
        }
        if let Some((msn, start)) = open {
            let end = self.lines[self.master].window.end().unwrap_or(start);
            let duration = self.lines[self.master].to_video(end - start);
            self.periods.close(msn, duration);
        }
        self.ended = true;
    }

    /// The snapshot to serve, if something has changed since the last; with the tracks that have. None before each track has a
    /// complete segment.
    pub fn snapshot(&mut self) -> Option<(Presentation, Vec<usize>)> {
        let complete = self.lines.iter().all(|line| line.window.has_started());
        let changed: Vec<_> = (0..self.lines.len())
            .filter(|&index| self.lines[index].dirty || self.ended)
            .collect();
        if !complete || changed.is_empty() {
            return None;
        }
        let tracks: Vec<_> = self.lines.iter_mut().map(Line::snapshot).collect();
        let longest = tracks.iter().map(|track| track.part_target).max().unwrap_or_default();
        let segment = self.broadcast.segment();
        let master = &self.lines[self.master];
        let presentation = Presentation {
            broadcast: self.broadcast.id(),
            channel: self.broadcast.name().clone(),
            anchor_utc: self.broadcast.anchor().utc,
            ended: self.ended,
            end: if self.ended {
                master.to_video(master.window.end().unwrap_or(0))
            } else {
                0
            },
            segment,
            part: self.settings.part,
            window: self.settings.window,
            target_duration_s: self
                .broadcast
                .longest_segment()
                .as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(u64::MAX),
            part_hold_back: 3 * longest,
            rendered: Rendered::new(tracks.len()),
            tracks,
            periods: self.periods.snapshot(),
        };
        Some((presentation, changed))
    }

    fn master_frame(&mut self, frame: Frame, now: Instant) {
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
        match &mut line.kind {
            Kind::Video(clock) => {
                let decode = clock.place(&frame);
                if let Some((_, sample)) = clock.complete(decode) {
                    line.push(sample, &self.metrics);
                }
                self.reached = self.reached.max(decode);
                if let Some(mark) = mark {
                    self.cut_master(mark, decode, frame.key);
                }
                if let Kind::Video(clock) = &mut self.lines[self.master].kind {
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
                    self.cut_master(mark, at, true);
                }
                self.lines[self.master].push_unit(frame, &self.metrics);
            }
        }
    }

    /// Completes the frame that waits for the next, which will not come.
    fn complete_master(&mut self) {
        let line = &mut self.lines[self.master];
        if let Kind::Video(clock) = &mut line.kind
            && let Some((_, sample)) = clock.finish()
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

    /// A segment of the master track starts at `at`, in its ticks; the followers learn of it.
    fn cut_master(&mut self, mut mark: Mark, at: i64, key: bool) {
        mark.discontinuity |= std::mem::take(&mut self.replaces);
        if !self.lines[self.master].window.has_started() {
            let longest = self.broadcast.longest_segment();
            self.settings.window = self.settings.window.max(LISTED_SEGMENTS * longest);
            for line in &mut self.lines {
                line.window.reach_back(self.settings.window);
            }
        }
        let line = &mut self.lines[self.master];
        let first = line.segmenter.open().is_none();
        if (mark.discontinuity || first) && !Arc::ptr_eq(&line.config, line.window.config()) {
            line.window.configure(Arc::clone(&line.config));
        }
        let previous = line.segmenter.open().map(|open| (open.msn, open.start));
        line.close(at, &self.metrics);
        if let Some((msn, start)) = previous {
            self.periods.close(msn, self.lines[self.master].to_video(at - start));
        }
        self.lines[self.master].start(mark, at, key);
        for (index, line) in self.lines.iter_mut().enumerate() {
            if let Kind::Audio(audio) = &mut line.kind
                && index != self.master
            {
                audio.marks.push_back(mark);
            }
        }
        let inits: Vec<_> = self.lines.iter().map(|line| line.next_init(mark)).collect();
        let start = self.lines[self.master].to_video(at);
        self.periods.open(mark.msn, start, mark.gap, mark.discontinuity, &inits);
        if let Some(oldest) = self.lines.iter().filter_map(|line| line.window.oldest()).min() {
            self.periods.expire(oldest);
        }
    }

    fn follower_frame(&mut self, track: usize, frame: Frame, now: Instant) {
        let Some(line) = self.lines.get_mut(track) else {
            self.metrics.drop_frame("not_packaged");
            return;
        };
        let Kind::Audio(audio) = &mut line.kind else {
            self.metrics.drop_frame("not_packaged");
            return;
        };
        let time = line.config.timescale().rescale(frame.pts, Timescale::VIDEO);
        if self.reached > i64::MIN {
            // A peak that is forgotten over some hundred units.
            audio.lag = (audio.lag - audio.lag / 256).max(self.reached - time);
            audio.lead = (audio.lead - audio.lead / 256).max(time - self.reached);
        }
        audio.arrived = Some(frame.arrived);
        audio.held.push_back((frame, Arc::clone(&line.config)));
        if audio.held.len() > MAX_HELD {
            audio.held.pop_front();
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
        let mut at = Timescale::VIDEO.rescale(mark.pts, line.config.timescale());
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
        }
        self.cut_master(mark, at, false);
        let connected = self.broadcast.presence() == Presence::Live;
        for index in self.followers() {
            let alive = connected
                && match &self.lines[index].kind {
                    Kind::Audio(audio) => audio
                        .arrived
                        .is_some_and(|arrived| now.saturating_duration_since(arrived) < ALIVE),
                    Kind::Video(_) => false,
                };
            if alive {
                // The master alone is silent: its marks cut this track like any others.
                if let Kind::Audio(audio) = &mut self.lines[index].kind
                    && let Some(last) = audio.marks.back_mut()
                {
                    last.gap = false;
                }
                self.release_line(index, Some(now));
            } else {
                self.release_line(index, None);
                self.lines[index].cut_at_gap(&self.metrics);
            }
        }
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
        let line = &mut self.lines[index];
        let timescale = line.config.timescale();
        loop {
            let Kind::Audio(audio) = &mut line.kind else { return };
            let Some((frame, _)) = audio.held.front() else { break };
            let time = timescale.rescale(frame.pts, Timescale::VIDEO);
            let waited = now.is_none_or(|now| now.saturating_duration_since(frame.arrived) >= audio.hold());
            // To its end, so that a mark there is known as its part closes.
            let end = time.saturating_add(timescale.rescale(audio.clock.unit(), Timescale::VIDEO));
            if end > self.reached && !waited {
                break;
            }
            if let Some((frame, config)) = audio.held.pop_front() {
                line.take_unit(frame, &config, &self.metrics);
                line.cut_where_reached(&self.metrics);
            }
        }
        line.fill_to_marks(self.reached, self.broadcast.segment(), &self.metrics);
    }
}

#[cfg(test)]
mod tests;
