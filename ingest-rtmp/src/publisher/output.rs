//! The output of a publisher: its access units, with times of its own clock, become frames of a
//! broadcast. The hub places them on the broadcast's timeline and decides cuts.

use std::time::{Instant, SystemTime};

use media_core::{
    AccessUnit,
    broadcast::Refused,
    codec::{Config, aac, avc},
    hub::Cause,
};
use tracing::{debug, info};

use super::{
    advisor::Advisor,
    settling::{Announced, HeldUnit, Settling},
    state::{Live, LiveTrack, State},
    tracks::{Kind, Track, Tracks},
};
use crate::{
    auth::{Reason, Refusal},
    metrics::{Drop, Metrics},
    timing::Timing,
};

/// The output of one publisher.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) metrics: Metrics,
    /// The configurations that the publisher has sent.
    pub(super) tracks: Tracks,
    /// Before its broadcast, in it, or after it.
    pub(super) state: State,
    /// Pacing and corrections of timestamps.
    pub(super) timing: Box<Timing>,
    /// The advice for the streamer, and the limits of silence.
    pub(super) advisor: Box<Advisor>,
}

impl Output {
    /// Handles the names of codecs in onMetaData, a hint about the tracks.
    ///
    /// # Errors
    /// Disconnect the peer with this refusal.
    pub(super) fn announce(&mut self, announced: Announced, now: Instant) -> Result<(), Refusal> {
        if let State::Settling(settling) = &mut self.state {
            settling.announced = Some(announced).filter(|named| named.video || named.audio);
            self.settle(now)?;
        }
        Ok(())
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
        self.advisor.dropped(kind, reason, now, &self.state)
    }

    /// Like [`Output::dropped`] for messages in which no frame was found: they are not counted.
    pub(super) fn advise_if_dropped(
        &mut self,
        kind: Kind,
        reason: Drop,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.advisor.dropped(kind, reason, now, &self.state)
    }

    /// Updates the advice about groups and pacing.
    pub(super) fn watch_groups(&mut self) {
        self.advisor.watch_groups(self.timing.advice(), &self.state);
    }

    /// Takes a configuration record of a track. Another one takes effect with the first frame after
    /// it at which decoding can start.
    ///
    /// # Errors
    /// A codec or profile that is not supported: disconnect the peer with this refusal.
    pub(super) fn configure(&mut self, kind: Kind, record: &[u8]) -> Result<(), Refusal> {
        let slot = self.tracks.of(kind);
        if slot.as_ref().is_some_and(|track| track.config.record() == record) {
            return Ok(());
        }
        // A record without parameter sets announces sets in the stream. Some encoders send sets
        // with start codes instead of a record.
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

    /// Handles a whole access unit, with times of the publisher's clock. A frame before its
    /// configuration, or before a key frame, is dropped and counted.
    ///
    /// # Errors
    /// Disconnect the peer with this refusal.
    pub(super) fn frame(
        &mut self,
        kind: Kind,
        unit: AccessUnit,
        now: Instant,
    ) -> Result<(), Refusal> {
        let ms = unit.dts.whole_millis();
        let track = self.tracks.of(kind);
        if kind == Kind::Video
            && let State::Settling(settling) = &mut self.state
        {
            settling.awaits_key =
                track.as_ref().is_none_or(|track| track.waits_for_key && !unit.key);
        }
        // Time passes with dropped frames too: the wait for other tracks must end although this one
        // never has a configuration.
        let Some(track) = track else {
            self.dropped(kind, Drop::BeforeConfig, now)?;
            return self.passed(ms, now);
        };
        if track.waits_for_key && !unit.key {
            self.dropped(kind, Drop::BeforeKey, now)?;
            return self.passed(ms, now);
        }
        track.waits_for_key = false;
        // A configuration takes effect with its first frame, so that one that is replaced before
        // has no effect.
        if !std::mem::replace(&mut track.shown, true) {
            self.show(kind)?;
        }
        match &mut self.state {
            State::Live(_) => self.push(kind, unit),
            State::Settling(settling) => {
                settling.hold(kind, unit);
                self.advisor.taken(kind, now, &self.state);
                self.passed(ms, now)
            }
            State::Over => Ok(()),
        }
    }

    /// Publishes an access unit in the live broadcast.
    ///
    /// # Errors
    /// The broadcast has ended, or no frame has been accepted for long: disconnect the peer with
    /// this refusal.
    fn push(&mut self, kind: Kind, unit: AccessUnit) -> Result<(), Refusal> {
        let State::Live(live) = &self.state else {
            return Ok(());
        };
        // Every kind with a shown track has an index: `start` and `show` have added it.
        let Some(index) = live.index(kind) else {
            return Ok(());
        };
        let arrived = unit.arrived;
        let advised = self.timing.advice();
        // The hub decides whether a frame fits the timeline. Reasons that are the publisher's fault
        // count towards a disconnection.
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
                self.advisor.taken(kind, arrived, &self.state);
                // Advice about pacing begins and ends between key frames too.
                if self.timing.advice() != advised {
                    self.watch_groups();
                }
            }
            // This drop is our own decision, so it does not count towards a disconnection.
            Err(Refused::AfterOutage) => {
                self.metrics.drop_frame(Drop::AfterOutage);
                self.timing.note_left_out(live.producer.broadcast().id(), arrived);
                self.advisor.health.excuse(arrived);
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
            settling.note_passed(ms, now);
        }
        self.settle(now)
    }

