use bytes::Bytes;
use hex_literal::hex;

use super::*;
use crate::{
    Timescale,
    broadcast::{Consumer, Event, Held, Presence, Situation, TrackStart},
};

const T: Duration = Duration::from_secs(2);
const FIRST: TrackIndex = TrackIndex::FIRST;
const SECOND: TrackIndex = TrackIndex::new(1);

fn hub() -> Hub {
    let broadcast = Limits { bytes: 1 << 20, age: Duration::from_secs(10), segment: T, stall: T };
    Hub::new(Settings { broadcast, reconnect: Duration::from_secs(10), max_channels: 3 })
}

fn video() -> (TrackName, Config) {
    let record = hex!(
        "0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 68ebe3cb22c0"
        "fdf8f800"
    );
    (TrackName::source_video(), Config::Avc(crate::codec::avc::Config::parse(&record).unwrap()))
}

fn audio(record: [u8; 2]) -> (TrackName, Config) {
    (TrackName::source_audio(), Config::Aac(crate::codec::aac::Config::parse(&record).unwrap()))
}

fn name() -> ChannelName {
    "demo".parse().unwrap()
}

struct Source {
    producer: Producer,
    start: Instant,
}

impl Source {
    fn new(hub: &Hub, start: Instant) -> Self {
        let tracks = vec![video(), audio(hex!("1190"))];
        let producer = hub
            .claim(name())
            .unwrap()
            .start(tracks, start, SystemTime::UNIX_EPOCH + T * 1_000)
            .unwrap();
        Self { producer, start }
    }

    fn push(&self, track: usize, ms: u64, key: bool) -> Result<(), Refused> {
        let (dts, arrived) = (ms as i64 * 90, self.start + Duration::from_millis(ms));
        self.producer
            .push(
                TrackIndex::new(track),
                AccessUnit {
                    dts,
                    pts: dts,
                    key,
                    independent: key,
                    arrived,
                    payload: Bytes::from(vec![0; 1_000]),
                },
            )
            .map(drop)
    }

    /// 25 frames a second of video with a key frame every 2 s, audio every 20 ms, from and to these
    /// milliseconds.
    fn run(&self, ms: std::ops::Range<u64>) {
        for ms in ms.filter(|ms| ms % 20 == 0) {
            if ms % 40 == 0 {
                self.push(0, ms, ms % 2_000 == 0).unwrap();
            }
            self.push(1, ms, true).unwrap();
        }
    }
}

