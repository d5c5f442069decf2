//! Gaps: silence, backlogs and holes in the timestamps.

use super::*;

#[test]
fn a_backlog_after_a_silence_is_placed_after_the_published_gap() {
    let hub = hub();
    let begun = start();
    let source = Source::new(&hub, begun);
    let broadcast = Arc::clone(source.producer.broadcast());
    let mut consumer = broadcast.subscribe_from_oldest();
    source.run(0..2_500);
    hub.advance(begun + Duration::from_millis(4_400));
    assert_eq!(marks(&drain(&mut consumer)).len(), 2);
    hub.advance(begun + Duration::from_millis(4_600));
    assert_eq!(marks(&drain(&mut consumer)), [(2_002, true), (2_003, true)]);
    hub.advance(begun + Duration::from_millis(4_900));
    let published = broadcast.gap_time().unwrap();
    let late = |ms: i64, key| AccessUnit {
        dts: MediaSpan::from_millis(ms),
        pts: MediaSpan::from_millis(ms),
        key,
        independent: key,
        arrived: begun + Duration::from_millis(4_900),
        payload: Bytes::new(),
    };
    assert_eq!(source.producer.push(FIRST, late(2_500, false)), Err(Refused::BeforeKeyFrame));
    source.producer.push(FIRST, late(2_540, true)).unwrap();
    source.producer.push(FIRST, late(2_580, false)).unwrap();
    let times: Vec<_> = drain(&mut consumer)
        .iter()
        .filter_map(|event| match event {
            Event::Frame { frame, .. } => Some(frame.pts.get()),
            _ => None,
        })
        .collect();
    assert_eq!(times, [published.ticks(), published.ticks() + 3_600]);
}

#[test]
fn media_ahead_of_the_wall_clock_delays_the_gap_and_a_gap_lasts_at_least_a_part() {
    let hub = hub();
    let begun = start();
    let source = Source::new(&hub, begun);
    let broadcast = Arc::clone(source.producer.broadcast());
    let mut consumer = broadcast.subscribe_from_oldest();
    let at = |ms: i64| begun + Duration::from_millis(ms.unsigned_abs());
    let send = |stamps: std::ops::Range<i64>, ms| {
        for stamp in stamps.step_by(20) {
            let key = stamp % 2_000 == 0;
            let unit = AccessUnit {
                dts: MediaSpan::from_millis(stamp),
                pts: MediaSpan::from_millis(stamp),
                key,
                independent: key,
                arrived: at(ms),
                payload: Bytes::new(),
            };
            source.producer.push(FIRST, unit).unwrap();
        }
    };
    // 4 s of media at once; the next come when the wall clock has come as far and nearly 2 s more.
    send(0..4_000, 0);
    for ms in (0..5_900).step_by(100) {
        hub.advance(at(ms));
    }
    let events = drain(&mut consumer);
    assert_eq!(marks(&events), [(2_000, false), (2_001, false)]);
    // The gap is declared just before media come.
    hub.advance(at(6_020));
    send(4_000..6_000, 6_021);
    let events = drain(&mut consumer);
    let gaps = events.iter().filter_map(|event| match event {
        Event::Gap(mark) => Some(mark.pts),
        _ => None,
    });
    let resumed = events.iter().find_map(|event| match event {
        Event::Frame { frame, .. } => frame.mark.map(|mark| mark.pts),
        _ => None,
    });
    assert_eq!(resumed.unwrap() - gaps.last().unwrap(), MediaSpan::from_millis(200));
}

#[test]
fn a_backlog_is_kept_up_to_2_5_s_ahead_of_the_wall_clock() {
    let hub = hub();
    let begun = start();
    let source = Source::new(&hub, begun);
    source.run(0..2_500);
    let now = begun + Duration::from_secs(20);
    hub.advance(now);
    let published = source.producer.broadcast().gap_time().unwrap();
    let mut taken = Vec::new();
    for ms in (2_520..20_000i64).step_by(40) {
        let unit = AccessUnit {
            dts: MediaSpan::from_millis(ms),
            pts: MediaSpan::from_millis(ms),
            key: ms % 2_000 == 0,
            independent: ms % 2_000 == 0,
            arrived: now,
            payload: Bytes::new(),
        };
        match source.producer.push(FIRST, unit) {
            Ok(pushed) => taken.push((ms, pushed.resume_at.map(|at| at - now))),
            Err(Refused::BeforeKeyFrame) => assert!(taken.is_empty()),
            Err(refused) => assert_eq!(refused, Refused::AfterOutage),
        }
    }
    // The first key frame is placed at the end of the gap, which is the wall clock.
    assert_eq!(published.ticks(), 30 * 90_000);
    assert_eq!((taken[0].0, taken[taken.len() - 1].0), (4_000, 6_520));
    // A wait would keep the outage in the publisher's buffers.
    assert!(taken.iter().all(|(_, wait)| wait.is_none()));
}

#[test]
fn a_gap_is_extended_by_the_clock_and_not_by_readers() {
    let hub = hub();
    let begun = start();
    let source = Source::new(&hub, begun);
    let broadcast = Arc::clone(source.producer.broadcast());
    let mut consumer = broadcast.subscribe_from_oldest();
    source.run(0..2_500);
    assert_eq!(broadcast.gap_time(), None);
    drain(&mut consumer);
    let until = |events: &[Event]| {
        let until = events.iter().filter_map(|event| match event {
            Event::GapUntil(time) => Some(time.ticks() / 90 - 10_000),
            _ => None,
        });
        until.collect::<Vec<_>>()
    };
    for ms in [4_500, 4_600, 4_600, 4_700] {
        hub.advance(begun + Duration::from_millis(ms));
    }
    let events = drain(&mut consumer);
    assert!(matches!(events[0], Event::Gap(_)), "the gap starts before it goes on");
    assert_eq!(until(&events), [4_500, 4_600, 4_700], "no instant twice");
    let published = broadcast.gap_time();
    assert_eq!(published, broadcast.gap_time());
    assert_eq!(until(&drain(&mut consumer)), [], "a reader changes nothing");
}

#[test]
fn a_hole_in_the_timestamps_makes_a_gap_and_the_next_frame_resumes() {
    let hub = hub();
    let source = Source::new(&hub, start());
    let mut consumer = source.producer.broadcast().subscribe_from_oldest();
    source.run(0..3_000);
    source.push(0, 4_600, false).unwrap();
    source.push(0, 4_640, false).unwrap();
    let events = drain(&mut consumer);
    assert_eq!(marks(&events), [(2_000, false), (2_001, false), (2_002, true), (2_003, false)]);
}

#[test]
fn one_call_declares_at_most_65_gaps_and_later_frames_resume_after_them() {
    let hub = hub();
    let begun = start();
    let source = Source::new(&hub, begun);
    let mut consumer = source.producer.broadcast().subscribe_from_oldest();
    source.run(0..3_000);
    drain(&mut consumer);
    // The process was suspended for an hour.
    hub.advance(begun + Duration::from_hours(1));
    assert!(starts(&drain(&mut consumer)).len() <= 65);
    source.push(0, 3_600_000, true).unwrap_err();
    for n in 0..30 {
        hub.advance(begun + Duration::from_hours(1) + Duration::from_millis(n * 100));
    }
    source.push(0, 3_603_000, true).unwrap();
    let marks = starts(&drain(&mut consumer));
    assert!(marks.windows(2).all(|pair| pair[1].0 - pair[0].0 <= 2_000));
}
