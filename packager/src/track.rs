//! A track of a program, from frames to segments. Its snapshot is [`presentation::Track`].
//!
//! The kinds of tracks differ in where their segments start and in how missing frames are replaced.
//! Each kind has its own methods, and this file only selects between them. All kinds write to the
//! same `output`.
//!
//! - `source`: video that carries the marks. `audio`: access units and silence. `follower`: a
//!   rendition's video.
//! - `output`: segmenter, window and init segments. `cut`: cuts that wait for a track's frames.
//! - `progress`: the time that the master has reached. `video_clock`, `audio_clock`: decode times.
//!   `silence`: AAC units that decode to silence.
//!
//! `program` passes the master's cuts to the other tracks.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use media_core::{Anchor, Frame, Mark, MediaTime, Ticks, codec::Config};

use crate::{Segment, metrics::Metrics, presentation, window::Window};

mod audio;
mod audio_clock;
mod cut;
#[cfg(test)]
mod fixture;
mod follower;
mod output;
mod progress;
pub(crate) mod silence;
mod source;
mod video_clock;

use audio::Audio;
pub(crate) use cut::Cut;
use follower::Follower;
use output::Output;
pub(crate) use progress::Progress;
use source::Source;

/// One track of a program.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) output: Output,
    kind: Kind,
}

/// How a track turns frames into samples and makes cuts.
#[derive(Debug)]
enum Kind {
    /// Video that carries the marks.
    Source(Source),
    /// Video that is cut at the master's marks.
    Follower(Box<Follower>),
    /// Audio, whether or not it carries the marks.
    Audio(Box<Audio>),
}

/// The role of a track in its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It carries the marks.
    Master,
    /// The publisher sends it, beside the master.
    Source,
    /// The ladder makes it of the source.
    Rendition,
}

/// The place of a frame of the master.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    /// Its decode time: a segment that starts with the frame starts there.
    pub(crate) decode: Ticks,
    /// The time that the master has reached with it.
    pub(crate) reached: MediaTime,
    /// A segment that starts with it is independent.
    pub(crate) independent: bool,
}

impl Track {
    /// A track without segments; `config` is that of its first frames. `late`: it appeared after
    /// the broadcast had begun.
    pub(crate) fn new(
        window: Window,
        config: Arc<Config>,
        anchor: Anchor,
        part: Duration,
        role: Role,
        late: bool,
    ) -> Self {
        // Video beside a master is cut at its marks, whether a rendition or a source that joined
        // later.
        let kind = match &*config {
            Config::Avc(_) if role == Role::Master => Kind::Source(Source::default()),
            Config::Avc(_) => Kind::Follower(Box::new(Follower::new())),
            Config::Aac(aac) => Kind::Audio(Box::new(Audio::new(aac))),
        };
        Self {
            output: Output::new(window, config, anchor, part, role == Role::Rendition, late),
            kind,
        }
    }

    // Queries.

    /// The open segment: its complete parts.
    pub(crate) fn open(&self) -> Option<&Segment> {
        self.output.segmenter.open()
    }

    /// Whether frames that arrive now are video.
    pub(crate) fn is_video(&self) -> bool {
        self.output.config.is_video()
    }

    /// Memory in use: complete segments, the open one, and units that wait.
    pub(crate) fn bytes(&self) -> usize {
        let waiting = match &self.kind {
            Kind::Audio(audio) => audio.bytes(),
            Kind::Source(_) | Kind::Follower(_) => 0,
        };
        self.output.bytes() + waiting
    }

