use hex_literal::hex;
use media_core::{
    Anchor, Hub, TrackIndex,
    broadcast::{Broadcast, Event, Presence},
};
use proptest::prelude::*;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::*;
use crate::{
    amf0::object,
    testing::{
        AVC, AVC_OTHER_STRING, AVC_SAME_STRING, IDR, SLICE, audio_config, audio_frame, hub,
        video_config, video_frame,
    },
};

const IDLE: Duration = Duration::from_secs(10);

struct Feed {
    hub: Hub,
    publisher: Publisher,
    metrics: Metrics,
    start: Instant,
}

impl Feed {
    fn new() -> Self {
        Self::on(hub())
    }

    fn on(hub: Hub) -> Self {
        let (metrics, start) = (Metrics::default(), Instant::now());
        let publisher = Publisher::new(hub.claim(name()).unwrap(), metrics.clone(), IDLE, start);
        Self { hub, publisher, metrics, start }
    }

    /// Metadata have named only video, and its configuration has arrived.
    fn of_video() -> Self {
        Self::of_video_on(hub())
    }

    fn of_video_on(hub: Hub) -> Self {
        let mut feed = Self::on(hub);
        let metadata = object([("videocodecid", 7.0.into())]);
        feed.publisher.metadata(&metadata, feed.start).unwrap();
        feed.video(0, video_config(AVC)).unwrap();
        feed
    }

    /// Sends a message, and a second one that completes its picture.
    fn video(&mut self, ms: u32, body: Bytes) -> Result<(), Refusal> {
        let now = self.start + Duration::from_millis(u64::from(ms) % 100_000);
        self.publisher.video(ms, body, now)?;
        self.publisher.finish_picture(now)
    }

    fn audio(&mut self, ms: u32, body: Bytes) -> Result<(), Refusal> {
        self.publisher.audio(ms, body, self.start + Duration::from_millis(u64::from(ms) % 100_000))
    }

    fn live(&self) -> Option<Arc<Broadcast>> {
        self.hub.broadcast(&name())
    }

    fn codecs(&self) -> Vec<String> {
        self.live()
            .unwrap()
            .tracks()
            .iter()
            .map(|track| format!("{} {}", track.name, track.config.codec_string()))
            .collect()
    }

    /// The frames in the hub: track, milliseconds since the first, key.
    fn frames(&self) -> Vec<(usize, i64, bool)> {
        let mut consumer = self.live().unwrap().subscribe_from_oldest();
        let mut first = None;
        std::iter::from_fn(|| consumer.try_next())
            .filter_map(|event| match event {
                Event::Frame { track, frame } => {
                    let hz = consumer_hz(&self.live().unwrap(), track);
                    let ms = frame.dts.get() * 1_000 / hz;
                    Some((track.get(), ms - *first.get_or_insert(ms), frame.key))
                }
                _ => None,
            })
            .collect()
    }
}

fn consumer_hz(broadcast: &Broadcast, track: TrackIndex) -> i64 {
    broadcast.tracks()[track.get()].config.timescale().hz().into()
}

fn name() -> media_core::ChannelName {
    "demo".parse().unwrap()
}

