//! One publisher's tracks in one bounded log, a handle that publishes and handles that read.
//!
//! The log keeps the order of arrival over all tracks. A group is a sequence of a track's frames
//! from a position where decoding can start: a key frame for video, a cut mark for audio.
//! Publishing never waits for a subscriber: the log is bounded by age and by bytes, and a
//! subscriber that falls out of it continues at the newest groups and gets the number of lost
//! frames.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::Notify;

mod consumer;
mod health;
mod log;
mod rendition;
mod situation;

pub use crate::timeline::Notice;
pub use consumer::Consumer;
pub use health::Health;
use log::State;
pub use rendition::{OutOfOrder, Rendition};
pub use situation::{CutRule, Situation, TrackStart};

use crate::{
    AccessUnit, Anchor, BroadcastId, ChannelName, Error, Frame, Mark, MediaTime, Timescale,
    TrackIndex, TrackName, codec::Config, cut::Cutter, hub::Numbers, timeline::Timeline,
    track::Track,
};

/// Maximum number of tracks of a broadcast.
pub const MAX_TRACKS: usize = 16;
/// Limits of a broadcast's memory, and the duration of its segments.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Payload bytes held for subscribers; the oldest entries are removed first, even of the newest
    /// group.
    pub bytes: usize,
    /// Age after which frames before the newest groups are removed.
    pub age: Duration,
    /// T of the cut rule: the intended segment duration.
    pub segment: Duration,
    /// Silence of a connected publisher after which a gap is declared.
    pub stall: Duration,
}

/// A live broadcast, shared by its publisher and all readers.
#[derive(Debug)]
pub struct Broadcast {
    id: BroadcastId,
    name: ChannelName,
    anchor: Anchor,
    first: Numbers,
    limits: Limits,
    state: Mutex<State>,
    health: Mutex<Health>,
    changed: Notify,
    /// Notified once, at the end.
    over: Notify,
}

/// Whether a publisher is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// A publisher is connected.
    Live,
    /// The publisher has left and may return. The time is known after the next
    /// [`Broadcast::advance`].
    Away(Option<Instant>),
    /// The broadcast has ended; at most renditions have further events.
    Ended,
}

/// An entry of the log.
#[derive(Debug, Clone)]
pub enum Event {
    /// A frame of the track with this index.
    Frame {
        /// Index in [`Broadcast::tracks`].
        track: TrackIndex,
        /// The frame.
        frame: Frame,
    },
    /// A track appears, after those of [`Consumer::situation`].
    Track(TrackStart),
    /// The configuration of the track's next frames changes. A rendition that was
    /// [absent](Event::Absent) returns with this event.
    Config {
        /// Index in [`Broadcast::tracks`].
        track: TrackIndex,
        /// The new configuration: of the same codec family, but possibly with another profile, size
        /// or sampling rate.
        config: Arc<Config>,
    },
    /// This rendition has no frames until its next [`Event::Config`], because it has no worker at
    /// present.
    Absent {
        /// Index in [`Broadcast::tracks`].
        track: TrackIndex,
    },
    /// A gap segment starts here, in every rendition, because no frames arrive.
    Gap(Mark),
    /// The open gap is published up to this time, which is later than before: readers make its
    /// parts up to there, and media resume there or later. [`crate::Hub::advance`] appends it.
    GapUntil(MediaTime),
    /// The publisher has left or has returned, or the broadcast has ended. After
    /// [`Presence::Ended`] only renditions have events.
    Presence(Presence),
    /// The next segments are cut by another rule.
    Rule(CutRule),
    /// Number of announced renditions that have no track yet, after a change.
    Awaited(usize),
    /// The subscriber was too slow, and continues at the newest groups.
    Lagged {
        /// Number of lost frames.
        frames: u64,
        /// Their payload bytes, as far as the log still has them.
        bytes: u64,
    },
}

/// The result for an accepted frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Set if all tracks of the publisher lead the wall clock: nothing more should be read from it
    /// until then, so that no frame is refused as [too far ahead](Refused::TooFarAhead).
    pub resume_at: Option<Instant>,
    /// A track was given another offset since the last accepted frame.
    pub notice: Option<TrackNotice>,
}

/// A track was given another offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackNotice {
    /// Its index in [`Broadcast::tracks`].
    pub track: TrackIndex,
    /// The cause.
    pub notice: Notice,
}

