//! Publishers that return, and tracks that are added later.

use super::*;

#[test]
fn an_absence_makes_gaps_and_a_return_resumes_the_same_broadcast() {
    let hub = hub();
    let begun = start();
    let source = Source::new(&hub, begun);
    let id = source.producer.broadcast().id();
    let mut consumer = source.producer.broadcast().subscribe_from_oldest();
    source.run(0..3_000);
    source.producer.leave(begun + Duration::from_secs(3));
    for ms in (3_000..8_000).step_by(100) {
        hub.advance(begun + Duration::from_millis(ms));
    }
    assert!(matches!(hub.broadcast(&name()).unwrap().presence(), Presence::Away(Some(_))));
    let back = Source::new(&hub, begun + Duration::from_secs(8));
    assert_eq!(back.producer.broadcast().id(), id);
    back.run(0..100);
    let events = drain(&mut consumer);
    assert_eq!(
        marks(&events),
        [
            (2_000, false),
            (2_001, false),
            (2_002, true),
            (2_003, true),
            (2_004, true),
            (2_005, false)
        ]
    );
    let resumed = events.iter().rev().find_map(|event| match event {
        Event::Frame { frame, .. } => frame.mark,
        _ => None,
    });
    let passed = resumed.unwrap().pts.ticks() - Timescale::VIDEO.ticks(crate::Anchor::LEAD);
    assert!((passed - 8 * 90_000).abs() <= 40 * 90, "{passed}");
    assert!(!resumed.unwrap().discontinuity);
}

#[test]
fn a_broadcast_ends_10_s_after_its_publisher_left() {
    let hub = hub();
    let begun = start();
    let source = Source::new(&hub, begun);
    let broadcast = Arc::clone(source.producer.broadcast());
    source.run(0..3_000);
    drop(source);
    for s in 3..=12 {
        hub.advance(begun + Duration::from_secs(s));
    }
    assert_ne!(broadcast.presence(), Presence::Ended);
    hub.advance(begun + Duration::from_secs(13));
    assert_eq!(broadcast.presence(), Presence::Ended);
    assert!(
        hub.broadcast(&name()).is_none()
            && hub.broadcasts().is_empty()
            && hub.0.channels.is_empty()
    );
}

#[test]
fn a_broadcast_waits_as_long_as_the_owner_of_its_channel_has_decided() {
    for (reconnect_s, is_over) in [(0, true), (3, true), (60, false)] {
        let hub = hub();
        let begun = start();
        let reconnect = Some(Duration::from_secs(reconnect_s));
        let settings = ChannelSettings { reconnect, ..ChannelSettings::default() };
        let claim = hub.claim(name()).unwrap().with_settings(settings.clone());
        let producer = claim.start(vec![video()], begun, SystemTime::UNIX_EPOCH).unwrap();
        let source = Source { producer, start: begun };
        let broadcast = Arc::clone(source.producer.broadcast());
        assert_eq!(*broadcast.settings(), settings);
        source.push(0, 0, true).unwrap();
        drop(source);
        for s in 1..=13 {
            hub.advance(begun + Duration::from_secs(s));
        }
        assert_eq!(broadcast.presence() == Presence::Ended, is_over, "{reconnect_s}");
    }
}

#[test]
fn a_claim_extends_an_absence_but_not_without_limit() {
    let hub = hub();
    let begun = start();
    let source = Source::new(&hub, begun);
    let broadcast = Arc::clone(source.producer.broadcast());
    source.run(0..3_000);
    drop(source);
    hub.advance(begun + Duration::from_secs(11));
    let claim = hub.claim(name()).unwrap();
    for s in 12..=20 {
        hub.advance(begun + Duration::from_secs(s));
    }
    let back = begun + Duration::from_secs(20);
    let back = claim.start(vec![video(), audio(hex!("1190"))], back, SystemTime::UNIX_EPOCH);
    assert_eq!(back.unwrap().broadcast().id(), broadcast.id());
    // The one that never starts does not hold it for ever.
    let _claim = hub.claim(name()).unwrap();
    hub.advance(begun + Duration::from_secs(40));
    assert!(matches!(broadcast.presence(), Presence::Away(_)));
    hub.advance(begun + Duration::from_secs(81));
    assert_eq!(broadcast.presence(), Presence::Ended);
}

