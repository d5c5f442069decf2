//! When a broadcast begins, and with which tracks.

use super::*;

#[test]
fn a_broadcast_starts_with_a_frame_of_each_track_in_decoding_order() {
    let mut feed = Feed::new();
    feed.audio(0, audio_config()).unwrap();
    feed.audio(0, audio_frame()).unwrap();
    feed.audio(21, audio_frame()).unwrap();
    feed.video(10, video_config(AVC)).unwrap();
    assert!(feed.live().is_none());
    feed.video(10, video_frame(IDR)).unwrap();
    assert_eq!(feed.codecs(), ["v0 avc1.64001e", "a0 mp4a.40.2"]);
    feed.video(50, video_frame(SLICE)).unwrap();
    assert_eq!(feed.frames(), [(1, 0, true), (0, 10, true), (1, 21, true), (0, 50, false)]);
}

#[test]
fn metadata_with_one_track_starts_the_broadcast_at_its_first_frame() {
    let one = |key| object([("width", 640.0.into()), (key, 7.0.into())]);
    let mut feed = Feed::new();
    feed.publisher.metadata(&one("videocodecid"), feed.start).unwrap();
    feed.video(0, video_config(AVC)).unwrap();
    feed.video(0, video_frame(SLICE)).unwrap();
    assert!(feed.live().is_none());
    feed.video(40, video_frame(IDR)).unwrap();
    assert_eq!(feed.codecs(), ["v0 avc1.64001e"]);
    let mut feed = Feed::new();
    feed.audio(0, audio_config()).unwrap();
    feed.audio(0, audio_frame()).unwrap();
    assert!(feed.live().is_none());
    feed.publisher.metadata(&one("audiocodecid"), feed.start).unwrap();
    assert_eq!(feed.codecs(), ["a0 mp4a.40.2"]);
}

#[test]
fn a_track_with_only_a_sequence_header_is_omitted_until_its_first_key_frame() {
    let mut feed = Feed::new();
    feed.video(0, video_config(AVC)).unwrap();
    feed.audio(0, audio_config()).unwrap();
    for ms in (0..1_500).step_by(20) {
        feed.audio(ms, audio_frame()).unwrap();
        assert!(feed.live().is_none(), "{ms}");
    }
    feed.audio(1_500, audio_frame()).unwrap();
    let first = feed.live().unwrap();
    assert_eq!(feed.codecs(), ["a0 mp4a.40.2"]);
    assert_eq!(feed.frames().len(), 76);

    feed.video(1_520, video_frame(SLICE)).unwrap();
    assert_eq!(feed.metrics.dropped(Drop::BeforeKey), 1);
    assert_eq!(feed.live().unwrap().id(), first.id());
    feed.video(1_560, video_frame(IDR)).unwrap();
    feed.audio(1_570, audio_frame()).unwrap();
    assert_eq!(feed.live().unwrap().id(), first.id());
    assert_eq!(feed.codecs(), ["a0 mp4a.40.2", "v0 avc1.64001e"]);
    assert_eq!(feed.frames()[76..], [(1, 1_560, true), (0, 1_570, true)]);
}

#[test]
fn sequence_headers_without_a_key_frame_start_no_broadcast() {
    let mut feed = Feed::new();
    feed.audio(0, audio_config()).unwrap();
    feed.video(0, video_config(AVC)).unwrap();
    for ms in (0..4_000).step_by(40) {
        feed.video(ms, video_frame(SLICE)).unwrap();
    }
    assert!(feed.live().is_none());
    feed.video(4_000, video_frame(IDR)).unwrap();
    assert_eq!(feed.codecs(), ["v0 avc1.64001e"]);
}

#[test]
fn a_sequence_header_without_frames_does_not_change_a_live_broadcast() {
    let mut feed = Feed::new();
    feed.publisher.metadata(&object([("audiocodecid", 10.0.into())]), feed.start).unwrap();
    feed.audio(0, audio_config()).unwrap();
    feed.audio(0, audio_frame()).unwrap();
    let first = feed.live().unwrap();
    for _ in 0..10 {
        feed.video(0, video_config(AVC)).unwrap();
        feed.video(0, video_config(AVC_OTHER_STRING)).unwrap();
    }
    feed.audio(21, audio_frame()).unwrap();
    assert_eq!(feed.live().unwrap().id(), first.id());
    assert_eq!(feed.frames(), [(0, 0, true), (0, 21, true)]);
}

