//! The frames of a publisher's messages on their way to its tracks: assembles pictures, removes
//! ADTS headers, watches groups and drops, and makes the advice for the streamer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use media_core::{
    AccessUnit,
    broadcast::Health as Reported,
    codec::{Config, aac, adts, avc},
};
use tracing::warn;

use super::{Kind, Publisher, State, TICKS_PER_MS, Tracks};
use crate::{
    access_unit::{Assembler, Message, Picture},
    advice::Advice,
    auth::Refusal,
    groups::Groups,
    health::Health,
    metrics::Drop,
    payload,
};

/// State of a publisher's media besides its tracks.
#[derive(Debug)]
pub(super) struct Media {
    assembler: Assembler,
    /// The video's configuration, if picture parameter sets in the stream differ from the track's.
    next: Option<avc::Config>,
    /// Whether picture parameter sets have changed in the stream. Decoders may have others than the
    /// track's, so key frames carry those in force.
    sets_in_stream: bool,
    /// The configuration that was made from ADTS headers.
    adts: Option<[u8; 2]>,
    /// ADTS headers contradict the AudioSpecificConfig that is in force.
    adts_differs: bool,
    groups: Groups,
    health: Health,
    /// The present advice.
    advice: Option<Advice>,
    /// Advice that was sent, each kind once.
    told: Vec<Advice>,
    /// The next text for the encoder.
    words: Option<String>,
}

impl Media {
    pub(super) fn new(idle: Duration, now: Instant) -> Self {
        Self {
            assembler: Assembler::default(),
            next: None,
            sets_in_stream: false,
            adts: None,
            adts_differs: false,
            groups: Groups::default(),
            health: Health::new(idle, now),
            advice: None,
            told: Vec::new(),
            words: None,
        }
    }
}

impl Tracks {
    /// The video's configuration.
    fn avc(&self) -> Option<&avc::Config> {
        match &self.video.as_ref()?.config {
            Config::Avc(avc) => Some(avc),
            Config::Aac(_) => None,
        }
    }

    /// The audio's configuration.
    fn aac(&self) -> Option<&aac::Config> {
        match &self.audio.as_ref()?.config {
            Config::Aac(aac) => Some(aac),
            Config::Avc(_) => None,
        }
    }
}

