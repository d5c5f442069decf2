//! Passes a publisher's messages to the hub: detects its tracks and frames, and counts dropped
//! ones. `flv` parses tags; the hub places frames on the broadcast's timeline and decides cuts.
//!
//! A broadcast starts when its list of tracks is settled. A track is in it once it has a frame at
//! which decoding can start: a sequence header alone promises nothing. The list is settled when
//! both tracks have such a frame; or when one has, onMetaData names no other, and no other sequence
//! header has arrived; or when one has, and 1.5 s of media (7 s while pictures arrive without such a
//! one), three times as long by the wall clock, or 4 MiB of frames have passed. A track that was
//! left out joins with its first such frame. Another sequence header takes effect with the first
//! frame after it at which decoding can start.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use media_core::{
    AccessUnit, TrackIndex, TrackName,
    broadcast::Refused,
    codec::{Config, aac, avc},
    hub::{Cause, Claim, Producer},
};
use net_core::Counted;
use tracing::{debug, info};

mod media;

use crate::{
    access_unit::Message,
    amf0::Value,
    auth::{Reason, Refusal},
    flv::{self, Tag},
    metrics::{Drop, Metrics},
    timing::Timing,
};

/// Media time after which a broadcast starts with only one track, in milliseconds.
const SETTLE_MS: i64 = 1_500;
/// The same while pictures arrive, but none yet at which decoding can start. A source without IDR
/// pictures whose groups are shorter than 3.5 s has its first start point within this time
/// (`groups`).
const SETTLE_WITHOUT_KEY_MS: i64 = 7_000;
/// The wait by the wall clock is this many times the wait by media time: timestamps may stand still,
/// and media of a slow connection arrive late.
const SLOWEST: i64 = 3;
/// Maximum number of payload bytes, and of frames, held until the list of tracks is settled.
const HELD_BYTES: usize = 4 << 20;
const HELD_FRAMES: usize = 2_048;

/// 90 kHz ticks a millisecond.
const TICKS_PER_MS: i64 = 90;

/// Publishes the media of one session. Dropping it means that the publisher has left.
#[derive(Debug)]
pub(crate) struct Publisher {
    metrics: Metrics,
    clock: Clock,
    tracks: Tracks,
    state: State,
    media: Box<media::Media>,
    timing: Box<Timing>,
    _counted: Counted,
}

#[derive(Debug)]
enum State {
    Settling(Settling),
    Live(Live),
    /// It could not start; no more frames are accepted.
    Over,
}

#[derive(Debug)]
struct Settling {
    claim: Claim,
    /// Whether onMetaData names a video and an audio codec.
    announced: Option<(bool, bool)>,
    /// Timestamp and arrival of the first frame.
    first: Option<(i64, Instant)>,
    /// Whether pictures arrive, but none yet at which decoding can start.
    awaits_key: bool,
    /// Whether the wait for another track is over.
    overdue: bool,
    held: Vec<(Kind, AccessUnit)>,
    held_bytes: usize,
}

#[derive(Debug)]
struct Live {
    producer: Producer,
    /// The broadcast's tracks that this publisher sends, with their indices.
    tracks: Vec<(Kind, TrackIndex)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Video,
    Audio,
}

#[derive(Debug, Default)]
struct Tracks {
    video: Option<Track>,
    audio: Option<Track>,
}

#[derive(Debug)]
struct Track {
    config: Config,
    /// Whether a frame at which decoding can start has arrived with this configuration. A live
    /// broadcast then has the track in this form.
    shown: bool,
    /// Whether frames are dropped until one at which decoding can start.
    waits_for_key: bool,
}

/// Unwraps RTMP's 32-bit milliseconds. Audio and video share one, because they are on one clock.
#[derive(Debug, Default)]
struct Clock {
    last: Option<(u32, i64)>,
}

impl Clock {
    /// The timestamp without wrap: the value nearest to the previous one, forwards or back.
    fn unwrap(&mut self, stamp: u32) -> i64 {
        let (low, value) = self.last.unwrap_or((stamp, i64::from(stamp)));
        let value = value.saturating_add(i64::from(stamp.wrapping_sub(low).cast_signed()));
        self.last = Some((stamp, value));
        value
    }
}