#[test]
fn a_return_with_a_different_description_resumes_the_same_broadcast() {
    let hub = hub();
    let begun = start();
    let producer = hub.claim(name()).unwrap();
    let producer = producer.start(vec![video()], begun, SystemTime::UNIX_EPOCH).unwrap();
    let first = Arc::clone(producer.broadcast());
    drop(producer);
    // Audio is added and removed again; the video stays known.
    for tracks in [vec![audio(hex!("1190")), video()], vec![audio(hex!("1210"))]] {
        let back = hub.claim(name()).unwrap();
        let back = back.start(tracks, begun, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(back.broadcast().id(), first.id());
        assert_eq!(back.track(&TrackName::source_video()), Some(FIRST));
        assert_eq!(back.track(&TrackName::source_audio()), Some(SECOND));
    }
    let tracks = first.tracks();
    assert_eq!(tracks.len(), 2);
    assert_eq!(tracks[1].config.timescale().hz(), 44_100);
    assert!(tracks.iter().all(|track| !track.rendition));
}

#[test]
fn late_audio_becomes_a_source_track_after_the_renditions() {
    let hub = hub();
    let claim = hub.claim(name()).unwrap();
    let producer = claim.start(vec![video()], start(), SystemTime::UNIX_EPOCH).unwrap();
    let broadcast = Arc::clone(producer.broadcast());
    let mut rendition = broadcast.rendition("v360".parse().unwrap()).unwrap();
    rendition.configure(&video().1).unwrap();
    let mut source = broadcast.subscribe();
    let (name, config) = audio(hex!("1190"));
    assert_eq!(producer.add(name.clone(), config.clone()), Ok(TrackIndex::new(2)));
    assert!(producer.add(name.clone(), config).is_err());
    assert_eq!(producer.track(&name), Some(TrackIndex::new(2)));
    let unit = |ms: i64| AccessUnit {
        dts: MediaSpan::from_millis(ms),
        pts: MediaSpan::from_millis(ms),
        key: true,
        independent: true,
        arrived: start() + Duration::from_millis(ms.unsigned_abs()),
        payload: Bytes::new(),
    };
    producer.push(FIRST, unit(0)).unwrap();
    producer.push(TrackIndex::new(2), unit(10)).unwrap();
    let events = drain(&mut source);
    let of_audio = |event: &&Event| match event {
        Event::Track(begun) => {
            begun.index == TrackIndex::new(2) && begun.name == name && !begun.rendition
        }
        Event::Frame { track, .. } => *track == TrackIndex::new(2),
        _ => false,
    };
    assert_eq!(events.iter().filter(of_audio).count(), 2, "{events:?}");
    let of_rendition =
        |event: &Event| matches!(event, Event::Track(TrackStart { index: SECOND, .. }));
    assert!(!events.iter().any(of_rendition), "{events:?}");
    assert_eq!(broadcast.subscribe().tracks().len(), 2, "renditions are not read");
}

#[test]
fn late_video_carries_the_marks_from_its_first_key_frame_in_a_new_segment() {
    let hub = hub();
    let begun = start();
    let claim = hub.claim(name()).unwrap();
    let producer = claim.start(vec![audio(hex!("1190"))], begun, SystemTime::UNIX_EPOCH).unwrap();
    let mut consumer = producer.broadcast().subscribe_from_oldest();
    let mut events = Vec::new();
    let mut push = |track: usize, ms: i64, key: bool| {
        let unit = AccessUnit {
            dts: MediaSpan::from_millis(ms),
            pts: MediaSpan::from_millis(ms),
            key,
            independent: key,
            arrived: begun + Duration::from_millis(ms.unsigned_abs()),
            payload: Bytes::new(),
        };
        let taken = producer.push(TrackIndex::new(track), unit);
        events.append(&mut drain(&mut consumer));
        taken
    };
    for ms in (0..4_500).step_by(20) {
        push(0, ms, true).unwrap();
    }
    let (name, config) = video();
    assert_eq!(producer.add(name, config), Ok(SECOND));
    assert_eq!(push(1, 3_880, false), Err(Refused::BeforeKeyFrame));
    // Before the newest segment's start: the next key frame lies in that segment, which is still
    // open.
    assert_eq!(push(1, 3_900, true), Err(Refused::BeforeKeyFrame));
    for ms in (4_500..12_000).step_by(20) {
        push(0, ms, true).unwrap();
        if ms % 40 == 20 {
            let taken = push(1, ms - 100, (ms - 100) % 2_000 == 1_920);
            assert_eq!(taken.is_ok(), ms - 100 >= 5_920, "{ms}");
        }
    }
    let marks: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Frame { track, frame } => frame.mark.map(|mark| (*track, mark)),
            _ => None,
        })
        .collect();
    let places: Vec<_> = marks
        .iter()
        .map(|(track, mark)| (track.get(), (mark.pts - marks[0].1.pts).whole_millis()))
        .collect();
    assert_eq!(places, [(0, 0), (0, 2_000), (0, 4_000), (1, 5_920), (1, 7_920), (1, 9_920)]);
    assert!(marks.windows(2).all(|pair| pair[0].1.msn + 1 == pair[1].1.msn));
    assert!(marks.iter().all(|(_, mark)| !mark.discontinuity));
}

