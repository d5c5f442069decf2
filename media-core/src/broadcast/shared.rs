//! A live broadcast: its identity, its clock, and its log behind one lock. The hub calls the
//! methods of the publisher; each checks that the publisher still owns the broadcast.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::Notify;

use super::{
    event::{CutRule, Event, Presence},
    health::Health,
    limits::{Limits, MAX_TRACKS},
    log::State,
    pushed::{Pushed, Refused},
    situation::Situation,
};
use crate::{
    AccessUnit, Anchor, BroadcastId, ChannelName, ChannelSettings, Error, MediaSpan, MediaTime,
    TrackIndex, TrackName, codec::Config, cut::Cutter, hub::Numbers, timeline::Timeline,
    track::Track,
};

/// A live broadcast, shared by its publisher and all readers.
#[derive(Debug)]
pub struct Broadcast {
    id: BroadcastId,
    name: ChannelName,
    settings: Arc<ChannelSettings>,
    pub(super) anchor: Anchor,
    first: Numbers,
    pub(super) limits: Limits,
    state: Mutex<State>,
    health: Mutex<Health>,
    pub(super) changed: Notify,
    /// Notified once, at the end.
    over: Notify,
    /// Notified when a track is added, and when it ends.
    added: Notify,
}

/// The size of a broadcast's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSize {
    /// Number of entries.
    pub entries: usize,
    /// Memory of the entries and their payloads, in bytes.
    pub bytes: usize,
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
        // Names identify tracks in addresses, and match the tracks of a publisher that returns.
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
        // With video, segments wait for key frames; audio alone can be cut at any frame.
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
            rule: CutRule { gridded: false, longest: cutter.longest_span() },
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
            reorder: MediaSpan::ZERO,
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
            settings: Arc::default(),
            anchor,
            first,
            limits,
            state: Mutex::new(state),
            health: Mutex::default(),
            changed: Notify::new(),
            over: Notify::new(),
            added: Notify::new(),
        })
    }

    /// The same with the settings of its channel.
    pub(crate) fn with_settings(self, settings: Arc<ChannelSettings>) -> Self {
        Self { settings, ..self }
    }

    /// The settings of its channel, as they were when it began.
    pub fn settings(&self) -> &ChannelSettings {
        &self.settings
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

    /// The size of the log that is kept for subscribers.
    pub fn log_size(&self) -> LogSize {
        let state = self.lock();
        LogSize { entries: state.log.len(), bytes: state.bytes }
    }

    /// The media time at `now`: the newest frame's, plus the time since its arrival.
    pub fn media_time(&self, now: Instant) -> MediaTime {
        self.lock().media_time(now)
    }

    /// The time up to which the open gap has been published: media resume there or later. `None`
    /// without an open gap.
    #[cfg(test)]
    pub(crate) fn gap_time(&self) -> Option<MediaTime> {
        self.lock().cutter.published_gap()
    }

    /// The last report about the source.
    pub fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores the ingest's report about the source.
    pub fn report(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    /// Waits until the broadcast has ended. Cancel-safe.
    pub async fn ended(&self) {
        let mut over = pin!(self.over.notified());
        over.as_mut().enable();
        if self.presence() != Presence::Ended {
            over.await;
        }
    }

    /// Waits until there are more than `known` tracks, or the broadcast has ended. Frames do not
    /// wake the waiting task. Cancel-safe.
    pub async fn more_tracks(&self, known: usize) {
        let mut added = pin!(self.added.notified());
        added.as_mut().enable();
        if self.tracks().len() <= known && self.presence() != Presence::Ended {
            added.await;
        }
    }

    /// Applies the passage of time: declares gaps while no frames arrive, and publishes the open
    /// one up to `now`. Returns how long the publisher has been away, if it is away.
    pub(crate) fn advance(&self, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        let away = match &mut state.presence {
            Presence::Live => None,
            Presence::Away(since) => Some(now.saturating_duration_since(*since.get_or_insert(now))),
            Presence::Ended => return None,
        };
        let media_time = state.media_time(now);
        let (silence, stall) = (state.silence(now), self.limits.stall);
        // A publisher that has left sends nothing more, so its gap starts at once. One that is
        // silent gets patience, because its connection may only be slow.
        let overdue = state.cutter.is_overdue(silence, stall, media_time);
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
        // Readers are woken only after a change, because this is called many times a second for
        // each broadcast.
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
        // A broadcast that has ended, or that waits already, does not change again.
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
        // Players keep their decoders, so the codec families must stay. A source's track cannot
        // take the name of a rendition.
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
        // Nothing fails from here on, so a refusal leaves the broadcast unchanged.
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
        // Announced renditions without a track have reserved their places.
        let len = state.tracks.len() + state.awaited + 1;
        if len > MAX_TRACKS || state.tracks.iter().any(|track| track.name == name) {
            return Err(Error::BadCatalogue { len, max: MAX_TRACKS });
        }
        let index = state.add(name, config, self.anchor.instant);
        drop(state);
        self.changed.notify_waiters();
        self.added.notify_waiters();
        Ok(index)
    }

    /// The index of the source's track of this name.
    pub(crate) fn source_track(&self, name: &TrackName) -> Option<TrackIndex> {
        let state = self.lock();
        let index = state.tracks.iter().position(|track| track.source && track.name == *name);
        index.map(TrackIndex::new)
    }

    fn end_locked(&self, mut state: MutexGuard<'_, State>) {
        // The lock is released before readers wake, because they take it at once.
        state.change_presence(Presence::Ended, self.anchor.instant);
        drop(state);
        self.changed.notify_waiters();
        self.added.notify_waiters();
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
        // Checked under the lock of the log, so that no frame follows the end or the first frame of
        // another publisher.
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
        // The limit is checked first, so that a publisher that exceeds it changes no configuration.
        if *state.tracks[track.get()].config != *config {
            state.count_change(track, self.anchor.instant)?;
        }
        state.configure(track, config, self.anchor.instant);
        // Configurations count towards the log's bytes, and a publisher may send nothing else.
        if let Some(now) = state.log.back().map(|entry| entry.arrived) {
            state.evict(&self.limits, now);
        }
        Ok(())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock would be our own fault, and the log is consistent between any two
        // statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
