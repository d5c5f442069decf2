//! Configurations: sequence headers, parameter sets in the stream, and ADTS headers.

use super::*;

#[test]
fn an_unsupported_codec_is_refused_by_name() {
    let mut feed = Feed::new();
    let refusal = feed.video(0, Bytes::from_static(b"\x90hvc1\x01")).unwrap_err();
    assert_eq!(refusal.reason, Reason::Codec);
    assert_eq!(refusal.description, "HEVC video is not supported, send H.264 video and AAC audio");
    let refusal = feed.video(0, video_config(&[1, 2, 3])).unwrap_err();
    assert!(refusal.description.starts_with("avcC record of 3 bytes"), "{}", refusal.description);
}

#[test]
fn a_new_configuration_with_the_same_codec_string_waits_for_a_key_frame() {
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
fn a_new_codec_string_continues_the_broadcast_and_a_late_track_joins() {
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
fn a_new_codec_string_reverted_before_a_frame_has_no_effect() {
    let mut feed = Feed::of_video();
    feed.video(0, video_frame(IDR)).unwrap();
    let first = feed.live().unwrap();
    feed.video(40, video_config(AVC_OTHER_STRING)).unwrap();
    feed.video(40, video_config(AVC)).unwrap();
    feed.video(80, video_frame(IDR)).unwrap();
    assert_eq!(feed.live().unwrap().id(), first.id());
    assert_eq!(feed.frames(), [(0, 0, true), (0, 80, true)]);
}

/// An avcC without parameter sets, and sets as in `AVC`.
const AVC_EMPTY: &[u8] = &hex!("0164001e ff e0 00");
const SPS: &[u8] = &hex!("00000019 6764001eacd940a02ff9701100000303e90000ea600f162d96");
const PPS: &[u8] = &hex!("00000006 68ebe3cb22c0");

#[test]
fn in_band_parameter_sets_replace_a_missing_sequence_header() {
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
fn a_sequence_header_in_byte_stream_format_is_parsed() {
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
fn changed_pps_stay_in_band_and_active_sets_are_inserted_into_key_frames() {
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
fn constantly_changing_pps_do_not_end_the_broadcast() {
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
fn a_repeated_sequence_header_reactivates_its_parameter_sets() {
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
fn a_pps_before_the_first_key_frame_becomes_part_of_the_configuration() {
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

#[test]
fn adts_headers_are_removed_and_replace_a_missing_audio_configuration() {
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