#[test]
fn a_return_with_video_instead_of_audio_resumes_at_the_first_key_frame() {
    let hub = hub();
    let begun = start();
    let claim = hub.claim(name()).unwrap();
    let first = claim.start(vec![audio(hex!("1190"))], begun, SystemTime::UNIX_EPOCH).unwrap();
    let unit = |ms: u64, key| AccessUnit {
        dts: MediaSpan::from_millis(ms as i64),
        pts: MediaSpan::from_millis(ms as i64),
        key,
        independent: key,
        arrived: begun + Duration::from_millis(ms),
        payload: Bytes::new(),
    };
    for ms in (0..1_000).step_by(20) {
        first.push(FIRST, unit(ms, true)).unwrap();
    }
    first.leave(begun + Duration::from_secs(1));
    for ms in (1_000..5_000).step_by(100) {
        hub.advance(begun + Duration::from_millis(ms));
    }
    let claim = hub.claim(name()).unwrap();
    let back = claim.start(vec![video()], begun, SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(back.track(&TrackName::source_video()), Some(SECOND));
    assert_eq!(back.push(SECOND, unit(5_000, false)), Err(Refused::BeforeKeyFrame));
    // The published part of the gap reaches past the frame's time.
    hub.advance(begun + Duration::from_millis(5_100));
    let published = back.broadcast().gap_time().unwrap();
    let mut consumer = back.broadcast().subscribe_from_oldest();
    back.push(SECOND, unit(5_040, true)).unwrap();
    let marks: Vec<_> = drain(&mut consumer)
        .into_iter()
        .filter_map(|event| match event {
            Event::Frame { track: SECOND, frame } => frame.mark,
            _ => None,
        })
        .collect();
    assert!(matches!(marks[..], [mark] if mark.pts >= published && !mark.gap), "{marks:?}");
}

#[test]
fn a_return_with_a_different_codec_family_starts_a_new_broadcast() {
    let hub = hub();
    let begun = start();
    let source = Source::new(&hub, begun);
    let first = Arc::clone(source.producer.broadcast());
    source.run(0..1_000);
    drop(source);
    let second = hub
        .claim(name())
        .unwrap()
        .start(
            vec![(TrackName::source_video(), audio(hex!("1190")).1)],
            begun,
            SystemTime::UNIX_EPOCH,
        )
        .unwrap();
    assert_ne!(first.id(), second.broadcast().id());
    assert_eq!(first.presence(), Presence::Ended);
    assert_eq!(hub.broadcasts().len(), 1);
}