/// Why a frame was refused. The caller counts each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The broadcast begins, or resumes, with a key frame, and this frame is none.
    BeforeKeyFrame,
    /// Its time lies in a published gap.
    InGap,
    /// It would lead the wall clock by more than 5 s.
    TooFarAhead,
    /// It waited behind an outage of the publisher, or belongs to a burst at its start
    /// ([`Producer::drop_lead`](crate::hub::Producer::drop_lead)), which would otherwise remain as
    /// latency. It is dropped, with all frames up to a key frame.
    AfterOutage,
    /// The broadcast has ended.
    Ended,
    /// Another publisher has taken over.
    Superseded,
}

/// Information about one track, for listings.
#[derive(Debug, Clone)]
pub struct TrackInfo {
    /// Its name.
    pub name: TrackName,
    /// Whether the ladder made it here of the source.
    pub rendition: bool,
    /// Its present configuration.
    pub config: Arc<Config>,
    /// Frames since the start.
    pub frames: u64,
    /// Payload bytes since the start.
    pub bytes: u64,
    /// Bits a second over the last seconds.
    pub bitrate_bps: u64,
}

impl Broadcast {
    pub(crate) fn new(
        name: ChannelName,
        tracks: Vec<(TrackName, Config)>,
        limits: Limits,
        first: Numbers,
        now: Instant,
        utc: SystemTime,
    ) -> Result<Self, Error> {
        let distinct = tracks
            .iter()
            .enumerate()
            .all(|(n, (name, _))| tracks[..n].iter().all(|(other, _)| other != name));
        if tracks.is_empty() || tracks.len() > MAX_TRACKS || !distinct {
            return Err(Error::BadCatalogue { len: tracks.len(), max: MAX_TRACKS });
        }
        let anchor = Anchor::new(now, utc);
        let is_video: Vec<_> = tracks.iter().map(|(_, config)| config.is_video()).collect();
        let video = is_video.iter().position(|video| *video);
        let cutter = Cutter::new(limits.segment, first.msn, video.is_some());
        let tracks: Vec<_> = tracks
            .into_iter()
            .map(|(name, config)| Track::new(name, Arc::new(config), true))
            .collect();
        let situation = Situation {
            tracks: tracks
                .iter()
                .enumerate()
                .map(|(index, track)| track.start(TrackIndex::new(index)))
                .collect(),
            presence: Presence::Live,
            rule: CutRule { gridded: false, longest: cutter.longest_ticks() },
            awaited: 0,
        };
        let state = State {
            attached: 0,
            awaited: 0,
            master: video.map_or(TrackIndex::FIRST, TrackIndex::new),
            heir: None,
            timeline: Timeline::new(anchor, &is_video),
            tracks,
            log: VecDeque::new(),
            front: 0,
            bytes: 0,
            rule: situation.rule,
            cutter,
            recovers: false,
            reorder: 0,
            taken: None,
            changes: None,
            reconfigurations: 0,
            notice: None,
            presence: Presence::Live,
            oldest: situation,
            publisher: 0,
        };
        let id = BroadcastId::new(utc);
        Ok(Self {
            id,
            name,
            anchor,
            first,
            limits,
            state: Mutex::new(state),
            health: Mutex::default(),
            changed: Notify::new(),
            over: Notify::new(),
        })
    }

    /// Its identity.
    pub fn id(&self) -> BroadcastId {
        self.id
    }

    /// The channel under which it is published.
    pub fn name(&self) -> &ChannelName {
        &self.name
    }

    /// Media time zero on both clocks.
    pub fn anchor(&self) -> Anchor {
        self.anchor
    }

    /// The first segment's media sequence number: the Unix time at the start in seconds, or a
    /// higher one above all numbers of the channel's earlier broadcasts.
    pub fn first_msn(&self) -> u64 {
        self.first.msn
    }

    /// The first discontinuity sequence: see [`Numbers`].
    pub fn first_discontinuity(&self) -> u64 {
        self.first.discontinuity
    }

    /// Numbers above those of all its segments.
    pub(crate) fn next_numbers(&self) -> Numbers {
        let state = self.lock();
        Numbers {
            msn: state.cutter.next_msn(),
            // The first segment may have a discontinuity because it replaced another broadcast's.
            // Its packager may add one for each change of configuration, in a gap or after a missed
            // mark.
            discontinuity: self.first.discontinuity
                + state.cutter.discontinuities()
                + state.reconfigurations
                + 1,
        }
    }

    /// T of the cut rule.
    pub fn segment(&self) -> Duration {
        self.limits.segment
    }

    /// The tracks, in the order of the indices in events.
    pub fn tracks(&self) -> Vec<TrackInfo> {
        let state = self.lock();
        let info = |track: &Track| TrackInfo {
            name: track.name.clone(),
            rendition: !track.source,
            config: Arc::clone(&track.config),
            frames: track.frames,
            bytes: track.bytes,
            bitrate_bps: track.rate.bps,
        };
        state.tracks.iter().map(info).collect()
    }