impl Tracks {
    fn of(&mut self, kind: Kind) -> &mut Option<Track> {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        }
    }

    /// Tracks with a frame, in the order of the broadcast's list.
    fn shown(&self) -> impl Iterator<Item = (Kind, &Track)> {
        let video = self.video.iter().map(|track| (Kind::Video, track));
        let audio = self.audio.iter().map(|track| (Kind::Audio, track));
        video.chain(audio).filter(|(_, track)| track.shown)
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
        }
    }

    fn track_name(self) -> TrackName {
        match self {
            Self::Video => TrackName::source_video(),
            Self::Audio => TrackName::source_audio(),
        }
    }
}

impl Live {
    /// The track with this index in the broadcast.
    fn kind(&self, index: TrackIndex) -> Option<Kind> {
        self.tracks.iter().find(|(_, live)| *live == index).map(|(kind, _)| *kind)
    }

    /// The track's index in the broadcast.
    fn index(&self, kind: Kind) -> Option<TrackIndex> {
        self.tracks.iter().find(|(live, _)| *live == kind).map(|(_, index)| *index)
    }
}

impl Publisher {
    /// A publisher that has the right to its name and has sent nothing yet.
    /// It may be silent for `idle`, and begins at `now`.
    pub(crate) fn new(claim: Claim, metrics: Metrics, idle: Duration, now: Instant) -> Self {
        Self {
            clock: Clock::default(),
            tracks: Tracks::default(),
            state: State::Settling(Settling::new(claim)),
            media: Box::new(media::Media::new(idle, now)),
            timing: Box::default(),
            _counted: Counted::new(metrics.publishers.clone()),
            metrics,
        }
    }

    /// Handles onMetaData, a hint about the tracks.
    pub(crate) fn metadata(&mut self, metadata: &Value, now: Instant) -> Result<(), Refusal> {
        if let State::Settling(settling) = &mut self.state {
            let names = |key| {
                metadata
                    .property(key)
                    .is_some_and(|codec| !matches!(codec, Value::Number(id) if *id <= 0.0))
            };
            let (video, audio) = (names("videocodecid"), names("audiocodecid"));
            settling.announced = (video || audio).then_some((video, audio));
            self.settle(now)?;
        }
        Ok(())
    }

    /// Handles a video message. Media that cannot be published are dropped and counted.
    ///
    /// # Errors
    /// Disconnect the peer with this refusal.
    pub(crate) fn video(
        &mut self,
        timestamp: u32,
        body: Bytes,
        now: Instant,
    ) -> Result<(), Refusal> {
        let message_bytes = body.len();
        let tag = flv::parse_video(body);
        self.tag(Kind::Video, timestamp, tag, message_bytes, now)
    }

    /// Handles an audio message, otherwise like [`Publisher::video`].
    pub(crate) fn audio(
        &mut self,
        timestamp: u32,
        body: Bytes,
        now: Instant,
    ) -> Result<(), Refusal> {
        let message_bytes = body.len();
        let tag = flv::parse_audio(body);
        self.tag(Kind::Audio, timestamp, tag, message_bytes, now)
    }

    /// Time until which the peer should not be read, because its media lead the wall clock.
    pub(crate) fn resume_at(&self, now: Instant) -> Option<Instant> {
        self.timing.resume_at(now)
    }

    /// Records `bytes` that were read. A burst that has ended is dropped.
    pub(crate) fn note_received(&mut self, bytes: usize, now: Instant) {
        if self.timing.burst.note_received(bytes, now)
            && let State::Live(Live { producer, .. }) = &self.state
        {
            producer.drop_lead(now);
            self.timing.note_burst(producer.broadcast().id());
        }
    }

    /// Records that `held` of the bytes that were read wait for the wall clock.
    pub(crate) fn note_held(&mut self, held: usize, now: Instant) {
        self.timing.burst.note_held(held, now);
    }

