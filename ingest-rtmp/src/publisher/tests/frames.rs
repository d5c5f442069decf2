//! Frames: those that are dropped, their times, and the memory that they hold.

use super::*;

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
fn a_frame_with_inconsistent_unit_lengths_is_dropped_alone() {
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
fn timestamps_that_wrap_at_32_bits_keep_their_spacing() {
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

/// Frames in the hub hold the memory of their messages.
#[test]
fn a_frame_that_is_a_small_part_of_its_message_does_not_hold_the_message() {
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
fn the_waiting_first_picture_is_published_when_the_next_one_arrives() {
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
    fn unwrapped_timestamps_differ_by_the_steps_of_the_wire(
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
    fn the_publisher_never_panics(
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
