//! Passes a publisher's messages to the hub: finds whole pictures and frames of audio in them, and
//! counts dropped ones. `flv` parses tags, `access_unit` assembles pictures; `publisher/output`
//! starts the broadcast and pushes frames, `publisher/settling` waits for the list of its tracks.

mod advisor;
mod output;
mod settling;
mod state;
mod tracks;

use std::time::{Duration, Instant};

use bytes::Bytes;
use media_core::{
    AccessUnit, BroadcastId, MediaSpan,
    codec::{adts, avc},
    hub::Claim,
};
use net_core::Counted;
use tracing::info;

pub(crate) use self::output::ended;
use self::{
    advisor::Advisor,
    output::Output,
    settling::{Announced, Settling},
    state::{Live, State},
    tracks::{Kind, Tracks},
};
use crate::{
    access_unit::{Assembler, Completed, Message, Picture},
    amf0::Value,
    auth::{Reason, Refusal},
    flv::{self, Tag},
    metrics::{Drop, Metrics},
    payload,
    timing::Timing,
};

/// Publishes the media of one session. Dropping it means that the publisher has left.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// The publisher's clock, one for audio and video.
    clock: Clock,
    /// Pictures in assembly, and configurations that the stream has brought.
    media: Box<Media>,
    /// The tracks and the broadcast.
    output: Output,
    _counted: Counted,
}

/// The state of the media on their way to the tracks.
#[derive(Debug, Default)]
struct Media {
    assembler: Assembler,
    /// The video's configuration, if picture parameter sets in the stream differ from the track's.
    next: Option<avc::Config>,
    /// Whether picture parameter sets have changed in the stream. Decoders may have others than the
    /// track's, so key frames carry those in force.
    sets_in_stream: bool,
    /// The configuration that was made from ADTS headers.
    adts: Option<[u8; 2]>,
}

/// Unwraps RTMP's 32-bit milliseconds. Audio and video share one, because they are on one clock.
#[derive(Debug, Default)]
struct Clock {
    last: Option<Stamp>,
}

/// A timestamp of RTMP, and its time without wrap.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    /// Milliseconds modulo 2^32.
    wrapped: u32,
    /// Milliseconds from any origin.
    ms: i64,
}

impl Clock {
    /// The timestamp without wrap: the value nearest to the previous one, forwards or back.
    fn unwrap(&mut self, wrapped: u32) -> i64 {
        let last = self.last.unwrap_or(Stamp { wrapped, ms: i64::from(wrapped) });
        // The difference is signed, so that a small step back is not taken for a wrap. Timestamps
        // wrap after 49 days.
        let passed = wrapped.wrapping_sub(last.wrapped).cast_signed();
        let ms = last.ms.saturating_add(i64::from(passed));
        self.last = Some(Stamp { wrapped, ms });
        ms
    }
}

impl Publisher {
    /// A publisher that has the right to its name and has sent nothing yet.
    /// It may be silent for `idle`, and begins at `now`.
    pub(crate) fn new(claim: Claim, metrics: Metrics, idle: Duration, now: Instant) -> Self {
        let counted = Counted::new(metrics.publishers.clone());
        let output = Output {
            metrics,
            tracks: Tracks::default(),
            state: State::Settling(Settling::new(claim)),
            timing: Box::<Timing>::default(),
            advisor: Box::new(Advisor::new(idle, now)),
        };
        Self { clock: Clock::default(), media: Box::default(), output, _counted: counted }
    }

    /// Handles onMetaData, a hint about the tracks.
    ///
    /// # Errors
    /// Disconnect the peer with this refusal.
    pub(crate) fn metadata(&mut self, metadata: &Value, now: Instant) -> Result<(), Refusal> {
        // Encoders write 0 for an absent track; any other value, also a text, names a codec.
        let names = |key| {
            metadata
                .property(key)
                .is_some_and(|codec| !matches!(codec, Value::Number(id) if *id <= 0.0))
        };
        let announced = Announced { video: names("videocodecid"), audio: names("audiocodecid") };
        self.output.announce(announced, now)
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
        self.output.timing.resume_at(now)
    }

    /// Records `bytes` that were read. A burst that has ended is dropped.
    pub(crate) fn note_received(&mut self, bytes: usize, now: Instant) {
        // The hub then drops media until they are near the wall clock, so that the lead does not
        // remain as latency.
        if self.output.timing.burst.note_received(bytes, now)
            && let State::Live(Live { producer, .. }) = &self.output.state
        {
            producer.drop_lead(now);
            self.output.timing.note_burst(producer.broadcast().id());
        }
    }

    /// Records that `held` of the bytes that were read wait for the wall clock.
    pub(crate) fn note_held(&mut self, held: usize, now: Instant) {
        self.output.timing.burst.note_held(held, now);
    }