    /// Whether more is to be read although `held` bytes wait for the wall clock.
    pub(crate) fn reads_ahead(&mut self, held: usize, now: Instant) -> bool {
        self.timing.burst.reads_ahead(held, now)
    }

    /// Records that nothing more can be read.
    pub(crate) fn note_end(&mut self) {
        self.timing.burst.settle();
    }

    /// The publisher left at `now`, and may return.
    pub(crate) fn leave(mut self, now: Instant) {
        // It is leaving, so a refusal is irrelevant.
        let _ = self.finish_picture(now);
        if let State::Live(Live { producer, .. }) = self.state {
            info!(channel = %producer.broadcast().name(), broadcast = %producer.broadcast().id(), "publisher left");
            producer.leave(now);
        }
    }

    fn tag(
        &mut self,
        kind: Kind,
        stamp: u32,
        tag: Result<Tag, flv::Error>,
        message_bytes: usize,
        now: Instant,
    ) -> Result<(), Refusal> {
        let tag = tag.or_else(|err| match err {
            flv::Error::UnsupportedCodec(_) => Err(Refusal::new(Reason::Codec, err.to_string())),
            flv::Error::Truncated { .. } => {
                self.dropped(kind, Drop::Malformed, now)?;
                Ok(Tag::Nothing)
            }
        })?;
        match tag {
            // Some encoders send an empty one first.
            Tag::Config(record) if record.is_empty() => Ok(()),
            Tag::Config(record) => {
                self.before_config(kind, now)?;
                self.configure(kind, &record)
            }
            Tag::Frame { composition_ms, payload } => {
                let ms = self.clock.unwrap(stamp);
                match kind {
                    Kind::Video => {
                        let message = Message { ms, composition_ms, payload, message_bytes };
                        self.video_frame(message, now)
                    }
                    Kind::Audio => self.audio_frame(ms, payload, message_bytes, now),
                }
            }
            Tag::OtherTrack => self.dropped(kind, Drop::OtherTrack, now),
            Tag::Empty => self.dropped(kind, Drop::Empty, now),
            Tag::End | Tag::Nothing => Ok(()),
        }
    }

    fn configure(&mut self, kind: Kind, record: &[u8]) -> Result<(), Refusal> {
        let slot = self.tracks.of(kind);
        if slot.as_ref().is_some_and(|track| track.config.record() == record) {
            return Ok(());
        }
        let config = match kind {
            Kind::Video if avc::Config::is_without_sets(record) => return Ok(()),
            Kind::Video => avc::Config::parse(record)
                .or_else(|err| avc::Config::parse_byte_stream(record).ok_or(err))
                .map(Config::Avc),
            Kind::Audio => aac::Config::parse(record).map(Config::Aac),
        };
        let config = config.map_err(|err| Refusal::new(Reason::Codec, err.to_string()))?;
        if let State::Settling(settling) = &mut self.state {
            settling.forget(kind, &self.metrics);
        }
        *slot = Some(Track { config, shown: false, waits_for_key: kind == Kind::Video });
        Ok(())
    }

    /// Handles a whole access unit, with times of the publisher's clock.
    fn frame(&mut self, kind: Kind, unit: AccessUnit, now: Instant) -> Result<(), Refusal> {
        let ms = unit.dts / TICKS_PER_MS;
        let track = self.tracks.of(kind);
        if kind == Kind::Video
            && let State::Settling(settling) = &mut self.state
        {
            settling.awaits_key =
                track.as_ref().is_none_or(|track| track.waits_for_key && !unit.key);
        }
        let Some(track) = track else {
            self.dropped(kind, Drop::BeforeConfig, now)?;
            return self.passed(ms, now);
        };
        if track.waits_for_key && !unit.key {
            self.dropped(kind, Drop::BeforeKey, now)?;
            return self.passed(ms, now);
        }
        track.waits_for_key = false;
        if !std::mem::replace(&mut track.shown, true) {
            self.show(kind)?;
        }
        match &mut self.state {
            State::Live(_) => self.push(kind, unit),
            State::Settling(settling) => {
                settling.hold(kind, unit);
                self.taken(kind, now);
                self.passed(ms, now)
            }
            State::Over => Ok(()),
        }
    }