#[test]
fn without_metadata_one_track_starts_the_broadcast_after_1_5_s_or_4_mb() {
    let mut feed = Feed::new();
    feed.audio(0, audio_config()).unwrap();
    for ms in (0..1_500).step_by(20) {
        feed.audio(ms, audio_frame()).unwrap();
        assert!(feed.live().is_none(), "{ms}");
    }
    feed.audio(1_500, audio_frame()).unwrap();
    assert_eq!(feed.frames().len(), 76);

    let mut feed = Feed::new();
    feed.video(0, video_config(AVC)).unwrap();
    let large = video_frame(&[&[0, 15, 0, 0, 0x65][..], &[0x80; 0x000e_ffff]].concat());
    for ms in 0..4 {
        feed.video(ms, large.clone()).unwrap();
        assert!(feed.live().is_none());
    }
    feed.video(4, large).unwrap();
    assert_eq!(feed.codecs(), ["v0 avc1.64001e"]);
}

#[test]
fn the_start_waits_seven_seconds_for_a_key_frame_among_pictures() {
    // As a relay sends that connected within a group, or a source without IDR pictures; with a
    // sequence header, or with parameter sets among the pictures.
    let within_a_group = |until: u32, header: bool| {
        let mut feed = Feed::new();
        feed.audio(0, audio_config()).unwrap();
        if header {
            feed.video(0, video_config(AVC)).unwrap();
        }
        for ms in (0..until).step_by(20) {
            feed.audio(ms, audio_frame()).unwrap();
            feed.video(ms, video_frame(SLICE)).unwrap();
            assert!(feed.live().is_none(), "{ms}");
        }
        feed
    };
    for header in [true, false] {
        let mut feed = within_a_group(6_900, header);
        feed.video(6_900, video_config(AVC)).unwrap();
        feed.video(6_900, video_frame(IDR)).unwrap();
        assert_eq!(feed.codecs(), ["v0 avc1.64001e", "a0 mp4a.40.2"]);

        let mut feed = within_a_group(7_000, header);
        feed.audio(7_000, audio_frame()).unwrap();
        assert_eq!(feed.codecs(), ["a0 mp4a.40.2"]);
    }
}

#[test]
fn a_single_track_with_constant_timestamps_starts_the_broadcast_after_4_5_s() {
    for stamps in [0, 1] {
        let mut feed = Feed::new();
        feed.audio(0, audio_config()).unwrap();
        for n in 0..4_500 / 20 {
            let now = feed.start + Duration::from_millis(20 * n);
            let ms = stamps * u32::try_from(n / 50).unwrap();
            feed.publisher.audio(ms, audio_frame(), now).unwrap();
            assert!(feed.live().is_none(), "{n}");
        }
        let now = feed.start + Duration::from_millis(4_500);
        feed.publisher.audio(0, audio_frame(), now).unwrap();
        assert_eq!(feed.codecs(), ["a0 mp4a.40.2"]);
    }
}

#[test]
fn the_anchor_of_a_broadcast_is_its_first_held_frame_on_both_clocks() {
    let mut feed = Feed::new();
    feed.start -= Duration::from_secs(1);
    feed.audio(0, audio_config()).unwrap();
    feed.audio(200, audio_frame()).unwrap();
    feed.audio(600, audio_frame()).unwrap();
    let before = SystemTime::now();
    feed.video(1_000, video_config(AVC)).unwrap();
    feed.video(1_000, video_frame(IDR)).unwrap();
    let after = SystemTime::now();
    let arrived = [200, 600, 1_000].map(Duration::from_millis);
    let anchor = feed.live().unwrap().anchor();
    assert_eq!(anchor.instant + Anchor::LEAD, feed.start + arrived[0]);
    let mut consumer = feed.live().unwrap().subscribe_from_oldest();
    for arrived in arrived {
        let Some(Event::Frame { track, frame }) = consumer.try_next() else { panic!("no frame") };
        assert_eq!(frame.arrived, feed.start + arrived);
        let timescale = feed.live().unwrap().tracks()[track.get()].config.timescale();
        assert_eq!(anchor.instant + frame.dts.duration(timescale), frame.arrived);
        let ago = Duration::from_secs(1) - arrived;
        let utc = anchor.utc_at(frame.dts, timescale);
        assert!((before - ago..=after - ago).contains(&utc), "{utc:?}");
    }
}

#[test]
fn frames_of_a_publisher_that_leaves_before_its_broadcast_are_counted() {
    let mut feed = Feed::new();
    feed.audio(0, audio_config()).unwrap();
    feed.audio(0, audio_frame()).unwrap();
    feed.audio(21, audio_frame()).unwrap();
    assert!(feed.live().is_none());
    let Feed { publisher, metrics, start, .. } = feed;
    publisher.leave(start);
    assert_eq!(metrics.dropped(Drop::NeverLive), 2);
}