#[test]
fn a_broadcast_starts_when_both_tracks_have_shown_a_frame_in_the_order_in_which_they_are_decoded() {
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
fn metadata_that_names_one_track_settles_it_at_its_first_frame() {
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
fn a_track_that_sends_only_its_sequence_header_is_left_out_until_its_first_key_frame() {
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
fn sequence_headers_without_frames_make_no_broadcast_however_long() {
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
fn a_sequence_header_without_frames_changes_nothing_of_a_live_broadcast() {
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
fn without_metadata_one_track_is_enough_after_one_and_a_half_seconds_or_four_megabytes() {
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
fn pictures_without_a_start_point_are_waited_for_for_seven_seconds() {
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
fn a_publisher_refused_for_too_many_broadcasts_releases_the_name() {
    let mut feed = Feed::of_video();
    let begin = |feed: &mut Feed| feed.video(0, video_frame(IDR));
    let mut begun = 0;
    let refusal = loop {
        match begin(&mut feed) {
            Ok(()) => begun += 1,
            Err(refusal) => break refusal,
        }
        assert!(begun < 100);
        feed.hub.kick(&name());
        let next = Feed::of_video_on(feed.hub.clone());
        feed = next;
    };
    assert_eq!(refusal.reason, Reason::Busy);
    assert!(refusal.description.contains("connect again in"), "{refusal:?}");
    assert!(feed.hub.claim(name()).is_ok(), "{begun} began");
}

#[test]
fn one_track_whose_timestamps_stand_still_is_enough_after_four_and_a_half_seconds() {
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
fn the_first_frame_held_is_when_the_broadcast_began_on_both_clocks() {
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
        assert_eq!(anchor.instant + timescale.duration(frame.dts.get()), frame.arrived);
        let ago = Duration::from_secs(1) - arrived;
        let utc = anchor.utc_at(frame.dts.get(), timescale);
        assert!((before - ago..=after - ago).contains(&utc), "{utc:?}");
    }
}

#[test]
fn frames_without_a_sequence_header_or_before_a_key_frame_are_dropped_and_counted() {
    let mut feed = Feed::new();
    feed.video(0, video_frame(IDR)).unwrap();
    feed.audio(0, audio_frame()).unwrap();
    assert_eq!(feed.metrics.dropped(Drop::BeforeConfig), 2);
    feed.video(40, video_config(AVC)).unwrap();
    feed.audio(40, audio_config()).unwrap();
    feed.video(80, video_frame(SLICE)).unwrap();
    assert_eq!(feed.metrics.dropped(Drop::BeforeKey), 1);
    feed.video(120, video_frame(IDR)).unwrap();
    feed.audio(130, audio_frame()).unwrap();
    assert_eq!(feed.frames(), [(0, 0, true), (1, 10, true)]);
}

#[test]
fn lengths_that_do_not_add_up_cost_the_frame_alone() {
    let mut feed = Feed::of_video();
    feed.video(0, video_frame(IDR)).unwrap();
    feed.video(40, Bytes::from_static(&[0x27, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1])).unwrap();
    feed.video(40, Bytes::from_static(&[0x27, 1])).unwrap();
    assert_eq!(feed.metrics.dropped(Drop::Malformed), 2);
    feed.video(80, video_frame(SLICE)).unwrap();
    assert_eq!(feed.frames(), [(0, 0, true), (0, 80, false)]);
    assert_eq!((feed.metrics.video_frames.get(), feed.metrics.audio_frames.get()), (2, 0));
}

#[test]
fn units_that_are_dropped_after_a_picture_that_waited_for_them_are_counted() {
    let mut feed = Feed::of_video();
    let sei = [&hex!("00011170 0604")[..], &[1; 69_998]].concat();
    feed.publisher.video(0, video_frame(IDR), feed.start).unwrap();
    feed.publisher.video(40, video_frame(&sei), feed.start).unwrap();
    assert_eq!(feed.frames(), [(0, 0, true)]);
    assert_eq!(feed.metrics.dropped(Drop::NoPicture), 1);
}

#[test]
fn a_codec_that_is_not_carried_is_refused_by_name() {
    let mut feed = Feed::new();
    let refusal = feed.video(0, Bytes::from_static(b"\x90hvc1\x01")).unwrap_err();
    assert_eq!(refusal.reason, Reason::Codec);
    assert_eq!(refusal.description, "HEVC video is not supported, send H.264 video and AAC audio");
    let refusal = feed.video(0, video_config(&[1, 2, 3])).unwrap_err();
    assert!(refusal.description.starts_with("avcC record of 3 bytes"), "{}", refusal.description);
}

#[test]
fn a_changed_configuration_of_the_same_codec_string_goes_on_and_waits_for_a_key_frame() {
    let mut feed = Feed::of_video();
    feed.video(0, video_frame(IDR)).unwrap();
    let mut consumer = feed.live().unwrap().subscribe();
    let before = feed.live().unwrap().id();
    feed.video(40, video_config(AVC_SAME_STRING)).unwrap();
    feed.video(40, video_frame(SLICE)).unwrap();
    feed.video(80, video_frame(IDR)).unwrap();
    let events: Vec<_> = std::iter::from_fn(|| consumer.try_next()).collect();
    assert!(matches!(
        &events[..],
        [
            Event::Frame { .. },
            Event::Config { track: TrackIndex::FIRST, .. },
            Event::Frame { frame, .. }
        ]
            if frame.key
    ));
    assert_eq!(feed.live().unwrap().id(), before);
    assert_eq!(feed.metrics.dropped(Drop::BeforeKey), 1);
}

#[test]
fn another_codec_string_goes_on_with_the_broadcast_and_a_late_track_joins_it() {
    let mut feed = Feed::of_video();
    feed.video(0, video_frame(IDR)).unwrap();
    let first = feed.live().unwrap();
    feed.video(40, video_config(AVC_OTHER_STRING)).unwrap();
    assert_eq!(feed.codecs(), ["v0 avc1.64001e"], "not before there is a frame for it");
    feed.video(40, video_frame(IDR)).unwrap();
    assert_eq!(feed.codecs(), ["v0 avc1.64001f"]);
    feed.audio(60, audio_config()).unwrap();
    assert_eq!(feed.codecs(), ["v0 avc1.64001f"]);
    feed.audio(60, audio_frame()).unwrap();
    assert_eq!(feed.codecs(), ["v0 avc1.64001f", "a0 mp4a.40.2"]);
    feed.audio(80, Bytes::from_static(&[0xaf, 0, 0x2b, 0x11, 0x88, 0])).unwrap();
    feed.audio(80, audio_frame()).unwrap();
    assert_eq!(feed.codecs(), ["v0 avc1.64001f", "a0 mp4a.40.5"]);
    assert_eq!(first.presence(), Presence::Live);
    assert_eq!(feed.live().unwrap().id(), first.id());
}

#[test]
fn a_publisher_that_returns_with_one_track_more_or_less_goes_on_with_its_broadcast() {
    let mut feed = Feed::of_video();
    feed.video(0, video_frame(IDR)).unwrap();
    let first = feed.live().unwrap();
    let Feed { hub, publisher, metrics, start } = feed;
    publisher.leave(start);
    let publisher = Publisher::new(hub.claim(name()).unwrap(), metrics.clone(), IDLE, start);
    let mut feed = Feed { hub, publisher, metrics, start };
    let metadata = object([("audiocodecid", 10.0.into())]);
    feed.publisher.metadata(&metadata, feed.start).unwrap();
    feed.audio(0, audio_config()).unwrap();
    feed.audio(0, audio_frame()).unwrap();
    assert_eq!(feed.codecs(), ["v0 avc1.64001e", "a0 mp4a.40.2"]);
    feed.video(20, video_config(AVC_OTHER_STRING)).unwrap();
    feed.video(20, video_frame(IDR)).unwrap();
    assert_eq!(feed.codecs(), ["v0 avc1.64001f", "a0 mp4a.40.2"]);
    assert_eq!(feed.live().unwrap().id(), first.id());
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

#[test]
fn another_codec_string_that_is_taken_back_before_a_frame_changes_nothing() {
    let mut feed = Feed::of_video();
    feed.video(0, video_frame(IDR)).unwrap();
    let first = feed.live().unwrap();
    feed.video(40, video_config(AVC_OTHER_STRING)).unwrap();
    feed.video(40, video_config(AVC)).unwrap();
    feed.video(80, video_frame(IDR)).unwrap();
    assert_eq!(feed.live().unwrap().id(), first.id());
    assert_eq!(feed.frames(), [(0, 0, true), (0, 80, true)]);
}

#[test]
fn a_publisher_that_returns_goes_on_with_its_broadcast() {
    let mut feed = Feed::of_video();
    feed.video(0, video_frame(IDR)).unwrap();
    let broadcast = feed.live().unwrap();
    let Feed { hub, publisher, metrics, start } = feed;
    publisher.leave(start + Duration::from_secs(1));
    assert!(matches!(broadcast.presence(), Presence::Away(Some(_))));
    assert_eq!(metrics.publishers.get(), 0);

    let publisher = Publisher::new(hub.claim(name()).unwrap(), metrics.clone(), IDLE, start);
    let mut feed = Feed { hub, publisher, metrics, start };
    let metadata = object([("videocodecid", 7.0.into())]);
    feed.publisher.metadata(&metadata, feed.start).unwrap();
    feed.video(3_000, video_config(AVC)).unwrap();
    feed.video(3_000, video_frame(IDR)).unwrap();
    assert_eq!(feed.live().unwrap().id(), broadcast.id());
    assert_eq!(broadcast.presence(), Presence::Live);
}

#[test]
fn a_publisher_that_was_kicked_is_told_and_starts_nothing() {
    let mut feed = Feed::of_video();
    feed.video(0, video_frame(IDR)).unwrap();
    feed.hub.kick(&name());
    assert_eq!(feed.video(0, video_frame(IDR)).unwrap_err(), ended(None));
    let mut feed = Feed::of_video();
    feed.hub.kick(&name());
    assert_eq!(feed.video(0, video_frame(IDR)).unwrap_err(), ended(None));
    assert!(feed.live().is_none());
}

#[test]
fn a_publisher_whose_broadcast_failed_reads_the_reason() {
    let mut feed = Feed::of_video();
    feed.video(0, video_frame(IDR)).unwrap();
    let broadcast = feed.live().unwrap();
    feed.hub.fail(&broadcast, "too much at once".into());
    let refusal = feed.video(0, video_frame(IDR)).unwrap_err();
    assert_eq!(refusal, Refusal::new(Reason::Failed, "too much at once"));
}

#[test]
fn stamps_that_wrap_jump_and_fall_back_keep_the_frames_in_step() {
    let mut feed = Feed::of_video();
    // They wrap after 100 ms, jump by an hour after 400 ms, and fall back by two after 800 ms; the
    // pictures arrive at a steady rate.
    let origin = u32::MAX - 99;
    let stamp = |step: u32| match step {
        0..400 => origin.wrapping_add(step),
        400..800 => origin.wrapping_add(step + 3_600_000),
        _ => origin.wrapping_add(step).wrapping_sub(3_600_000),
    };
    for step in (0..1_200).step_by(40) {
        let body = if step == 0 { video_frame(IDR) } else { video_frame(SLICE) };
        feed.publisher
            .video(stamp(step), body, feed.start + Duration::from_millis(step.into()))
            .unwrap();
    }
    let frames = feed.frames();
    let times: Vec<_> = frames.iter().map(|(_, ms, _)| *ms).collect();
    assert_eq!(times, (0..1_200).step_by(40).collect::<Vec<_>>());
}

#[test]
fn the_payload_in_the_hub_is_the_message_without_its_tag_header() {
    let mut feed = Feed::of_video();
    let body = video_frame(IDR);
    let at = body[5..].as_ptr();
    feed.video(0, body).unwrap();
    let mut consumer = feed.live().unwrap().subscribe_from_oldest();
    let Some(Event::Frame { frame, .. }) = consumer.try_next() else { panic!("no frame") };
    assert_eq!((frame.payload.as_ptr(), &frame.payload[..]), (at, IDR));
}

/// An avcC without parameter sets, and sets as in `AVC`.
const AVC_EMPTY: &[u8] = &hex!("0164001e ff e0 00");
const SPS: &[u8] = &hex!("00000019 6764001eacd940a02ff9701100000303e90000ea600f162d96");
const PPS: &[u8] = &hex!("00000006 68ebe3cb22c0");

/// Frames in the hub hold the memory of their messages.
#[test]
fn the_hub_holds_no_message_for_a_frame_that_is_a_small_part_of_it() {
    let zeros = |message: Bytes| Bytes::from([&message[..], &[0; 1 << 20]].concat());
    let extensions = |frame_type: u8, payload: &[u8]| {
        let extension = [&[0xff, 0xff, 0xff][..], &[0; 65_536], &[7]].concat();
        let (first, last) = ([0x80 | frame_type << 4 | 7], hex!("00 00 01"));
        Bytes::from([&first, &extension.repeat(15)[..], &last, b"avc1", &[0; 3], payload].concat())
    };
    for (name, [key, picture], sound) in [
        ("zero bytes", [zeros(video_frame(IDR)), zeros(video_frame(SLICE))], zeros(adts(2))),
        ("extensions", [extensions(1, IDR), extensions(2, SLICE)], zeros(adts(1))),
    ] {
        let mut feed = Feed::new();
        feed.video(0, video_config(AVC)).unwrap();
        feed.audio(0, audio_config()).unwrap();
        for (ms, body) in [(0, &key), (40, &picture)] {
            feed.video(ms, body.clone()).unwrap();
            feed.audio(ms, sound.clone()).unwrap();
        }
        let frames = feed.frames().len();
        assert!((4..=6).contains(&frames), "{name}: {frames} frames");
        for message in [key, picture, sound] {
            assert!(message.is_unique(), "{name}: a frame keeps its message");
        }
    }
}

#[test]
fn parameter_sets_in_the_stream_do_for_a_sequence_header() {
    for header in [None, Some(AVC_EMPTY)] {
        let mut feed = Feed::new();
        let metadata = object([("videocodecid", 7.0.into())]);
        feed.publisher.metadata(&metadata, feed.start).unwrap();
        if let Some(header) = header {
            feed.video(0, video_config(header)).unwrap();
        }
        feed.video(0, video_frame(&[SPS, PPS, IDR].concat())).unwrap();
        feed.video(40, video_frame(SLICE)).unwrap();
        assert_eq!(feed.codecs(), ["v0 avc1.64001e"]);
        assert_eq!(feed.frames(), [(0, 0, true), (0, 40, false)]);
    }
}

#[test]
fn a_sequence_header_in_byte_stream_form_is_read() {
    let mut feed = Feed::new();
    let stream = [&[0, 0, 0, 1], &SPS[4..], &[0, 0, 0, 1], &PPS[4..]].concat();
    feed.video(0, video_config(&stream)).unwrap();
    assert_eq!(
        feed.publisher.output.tracks.video.as_ref().unwrap().config.codec_string(),
        "avc1.64001e"
    );
}

/// Another picture parameter set of the same id, one of id 1, and `SPS` of level 3.1.
const OTHER_PPS: &[u8] = &hex!("00000006 68ebe3cb22d0");
const ADDED_PPS: &[u8] = &hex!("00000006 685be3cb22c0");
const OTHER_SPS: &[u8] = &hex!("00000019 6764001facd940a02ff9701100000303e90000ea600f162d96");
const AUD: &[u8] = &hex!("00000002 09f0");

/// A video message, of a key frame or another, with these units.
fn units(key: bool, units: &[&[u8]]) -> Bytes {
    let head: &[u8] = if key { &[0x17, 1, 0, 0, 0] } else { &[0x27, 1, 0, 0, 0] };
    [head, &units.concat()].concat().into()
}

#[test]
fn a_sequence_parameter_set_that_changes_in_the_stream_reconfigures_the_track() {
    let mut feed = Feed::of_video();
    feed.video(0, video_frame(IDR)).unwrap();
    let mut consumer = feed.live().unwrap().subscribe();
    for ms in [40, 80] {
        feed.video(ms, units(true, &[OTHER_SPS, PPS, IDR])).unwrap();
    }
    let events: Vec<_> = std::iter::from_fn(|| consumer.try_next()).collect();
    let [
        Event::Frame { .. },
        Event::Config { config, .. },
        Event::Frame { .. },
        Event::Frame { .. },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(config.record(), AVC_OTHER_STRING);
}

/// The payloads of frames from the newest group on, and the number of configurations between them.
fn payloads(consumer: &mut media_core::broadcast::Consumer) -> (Vec<Bytes>, usize) {
    let (mut payloads, mut configs) = (Vec::new(), 0);
    while let Some(event) = consumer.try_next() {
        match event {
            Event::Frame { frame, .. } => payloads.push(frame.payload),
            Event::Config { .. } => configs += 1,
            _ => {}
        }
    }
    (payloads, configs)
}

#[test]
fn picture_parameter_sets_that_change_in_the_stream_stay_in_it_and_key_frames_carry_those_in_force()
{
    let mut feed = Feed::of_video();
    feed.video(0, video_frame(IDR)).unwrap();
    let mut consumer = feed.live().unwrap().subscribe();
    // At a key frame, in the middle of a group, of another id, and back.
    let sent: [(bool, &[&[u8]]); 8] = [
        (true, &[OTHER_PPS, IDR]),
        (true, &[IDR]),
        (false, &[SLICE]),
        (false, &[ADDED_PPS, SLICE]),
        (true, &[AUD, IDR]),
        (true, &[AUD, SPS, OTHER_PPS, ADDED_PPS, IDR]),
        (false, &[PPS, SLICE]),
        (true, &[OTHER_PPS, IDR]),
    ];
    for ((key, message), ms) in sent.into_iter().zip((40..).step_by(40)) {
        feed.video(ms, units(key, message)).unwrap();
    }
    let (frames, configs) = payloads(&mut consumer);
    assert_eq!(configs, 0);
    let mut expected: Vec<_> = sent.iter().map(|(_, units)| units.concat()).collect();
    expected[1] = [SPS, OTHER_PPS, IDR].concat();
    expected[4] = [AUD, SPS, OTHER_PPS, ADDED_PPS, IDR].concat();
    // The unit has one of the two sets: all of them are inserted before it.
    expected[7] = [SPS, ADDED_PPS, OTHER_PPS, OTHER_PPS, IDR].concat();
    assert_eq!(frames[1..], expected);
}

#[test]
fn picture_parameter_sets_that_change_all_the_time_do_not_end_a_publisher() {
    let mut feed = Feed::of_video();
    feed.video(0, video_frame(IDR)).unwrap();
    let mut consumer = feed.live().unwrap().subscribe();
    for n in 1..200 {
        let set = if n % 2 == 0 { PPS } else { OTHER_PPS };
        feed.video(n * 40, units(n % 25 == 0, &[set, if n % 25 == 0 { IDR } else { SLICE }]))
            .unwrap();
    }
    let (frames, configs) = payloads(&mut consumer);
    assert_eq!((frames.len(), configs), (200, 0));
}

#[test]
fn a_sequence_header_that_repeats_the_tracks_sets_puts_them_in_force_again() {
    let mut feed = Feed::of_video();
    feed.video(0, video_frame(IDR)).unwrap();
    let mut consumer = feed.live().unwrap().subscribe();
    feed.video(40, units(true, &[OTHER_PPS, IDR])).unwrap();
    feed.video(80, video_config(AVC)).unwrap();
    feed.video(80, video_frame(IDR)).unwrap();
    let (frames, configs) = payloads(&mut consumer);
    assert_eq!((&frames[2][..], configs), (&[SPS, PPS, IDR].concat()[..], 0));
}

#[test]
fn picture_parameter_sets_in_front_of_the_first_key_frame_become_the_tracks() {
    for first in [&[OTHER_PPS, IDR][..], &[SPS, OTHER_PPS, IDR]] {
        let mut feed = Feed::of_video();
        feed.video(0, units(true, first)).unwrap();
        assert_eq!(feed.live().unwrap().tracks()[0].config.record(), AVC_SAME_STRING);
    }
    // They stand in a picture that is dropped.
    let mut feed = Feed::of_video();
    feed.video(0, units(false, &[OTHER_PPS, SLICE])).unwrap();
    feed.video(40, video_frame(IDR)).unwrap();
    assert_eq!(feed.live().unwrap().tracks()[0].config.record(), AVC_SAME_STRING);
}

/// An ADTS frame of 44.1 kHz, stereo, around an access unit of three bytes.
const ADTS: &[u8] = &hex!("fff1 50 80 01 5f fc 210049");

fn adts(frames: usize) -> Bytes {
    [&hex!("af 01")[..], &ADTS.repeat(frames)].concat().into()
}

#[test]
fn adts_headers_are_cut_and_make_the_configuration_where_none_came() {
    let mut feed = Feed::new();
    let metadata = object([("audiocodecid", 10.0.into())]);
    feed.publisher.metadata(&metadata, feed.start).unwrap();
    feed.audio(0, adts(1)).unwrap();
    feed.audio(23, adts(3)).unwrap();
    assert_eq!(feed.codecs(), ["a0 mp4a.40.2"]);
    assert_eq!(feed.live().unwrap().tracks()[0].config.timescale().hz(), 44_100);
    // The second message's frames follow each other by their duration: 1024 samples.
    assert_eq!(feed.frames(), [(0, 0, true), (0, 22, true), (0, 46, true), (0, 69, true)]);
    let mut consumer = feed.live().unwrap().subscribe_from_oldest();
    while let Some(event) = consumer.try_next() {
        let Event::Frame { frame, .. } = event else { panic!("{event:?}") };
        assert_eq!(frame.payload[..], ADTS[7..]);
    }
    // An AudioSpecificConfig takes precedence over the headers, and incomplete frames are dropped.
    feed.audio(100, audio_config()).unwrap();
    feed.audio(100, adts(1)).unwrap();
    assert_eq!(
        feed.publisher.output.tracks.audio.as_ref().unwrap().config.timescale().hz(),
        48_000
    );
    feed.audio(120, adts(1).slice(..10)).unwrap();
    assert_eq!(feed.metrics.dropped(Drop::Malformed), 1);
}

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
fn who_sends_nothing_usable_is_sent_off_after_ten_seconds_or_thirty_without_a_key_frame_with_words()
{
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
fn messages_without_frames_are_silence_or_drops_whatever_they_are() {
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
fn pictures_that_come_slowly_are_no_silence_and_a_live_publisher_without_frames_is() {
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
fn adts_headers_that_contradict_the_sequence_header_are_told_of() {
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
fn a_relay_that_begins_in_the_middle_of_a_group_of_20_s_is_told_and_gets_in() {
    let mut feed = Feed::of_video();
    send(&mut feed, 19, false, |_| video_frame(SLICE)).unwrap();
    assert!(feed.publisher.take_words().unwrap().contains("keyframe interval"));
    feed.video(19_000, video_frame(IDR)).unwrap();
    assert_eq!(feed.live().unwrap().tracks()[0].frames, 1);
}

#[test]
fn a_track_that_is_dropped_beside_one_that_goes_on_is_told_of_once() {
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
fn key_frames_are_measured_and_advice_is_given_and_taken_back() {
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

#[test]
fn a_picture_that_waits_is_published_when_the_publisher_leaves() {
    let mut feed = Feed::of_video();
    feed.publisher.video(0, video_frame(IDR), feed.start).unwrap();
    assert!(feed.live().is_none());
    let Feed { hub, publisher, start, .. } = feed;
    publisher.leave(start);
    let broadcast = hub.broadcast(&name()).unwrap();
    assert!(matches!(broadcast.presence(), Presence::Away(Some(_))));
    let event = broadcast.subscribe_from_oldest().try_next();
    assert!(matches!(&event, Some(Event::Frame { frame, .. }) if frame.key), "{event:?}");
}

#[test]
fn a_picture_that_waits_is_published_with_the_next_one() {
    let mut feed = Feed::of_video();
    feed.publisher.video(0, video_frame(IDR), feed.start).unwrap();
    assert!(feed.live().is_none() && feed.publisher.poll_timeout() < Some(feed.start + IDLE));
    feed.publisher.video(40, video_frame(SLICE), feed.start).unwrap();
    assert!(feed.publisher.poll_timeout() > Some(feed.start + IDLE));
    assert_eq!(feed.frames(), [(0, 0, true), (0, 40, false)]);
}

proptest! {
    #[test]
    fn unwrapped_stamps_differ_as_the_wire_says(
        steps in prop::collection::vec(any::<i32>(), 1..50),
        first in any::<u32>(),
    ) {
        let mut clock = Clock::default();
        let (mut stamp, mut value) = (first, clock.unwrap(first));
        prop_assert_eq!(value, i64::from(first));
        for step in steps {
            stamp = stamp.wrapping_add_signed(step);
            prop_assert_eq!(clock.unwrap(stamp) - value, i64::from(step));
            value += i64::from(step);
        }
    }

    #[test]
    fn no_messages_make_the_publisher_panic(
        messages in prop::collection::vec(
            (0usize..7, any::<u32>(), prop::collection::vec(any::<u8>(), 0..12)),
            0..60,
        ),
    ) {
        let mut feed = Feed::new();
        for (what, stamp, noise) in messages {
            let _ = match what {
                0 => feed.video(stamp, video_config(AVC)),
                1 => feed.video(stamp, video_config(AVC_SAME_STRING)),
                2 => feed.audio(stamp, audio_config()),
                3 => feed.video(stamp, video_frame(IDR)),
                4 => feed.audio(stamp, audio_frame()),
                5 => feed.video(stamp, noise.into()),
                _ => feed.audio(stamp, noise.into()),
            };
        }
    }
}