    fn push(&mut self, kind: Kind, unit: AccessUnit) -> Result<(), Refusal> {
        let State::Live(live) = &self.state else {
            return Ok(());
        };
        let Some(index) = live.index(kind) else {
            return Ok(());
        };
        let arrived = unit.arrived;
        let advised = self.timing.advice();
        match live.producer.push(index, unit) {
            Ok(pushed) => {
                let name = |index| live.kind(index).map_or("", Kind::name);
                let id = live.producer.broadcast().id();
                self.timing.note(pushed, name, id, &self.metrics, arrived);
                let frames = if kind == Kind::Video {
                    &self.metrics.video_frames
                } else {
                    &self.metrics.audio_frames
                };
                frames.inc();
                self.taken(kind, arrived);
                if self.timing.advice() != advised {
                    self.watch_groups();
                }
            }
            // This drop is our own decision, so it does not count towards a disconnection.
            Err(Refused::AfterOutage) => {
                self.metrics.drop_frame(Drop::AfterOutage);
                self.timing.note_left_out(live.producer.broadcast().id(), arrived);
                self.excuse_silence(arrived);
            }
            Err(Refused::BeforeKeyFrame) => return self.dropped(kind, Drop::BeforeKey, arrived),
            Err(Refused::InGap) => return self.dropped(kind, Drop::InGap, arrived),
            Err(Refused::TooFarAhead) => return self.dropped(kind, Drop::TooFarAhead, arrived),
            Err(Refused::Ended) => {
                let revoked = live.producer.revoked();
                return Err(ended(revoked.as_ref().and_then(|revoked| revoked.cause())));
            }
            Err(Refused::Superseded) => return Err(ended(Some(&Cause::TakenOver))),
        }
        Ok(())
    }

    /// Records that media up to `ms` have arrived, whether or not they were accepted.
    fn passed(&mut self, ms: i64, now: Instant) -> Result<(), Refusal> {
        if let State::Settling(settling) = &mut self.state {
            let (first, arrived) = *settling.first.get_or_insert((ms, now));
            let since = i64::try_from(now.saturating_duration_since(arrived).as_millis())
                .unwrap_or(i64::MAX);
            let full = settling.held_bytes >= HELD_BYTES || settling.held.len() >= HELD_FRAMES;
            let limit = if settling.awaits_key { SETTLE_WITHOUT_KEY_MS } else { SETTLE_MS };
            settling.overdue |=
                full || ms.saturating_sub(first) >= limit || since >= SLOWEST * limit;
        }
        self.settle(now)
    }

    /// Starts the broadcast if it has a track and no other is awaited.
    fn settle(&mut self, now: Instant) -> Result<(), Refusal> {
        let State::Settling(settling) = &self.state else {
            return Ok(());
        };
        let (video, audio) = settling.announced.unwrap_or((true, true));
        // A sequence header takes precedence over metadata that do not name its track.
        let waits = |track: &Option<Track>, announced| {
            track.as_ref().map_or(announced, |track| !track.shown)
        };
        let waits = waits(&self.tracks.video, video) || waits(&self.tracks.audio, audio);
        if self.tracks.shown().next().is_some() && (settling.overdue || !waits) {
            self.start(now)
        } else {
            Ok(())
        }
    }

