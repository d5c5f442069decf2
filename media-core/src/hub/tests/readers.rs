//! Positions of subscribers in the log, its bounds, and the events that a reader gets.

use super::*;

#[test]
fn frames_are_logged_from_the_first_key_frame_with_a_mark_at_each_segment() {
    let hub = hub();
    let source = Source::new(&hub, start());
    let mut consumer = source.producer.broadcast().subscribe_from_oldest();
    assert_eq!(source.push(0, 0, false), Err(Refused::BeforeKeyFrame));
    source.run(0..5_000);
    let events = drain(&mut consumer);
    assert_eq!(marks(&events), [(2_000, false), (2_001, false), (2_002, false)]);
    assert_eq!(events.len(), 125 + 250);
}

#[test]
fn a_subscriber_starts_at_the_newest_group_of_each_track() {
    let hub = hub();
    let source = Source::new(&hub, start());
    source.run(0..4_500);
    let events = drain(&mut source.producer.broadcast().subscribe());
    let Event::Frame { track: FIRST, frame } = &events[0] else { panic!("{:?}", events[0]) };
    assert!(frame.key && frame.mark.is_some());
    let Event::Frame { track: SECOND, .. } = &events[1] else { panic!("{:?}", events[1]) };
    assert_eq!(events.len(), 13 + 25);
}

#[test]
fn a_subscriber_from_the_oldest_frame_receives_all_groups_with_their_configuration() {
    let hub = hub();
    let source = Source::new(&hub, start());
    source.run(0..4_500);
    let stereo = source.producer.broadcast().tracks()[1].config.clone();
    source.producer.configure(SECOND, &audio(hex!("1188")).1).unwrap();
    source.run(4_500..5_000);
    let mut oldest = source.producer.broadcast().subscribe_from_oldest();
    assert_eq!(oldest.tracks()[1].config, stereo);
    let events = drain(&mut oldest);
    assert_eq!(events.len(), 125 + 250 + 1);
    let newest = source.producer.broadcast().subscribe();
    assert_eq!(newest.tracks()[1].config, stereo, "its group began before the change");
}

#[test]
fn a_slow_subscriber_skips_to_the_newest_group_and_receives_the_number_of_lost_frames() {
    let hub = hub();
    let source = Source::new(&hub, start());
    let mut consumer = source.producer.broadcast().subscribe_from_oldest();
    source.run(0..20_000);
    let events = drain(&mut consumer);
    let Event::Lagged { frames, .. } = events[0] else { panic!("{:?}", events[0]) };
    assert_eq!(frames, 18_000 / 40 + 18_000 / 20);
    let frame = events.iter().find_map(|event| match event {
        Event::Frame { track: FIRST, frame } => Some(frame),
        _ => None,
    });
    assert!(frame.unwrap().key);
}

#[test]
fn memory_is_bounded_by_bytes_even_inside_one_group() {
    let hub = hub();
    let source = Source::new(&hub, start());
    for n in 0..3_000 {
        source.push(0, n * 10, n == 0).unwrap();
    }
    assert!(
        drain(&mut source.producer.broadcast().subscribe_from_oldest()).len() <= (1 << 20) / 1_000
    );
}

#[test]
fn the_log_bounds_the_memory_of_empty_frames() {
    let hub = hub();
    let source = Source::new(&hub, start());
    source.run(0..100);
    for n in 0..20_000u64 {
        let arrived = source.start + Duration::from_millis(100 + n);
        let unit = AccessUnit {
            dts: MediaSpan::from_millis(100 + n as i64),
            pts: MediaSpan::from_millis(100 + n as i64),
            key: true,
            independent: true,
            arrived,
            payload: Bytes::new(),
        };
        source.producer.push(SECOND, unit).unwrap();
    }
    let LogSize { entries: frames, bytes } = source.producer.broadcast().log_size();
    assert!(bytes <= 1 << 20 && frames < 10_000, "{frames} entries");
}

