//! Media that cannot be published, silence, and the advice to the streamer.

use super::*;

/// Sends `video` 25 times a second for `seconds`, and audio beside it if `audio`. Returns the final
/// result.
fn send(
    feed: &mut Feed,
    seconds: u32,
    audio: bool,
    video: impl Fn(u32) -> Bytes,
) -> Result<(), Refusal> {
    for ms in (0..seconds * 1_000).step_by(40) {
        feed.video(ms, video(ms))?;
        if audio {
            feed.audio(ms, audio_frame())?;
        }
    }
    Ok(())
}

#[test]
fn unusable_video_is_refused_with_a_reason_after_10_s_or_30_s_without_a_key_frame() {
    let cases = [
        (None, IDR, 10, "SPS and PPS"),
        (Some(AVC), SLICE, 30, "keyframe interval"),
        (Some(AVC), &hex!("00ff0000 0102"), 10, "Annex B"),
        (Some(AVC), &hex!("00000000"), 10, "no picture"),
        (Some(AVC), &hex!("00000002 09f0"), 10, "no picture"),
        (Some(AVC), &[], 10, "video messages are empty"),
    ];
    for (config, frame, seconds, word) in cases {
        let mut feed = Feed::new();
        if let Some(config) = config {
            feed.video(0, video_config(config)).unwrap();
        }
        let sent = send(&mut feed, seconds, false, |_| video_frame(frame));
        assert_eq!(sent, Ok(()), "{word}");
        let refusal = feed.video(seconds * 1_000, video_frame(frame)).unwrap_err();
        assert_eq!(refusal.reason, Reason::Unusable);
        assert!(refusal.description.contains(word), "{}", refusal.description);
    }
}

#[test]
fn empty_messages_are_refused_after_10_s_and_messages_without_frames_after_30_s() {
    let cases: [(&str, Kind, &[u8], Option<Duration>); 9] = [
        ("a picture without bytes", Kind::Video, &hex!("17 01 000000"), Some(IDLE)),
        ("a video message without bytes", Kind::Video, &[], Some(IDLE)),
        ("sound without bytes", Kind::Audio, &hex!("af 01"), Some(IDLE)),
        ("an audio message without bytes", Kind::Audio, &[], Some(IDLE)),
        ("a command frame", Kind::Video, &hex!("57 00"), None),
        ("the end of the sequence", Kind::Video, &hex!("17 02 000000"), None),
        ("an unknown packet", Kind::Video, &hex!("17 05 000000"), None),
        ("a sequence header without bytes", Kind::Video, &hex!("17 00 000000"), None),
        ("an AudioSpecificConfig", Kind::Audio, &hex!("af 00 1190"), None),
    ];
    for (case, kind, body, dropped) in cases {
        let mut feed = Feed::new();
        feed.video(0, video_config(AVC)).unwrap();
        feed.audio(0, audio_config()).unwrap();
        let ended = (0..1_000u32).find_map(|n| {
            let now = feed.start + n * Duration::from_millis(40);
            let body = Bytes::copy_from_slice(body);
            let taken = match kind {
                Kind::Video => feed.publisher.video(n * 40, body, now),
                Kind::Audio => feed.publisher.audio(n * 40, body, now),
            };
            let refusal = taken.and_then(|()| feed.publisher.handle_timeout(now)).err()?;
            Some((now - feed.start, refusal))
        });
        let (after, refusal) = ended.unwrap_or_else(|| panic!("{case}: not ended"));
        assert_eq!(refusal.reason, Reason::Unusable, "{case}");
        assert_eq!(after, dropped.unwrap_or(3 * IDLE), "{case}");
        let words =
            if dropped.is_some() { "messages are empty" } else { "no audio or video has arrived" };
        assert!(refusal.description.contains(words), "{case}: {}", refusal.description);
    }
}

#[test]
fn slow_pictures_keep_a_publisher_and_a_live_publisher_without_frames_is_refused() {
    let mut feed = Feed::of_video();
    for ms in [0, 20_000, 40_000, 60_000] {
        feed.video(ms, video_frame(IDR)).unwrap();
        let later = feed.start + Duration::from_millis(u64::from(ms) + 29_000);
        assert_eq!(feed.publisher.handle_timeout(later), Ok(()));
    }
    assert!(feed.live().is_some());
    let due = feed.publisher.poll_timeout().unwrap();
    assert_eq!(due, feed.start + Duration::from_secs(90));
    // Time in which it is not read from does not count.
    feed.publisher.excuse_silence(due);
    assert_eq!(feed.publisher.handle_timeout(due), Ok(()));
    let refusal = feed.publisher.handle_timeout(due + 3 * IDLE).unwrap_err();
    assert_eq!(refusal.reason, Reason::Unusable);
}