    /// Whether more is to be read although `held` bytes wait for the wall clock.
    pub(crate) fn reads_ahead(&mut self, held: usize, now: Instant) -> bool {
        self.output.timing.burst.reads_ahead(held, now)
    }

    /// Records that nothing more can be read.
    pub(crate) fn note_end(&mut self) {
        self.output.timing.burst.settle();
    }

    /// The publisher left at `now`, and may return.
    pub(crate) fn leave(mut self, now: Instant) {
        // It is leaving, so a refusal is irrelevant.
        let _ = self.finish_picture(now);
        match self.output.state {
            State::Live(Live { producer, .. }) => {
                let broadcast = producer.broadcast();
                info!(channel = %broadcast.name(), broadcast = %broadcast.id(), "publisher left");
                producer.leave(now);
            }
            State::Settling(settling) => settling.drop_held(&self.output.metrics),
            State::Over => {}
        }
    }

    /// The time of the next [`Publisher::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let silence = self.output.advisor.health.poll_timeout();
        Some(self.media.assembler.poll_timeout().map_or(silence, |due| due.min(silence)))
    }

    /// Handles the passage of time: a picture that has waited long enough is whole, and a publisher
    /// may be without frames only for so long.
    ///
    /// # Errors
    /// Disconnect the peer with this refusal.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Refusal> {
        let config = self.media.next.as_ref().or(self.output.tracks.avc());
        match self.media.assembler.handle_timeout(config, now) {
            Some(picture) => self.picture(picture, now),
            None => self.output.advisor.health.handle_timeout(now),
        }
    }

    /// The publisher was not read from until `now`, or its frames were left out: that none was
    /// accepted is not its fault.
    pub(crate) fn excuse_silence(&mut self, now: Instant) {
        self.output.advisor.health.excuse(now);
    }

    /// The broadcast, if it has started.
    pub(crate) fn broadcast(&self) -> Option<BroadcastId> {
        self.output.state.broadcast().map(|broadcast| broadcast.id())
    }

    /// The next text for the streamer, if there is one.
    pub(crate) fn take_words(&mut self) -> Option<String> {
        self.output.advisor.take_words()
    }

    /// Handles a parsed tag of either kind.
    ///
    /// # Errors
    /// Disconnect the peer with this refusal.
    fn tag(
        &mut self,
        kind: Kind,
        stamp: u32,
        tag: Result<Tag, flv::Error>,
        message_bytes: usize,
        now: Instant,
    ) -> Result<(), Refusal> {
        // An encoder does not change its codec by itself, so it is refused at once. A malformed
        // message may be an exception, so it is dropped, and `health` judges how many there are.
        let tag = tag.or_else(|err| match err {
            flv::Error::UnsupportedCodec(_) => Err(Refusal::new(Reason::Codec, err.to_string())),
            flv::Error::Truncated { .. } => {
                self.output.dropped(kind, Drop::Malformed, now)?;
                Ok(Tag::Nothing)
            }
        })?;
        match tag {
            // Some encoders send an empty one first.
            Tag::Config(record) if record.is_empty() => Ok(()),
            Tag::Config(record) => {
                self.before_config(kind, now)?;
                self.output.configure(kind, &record)
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
            Tag::OtherTrack => self.output.dropped(kind, Drop::OtherTrack, now),
            Tag::Empty => self.output.dropped(kind, Drop::Empty, now),
            Tag::End | Tag::Nothing => Ok(()),
        }
    }

    /// Handles a message with video.
    ///
    /// # Errors
    /// Disconnect the peer with this refusal.
    fn video_frame(&mut self, message: Message, now: Instant) -> Result<(), Refusal> {
        let config = self.media.next.as_ref().or(self.output.tracks.avc());
        let completed = self.media.assembler.push(message, config, now);
        let Completed { pictures, dropped } = match completed {
            Ok(completed) => completed,
            Err(reason) => return self.output.dropped(Kind::Video, reason, now),
        };
        let waits = self.media.assembler.poll_timeout().is_some();
        if pictures.iter().all(Option::is_none) && dropped.is_none() && !waits {
            // Units for the next picture. If no picture follows, nothing is published.
            return self.output.advise_if_dropped(Kind::Video, Drop::NoPicture, now);
        }
        pictures.into_iter().flatten().try_for_each(|picture| self.picture(picture, now))?;
        match dropped {
            Some(reason) => self.output.dropped(Kind::Video, reason, now),
            None => Ok(()),
        }
    }

    /// Handles a message with audio, with timestamp `ms`. ADTS frames, which some relays send in
    /// place of raw AAC, are split into access units.
    fn audio_frame(
        &mut self,
        ms: i64,
        payload: Bytes,
        message_bytes: usize,
        now: Instant,
    ) -> Result<(), Refusal> {
        let dts = MediaSpan::from_millis(ms);
        // Raw AAC, one access unit in each message, is the rule (E.4.2.2).
        if !adts::is_adts(&payload) {
            return self.sound(dts, payload::held(payload, message_bytes), now);
        }
        let Some(adts::Frames { units, config }) = adts::parse(&payload) else {
            return self.output.dropped(Kind::Audio, Drop::Malformed, now);
        };
        // The configuration is made from the headers if no sequence header has arrived, and again
        // when those headers change. A sequence header takes precedence.
        let own = self.media.adts.is_some_and(|made| made != config);
        if own || self.output.tracks.audio.is_none() {
            self.output.configure(Kind::Audio, &config)?;
            self.media.adts = Some(config);
        }
        // A contradiction is reported once: the record is used, and the streamer is advised.
        let record = self.output.tracks.aac().map(|aac| &aac.record);
        if !self.output.advisor.adts_differs
            && record.is_some_and(|record| adts::contradicts(config, record))
        {
            self.output.advisor.adts_differs = true;
            self.output.watch_groups();
        }
        for (unit, n) in units.into_iter().zip(0..) {
            // One timestamp belongs to the first frame; the others follow at the distance of a
            // frame.
            let later = self.output.tracks.aac().map_or(MediaSpan::ZERO, |aac| aac.span_of(n));
            // Each may be held without the others, so each is compared with the whole message.
            let unit = payload::held(payload.slice(unit), message_bytes);
            self.sound(dts + later, unit, now)?;
        }
        Ok(())
    }

    /// A sequence header follows the open picture, which is therefore complete.
    fn before_config(&mut self, kind: Kind, now: Instant) -> Result<(), Refusal> {
        match kind {
            Kind::Video => {
                self.finish_picture(now)?;
                self.media.next = None;
                Ok(())
            }
            Kind::Audio => {
                self.media.adts = None;
                self.output.advisor.adts_differs = false;
                Ok(())
            }
        }
    }

    /// Completes the open picture.
    fn finish_picture(&mut self, now: Instant) -> Result<(), Refusal> {
        let config = self.media.next.as_ref().or(self.output.tracks.avc());
        match self.media.assembler.finish(config) {
            Some(picture) => self.picture(picture, now),
            None => Ok(()),
        }
    }

    /// Publishes a whole picture: decides whether it starts a group, and takes its configuration.
    ///
    /// # Errors
    /// Disconnect the peer with this refusal.
    fn picture(&mut self, picture: Picture, now: Instant) -> Result<(), Refusal> {
        let Picture { ms, composition_ms, access, arrived, payload, config } = picture;
        let entry = self.output.advisor.groups.enter(access, ms);
        self.update_sets(config, entry.key)?;
        // A decoder that starts at this key frame knows the init segment's sets alone, so those in
        // force are put in front of the picture.
        let payload =
            match self.output.tracks.avc().map(|avc| self.media.next.as_ref().unwrap_or(avc)) {
                Some(avc) if entry.key && self.media.sets_in_stream => avc.with_sets(payload),
                _ => payload,
            };
        let dts = MediaSpan::from_millis(ms);
        let unit = AccessUnit {
            dts,
            pts: dts + MediaSpan::from_millis(i64::from(composition_ms)),
            key: entry.key,
            independent: entry.independent,
            arrived,
            payload,
        };
        self.output.frame(Kind::Video, unit, now)?;
        // The advice about groups depends on key frames, and on their absence.
        if entry.key || entry.overdue {
            self.output.watch_groups();
        }
        Ok(())
    }

    /// Takes the configuration that a picture brings. `key`: the picture starts a group.
    ///
    /// Other picture parameter sets alone leave the track as it is: decoders read them from the
    /// stream (ITU-T H.264 7.4.1.2.1), and some encoders change them in each group. Those that
    /// arrive up to the first key frame become the track's, so that the init segment has them.
    fn update_sets(&mut self, config: Option<avc::Config>, key: bool) -> Result<(), Refusal> {
        let shown = self.output.tracks.video.as_ref().is_some_and(|track| track.shown);
        let begins = key && !shown;
        let Some(config) = config.or_else(|| self.media.next.take_if(|_| begins)) else {
            return Ok(());
        };
        // The same sequence continues: the track keeps its configuration, and later pictures are
        // read with the new one.
        if !begins && self.output.tracks.avc().is_some_and(|now| now.is_same_sequence(&config)) {
            self.media.next = Some(config);
            self.media.sets_in_stream |= shown;
            return Ok(());
        }
        self.media.next = None;
        self.media.sets_in_stream = false;
        self.output.configure(Kind::Video, &config.record)
    }

    /// Publishes an access unit of audio, at which decoding can always start.
    fn sound(&mut self, dts: MediaSpan, payload: Bytes, now: Instant) -> Result<(), Refusal> {
        let unit =
            AccessUnit { dts, pts: dts, key: true, independent: true, arrived: now, payload };
        self.output.frame(Kind::Audio, unit, now)
    }
}

#[cfg(test)]
mod tests;