    /// Whether an announced rendition has no track yet.
    pub fn awaits_renditions(&self) -> bool {
        self.lock().awaited > 0
    }

    /// Whether a publisher is connected.
    pub fn presence(&self) -> Presence {
        self.lock().presence
    }

    /// The longest duration of a segment; final when the first segment has ended (see
    /// [`crate::cut`]).
    pub fn longest_segment(&self) -> Duration {
        self.lock().cutter.longest()
    }

    /// Whether segments start where players cannot: without a key frame, or at recovery points.
    pub fn is_gridded(&self) -> bool {
        let state = self.lock();
        state.recovers || state.cutter.is_gridded()
    }

    /// Number of entries held for subscribers, and their size in bytes.
    pub fn held(&self) -> (usize, usize) {
        let state = self.lock();
        (state.log.len(), state.bytes)
    }

    /// The media time at `now`: the newest frame's, plus the time since its arrival.
    pub fn media_time(&self, now: Instant) -> MediaTime {
        self.lock().media_time(now)
    }

    /// The time up to which the open gap has been published: media resume there or later. `None`
    /// without an open gap.
    pub fn gap_time(&self) -> Option<MediaTime> {
        self.lock().cutter.published_gap()
    }

    /// Waits until the broadcast has ended. Cancel-safe.
    pub async fn ended(&self) {
        let mut over = pin!(self.over.notified());
        over.as_mut().enable();
        if self.presence() != Presence::Ended {
            over.await;
        }
    }

    /// A subscriber of all tracks that starts at the oldest entry, for readers that must not miss
    /// any.
    pub fn subscribe_from_oldest(self: &Arc<Self>) -> Consumer {
        let state = self.lock();
        let next = state.front;
        self.consumer(state, next, true).with_older_groups()
    }

    /// A subscriber of the source's tracks only, which starts at the newest group of each.
    pub fn subscribe(self: &Arc<Self>) -> Consumer {
        let state = self.lock();
        let next = state.newest_groups(false);
        self.consumer(state, next, false)
    }

    fn consumer(
        self: &Arc<Self>,
        state: MutexGuard<'_, State>,
        next: u64,
        renditions: bool,
    ) -> Consumer {
        let starts = state.starts(next);
        let situation = state.situation_at(next);
        let master = state.master_at(next, situation.tracks.len());
        drop(state);
        Consumer::new(Arc::clone(self), next, starts, situation, master, renditions)
    }

    /// Applies the passage of time: declares gaps while no frames arrive, and publishes the open one
    /// up to `now`. Returns how long the publisher has been away, if it is away.
    pub(crate) fn advance(&self, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        let away = match &mut state.presence {
            Presence::Live => None,
            Presence::Away(since) => Some(now.saturating_duration_since(*since.get_or_insert(now))),
            Presence::Ended => return None,
        };
        let media_time = state.media_time(now);
        let ticks = |duration| Timescale::VIDEO.ticks(duration);
        let (silence, stall) = (state.silence(now), self.limits.stall);
        let overdue = state.cutter.is_overdue(ticks(silence), ticks(stall), media_time);
        let before = state.end();
        if (away.is_some() || overdue)
            && let Some(mark) = state.cutter.begin_gap(media_time)
        {
            state.declare_gap(mark, now);
        }
        state.declare_gaps(media_time, now);
        if state.cutter.publish_gap(media_time) {
            state.append(Event::GapUntil(media_time), now, 0);
        }
        if state.end() > before {
            state.evict(&self.limits, now);
            drop(state);
            self.changed.notify_waiters();
        }
        away
    }

    /// From now on only frames of this publisher are accepted. The number is that of its claim,
    /// never 0.
    pub(crate) fn adopt(&self, publisher: u64) {
        self.lock().publisher = publisher;
    }