    /// Starts the broadcast if it has a track and no other is awaited.
    fn settle(&mut self, now: Instant) -> Result<(), Refusal> {
        match &self.state {
            State::Settling(settling) if settling.is_settled(&self.tracks) => self.start(now),
            _ => Ok(()),
        }
    }

    /// Starts the broadcast with the tracks that have a frame, and publishes the held access units.
    ///
    /// # Errors
    /// The hub refuses the broadcast: disconnect the peer with this refusal.
    fn start(&mut self, now: Instant) -> Result<(), Refusal> {
        let State::Settling(Settling { claim, held, .. }) =
            std::mem::replace(&mut self.state, State::Over)
        else {
            return Ok(());
        };
        // Media time begins with the arrival of the oldest held frame, so that the wait for tracks
        // does not shift the timeline.
        let first = held.iter().map(|held| held.unit.arrived).min().unwrap_or(now);
        let utc = SystemTime::now();
        let utc = utc.checked_sub(now.saturating_duration_since(first)).unwrap_or(utc);
        let catalogue: Vec<_> = self
            .tracks
            .shown()
            .map(|(kind, track)| (kind.track_name(), track.config.clone()))
            .collect();
        let codecs: Vec<_> =
            catalogue.iter().map(|(_, config)| config.codec_string().to_owned()).collect();
        // Taken first, because `start` consumes the claim, and may fail because it was revoked.
        let revoked = claim.revoked();
        let producer = claim.start(catalogue, first, utc).map_err(|err| {
            held.iter().for_each(|_| self.metrics.drop_frame(Drop::NeverLive));
            match err {
                _ if revoked.is_revoked() => ended(revoked.cause()),
                media_core::Error::TooSoon { .. } => Refusal::new(Reason::Busy, err.to_string()),
                _ => Refusal::new(Reason::Codec, err.to_string()),
            }
        })?;
        let broadcast = producer.broadcast();
        info!(
            channel = %broadcast.name(), broadcast = %broadcast.id(), codecs = codecs.join(","),
            "broadcast is live"
        );
        let live = |(kind, _): (Kind, &Track)| {
            Some(LiveTrack { kind, index: producer.track(&kind.track_name())? })
        };
        let tracks = self.tracks.shown().filter_map(live).collect();
        self.state = State::Live(Live { producer, tracks });
        for HeldUnit { kind, unit } in held {
            self.push(kind, unit)?;
        }
        Ok(())
    }

    /// The track has a frame for its present configuration: a live broadcast continues with it, or
    /// gets another track.
    ///
    /// # Errors
    /// The hub refuses the configuration, or the right was revoked: disconnect the peer.
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
            live.tracks.push(LiveTrack { kind, index });
        } else {
            debug!(%broadcast, track = %name, codec, "track configuration changed");
        }
        Ok(())
    }
}

/// The refusal for a publisher whose broadcast was ended by another party.
pub(crate) fn ended(cause: Option<&Cause>) -> Refusal {
    // Each text names the party that ended the broadcast, and so the remedy.
    match cause {
        Some(Cause::Failed(words)) => Refusal::new(Reason::Failed, words.clone()),
        Some(Cause::TakenOver) => Refusal::new(
            Reason::TakenOver,
            "another encoder with this stream key has taken over, because nothing arrived from \
             this one for a second",
        ),
        Some(Cause::Operator) | None => {
            Refusal::new(Reason::Kicked, "an operator has ended this broadcast")
        }
    }
}