#[test]
fn adts_headers_that_contradict_the_sequence_header_cause_advice() {
    let mut feed = Feed::of_video();
    feed.audio(0, audio_config()).unwrap();
    let words = "state another sampling rate or number of channels";
    for ms in (0..10_000).step_by(40) {
        feed.video(ms, video_frame(if ms % 2_000 == 0 { IDR } else { SLICE })).unwrap();
        feed.audio(ms, adts(1)).unwrap();
    }
    assert!(feed.publisher.take_words().unwrap().contains(words));
    let health = feed.live().unwrap().health();
    assert!(health.advice.is_some_and(|advice| advice.contains(words)));
    // A sequence header that agrees with them settles it.
    feed.audio(10_000, Bytes::from_static(&hex!("af 00 1210"))).unwrap();
    feed.audio(10_000, adts(1)).unwrap();
    feed.video(10_000, video_frame(IDR)).unwrap();
    assert_eq!(feed.live().unwrap().health().advice, None);
    assert_eq!(feed.publisher.take_words(), None);
}

#[test]
fn a_relay_that_starts_within_a_20_s_group_gets_advice_and_is_accepted() {
    let mut feed = Feed::of_video();
    send(&mut feed, 19, false, |_| video_frame(SLICE)).unwrap();
    assert!(feed.publisher.take_words().unwrap().contains("keyframe interval"));
    feed.video(19_000, video_frame(IDR)).unwrap();
    assert_eq!(feed.live().unwrap().tracks()[0].frames, 1);
}

#[test]
fn a_dropped_track_beside_an_accepted_one_causes_advice_once() {
    let mut feed = Feed::new();
    feed.video(0, video_config(AVC)).unwrap();
    feed.audio(0, audio_config()).unwrap();
    send(&mut feed, 11, true, |_| video_frame(&hex!("00ff0000 0102"))).unwrap();
    let words = feed.publisher.take_words().unwrap();
    assert!(words.contains("Annex B"), "{words}");
    assert_eq!(feed.live().unwrap().health().advice.as_deref(), Some(&words[..]));
    send(&mut feed, 11, true, |_| video_frame(&hex!("00ff0000 0102"))).unwrap();
    assert_eq!(feed.publisher.take_words(), None);
}

#[test]
fn the_key_frame_interval_is_measured_and_a_long_group_causes_lasting_advice() {
    let mut feed = Feed::of_video();
    let frame = |key| if key { video_frame(IDR) } else { video_frame(SLICE) };
    let mut words = Vec::new();
    let mut advice = Vec::new();
    for ms in (0..60_000).step_by(40) {
        feed.video(ms, frame(matches!(ms, 0 | 2_000 | 22_000) || ms > 22_000 && ms % 2_000 == 0))
            .unwrap();
        words.extend(feed.publisher.take_words());
        let health = feed.live().unwrap().health();
        if advice.last() != Some(&health.advice.is_some()) {
            advice.push(health.advice.is_some());
        }
    }
    let health = feed.live().unwrap().health();
    assert_eq!(health.key_interval, Some(Duration::from_secs(2)));
    // The hub's grid, which the long group began, remains until a discontinuity.
    assert_eq!(advice, [false, true]);
    assert!(words[0].contains("no key frame has arrived for more than 12 s"), "{words:?}");
    assert!(words[1].contains("20.0 s apart"), "{words:?}");
    assert!(health.advice.is_some_and(|advice| advice.contains("further apart than at the start")));
    feed.video(60_000, video_config(AVC_SAME_STRING)).unwrap();
    for ms in (60_000..66_040).step_by(40) {
        feed.video(ms, frame(ms % 2_000 == 0)).unwrap();
    }
    assert_eq!(feed.live().unwrap().health().advice, None);
}

#[test]
fn a_source_without_idr_pictures_starts_at_a_recovery_point_which_is_not_independent() {
    let recovery: &[u8] = &hex!("00000005 0606 01 c4 80 00000004 419a2080");
    let mut feed = Feed::of_video();
    for ms in (0..7_000).step_by(40) {
        let payload = if ms % 2_000 == 0 { recovery } else { SLICE };
        feed.video(ms, video_frame(payload)).unwrap();
    }
    let keys: Vec<_> =
        feed.frames().into_iter().filter(|(_, _, key)| *key).map(|(_, ms, _)| ms).collect();
    assert_eq!(keys, [0, 2_000], "from 3.5 s on");
    let broadcast = feed.live().unwrap();
    assert!(broadcast.is_gridded());
    let mut consumer = broadcast.subscribe_from_oldest();
    let independent = std::iter::from_fn(|| consumer.try_next())
        .filter(|event| matches!(event, Event::Frame { frame, .. } if frame.independent));
    assert_eq!(independent.count(), 0);
    assert!(feed.publisher.take_words().unwrap().contains("open groups"));
}