impl Publisher {
    /// The time of the next [`Publisher::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let silence = self.media.health.poll_timeout();
        Some(self.media.assembler.poll_timeout().map_or(silence, |due| due.min(silence)))
    }

    /// Handles the passage of time: a picture that has waited long enough is whole, and a publisher
    /// may be without frames only for so long.
    ///
    /// # Errors
    /// Disconnect the peer with this refusal.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Refusal> {
        let config = self.media.next.as_ref().or(self.tracks.avc());
        match self.media.assembler.handle_timeout(config, now) {
            Some(picture) => self.picture(picture, now),
            None => self.media.health.handle_timeout(now),
        }
    }

    /// The publisher was not read from until `now`, or its frames were left out: that none was
    /// accepted is not its fault.
    pub(crate) fn excuse_silence(&mut self, now: Instant) {
        self.media.health.excuse(now);
    }

    /// The next text for the streamer, if there is one.
    pub(crate) fn take_words(&mut self) -> Option<String> {
        self.media.words.take()
    }

    /// Handles a message with video.
    pub(super) fn video_frame(&mut self, message: Message, now: Instant) -> Result<(), Refusal> {
        let config = self.media.next.as_ref().or(self.tracks.avc());
        match self.media.assembler.push(message, config, now) {
            Ok([None, None]) if self.media.assembler.poll_timeout().is_none() => {
                // Units for the next picture. If no picture follows, nothing is published.
                self.advise_if_dropped(Kind::Video, Drop::NoPicture, now)
            }
            Ok(pictures) => {
                pictures.into_iter().flatten().try_for_each(|picture| self.picture(picture, now))
            }
            Err(reason) => self.dropped(Kind::Video, reason, now),
        }
    }

    /// Handles a message with audio, with timestamp `ms`.
    pub(super) fn audio_frame(
        &mut self,
        ms: i64,
        payload: Bytes,
        message_bytes: usize,
        now: Instant,
    ) -> Result<(), Refusal> {
        let dts = ms.saturating_mul(TICKS_PER_MS);
        if !adts::is_adts(&payload) {
            return self.sound(dts, payload::held(payload, message_bytes), now);
        }
        let Some(adts::Frames { units, config }) = adts::parse(&payload) else {
            return self.dropped(Kind::Audio, Drop::Malformed, now);
        };
        let own = self.media.adts.is_some_and(|made| made != config);
        if own || self.tracks.audio.is_none() {
            self.configure(Kind::Audio, &config)?;
            self.media.adts = Some(config);
        }
        let record = self.tracks.aac().map(|aac| &aac.record);
        if !self.media.adts_differs
            && record.is_some_and(|record| adts::contradicts(config, record))
        {
            self.media.adts_differs = true;
            self.watch_groups();
        }
        for (unit, n) in units.into_iter().zip(0..) {
            let later = self.tracks.aac().map_or(0, |aac| aac.ticks_of(n));
            // Each may be held without the others, so each is compared with the whole message.
            let unit = payload::held(payload.slice(unit), message_bytes);
            self.sound(dts.saturating_add(later), unit, now)?;
        }
        Ok(())
    }

    /// A sequence header follows the open picture, which is therefore complete.
    pub(super) fn before_config(&mut self, kind: Kind, now: Instant) -> Result<(), Refusal> {
        match kind {
            Kind::Video => {
                self.finish_picture(now)?;
                self.media.next = None;
                Ok(())
            }
            Kind::Audio => {
                (self.media.adts, self.media.adts_differs) = (None, false);
                Ok(())
            }
        }
    }

    /// Completes the open picture.
    pub(super) fn finish_picture(&mut self, now: Instant) -> Result<(), Refusal> {
        let config = self.media.next.as_ref().or(self.tracks.avc());
        match self.media.assembler.finish(config) {
            Some(picture) => self.picture(picture, now),
            None => Ok(()),
        }
    }

    /// Records an accepted frame of a track.
    pub(super) fn taken(&mut self, kind: Kind, now: Instant) {
        self.media.health.take(kind == Kind::Video, now);
        if matches!(self.media.advice, Some(Advice::Dropped { video, .. }) if video == (kind == Kind::Video))
        {
            self.advise(None);
        }
    }

    /// Counts a dropped frame of a track. If this continues, the publisher gets advice.
    ///
    /// # Errors
    /// No frame has been accepted for long: disconnect the peer with this refusal.
    pub(super) fn dropped(
        &mut self,
        kind: Kind,
        reason: Drop,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.metrics.drop_frame(reason);
        self.advise_if_dropped(kind, reason, now)
    }

    fn advise_if_dropped(&mut self, kind: Kind, reason: Drop, now: Instant) -> Result<(), Refusal> {
        if let Some(advice) = self.media.health.drop(kind == Kind::Video, reason, now)? {
            self.advise(Some(advice));
        }
        Ok(())
    }

    fn picture(&mut self, picture: Picture, now: Instant) -> Result<(), Refusal> {
        let Picture { ms, composition_ms, access, arrived, payload, config } = picture;
        let entry = self.media.groups.enter(access, ms);
        self.update_sets(config, entry.key)?;
        let payload = match self.tracks.avc().map(|avc| self.media.next.as_ref().unwrap_or(avc)) {
            Some(avc) if entry.key && self.media.sets_in_stream => avc.with_sets(payload),
            _ => payload,
        };
        let dts = ms.saturating_mul(TICKS_PER_MS);
        let unit = AccessUnit {
            dts,
            pts: dts.saturating_add(i64::from(composition_ms) * TICKS_PER_MS),
            key: entry.key,
            independent: entry.independent,
            arrived,
            payload,
        };
        self.frame(Kind::Video, unit, now)?;
        if entry.key || entry.overdue {
            self.watch_groups();
        }
        Ok(())
    }

    /// Takes the configuration that a picture brings. `key`: the picture starts a group.
    ///
    /// Other picture parameter sets alone leave the track as it is: decoders read them from the
    /// stream (ITU-T H.264 7.4.1.2.1), and some encoders change them in each group. Those that
    /// arrive up to the first key frame become the track's, so that the init segment has them.
    fn update_sets(&mut self, config: Option<avc::Config>, key: bool) -> Result<(), Refusal> {
        let shown = self.tracks.video.as_ref().is_some_and(|track| track.shown);
        let begins = key && !shown;
        let Some(config) = config.or_else(|| self.media.next.take_if(|_| begins)) else {
            return Ok(());
        };
        if !begins && self.tracks.avc().is_some_and(|now| now.is_same_sequence(&config)) {
            self.media.next = Some(config);
            self.media.sets_in_stream |= shown;
            return Ok(());
        }
        self.media.next = None;
        self.media.sets_in_stream = false;
        self.configure(Kind::Video, &config.record)
    }

    fn sound(&mut self, dts: i64, payload: Bytes, now: Instant) -> Result<(), Refusal> {
        let unit =
            AccessUnit { dts, pts: dts, key: true, independent: true, arrived: now, payload };
        self.frame(Kind::Audio, unit, now)
    }

    /// Updates the advice about groups and pacing. Call it at key frames, while there are none, and
    /// when pacing begins or ends.
    pub(super) fn watch_groups(&mut self) {
        let gridded = match &self.state {
            State::Live(live) => live.producer.broadcast().is_gridded(),
            _ => false,
        };
        let adts = self.media.adts_differs.then_some(Advice::AdtsDiffers);
        let advice = self.media.groups.advice(gridded);
        let advice = advice.or(self.timing.advice()).or(adts);
        let dropped = matches!(self.media.advice, Some(Advice::Dropped { video: false, .. }));
        if !dropped || advice.is_some() {
            self.advise(advice);
        }
    }

    /// Sets the present advice, and sends it once.
    fn advise(&mut self, advice: Option<Advice>) {
        self.media.advice = advice;
        let text = advice.map(|advice| advice.to_string());
        let new = |advice: &Advice| self.media.told.iter().all(|told| !told.is_like(*advice));
        if let Some(advice) = advice.filter(new) {
            self.media.told.push(advice);
            let advice = text.as_deref().unwrap_or_default();
            match &self.state {
                State::Live(live) => {
                    warn!(channel = %live.producer.broadcast().name(), advice, "publisher advised")
                }
                State::Settling(settling) => {
                    warn!(channel = %settling.claim.name(), advice, "publisher advised")
                }
                State::Over => {}
            }
            self.media.words.clone_from(&text);
        }
        if let State::Live(live) = &self.state {
            live.producer.broadcast().report(Reported {
                key_interval: self.media.groups.interval(),
                advice: text.map(Into::into),
            });
        }
    }
}