    /// When [`Track::release`] is due even if the master has not reached the units that wait.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match &self.kind {
            Kind::Audio(audio) => audio.poll_timeout(),
            Kind::Source(_) | Kind::Follower(_) => None,
        }
    }

    /// Whether it is audio of the source, and units arrived in the `last` time before `now`.
    pub(crate) fn has_audio_since(&self, now: Instant, last: Duration) -> bool {
        let arrived = match &self.kind {
            Kind::Audio(audio) if !self.output.rendition => audio.arrived(),
            _ => None,
        };
        arrived.is_some_and(|arrived| now.saturating_duration_since(arrived) < last)
    }

    /// The init segment that segment `msn` needs, or will need. `None`: the track has, or will
    /// have, no such segment, or only a gap.
    pub(crate) fn init_of(&self, msn: u64) -> Option<u32> {
        if let Some(segment) = self.output.segment(msn) {
            return (!segment.gap).then_some(segment.init);
        }
        // Cuts that wait have planned their init segments already.
        let pending = match &self.kind {
            Kind::Source(_) => None,
            Kind::Follower(follower) => follower.pending(msn),
            Kind::Audio(audio) => audio.pending(msn),
        };
        pending.map(|pending| pending.init)
    }

    /// Whether the track makes no segments at present.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(&self.kind, Kind::Follower(follower) if follower.is_missing())
    }

    /// Whether media of a segment are missing, or will be, since the last call.
    pub(crate) fn take_interrupted(&mut self) -> bool {
        let lost = matches!(&self.kind, Kind::Follower(follower) if follower.is_interrupted());
        std::mem::take(&mut self.output.interrupted) || lost
    }

    /// The track as it is served.
    pub(crate) fn snapshot(&mut self) -> Arc<presentation::Track> {
        self.output.snapshot()
    }

    // Events of the hub.

    /// Frames that arrive from now on have this configuration; a rendition that was missing is
    /// expected again.
    pub(crate) fn configure(&mut self, config: Arc<Config>) {
        self.output.config = config;
        if let Kind::Follower(follower) = &mut self.kind {
            follower.recover_rendition(&mut self.output);
        }
    }

    /// Frames were missed. `absent`: and none follow until the track is configured again.
    pub(crate) fn lose(&mut self, absent: bool) {
        if let Kind::Follower(follower) = &mut self.kind {
            follower.lose(absent);
        }
    }

    /// Takes a frame of a track beside the master, which has `reached` this time. Returns whether
    /// the frame waits for the master: [`Track::release`] appends it.
    pub(crate) fn take(&mut self, frame: Frame, reached: MediaTime, metrics: &Metrics) -> bool {
        match &mut self.kind {
            Kind::Source(_) => false,
            Kind::Follower(follower) => {
                follower.take(&mut self.output, frame, reached, metrics);
                false
            }
            Kind::Audio(audio) => {
                audio.take(&self.output, frame, reached, metrics);
                true
            }
        }
    }

    // The master.

    /// The track carries the marks from here on, in place of audio. Its first segment, which is not
    /// there yet, has this discontinuity sequence.
    pub(crate) fn lead(&mut self, discontinuities: u64) {
        self.kind = Kind::Source(Source::default());
        self.output.window.begin(discontinuities);
    }

    /// Places a frame of the master, which may carry a mark. Call [`Track::cut`] at the mark next,
    /// then [`Track::append`]. `None` for a rendition, which is never the master.
    pub(crate) fn place(&mut self, frame: &Frame, metrics: &Metrics) -> Option<Position> {
        match &mut self.kind {
            Kind::Source(source) => {
                let decode = source.place(&mut self.output, frame, metrics);
                Some(Position {
                    decode,
                    reached: self.output.media_time(decode),
                    independent: frame.independent,
                })
            }
            Kind::Audio(audio) => Some(Position {
                decode: audio.place(&self.output, frame),
                reached: self.output.media_time(frame.dts),
                independent: true,
            }),
            Kind::Follower(_) => None,
        }
    }

    /// Appends a frame of the master that has been placed at `decode`.
    pub(crate) fn append(&mut self, frame: Frame, decode: Ticks, metrics: &Metrics) {
        match &mut self.kind {
            Kind::Source(source) => source.append(&mut self.output, frame, decode),
            Kind::Audio(audio) => audio.append(&mut self.output, frame, metrics),
            Kind::Follower(_) => {}
        }
    }

    /// Ends the master's media at a gap whose mark is at `pts`. Returns the start of the gap.
    pub(crate) fn end_media(&mut self, pts: MediaTime, metrics: &Metrics) -> Ticks {
        let at = self.output.in_ticks(pts);
        match &mut self.kind {
            Kind::Source(source) => {
                source.complete(&mut self.output, at, metrics);
                at
            }
            Kind::Audio(audio) => audio.end_media(&self.output, at),
            Kind::Follower(_) => at,
        }
    }

    /// The decode time of the next sample in the master's open segment.
    pub(crate) fn edge(&self) -> Option<Ticks> {
        match &self.kind {
            Kind::Audio(audio) => audio.edge(),
            Kind::Source(_) | Kind::Follower(_) => self.open().map(Segment::end),
        }
    }

    /// Completes the master's newest frame, after which none follows. It lasts `unknown` if it is
    /// the only one; its segment gets no longer than `longest`. Both are 90 kHz ticks.
    pub(crate) fn complete(&mut self, unknown: Ticks, longest: Ticks, metrics: &Metrics) {
        if let Kind::Source(source) = &mut self.kind {
            source.finish(&mut self.output, unknown, longest, metrics);
        }
    }

    /// Ends the master's open segment at `at`, and starts the next there. `alive`: the mark may be
    /// that of a gap, but audio continues. Returns whether a still picture takes the place of that
    /// gap.
    pub(crate) fn cut(
        &mut self,
        mark: Mark,
        at: Ticks,
        independent: bool,
        alive: bool,
        metrics: &Metrics,
    ) -> bool {
        let output = &mut self.output;
        let first = output.segmenter.open().is_none();
        // A gap does not change the init segment, because it may show a picture of the
        // configuration before it. Another sampling rate changes the durations of units from this
        // segment on.
        if output.renew_init(mark.discontinuity && !mark.gap || first)
            && let Kind::Audio(audio) = &mut self.kind
        {
            audio.configure(output.window.config());
        }
        output.close(at, metrics);
        // While audio continues, the master shows a picture in place of the gap. Without a picture
        // there is a gap.
        let still = output.still_to_show().filter(|_| alive);
        let held = still.is_some();
        let gap = mark.gap && !held;
        output.start(Mark { gap, ..mark }, at, independent || held);
        if let Some(still) = still {
            output.segmenter.show(still);
            metrics.stills.inc();
        }
        held
    }

    // Beside the master.

    /// The master has cut. This track makes the same cut at its own next frame.
    pub(crate) fn await_cut(&mut self, cut: &Cut) {
        let pending = self.output.plan_init(*cut);
        match &mut self.kind {
            Kind::Source(_) => {}
            Kind::Follower(follower) => follower.await_cut(pending),
            Kind::Audio(audio) => audio.await_cut(&self.output, pending),
        }
    }

    /// Takes the steps that are due at the master's progress: units that waited are appended, and
    /// missing frames are filled in or listed as gaps.
    pub(crate) fn release(&mut self, progress: &Progress, now: Instant, metrics: &Metrics) {
        match &mut self.kind {
            Kind::Source(_) => {}
            Kind::Follower(follower) => {
                follower.list_missing(&mut self.output, progress.marked, metrics)
            }
            Kind::Audio(audio) => audio.release(&mut self.output, progress, Some(now), metrics),
        }
    }

    /// The master has begun a gap. `alive`: audio continues beside it.
    pub(crate) fn meet_gap(
        &mut self,
        progress: &Progress,
        alive: bool,
        now: Instant,
        metrics: &Metrics,
    ) {
        match &mut self.kind {
            Kind::Source(_) => {}
            Kind::Follower(follower) => {
                follower.list_missing(&mut self.output, progress.marked, metrics)
            }
            Kind::Audio(audio) => audio.meet_gap(&mut self.output, progress, alive, now, metrics),
        }
    }

    /// Appends the parts that the clock makes in a gap, up to `time`. A rendition's gaps are listed
    /// by [`Track::release`].
    pub(crate) fn push_gaps(&mut self, time: MediaTime) {
        let until = match &self.kind {
            Kind::Source(_) => time,
            Kind::Audio(audio) => time.min(audio.next_cut()),
            Kind::Follower(_) => return,
        };
        self.output.push_gaps(until);
    }

    // The end.

    /// The broadcast is over, and this track is not the master: all units that wait are appended.
    pub(crate) fn release_all(&mut self, progress: &Progress, metrics: &Metrics) {
        if let Kind::Audio(audio) = &mut self.kind {
            audio.release(&mut self.output, progress, None, metrics);
        }
    }

    /// The broadcast is over: closes the open segment of the source's video, or of audio.
    pub(crate) fn finish(&mut self, metrics: &Metrics) {
        match &self.kind {
            Kind::Source(_) | Kind::Audio(_) => self.output.finish(metrics),
            Kind::Follower(_) => {}
        }
    }

    /// The broadcast is over: makes the cuts of a rendition's video up to segment `last` of the
    /// master, which ends at `end`, and closes the rest.
    pub(crate) fn finish_following(&mut self, last: u64, end: MediaTime, metrics: &Metrics) {
        if let Kind::Follower(follower) = &mut self.kind {
            follower.finish(&mut self.output, last, end, metrics);
        }
    }
}
