//! Whether a publisher's media can be published. One that sends nothing usable for ten seconds is
//! disconnected with the reason: otherwise it would hold its name without limit, and its encoder
//! would show no error. One that lacks only a key frame gets a warning after the same time, and is
//! disconnected after 30 s, and so is one that sends no frames at all. Pure: `now` is an argument.

use std::time::{Duration, Instant};

use crate::{
    advice::{Advice, fault},
    auth::{Reason, Refusal},
    metrics::Drop,
};

/// Time without any accepted frame after which a publisher is disconnected.
const LIMIT: Duration = Duration::from_secs(10);
/// The same if only a key frame is missing. A relay that copies its source may connect in the
/// middle of a group, and again after each disconnection: groups of 10 s to 20 s are common there.
const KEY_LIMIT: Duration = Duration::from_secs(30);
/// Time without any frame, accepted or dropped, after which a publisher is disconnected, if it may
/// not be silent for longer (`rtmp.idle_ms`). Headers, metadata and pings are no frames. Pictures
/// at intervals of ten or twenty seconds, as slides, are legitimate.
const SILENCE: Duration = Duration::from_secs(30);
/// Number of dropped messages up to which a slow or pausing publisher is not judged.
const FEW: u32 = 3;

/// Accepted and dropped frames of a publisher's tracks.
#[derive(Debug)]
pub(crate) struct Health {
    /// Time of the last frame, or of the publish.
    active: Instant,
    /// Time from `active` to the disconnection.
    silence: Duration,
    video: Track,
    audio: Track,
}

/// The newest frames of one track.
#[derive(Debug, Default)]
struct Track {
    /// Time of the last accepted frame.
    taken: Option<Instant>,
    /// Drops since then.
    drops: Option<Drops>,
}

/// Frames that were dropped without an accepted one between them.
#[derive(Debug, Clone, Copy)]
struct Drops {
    /// Time of the first.
    since: Instant,
    /// Number of dropped frames since then.
    count: u32,
}

impl Health {
    /// Of a publisher that begins at `now` and may be silent for `idle`.
    pub(crate) fn new(idle: Duration, now: Instant) -> Self {
        Self {
            active: now,
            silence: idle.max(SILENCE),
            video: Track::default(),
            audio: Track::default(),
        }
    }