    fn start(&mut self, now: Instant) -> Result<(), Refusal> {
        let State::Settling(Settling { claim, held, .. }) =
            std::mem::replace(&mut self.state, State::Over)
        else {
            return Ok(());
        };
        let first = held.iter().map(|(_, unit)| unit.arrived).min().unwrap_or(now);
        let utc = SystemTime::now();
        let utc = utc.checked_sub(now.saturating_duration_since(first)).unwrap_or(utc);
        let catalogue: Vec<_> = self
            .tracks
            .shown()
            .map(|(kind, track)| (kind.track_name(), track.config.clone()))
            .collect();
        let codecs: Vec<_> =
            catalogue.iter().map(|(_, config)| config.codec_string().to_owned()).collect();
        let revoked = claim.revoked();
        let producer = claim.start(catalogue, first, utc).map_err(|err| match err {
            _ if revoked.is_revoked() => ended(revoked.cause()),
            media_core::Error::TooSoon { .. } => Refusal::new(Reason::Busy, err.to_string()),
            _ => Refusal::new(Reason::Codec, err.to_string()),
        })?;
        let broadcast = producer.broadcast();
        info!(channel = %broadcast.name(), broadcast = %broadcast.id(), codecs = codecs.join(","), "broadcast is live");
        let index = |(kind, _): (Kind, &Track)| Some((kind, producer.track(&kind.track_name())?));
        let tracks = self.tracks.shown().filter_map(index).collect();
        self.state = State::Live(Live { producer, tracks });
        for (kind, unit) in held {
            self.push(kind, unit)?;
        }
        Ok(())
    }

    /// The track has a frame for its present configuration: a live broadcast continues with it, or
    /// gets another track.
    fn show(&mut self, kind: Kind) -> Result<(), Refusal> {
        let (State::Live(live), Some(track)) = (&mut self.state, self.tracks.of(kind)) else {
            return Ok(());
        };
        let (producer, name) = (&live.producer, kind.track_name());
        let known = live.index(kind);
        // A publisher that has returned finds its track in the broadcast.
        let shown = match known.or_else(|| producer.track(&name)) {
            Some(index) => producer.configure(index, &track.config).map(|()| index),
            None => producer.add(name.clone(), track.config.clone()),
        };
        let index = shown.map_err(|err| match err {
            media_core::Error::Revoked => {
                ended(producer.revoked().as_ref().and_then(|revoked| revoked.cause()))
            }
            err => Refusal::new(Reason::Codec, err.to_string()),
        })?;
        let (broadcast, codec) = (producer.broadcast().id(), track.config.codec_string());
        if known.is_none() {
            info!(%broadcast, track = %name, codec, "track added");
            live.tracks.push((kind, index));
        } else {
            debug!(%broadcast, track = %name, codec, "track configuration changed");
        }
        Ok(())
    }
}

impl Settling {
    fn new(claim: Claim) -> Self {
        Self {
            claim,
            announced: None,
            first: None,
            awaits_key: false,
            overdue: false,
            held: Vec::new(),
            held_bytes: 0,
        }
    }

    /// Holds an access unit: after all units of its track, and before those of the other track that
    /// are decoded later.
    ///
    /// The first picture waits for the next message of its track, and audio arrives in the
    /// meantime. Renditions of the audio start at the first unit after the picture's mark in the
    /// log, so that unit must not precede the mark there.
    fn hold(&mut self, kind: Kind, unit: AccessUnit) {
        self.held_bytes += unit.payload.len();
        let before = |(held, earlier): &(Kind, AccessUnit)| *held == kind || earlier.dts < unit.dts;
        let at = self.held.iter().rposition(before).map_or(0, |last| last + 1);
        self.held.insert(at, (kind, unit));
    }

    /// Drops a track's held frames, because their configuration was replaced.
    fn forget(&mut self, kind: Kind, metrics: &Metrics) {
        self.held.retain(|(held, unit)| {
            if *held == kind {
                self.held_bytes -= unit.payload.len();
                metrics.drop_frame(Drop::Replaced);
            }
            *held != kind
        });
    }
}

/// The refusal for a publisher whose broadcast was ended by another party.
pub(crate) fn ended(cause: Option<&Cause>) -> Refusal {
    match cause {
        Some(Cause::Failed(words)) => Refusal::new(Reason::Failed, words.clone()),
        Some(Cause::TakenOver) => Refusal::new(
            Reason::TakenOver,
            "another encoder with this stream key has taken over, because nothing arrived from this one for a second",
        ),
        Some(Cause::Operator) | None => {
            Refusal::new(Reason::Kicked, "an operator has ended this broadcast")
        }
    }
}

#[cfg(test)]
mod tests;