#[test]
fn a_source_whose_segments_start_at_recovery_points_is_gridded_until_its_next_discontinuity() {
    let hub = hub();
    let source = Source::new(&hub, start());
    let picture = |ms: u64, independent| {
        let unit = AccessUnit {
            dts: ms as i64 * 90,
            pts: ms as i64 * 90,
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

fn start() -> Instant {
    Instant::now() + Duration::from_secs(1_000)
}

fn drain(consumer: &mut Consumer) -> Vec<Event> {
    std::iter::from_fn(|| consumer.try_next()).collect()
}

fn marks(events: &[Event]) -> Vec<(u64, bool)> {
    let mark = |event: &Event| match event {
        Event::Frame { frame, .. } => frame.mark.map(|mark| (mark.msn, mark.gap)),
        Event::Gap(mark) => Some((mark.msn, mark.gap)),
        _ => None,
    };
    events.iter().filter_map(mark).collect()
}

#[test]
fn a_second_publisher_of_a_live_name_is_refused_and_a_freed_name_is_not() {
    let hub = hub();
    let claim = hub.claim(name()).unwrap();
    assert_eq!(hub.claim(name()).unwrap_err(), Error::Busy { name: name() });
    drop(claim);
    hub.claim(name()).unwrap();
}

#[test]
fn the_hub_takes_as_many_channels_as_it_may() {
    let hub = hub();
    let claims: Vec<_> =
        (0..3).map(|n| hub.claim(format!("c{n}").parse().unwrap()).unwrap()).collect();
    assert_eq!(hub.claim(name()).unwrap_err(), Error::TooManyBroadcasts { limit: 3 });
    drop(claims);
    assert!(hub.0.channels.is_empty());
}

#[test]
fn frames_come_in_order_of_arrival_with_a_mark_at_each_segment() {
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
fn a_subscriber_from_the_oldest_frame_misses_no_group_and_knows_its_configuration() {
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
fn a_slow_subscriber_skips_to_the_newest_group_and_learns_what_it_lost() {
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
fn an_absence_is_a_row_of_gaps_and_a_return_goes_on_with_the_same_broadcast() {
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
fn a_publisher_that_stays_away_ends_its_broadcast() {
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
fn a_publisher_that_is_back_and_waits_for_a_key_frame_keeps_its_broadcast() {
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
fn a_return_with_another_description_goes_on_with_the_same_broadcast() {
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
fn audio_that_comes_late_is_a_track_of_the_source_behind_the_renditions() {
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
        dts: ms * 90,
        pts: ms * 90,
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
fn video_that_comes_late_decides_cuts_from_its_first_key_frame_on() {
    let hub = hub();
    let begun = start();
    let claim = hub.claim(name()).unwrap();
    let producer = claim.start(vec![audio(hex!("1190"))], begun, SystemTime::UNIX_EPOCH).unwrap();
    let mut consumer = producer.broadcast().subscribe_from_oldest();
    let mut events = Vec::new();
    let mut push = |track: usize, ms: i64, key: bool| {
        let unit = AccessUnit {
            dts: ms * 90,
            pts: ms * 90,
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
    let places: Vec<_> =
        marks.iter().map(|(track, mark)| (track.get(), (mark.pts - marks[0].1.pts) / 90)).collect();
    assert_eq!(places, [(0, 0), (0, 2_000), (0, 4_000), (1, 5_920), (1, 7_920), (1, 9_920)]);
    assert!(marks.windows(2).all(|pair| pair[0].1.msn + 1 == pair[1].1.msn));
    assert!(marks.iter().all(|(_, mark)| !mark.discontinuity));
}

#[test]
fn a_publisher_that_returns_with_video_in_place_of_audio_resumes_with_its_first_key_frame() {
    let hub = hub();
    let begun = start();
    let claim = hub.claim(name()).unwrap();
    let first = claim.start(vec![audio(hex!("1190"))], begun, SystemTime::UNIX_EPOCH).unwrap();
    let unit = |ms: u64, key| AccessUnit {
        dts: ms as i64 * 90,
        pts: ms as i64 * 90,
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
fn a_return_with_another_codec_family_begins_another_broadcast() {
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

#[test]
fn a_silent_publisher_makes_a_gap_and_its_backlog_goes_after_what_was_told() {
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
        dts: ms * 90,
        pts: ms * 90,
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
fn media_that_lead_the_wall_clock_are_followed_by_no_gap_and_no_gap_is_shorter_than_a_part() {
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
                dts: stamp * 90,
                pts: stamp * 90,
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
    assert_eq!(resumed.unwrap() - gaps.last().unwrap(), 18_000);
}

#[test]
fn a_backlog_is_kept_as_far_as_it_leads_the_wall_clock_by_two_and_a_half_seconds() {
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
            dts: ms * 90,
            pts: ms * 90,
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
fn a_gap_is_published_by_the_clock_and_by_no_reader() {
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
fn a_hole_in_the_stamps_is_a_gap_and_the_next_frame_resumes() {
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
fn small_entries_are_as_bounded_as_large_ones() {
    let hub = hub();
    let source = Source::new(&hub, start());
    source.run(0..100);
    for n in 0..20_000u64 {
        let arrived = source.start + Duration::from_millis(100 + n);
        let unit = AccessUnit {
            dts: (100 + n as i64) * 90,
            pts: (100 + n as i64) * 90,
            key: true,
            independent: true,
            arrived,
            payload: Bytes::new(),
        };
        source.producer.push(SECOND, unit).unwrap();
    }
    let Held { entries: frames, bytes } = source.producer.broadcast().held();
    assert!(bytes <= 1 << 20 && frames < 10_000, "{frames} entries");
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
fn a_kick_ends_the_broadcast_and_tells_the_publisher() {
    let hub = hub();
    let claim = hub.claim(name()).unwrap();
    let revoked = claim.revoked();
    let producer = claim.start(vec![video()], start(), SystemTime::UNIX_EPOCH).unwrap();
    assert!(hub.kick(&name()));
    assert_eq!(revoked.cause(), Some(&Cause::Operator));
    assert!(revoked.is_revoked());
    let unit = AccessUnit {
        dts: 0,
        pts: 0,
        key: true,
        independent: true,
        arrived: start(),
        payload: Bytes::new(),
    };
    assert_eq!(producer.push(FIRST, unit), Err(Refused::Ended));
    drop(producer);
    assert!(hub.0.channels.is_empty());
    assert!(!hub.kick(&name()));
}

#[tokio::test]
async fn a_broadcast_that_fails_ends_and_its_publisher_hears_the_words() {
    let hub = hub();
    let claim = hub.claim(name()).unwrap();
    let revoked = claim.revoked();
    let producer = claim.start(vec![video()], start(), SystemTime::UNIX_EPOCH).unwrap();
    let failed = Arc::clone(producer.broadcast());
    hub.fail(&failed, "too much at once".into());
    hub.kick(&name());
    assert_eq!(revoked.revoked().await, Cause::Failed("too much at once".into()));
    assert_eq!(failed.presence(), Presence::Ended);
    // The name has another broadcast meanwhile, which is not touched.
    drop(producer);
    let claim = hub.claim(name()).unwrap();
    let revoked = claim.revoked();
    let _producer = claim.start(vec![video()], start(), SystemTime::UNIX_EPOCH).unwrap();
    hub.fail(&failed, "too much at once".into());
    assert!(!revoked.is_revoked());
    assert_eq!(hub.broadcasts().len(), 1);
}

#[tokio::test]
async fn the_end_of_a_broadcast_is_awaited() {
    let hub = hub();
    let source = Source::new(&hub, start());
    let broadcast = Arc::clone(source.producer.broadcast());
    let waiter = tokio::spawn({
        let broadcast = Arc::clone(&broadcast);
        async move { broadcast.ended().await }
    });
    source.run(0..400);
    tokio::task::yield_now().await;
    assert!(!waiter.is_finished());
    hub.kick(&name());
    waiter.await.unwrap();
    broadcast.ended().await;
}

#[tokio::test]
async fn subscribers_hear_of_broadcasts_and_wait_for_frames() {
    let hub = hub();
    let mut events = hub.events();
    let reader = tokio::spawn(async move {
        let broadcast = events.began().await;
        let mut consumer = broadcast.subscribe_from_oldest();
        let mut frames = 0;
        while let Some(event) = consumer.next().await {
            frames += u32::from(matches!(event, Event::Frame { .. }));
        }
        frames
    });
    tokio::task::yield_now().await;
    let source = Source::new(&hub, start());
    source.run(0..400);
    tokio::task::yield_now().await;
    source.run(400..1_000);
    hub.close();
    assert_eq!(reader.await.unwrap(), 25 + 50);
}

#[tokio::test]
async fn each_broadcast_begins_once_and_ends_once_and_one_that_was_missed_does_neither() {
    let hub = hub();
    let mut events = hub.events();
    let first = Source::new(&hub, start());
    let begun = events.next().await;
    assert!(matches!(&begun, super::Event::Began(begun)
            if Arc::ptr_eq(begun, first.producer.broadcast())));
    let reader = tokio::spawn(async move {
        let ended = events.next().await;
        (ended, events)
    });
    tokio::task::yield_now().await;
    hub.kick(&name());
    let (ended, mut events) = reader.await.unwrap();
    assert!(matches!(&ended, super::Event::Ended(ended)
            if Arc::ptr_eq(ended, first.producer.broadcast())));
    // While nobody looks, one begins and ends, and another begins.
    drop(first);
    drop(Source::new(&hub, start()));
    hub.kick(&name());
    let last = Source::new(&hub, start());
    let begun = events.next().await;
    assert!(matches!(&begun, super::Event::Began(begun)
            if Arc::ptr_eq(begun, last.producer.broadcast())));
}

/// A claim on the name at `now`, from a publisher that reports its activity.
fn active(hub: &Hub, now: Instant) -> Result<Claim, Error> {
    hub.claim_active(name(), now)
}

#[test]
fn a_silent_publisher_gives_way_at_once_and_an_active_one_does_not() {
    let (hub, begun) = (hub(), start());
    let first = active(&hub, begun).unwrap();
    first.hold().touch(begun + Duration::from_millis(500));
    let early = begun + Duration::from_millis(500) + TAKEOVER - Duration::from_millis(1);
    assert_eq!(active(&hub, early).unwrap_err(), Error::Busy { name: name() });
    assert_eq!(first.revoked().cause(), None);
    let second = active(&hub, early + Duration::from_millis(1)).unwrap();
    assert_eq!(first.revoked().cause(), Some(&Cause::TakenOver));
    drop(first); // does not free the name
    assert_eq!(hub.claim(name()).unwrap_err(), Error::Busy { name: name() });
    drop(second);
    hub.claim(name()).unwrap();
}

#[test]
fn a_publisher_that_does_not_report_its_activity_never_gives_way() {
    let (hub, begun) = (hub(), start());
    let _claim = hub.claim(name()).unwrap();
    let later = begun + Duration::from_secs(3_600);
    assert_eq!(active(&hub, later).unwrap_err(), Error::Busy { name: name() });
}

#[test]
fn after_a_takeover_the_broadcast_goes_on_and_the_old_publisher_changes_nothing() {
    let (hub, begun) = (hub(), start());
    let (tracks, utc) = (vec![video(), audio(hex!("1190"))], SystemTime::UNIX_EPOCH + T * 1_000);
    let old = active(&hub, begun).unwrap().start(tracks.clone(), begun, utc).unwrap();
    let old = Source { producer: old, start: begun };
    old.run(0..4_000);
    let id = old.producer.broadcast().id();
    let mut frames = old.producer.broadcast().subscribe();
    let now = begun + Duration::from_secs(6);
    let claim = active(&hub, now).unwrap();
    // The old publisher is active again before the new one has started, but too late.
    assert_eq!(old.push(0, 6_000, true), Err(Refused::Superseded));
    let broadcast = Arc::clone(old.producer.broadcast());
    assert_eq!(broadcast.presence(), Presence::Away(Some(now)));
    let new = Source { producer: claim.start(tracks, now, utc).unwrap(), start: now };
    assert_eq!((new.producer.broadcast().id(), broadcast.presence()), (id, Presence::Live));
    new.run(0..2_000);
    let before = drain(&mut frames).len();
    assert!(before > 0);
    assert_eq!(old.push(0, 6_040, true), Err(Refused::Superseded));
    old.producer.configure(SECOND, &audio(hex!("1188")).1).unwrap();
    assert!(old.producer.end().is_some());
    assert!(drain(&mut frames).is_empty());
    assert_eq!(broadcast.presence(), Presence::Live);
    new.run(2_000..2_100);
    assert_eq!(hub.broadcast(&name()).unwrap().id(), id);
    new.producer.leave(now + Duration::from_secs(3));
    assert!(matches!(broadcast.presence(), Presence::Away(_)));
}

#[test]
fn a_takeover_that_never_starts_lets_the_broadcast_end_in_its_time() {
    let (hub, begun) = (hub(), start());
    let claim = active(&hub, begun).unwrap();
    let old = claim.start(vec![video()], begun, SystemTime::UNIX_EPOCH).unwrap();
    let now = begun + Duration::from_secs(5);
    drop(active(&hub, now).unwrap());
    hub.advance(now + Duration::from_millis(9_900));
    assert!(hub.broadcast(&name()).is_some());
    hub.advance(now + Duration::from_secs(10));
    assert!(hub.0.channels.is_empty() && hub.broadcasts().is_empty());
    drop(old);
}

#[test]
fn a_kick_between_claim_and_start_leaves_nothing_behind() {
    for waiting in [false, true] {
        let (hub, begun) = (hub(), start());
        if waiting {
            let source = Source::new(&hub, begun);
            source.producer.leave(begun);
            assert!(hub.broadcast(&name()).is_some());
        }
        let claim = active(&hub, begun).unwrap();
        assert!(hub.kick(&name()));
        assert!(hub.broadcasts().is_empty(), "what waited under the name has ended");
        let hold = claim.hold().clone();
        let started = claim.start(vec![video()], begun, SystemTime::UNIX_EPOCH);
        assert_eq!(started.map(|_| ()), Err(Error::Revoked));
        assert_eq!(hold.revocation().cause(), Some(&Cause::Operator));
        assert!(hub.0.channels.is_empty() && hub.broadcasts().is_empty());
    }
}

#[test]
fn a_kick_between_two_broadcasts_of_one_publisher_leaves_nothing_behind() {
    let (hub, begun) = (hub(), start());
    let claim = active(&hub, begun).unwrap();
    let producer = claim.start(vec![video()], begun, SystemTime::UNIX_EPOCH).unwrap();
    let claim = producer.end().unwrap();
    assert!(hub.kick(&name()));
    let started = claim.start(vec![video()], begun, SystemTime::UNIX_EPOCH);
    assert_eq!(started.map(|_| ()), Err(Error::Revoked));
    assert!(hub.0.channels.is_empty());
}

#[test]
fn who_was_taken_over_or_kicked_while_it_settled_starts_nothing() {
    let (hub, begun) = (hub(), start());
    let old = active(&hub, begun).unwrap();
    let new = active(&hub, begun + TAKEOVER).unwrap();
    let started = old.start(vec![video()], begun, SystemTime::UNIX_EPOCH);
    assert_eq!(started.map(|_| ()), Err(Error::Revoked));
    // A kick revokes the present publisher; its name is free for the next one at once, although it
    // has not left yet.
    assert!(hub.kick(&name()));
    assert_eq!(new.revoked().cause(), Some(&Cause::Operator));
    let next = active(&hub, begun + TAKEOVER).unwrap();
    drop(new);
    let producer = next.start(vec![video()], begun, SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(producer.broadcast().presence(), Presence::Live);
}

#[test]
fn a_closed_hub_takes_no_claims() {
    let hub = hub();
    let claim = hub.claim(name()).unwrap();
    hub.close();
    assert_eq!(claim.revoked().cause(), Some(&Cause::Operator));
    assert_eq!(hub.claim(name()).unwrap_err(), Error::Closed);
    assert_eq!(active(&hub, start()).unwrap_err(), Error::Closed);
    let started = claim.start(vec![video()], start(), SystemTime::UNIX_EPOCH);
    assert_eq!(started.map(|_| ()), Err(Error::Revoked));
    assert!(hub.0.channels.is_empty());
}

/// `avcC` with fifteen more picture parameter sets of 250 bytes, which differ by `n`.
fn large_video(n: u8) -> Config {
    let (_, Config::Avc(avc)) = video() else { panic!("video") };
    let record = &avc.record;
    let sets = 8 + 0x19;
    let mut large = record[..sets].to_vec();
    large.push(16);
    large.extend(&record[sets + 1..record.len() - 4]);
    for _ in 0..15 {
        large.extend([0, 250, 0x68]);
        large.extend([n | 1; 249]);
    }
    large.extend(&record[record.len() - 4..]);
    Config::Avc(crate::codec::avc::Config::parse(&large).unwrap())
}

#[test]
fn configurations_count_with_the_bytes_that_they_hold() {
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
fn a_subscriber_takes_out_no_more_bytes_than_a_batch_may_hold() {
    let hub = hub();
    let source = Source::new(&hub, start());
    let mut consumer = source.producer.broadcast().subscribe_from_oldest();
    for n in 0..3u64 {
        let arrived = source.start + Duration::from_millis(n * 40);
        let (dts, payload) = (n as i64 * 3_600, Bytes::from(vec![0; 600 << 10]));
        let unit = AccessUnit { dts, pts: dts, key: n == 0, independent: n == 0, arrived, payload };
        source.producer.push(FIRST, unit).unwrap();
        if n == 0 {
            assert!(matches!(consumer.try_next(), Some(Event::Frame { .. })));
        }
    }
    // The log holds 1 MiB: a larger batch would hold entries that the log has removed.
    assert!(matches!(consumer.try_next(), Some(Event::Lagged { .. })));
}

/// Where segments start, in milliseconds since the first, and whether they are gaps.
fn starts(events: &[Event]) -> Vec<(i64, bool)> {
    let mark = |event: &Event| match event {
        Event::Frame { frame, .. } => frame.mark,
        Event::Gap(mark) => Some(*mark),
        _ => None,
    };
    let marks: Vec<_> = events.iter().filter_map(mark).collect();
    assert!(
        marks.windows(2).all(|pair| pair[0].msn + 1 == pair[1].msn && pair[0].pts < pair[1].pts)
    );
    marks.iter().map(|mark| ((mark.pts - marks[0].pts) / 90, mark.gap)).collect()
}

#[test]
fn parameter_sets_that_alternate_start_a_segment_a_second_and_then_end_the_broadcast_with_words() {
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
fn short_groups_with_short_segments_do_not_outrun_the_clock() {
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
fn numbers_of_a_name_go_on_above_those_of_the_broadcast_before() {
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
fn pictures_every_two_seconds_are_segments_and_slower_ones_last_until_the_segment_is_full() {
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

#[test]
fn one_call_declares_a_bounded_number_of_gaps_and_frames_go_on_after_the_last() {
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

/// A frame's track, the difference of its timestamp to the track's last one, milliseconds until its
/// arrival, whether it is a key frame, and an additional action.
type Step = (usize, i64, u64, bool, u8);

proptest::proptest! {
    #[test]
    fn whatever_timestamps_say_marks_follow_the_wall_clock(
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
            dts,
            pts: dts.saturating_add(i64::from(act) * 90),
            key: key || track == 1,
            independent: key || track == 1,
            arrived: now,
            payload: Bytes::from(vec![0; usize::from(act)]),
        };
        let _ = source.producer.push(TrackIndex::new(track), unit);
        assert_eq!(source.producer.broadcast().id(), broadcast.id());
        let bytes = broadcast.held().bytes;
        assert!(bytes <= 1 << 20);
        for event in drain(&mut consumer) {
            let mark = match event {
                Event::Frame { frame, .. } => frame.mark,
                Event::Gap(mark) => Some(mark),
                _ => None,
            };
            let Some(mark) = mark else { continue };
            let wall = Timescale::VIDEO.ticks(crate::Anchor::LEAD) + ms as i64 * 90;
            assert!(mark.pts.ticks() <= wall + 9 * 90_000, "{mark:?} at {wall}");
            if let Some(last) = last {
                let longest = Timescale::VIDEO.ticks(broadcast.longest_segment());
                assert!(mark.msn == last.msn + 1 && mark.pts > last.pts, "{mark:?} after {last:?}");
                assert!(mark.pts - last.pts <= longest + 40_000, "{mark:?} after {last:?}");
            }
            last = Some(mark);
            marks += 1;
        }
        assert!(marks <= ms / 1_000 + 15, "{marks} marks in {ms} ms");
    }
}

#[test]
fn a_reader_learns_from_events_alone_what_the_broadcast_is_at_their_place() {
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
fn a_configuration_that_changes_before_the_first_frame_is_an_event_too() {
    let hub = hub();
    let source = Source::new(&hub, start());
    let mut reader = source.producer.broadcast().subscribe_from_oldest();
    let mut situation = reader.situation().clone();
    source.producer.configure(SECOND, &audio(hex!("1188")).1).unwrap();
    drain(&mut reader).iter().for_each(|event| situation.apply(event));
    let now = &source.producer.broadcast().tracks()[1].config;
    assert_eq!(situation.tracks[1].config, *now);
}