    /// The time of the next [`Health::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Instant {
        self.active + self.silence
    }

    /// Handles the passage of time.
    ///
    /// # Errors
    /// No frame has arrived for too long: disconnect the publisher with this refusal.
    pub(crate) fn handle_timeout(&self, now: Instant) -> Result<(), Refusal> {
        if now < self.poll_timeout() {
            return Ok(());
        }
        let words = format!(
            "no audio or video has arrived for {} s, only headers, metadata or pings: start the \
             encoder's output, and publish again",
            self.silence.as_secs()
        );
        Err(Refusal::new(Reason::Unusable, words))
    }

    /// Records that the absence of frames until `now` is not the publisher's fault.
    pub(crate) fn excuse(&mut self, now: Instant) {
        self.active = now;
    }

    /// Records an accepted frame of a track.
    pub(crate) fn take(&mut self, video: bool, now: Instant) {
        self.active = now;
        let track = self.track(video);
        // One accepted frame ends the series: the media can be published in principle.
        (track.taken, track.drops) = (Some(now), None);
    }

    /// Records a dropped frame of a track. Returns the advice if this has continued for too long,
    /// for as long as it continues.
    ///
    /// # Errors
    /// No frame of the other track was accepted within the same time, and no key frame is awaited:
    /// disconnect the publisher with this refusal.
    pub(crate) fn drop(
        &mut self,
        video: bool,
        reason: Drop,
        now: Instant,
    ) -> Result<Option<Advice>, Refusal> {
        self.active = now;
        let track = self.track(video);
        let drops = track.drops.get_or_insert(Drops { since: now, count: 0 });
        drops.count += 1;
        let lasts = now.saturating_duration_since(drops.since);
        // Time alone does not suffice: a source of slides may drop one frame in ten seconds.
        if lasts < LIMIT || drops.count <= FEW {
            return Ok(None);
        }
        // A publisher that lacks only a key frame is likely to get one, so it has more time.
        let waits = reason == Drop::BeforeKey && lasts < KEY_LIMIT;
        // While the other track can be published, viewers receive something, so advice suffices.
        let recent = |taken: Instant| now.saturating_duration_since(taken) < LIMIT;
        if waits || self.track(!video).taken.is_some_and(recent) {
            return Ok(Some(Advice::Dropped { video, reason }));
        }
        Err(Refusal::new(Reason::Unusable, fault(video, reason)))
    }

    fn track(&mut self, video: bool) -> &mut Track {
        if video { &mut self.video } else { &mut self.audio }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_publisher_without_usable_media_for_ten_seconds_is_refused_with_a_reason() {
        let start = Instant::now();
        let mut health = Health::new(Duration::ZERO, start);
        for n in 0..250 {
            assert_eq!(health.drop(true, Drop::BeforeConfig, start + n * 40 * MS), Ok(None), "{n}");
        }
        let refusal = health.drop(true, Drop::BeforeConfig, start + 10_000 * MS).unwrap_err();
        assert_eq!(refusal.reason, Reason::Unusable);
        assert!(refusal.description.contains("SPS and PPS"), "{refusal:?}");
    }

    #[test]
    fn a_publisher_without_a_key_frame_gets_advice_after_10_s_and_is_refused_after_30_s() {
        let (start, reason) = (Instant::now(), Drop::BeforeKey);
        let mut health = Health::new(Duration::ZERO, start);
        for n in 0..750 {
            let wanted = (n >= 250).then_some(Advice::Dropped { video: true, reason });
            assert_eq!(health.drop(true, reason, start + n * 40 * MS), Ok(wanted), "{n}");
        }
        let refusal = health.drop(true, reason, start + 30_000 * MS).unwrap_err();
        assert_eq!(refusal.reason, Reason::Unusable);
        assert!(refusal.description.contains("key frame"), "{refusal:?}");
    }

    #[test]
    fn accepted_frames_keep_a_publisher_that_also_sends_unusable_ones() {
        let start = Instant::now();
        let mut health = Health::new(Duration::ZERO, start);
        for n in 0..1_000 {
            let now = start + n * 40 * MS;
            assert_eq!(health.drop(true, Drop::Malformed, now), Ok(None));
            if n % 200 == 0 {
                health.take(true, now);
            }
        }
        // Audio continues: the publisher gets advice, but is not disconnected.
        let mut health = Health::new(Duration::ZERO, start);
        let mut told = None;
        for n in 0..1_000 {
            let now = start + n * 40 * MS;
            health.take(false, now);
            told = health.drop(true, Drop::BeforeKey, now).unwrap();
        }
        let reason = Drop::BeforeKey;
        assert_eq!(told, Some(Advice::Dropped { video: true, reason }));
    }

    #[test]
    fn one_accepted_frame_excuses_dropped_frames_of_the_other_track_for_10_s() {
        for (reason, ends_ms) in [(Drop::Malformed, 10_040), (Drop::BeforeKey, 30_000)] {
            let start = Instant::now();
            let mut health = Health::new(Duration::ZERO, start);
            assert_eq!(health.drop(true, reason, start), Ok(None));
            health.take(false, start + 10 * MS);
            let sent_off =
                (1..1_500).find(|n| health.drop(true, reason, start + n * 40 * MS).is_err());
            assert_eq!(sent_off, Some(ends_ms / 40), "{reason:?}");
        }
    }

    #[test]
    fn a_publisher_without_frames_is_refused_after_30_s_or_the_configured_silence() {
        let start = Instant::now();
        for (idle_s, limit_s) in [(10, 30), (30, 30), (60, 60)] {
            let mut health = Health::new(Duration::from_secs(idle_s), start);
            let limit = limit_s * 1_000 * MS;
            assert_eq!(health.poll_timeout(), start + limit);
            assert_eq!(health.handle_timeout(start + limit - MS), Ok(()));
            let refusal = health.handle_timeout(start + limit).unwrap_err();
            assert_eq!(refusal.reason, Reason::Unusable);
            assert!(refusal.description.contains(&format!("for {limit_s} s")), "{refusal:?}");
            // Pictures at long intervals, and frames that are dropped, are no silence.
            health.take(true, start + 20_000 * MS);
            assert_eq!(health.poll_timeout(), start + 20_000 * MS + limit);
            assert_eq!(health.drop(false, Drop::Empty, start + 40_000 * MS), Ok(None));
            assert_eq!(health.poll_timeout(), start + 40_000 * MS + limit);
        }
    }

    #[test]
    fn a_pause_between_two_drops_is_not_counted_as_dropping() {
        let start = Instant::now();
        let mut health = Health::new(Duration::ZERO, start);
        assert_eq!(health.drop(true, Drop::BeforeKey, start), Ok(None));
        assert_eq!(health.drop(true, Drop::BeforeKey, start + 60_000 * MS), Ok(None));
    }

    #[test]
    fn every_drop_reason_has_a_description_of_30_to_250_bytes() {
        let reasons = [
            Drop::BeforeConfig,
            Drop::BeforeKey,
            Drop::Malformed,
            Drop::NoPicture,
            Drop::Empty,
            Drop::OtherTrack,
            Drop::InGap,
            Drop::TooFarAhead,
            Drop::AfterOutage,
            Drop::Replaced,
            Drop::NeverLive,
        ];
        // The last clause is the remedy.
        let remedies = ["restart the ", "set the ", "send one "];
        for reason in reasons {
            for video in [true, false] {
                let words = fault(video, reason);
                assert!((30..250).contains(&words.len()) && !words.contains("  "), "{words}");
                assert_eq!(words.lines().count(), 1, "{words}");
                let (_, remedy) = words.rsplit_once([':', ';']).unwrap();
                let remedy = remedy.trim_start();
                assert!(remedies.iter().any(|begin| remedy.starts_with(begin)), "{words}");
            }
        }
    }
}
