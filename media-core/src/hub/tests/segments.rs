//! Marks: where segments start, and how they are numbered.

use super::*;

#[test]
fn a_source_whose_segments_start_at_recovery_points_is_gridded_until_its_next_discontinuity() {
    let hub = hub();
    let source = Source::new(&hub, start());
    let picture = |ms: u64, independent| {
        let unit = AccessUnit {
            dts: MediaSpan::from_millis(ms as i64),
            pts: MediaSpan::from_millis(ms as i64),
            key: ms.is_multiple_of(2_000),
            independent,
            arrived: source.start + Duration::from_millis(ms),
            payload: Bytes::from_static(&[0; 100]),
        };
        source.producer.push(FIRST, unit).unwrap();
        source.producer.broadcast().is_gridded()
    };
    let gridded: Vec<_> = (0..6_000).step_by(40).map(|ms| picture(ms, ms == 0)).collect();
    assert_eq!(gridded.iter().position(|gridded| *gridded), Some(50), "at 2 s");
    assert!(gridded[50..].iter().all(|gridded| *gridded));
    let (_, Config::Avc(mut other)) = video() else { panic!() };
    other.record = Bytes::from_static(b"another");
    source.producer.configure(FIRST, &Config::Avc(other)).unwrap();
    assert!(!picture(6_000, true));
}

#[test]
fn another_configuration_of_the_same_codec_family_starts_a_segment_with_a_discontinuity() {
    let hub = hub();
    let source = Source::new(&hub, start());
    let mut consumer = source.producer.broadcast().subscribe_from_oldest();
    source.run(0..500);
    source.producer.configure(SECOND, &audio(hex!("1190")).1).unwrap();
    source.producer.configure(SECOND, &audio(hex!("1188")).1).unwrap(); // mono
    source.push(0, 520, true).unwrap();
    let events = drain(&mut consumer);
    assert_eq!(
        events.iter().filter(|event| matches!(event, Event::Config { track: SECOND, .. })).count(),
        1
    );
    let Event::Frame { frame, .. } = &events[events.len() - 1] else { panic!() };
    assert!(frame.mark.unwrap().discontinuity);
    // Another sampling rate continues in ticks of that rate; another family does not continue.
    source.producer.configure(SECOND, &audio(hex!("1210")).1).unwrap();
    assert_eq!(source.producer.broadcast().tracks()[1].config.timescale().hz(), 44_100);
    let other_family = source.producer.configure(SECOND, &video().1);
    assert!(matches!(other_family, Err(Error::CodecChanged { .. })));
}

#[test]
fn alternating_parameter_sets_start_a_segment_a_second_and_then_end_the_broadcast() {
    let hub = hub();
    let source = Source::new(&hub, start());
    let revoked = source.producer.claim.as_ref().unwrap().revoked();
    let mut consumer = source.producer.broadcast().subscribe_from_oldest();
    source.run(0..3_000);
    drain(&mut consumer);
    let (mut taken, mut events) = (0, Vec::new());
    for n in 0..30u8 {
        source.producer.configure(FIRST, &large_video(n % 2 * 2)).unwrap();
        taken += u64::from(source.push(0, 3_000 + u64::from(n) * 100, true).is_ok());
        events.extend(drain(&mut consumer));
    }
    let marks = starts(&events);
    // A burst at once, then one a second; and no frame with a configuration other than its
    // segment's.
    assert!((4..=8).contains(&marks.len()), "{marks:?}");
    assert_eq!(taken, marks.len() as u64);
    assert_eq!(revoked.cause(), None);
    let often = source.producer.configure(FIRST, &large_video(4)).unwrap_err();
    assert!(matches!(often, Error::ChangesTooOften { limit: 30, .. }));
    assert_eq!(revoked.cause(), Some(&Cause::Failed(often.to_string())));
    assert_eq!(source.push(0, 6_040, true), Err(Refused::Ended));
}

#[test]
fn short_groups_are_joined_so_that_numbers_do_not_outrun_the_clock() {
    let mut settings = hub().0.settings;
    settings.broadcast.segment = Duration::from_secs(1);
    settings.broadcast.stall = Duration::from_secs(1);
    let hub = Hub::new(settings);
    let source = Source::new(&hub, start());
    let mut consumer = source.producer.broadcast().subscribe_from_oldest();
    let mut marks = 0;
    for n in 0..25 * 100u64 {
        source.push(0, n * 40, n % 20 == 0).unwrap(); // 0.8 s
        marks += starts(&drain(&mut consumer)).len();
    }
    assert_eq!(marks, 100 * 10 / 16 + 1);
}

#[test]
fn the_numbers_of_a_channel_continue_after_those_of_its_previous_broadcast() {
    let hub = hub();
    let begun = start();
    let source = Source::new(&hub, begun);
    source.run(0..3_000);
    source.producer.configure(SECOND, &audio(hex!("1188")).1).unwrap();
    source.push(0, 3_020, true).unwrap();
    let first = Arc::clone(source.producer.broadcast());
    assert_eq!(first.first_msn(), 2_000);
    let claim = source.producer.end().unwrap();
    // At the same time, by a clock that was set back.
    let utc = SystemTime::UNIX_EPOCH + T * 900;
    let second = claim.start(vec![video()], begun, utc).unwrap();
    assert_eq!(second.broadcast().first_msn(), 2_003);
    // The broadcast's first segment may have a discontinuity, the change has one, and its packager
    // may have added one.
    assert_eq!(second.broadcast().first_discontinuity(), first.first_discontinuity() + 3);
    let other = hub.claim("other".parse().unwrap()).unwrap();
    let other = other.start(vec![video()], begun, utc).unwrap();
    assert_eq!(other.broadcast().first_msn(), 1_800);
    assert_eq!(hub.next_numbers(begun).msn, 2_003);
}