    /// The publisher has left and may return. A publisher that was replaced changes nothing.
    pub(crate) fn leave(&self, publisher: u64, now: Option<Instant>) {
        let mut state = self.lock();
        if state.publisher != publisher {
            return;
        }
        state.publisher = 0;
        if state.presence == Presence::Live {
            state.change_presence(Presence::Away(now), self.anchor.instant);
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// Another publisher continues with `tracks`. Returns false, without a change, if the broadcast
    /// has ended or a track of the same name has another codec family. New tracks are added; tracks
    /// that do not return stay without frames.
    pub(crate) fn resume(&self, publisher: u64, tracks: &[(TrackName, Config)]) -> bool {
        let mut state = self.lock();
        let known = |name: &TrackName| state.tracks.iter().find(|track| track.name == *name);
        let fits = tracks.iter().all(|(name, config)| {
            known(name).is_none_or(|track| track.source && track.config.is_same_family(config))
        });
        let added = tracks.iter().filter(|(name, _)| known(name).is_none()).count();
        if !fits
            || state.tracks.len() + state.awaited + added > MAX_TRACKS
            || state.presence == Presence::Ended
        {
            return false;
        }
        state.change_presence(Presence::Live, self.anchor.instant);
        state.publisher = publisher;
        state.timeline.republish();
        for (name, config) in tracks {
            match state.tracks.iter().position(|track| track.name == *name) {
                Some(index) => state.configure(TrackIndex::new(index), config, self.anchor.instant),
                None => {
                    state.add(name.clone(), config.clone(), self.anchor.instant);
                }
            }
        }
        drop(state);
        self.changed.notify_waiters();
        true
    }

    /// Adds a track of the publisher. Returns its index.
    pub(crate) fn add(
        &self,
        publisher: u64,
        name: TrackName,
        config: Config,
    ) -> Result<TrackIndex, Error> {
        let mut state = self.lock();
        if state.publisher != publisher {
            return Err(Error::Revoked);
        }
        let len = state.tracks.len() + state.awaited + 1;
        if len > MAX_TRACKS || state.tracks.iter().any(|track| track.name == name) {
            return Err(Error::BadCatalogue { len, max: MAX_TRACKS });
        }
        let index = state.add(name, config, self.anchor.instant);
        drop(state);
        self.changed.notify_waiters();
        Ok(index)
    }

    /// The index of the source's track of this name.
    pub(crate) fn source_track(&self, name: &TrackName) -> Option<TrackIndex> {
        let state = self.lock();
        let index = state.tracks.iter().position(|track| track.source && track.name == *name);
        index.map(TrackIndex::new)
    }

    fn end_locked(&self, mut state: MutexGuard<'_, State>) {
        state.change_presence(Presence::Ended, self.anchor.instant);
        drop(state);
        self.changed.notify_waiters();
        self.over.notify_waiters();
    }

    pub(crate) fn end(&self) {
        self.end_locked(self.lock());
    }

    /// Ends the broadcast unless another publisher continues it. Returns whether it ended.
    pub(crate) fn end_by(&self, publisher: u64) -> bool {
        let state = self.lock();
        let ends = state.publisher == publisher;
        if ends {
            self.end_locked(state);
        }
        ends
    }

    /// Ends the broadcast unless a publisher has returned meanwhile. Returns whether it ended.
    pub(crate) fn end_unless_live(&self) -> bool {
        let state = self.lock();
        let ends = state.presence != Presence::Live;
        if ends {
            self.end_locked(state);
        }
        ends
    }

    pub(crate) fn push(
        &self,
        publisher: u64,
        track: TrackIndex,
        unit: AccessUnit,
    ) -> Result<Pushed, Refused> {
        let mut state = self.lock();
        if state.presence == Presence::Ended {
            return Err(Refused::Ended);
        }
        if state.publisher != publisher {
            return Err(Refused::Superseded);
        }
        let pushed = state.push(track, unit, &self.limits);
        drop(state);
        if pushed.is_ok() {
            self.changed.notify_waiters();
        }
        pushed
    }

    /// The publisher's lead is a burst. One that was replaced changes nothing.
    pub(crate) fn drop_lead(&self, publisher: u64, now: Instant) {
        let mut state = self.lock();
        if state.publisher == publisher {
            state.timeline.drop_lead(now);
        }
    }

    pub(crate) fn configure(
        &self,
        publisher: u64,
        track: TrackIndex,
        config: &Config,
    ) -> Result<(), Error> {
        let mut state = self.lock();
        if state.publisher != publisher {
            return Ok(()); // its next frame is refused
        }
        let known = &state.tracks[track.get()];
        if !known.config.is_same_family(config) {
            return Err(Error::CodecChanged {
                track: known.name.clone(),
                from: known.config.codec_string().into(),
                to: config.codec_string().into(),
            });
        }
        if *state.tracks[track.get()].config != *config {
            state.count_change(track, self.anchor.instant)?;
        }
        state.configure(track, config, self.anchor.instant);
        if let Some(now) = state.log.back().map(|entry| entry.arrived) {
            state.evict(&self.limits, now);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock would be our own fault, and the log is consistent between any two
        // statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
