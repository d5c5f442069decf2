//! Whether anything that a publisher sends can be published. One that sends nothing usable for ten
//! seconds is told why and sent off: it would hold its name for ever, and its encoder would show
//! that all is well. One that waits for a key frame is told as soon, and sent off after 30 s. Pure:
//! `now` is an argument.

use std::time::{Duration, Instant};

use crate::{
    advice::Advice,
    auth::{Reason, Refusal},
    metrics::Drop,
};

/// How long nothing may be taken of what comes.
const LIMIT: Duration = Duration::from_secs(10);
/// The same where only a key frame is missing. A relay that copies its source may connect in the
/// middle of a group, and each time it is sent off and connects again it may do so: groups of 10 s to
/// 20 s are common there.
const KEY_LIMIT: Duration = Duration::from_secs(30);
/// Messages that say nothing of a publisher that is slow or pauses.
const FEW: u32 = 3;

/// What was taken and dropped of a publisher's tracks.
#[derive(Debug, Default)]
pub(crate) struct Health {
    video: Track,
    audio: Track,
}

#[derive(Debug, Default)]
struct Track {
    /// When something was taken last.
    taken: Option<Instant>,
    /// Drops since then, and when they began.
    drops: Option<(Instant, u32)>,
}

impl Health {
    /// Something of a track was taken.
    pub(crate) fn take(&mut self, video: bool, now: Instant) {
        let track = self.track(video);
        (track.taken, track.drops) = (Some(now), None);
    }

    /// Something of a track was dropped. If that has gone on for too long, what is to be changed;
    /// it is returned for as long as it goes on.
    ///
    /// # Errors
    /// Nothing of any track was taken meanwhile, and no key frame need be waited for: the publisher is to
    /// be sent off with this.
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

/// What arrived, and what is to be set.
pub(crate) fn words(video: bool, reason: Drop) -> &'static str {
    match (reason, video) {
        (Drop::BeforeConfig, true) => {
            "the video has no configuration: neither a sequence header nor SPS and PPS in front of a key frame have come; \
             restart the encoder, or let it repeat its headers"
        }
        (Drop::BeforeConfig, false) => {
            "the audio has no configuration: neither an AudioSpecificConfig nor ADTS headers have come; restart the \
             encoder, and set it to AAC-LC"
        }
        (Drop::BeforeKey, true) => {
            "the video has no key frame to start at: set the encoder's keyframe interval to 2 s and turn intra refresh off"
        }
        (Drop::Malformed, true) => {
            "the video cannot be read: its messages hold neither NAL units behind their lengths (AVCC) nor start codes \
             (Annex B); set the encoder to H.264 for FLV or RTMP"
        }
        (Drop::Malformed, false) => {
            "the audio cannot be read: its messages hold neither raw AAC frames nor whole ADTS frames; set the encoder to AAC-LC"
        }
        (Drop::NoPicture, _) => {
            "the video messages hold delimiters, SEI or parameter sets, but no picture: restart the encoder"
        }
        (Drop::OtherTrack, _) => {
            "only tracks beyond the first come, which are not carried: send one video and one audio track"
        }
        (Drop::InGap, _) => {
            "the timestamps lie behind the time that has passed: restart the stream, and let the encoder stamp by its clock"
        }
        (Drop::TooFarAhead | Drop::AfterOutage, _) => {
            "the timestamps run ahead of the time that has passed: restart the stream, and let the encoder stamp by its clock"
        }
        (Drop::BeforeKey | Drop::Replaced, _) => "the headers change before anything can be shown: restart the encoder",
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
        // Audio goes on: the publisher is told, but not sent off.
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