#[test]
fn configurations_count_toward_the_memory_limit_of_the_log() {
    let mut settings = hub().0.settings;
    settings.broadcast.bytes = 64 << 10;
    let hub = Hub::new(settings);
    let source = Source::new(&hub, start());
    source.run(0..100);
    for n in 0..30 {
        source.producer.configure(FIRST, &large_video(n % 2 * 2)).unwrap();
    }
    source.push(1, 120, true).unwrap();
    let held = drain(&mut source.producer.broadcast().subscribe_from_oldest());
    let bytes = held.iter().map(|event| match event {
        Event::Config { config, .. } => config.record().len(),
        _ => 0,
    });
    let bytes: usize = bytes.sum();
    assert!((32 << 10..64 << 10).contains(&bytes), "{bytes}");
}

#[test]
fn a_batch_of_events_is_bounded_by_bytes() {
    let hub = hub();
    let source = Source::new(&hub, start());
    let mut consumer = source.producer.broadcast().subscribe_from_oldest();
    for n in 0..3u64 {
        let arrived = source.start + Duration::from_millis(n * 40);
        let (dts, payload) = (n as i64 * 3_600, Bytes::from(vec![0; 600 << 10]));
        let unit = AccessUnit {
            dts: MediaSpan::from_ticks(dts),
            pts: MediaSpan::from_ticks(dts),
            key: n == 0,
            independent: n == 0,
            arrived,
            payload,
        };
        source.producer.push(FIRST, unit).unwrap();
        if n == 0 {
            assert!(matches!(consumer.try_next(), Some(Event::Frame { .. })));
        }
    }
    // The log holds 1 MiB: a larger batch would hold entries that the log has removed.
    assert!(matches!(consumer.try_next(), Some(Event::Lagged { .. })));
}

#[test]
fn the_situation_of_a_broadcast_is_derived_from_its_events() {
    let hub = hub();
    let begun = start();
    let source = Source::new(&hub, begun);
    let broadcast = Arc::clone(source.producer.broadcast());
    let mut reader = broadcast.subscribe_from_oldest();
    let mut situation = reader.situation().clone();
    assert_eq!((situation.tracks.len(), situation.presence), (2, Presence::Live));
    assert!(!situation.rule.gridded);
    // A group of 2 s, then one without an end: segments are gridded, and as long as is allowed.
    source.run(0..4_000);
    for ms in (4_000..12_000).step_by(40) {
        let _ = source.push(0, ms, false);
    }
    let mut rendition = broadcast.rendition("v360".parse().unwrap()).unwrap();
    let mut apply = |situation: &mut Situation| {
        let events = drain(&mut reader);
        events.iter().for_each(|event| situation.apply(event));
    };
    apply(&mut situation);
    assert_eq!((situation.awaited, situation.tracks.len()), (1, 2));
    assert!(situation.rule.gridded && broadcast.is_gridded());
    assert_eq!(situation.rule.longest_segment(), broadcast.longest_segment());
    rendition.configure(&video().1).unwrap();
    drop(source);
    apply(&mut situation);
    assert_eq!((situation.awaited, situation.tracks.len()), (0, 3));
    assert!(situation.tracks[2].rendition && !situation.tracks[2].absent);
    assert_eq!(situation.presence, Presence::Away(None));
    rendition.absent();
    hub.kick(&name());
    apply(&mut situation);
    assert!(situation.tracks[2].absent);
    assert_eq!(situation.presence, Presence::Ended);
    // One that begins later learns the same.
    let mut late = broadcast.subscribe();
    let mut situation = late.situation().clone();
    drain(&mut late).iter().for_each(|event| situation.apply(event));
    assert_eq!(situation.presence, broadcast.presence());
    assert!(situation.rule.gridded);
}

#[test]
fn a_configuration_that_changes_before_the_first_frame_is_an_event() {
    let hub = hub();
    let source = Source::new(&hub, start());
    let mut reader = source.producer.broadcast().subscribe_from_oldest();
    let mut situation = reader.situation().clone();
    source.producer.configure(SECOND, &audio(hex!("1188")).1).unwrap();
    drain(&mut reader).iter().for_each(|event| situation.apply(event));
    let now = &source.producer.broadcast().tracks()[1].config;
    assert_eq!(situation.tracks[1].config, *now);
}
