//! Whether a publisher's media can be published. One that sends nothing usable for ten seconds is
//! disconnected with the reason: otherwise it would hold its name without limit, and its encoder
//! would show no error. One that lacks only a key frame gets a warning after the same time, and is
//! disconnected after 30 s. Pure: `now` is an argument.

use std::time::{Duration, Instant};

use crate::{
    advice::Advice,
    auth::{Reason, Refusal},
    metrics::Drop,
};

/// Time without any accepted frame after which a publisher is disconnected.
const LIMIT: Duration = Duration::from_secs(10);
/// The same if only a key frame is missing. A relay that copies its source may connect in the
/// middle of a group, and again after each disconnection: groups of 10 s to 20 s are common there.
const KEY_LIMIT: Duration = Duration::from_secs(30);
/// Number of dropped messages up to which a slow or pausing publisher is not judged.
const FEW: u32 = 3;

/// Accepted and dropped frames of a publisher's tracks.
#[derive(Debug, Default)]
pub(crate) struct Health {
    video: Track,
    audio: Track,
}

#[derive(Debug, Default)]
struct Track {
    /// Time of the last accepted frame.
    taken: Option<Instant>,
    /// Number of drops since then, and the time of the first.
    drops: Option<(Instant, u32)>,
}

impl Health {
    /// Records an accepted frame of a track.
    pub(crate) fn take(&mut self, video: bool, now: Instant) {
        let track = self.track(video);
        (track.taken, track.drops) = (Some(now), None);
    }

    /// Records a dropped frame of a track. Returns the advice if this has continued for too long,
    /// for as long as it continues.
    ///
    /// # Errors
    /// No frame of any track was accepted meanwhile, and no key frame is awaited: disconnect the
    /// publisher with this refusal.
    pub(crate) fn drop(&mut self, video: bool, reason: Drop, now: Instant) -> Result<Option<Advice>, Refusal> {
        let track = self.track(video);
        let (since, count) = track.drops.get_or_insert((now, 0));
        *count += 1;
        if now.saturating_duration_since(*since) < LIMIT || *count <= FEW {
            return Ok(None);
        }
        let since = *since;
        let waits = reason == Drop::BeforeKey && now.saturating_duration_since(since) < KEY_LIMIT;
        let other = self.track(!video);
        if waits || other.taken.is_some_and(|taken| taken >= since) {
            return Ok(Some(Advice::Dropped { video, reason }));
        }
        Err(Refusal::new(Reason::Unusable, words(video, reason)))
    }

    fn track(&mut self, video: bool) -> &mut Track {
        if video { &mut self.video } else { &mut self.audio }
    }
}

/// The fault of the received media, and the setting to change.
pub(crate) fn words(video: bool, reason: Drop) -> &'static str {
    match (reason, video) {
        (Drop::BeforeConfig, true) => {
            "the video has no configuration: neither a sequence header nor SPS and PPS in front of a key frame have arrived; \
             restart the encoder, or let it repeat its headers"
        }
        (Drop::BeforeConfig, false) => {
            "the audio has no configuration: neither an AudioSpecificConfig nor ADTS headers have arrived; restart the \
             encoder, and set it to AAC-LC"
        }
        (Drop::BeforeKey, true) => {
            "the video has no key frame to start at: set the encoder's keyframe interval to 2 s and turn intra refresh off"
        }
        (Drop::Malformed, true) => {
            "the video cannot be read: its messages contain neither NAL units with length prefixes (AVCC) nor start codes \
             (Annex B); set the encoder to H.264 for FLV or RTMP"
        }
        (Drop::Malformed, false) => {
            "the audio cannot be read: its messages contain neither raw AAC frames nor whole ADTS frames; set the encoder to AAC-LC"
        }
        (Drop::NoPicture, _) => {
            "the video messages contain delimiters, SEI or parameter sets, but no picture: restart the encoder"
        }
        (Drop::OtherTrack, _) => {
            "all frames belong to tracks beyond the first, which are not supported: send one video and one audio track"
        }
        (Drop::InGap, _) => {
            "the timestamps are slower than real time: restart the stream, and let the encoder use its clock for timestamps"
        }
        (Drop::TooFarAhead | Drop::AfterOutage, _) => {
            "the timestamps are faster than real time: restart the stream, and let the encoder use its clock for timestamps"
        }
        (Drop::BeforeKey | Drop::Replaced, _) => {
            "the headers change before any picture can be shown: restart the encoder"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn who_sends_nothing_usable_for_ten_seconds_is_told_why() {
        let start = Instant::now();
        let mut health = Health::default();
        for n in 0..250 {
            assert_eq!(
                health.drop(true, Drop::BeforeConfig, start + n * 40 * MS),
                Ok(None),
                "{n}"
            );
        }
        let refusal = health.drop(true, Drop::BeforeConfig, start + 10_000 * MS).unwrap_err();
        assert_eq!(refusal.reason, Reason::Unusable);
        assert!(refusal.description.contains("SPS and PPS"), "{refusal:?}");
    }

    #[test]
    fn one_that_begins_in_the_middle_of_a_group_is_advised_at_10_s_and_sent_off_after_30_s() {
        let (start, reason) = (Instant::now(), Drop::BeforeKey);
        let mut health = Health::default();
        for n in 0..750 {
            let wanted = (n >= 250).then_some(Advice::Dropped { video: true, reason });
            assert_eq!(health.drop(true, reason, start + n * 40 * MS), Ok(wanted), "{n}");
        }
        let refusal = health.drop(true, reason, start + 30_000 * MS).unwrap_err();
        assert_eq!(refusal.reason, Reason::Unusable);
        assert!(refusal.description.contains("key frame"), "{refusal:?}");
    }

    #[test]
    fn what_is_taken_meanwhile_keeps_a_publisher() {
        let start = Instant::now();
        let mut health = Health::default();
        for n in 0..1_000 {
            let now = start + n * 40 * MS;
            assert_eq!(health.drop(true, Drop::Malformed, now), Ok(None));
            if n % 200 == 0 {
                health.take(true, now);
            }
        }
        // Audio continues: the publisher gets advice, but is not disconnected.
        let mut health = Health::default();
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
    fn a_pause_is_no_drop() {
        let start = Instant::now();
        let mut health = Health::default();
        assert_eq!(health.drop(true, Drop::BeforeKey, start), Ok(None));
        assert_eq!(health.drop(true, Drop::BeforeKey, start + 60_000 * MS), Ok(None));
    }

    #[test]
    fn every_reason_says_what_to_do_in_one_line() {
        let reasons = [
            Drop::BeforeConfig,
            Drop::BeforeKey,
            Drop::Malformed,
            Drop::NoPicture,
            Drop::OtherTrack,
            Drop::InGap,
            Drop::TooFarAhead,
            Drop::AfterOutage,
            Drop::Replaced,
        ];
        for reason in reasons {
            for video in [true, false] {
                let words = words(video, reason);
                assert!((30..250).contains(&words.len()) && !words.contains("  "), "{words}");
            }
        }
    }
}
