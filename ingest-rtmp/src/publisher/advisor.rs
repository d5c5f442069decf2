//! Watches a publisher's groups, drops and silence, and makes the advice for its streamer.

use std::time::{Duration, Instant};

use media_core::broadcast::Health as Reported;
use tracing::warn;

use super::{state::State, tracks::Kind};
use crate::{advice::Advice, auth::Refusal, groups::Groups, health::Health, metrics::Drop};

/// The observations of one publisher, and the advice that follows from them.
#[derive(Debug)]
pub(super) struct Advisor {
    /// Start points of the video.
    pub(super) groups: Groups,
    /// Accepted and dropped frames of both tracks.
    pub(super) health: Health,
    /// ADTS headers contradict the AudioSpecificConfig that is in force.
    pub(super) adts_differs: bool,
    /// The present advice.
    advice: Option<Advice>,
    /// Advice that was sent, each kind once.
    sent: Vec<Advice>,
    /// The next text for the encoder.
    words: Option<String>,
}

impl Advisor {
    /// Of a publisher that begins at `now` and may be silent for `idle`.
    pub(super) fn new(idle: Duration, now: Instant) -> Self {
        Self {
            groups: Groups::default(),
            health: Health::new(idle, now),
            adts_differs: false,
            advice: None,
            sent: Vec::new(),
            words: None,
        }
    }

    /// The next text for the streamer, if there is one.
    pub(super) fn take_words(&mut self) -> Option<String> {
        self.words.take()
    }

    /// Records an accepted frame of a track.
    pub(super) fn taken(&mut self, kind: Kind, now: Instant, state: &State) {
        self.health.take(kind == Kind::Video, now);
        // The track can be published again, so the advice about it is withdrawn.
        if let Some(Advice::Dropped { video, .. }) = self.advice
            && video == (kind == Kind::Video)
        {
            self.advise(None, state);
        }
    }

    /// Records a dropped frame of a track. If this continues, the publisher gets advice.
    ///
    /// # Errors
    /// No frame has been accepted for long: disconnect the peer with this refusal.
    pub(super) fn dropped(
        &mut self,
        kind: Kind,
        reason: Drop,
        now: Instant,
        state: &State,
    ) -> Result<(), Refusal> {
        if let Some(advice) = self.health.drop(kind == Kind::Video, reason, now)? {
            self.advise(Some(advice), state);
        }
        Ok(())
    }

    /// Updates the advice about groups and pacing, which is `pacing`. Call it at key frames, while
    /// there are none, and when pacing begins or ends.
    pub(super) fn watch_groups(&mut self, pacing: Option<Advice>, state: &State) {
        // Start points are most important for viewers, so advice about them precedes pacing and
        // ADTS.
        let gridded = state.broadcast().is_some_and(|broadcast| broadcast.is_gridded());
        let adts = self.adts_differs.then_some(Advice::AdtsDiffers);
        let advice = self.groups.advice(gridded);
        let advice = advice.or(pacing).or(adts);
        let dropped = matches!(self.advice, Some(Advice::Dropped { video: false, .. }));
        // Advice about audio that cannot be published stays, unless there is other advice: key
        // frames of the video show nothing about it.
        if !dropped || advice.is_some() {
            self.advise(advice, state);
        }
    }

    /// Sets the present advice, and sends it once.
    fn advise(&mut self, advice: Option<Advice>, state: &State) {
        self.advice = advice;
        let text = advice.map(|advice| advice.to_string());
        let new = |advice: &Advice| self.sent.iter().all(|sent| !sent.is_like(*advice));
        // Once for each kind, because repeated advice would fill the logs.
        if let Some(advice) = advice.filter(new) {
            self.sent.push(advice);
            let advice = text.as_deref().unwrap_or_default();
            if let Some(channel) = state.channel() {
                warn!(%channel, advice, "publisher advised");
            }
            self.words.clone_from(&text);
        }
        if let Some(broadcast) = state.broadcast() {
            broadcast.report(Reported {
                key_interval: self.groups.interval(),
                advice: text.map(Into::into),
            });
        }
    }
}