#[test]
fn pictures_up_to_3_5_s_apart_are_segments_and_slower_ones_are_followed_by_gaps() {
    for (interval, wanted) in [
        (2_000, vec![(0, false), (2_000, false), (4_000, false), (6_000, false), (8_000, false)]),
        (3_500, vec![(0, false), (3_500, false), (7_000, false), (10_500, false)]),
        (
            5_000,
            vec![
                (0, false),
                (4_050, true),
                // The gap has been published up to the hub's clock.
                (5_050, false),
                (9_050, true),
                (10_050, false),
            ],
        ),
    ] {
        let hub = hub();
        let source = Source::new(&hub, start());
        let mut consumer = source.producer.broadcast().subscribe_from_oldest();
        let mut events = Vec::new();
        for ms in (0..11_000).step_by(100) {
            // The hub's clock is a little ahead of the picture.
            hub.advance(source.start + Duration::from_millis(ms + 50));
            if ms % interval == 0 {
                source.push(0, ms, true).unwrap();
            }
            events.extend(drain(&mut consumer));
        }
        let marks = starts(&events);
        assert_eq!(marks[..wanted.len()], wanted, "{interval}");
    }
}

/// A frame's track, the difference of its timestamp to the track's last one, milliseconds until its
/// arrival, whether it is a key frame, and an additional action.
type Step = (usize, i64, u64, bool, u8);

proptest::proptest! {
    #[test]
    fn marks_follow_the_wall_clock_for_arbitrary_timestamps(
        steps in proptest::collection::vec(
            (0usize..2, proptest::prop_oneof![
                4 => -300i64..400, 1 => -20_000i64..20_000, 1 => proptest::num::i64::ANY,
             ], 0u64..120, proptest::bool::weighted(0.2), 0u8..=255), 1..400),
    ) {
        marks_follow_the_wall_clock(&steps);
    }
}

fn marks_follow_the_wall_clock(steps: &[Step]) {
    let hub = hub();
    let mut source = Source::new(&hub, start());
    let begun = source.start;
    let broadcast = Arc::clone(source.producer.broadcast());
    let mut consumer = broadcast.subscribe_from_oldest();
    let (mut stamps, mut ms, mut last, mut marks) = ([0i64; 2], 0, None::<crate::Mark>, 0u64);
    for &(track, step, wait, key, act) in steps {
        for passed in ms + 1..=ms + wait {
            if passed % 100 == 0 {
                hub.advance(begun + Duration::from_millis(passed));
            }
        }
        ms += wait;
        let now = begun + Duration::from_millis(ms);
        match act {
            0..4 => {
                source.producer.leave(now);
                let claim = hub.claim(name()).unwrap();
                let producer =
                    claim.start(vec![video(), audio(hex!("1190"))], now, SystemTime::UNIX_EPOCH);
                source = Source { producer: producer.unwrap(), start: begun };
            }
            4..12 => source.producer.configure(FIRST, &large_video(act)).unwrap(),
            _ => {}
        }
        stamps[track] = stamps[track].saturating_add(step).clamp(-1 << 50, 1 << 50);
        let dts = stamps[track] * 90;
        let unit = AccessUnit {
            dts: MediaSpan::from_ticks(dts),
            pts: MediaSpan::from_ticks(dts.saturating_add(i64::from(act) * 90)),
            key: key || track == 1,
            independent: key || track == 1,
            arrived: now,
            payload: Bytes::from(vec![0; usize::from(act)]),
        };
        let _ = source.producer.push(TrackIndex::new(track), unit);
        assert_eq!(source.producer.broadcast().id(), broadcast.id());
        let bytes = broadcast.log_size().bytes;
        assert!(bytes <= 1 << 20);
        for event in drain(&mut consumer) {
            let mark = match event {
                Event::Frame { frame, .. } => frame.mark,
                Event::Gap(mark) => Some(mark),
                _ => None,
            };
            let Some(mark) = mark else { continue };
            let wall = MediaTime::ZERO + MediaSpan::from_duration(crate::Anchor::LEAD);
            let wall = wall + MediaSpan::from_millis(ms as i64);
            assert!(mark.pts <= wall + MediaSpan::from_millis(9_000), "{mark:?} at {wall:?}");
            if let Some(last) = last {
                let longest = MediaSpan::from_duration(broadcast.longest_segment());
                assert!(mark.msn == last.msn + 1 && mark.pts > last.pts, "{mark:?} after {last:?}");
                assert!(
                    mark.pts - last.pts <= longest + MediaSpan::from_ticks(40_000),
                    "{mark:?} after {last:?}"
                );
            }
            last = Some(mark);
            marks += 1;
        }
        assert!(marks <= ms / 1_000 + 15, "{marks} marks in {ms} ms");
    }
}
