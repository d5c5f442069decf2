use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hex_literal::hex;

use super::*;
use crate::{
    Hub, MediaSpan,
    broadcast::{Consumer, Limits},
    codec::{aac, avc},
    hub::{Producer, Settings},
};

const SECOND: i64 = 90_000;
/// The first rendition beside a source of one track.
const RENDITION: TrackIndex = TrackIndex::new(1);

fn config() -> Config {
    let record = hex!(
        "0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 68ebe3cb22c0"
        "fdf8f800"
    );
    Config::Avc(avc::Config::parse(&record).unwrap())
}

/// The same codec string, another record.
fn other_config() -> Config {
    let Config::Avc(config) = config() else { unreachable!() };
    Config::Avc(avc::Config { width: 320, ..config })
}

fn broadcast() -> (Producer, Arc<Broadcast>, Instant) {
    let limits = Limits {
        bytes: 1 << 20,
        age: Duration::from_secs(10),
        segment: Duration::from_secs(2),
        stall: Duration::from_secs(2),
    };
    let hub = Hub::new(Settings {
        broadcast: limits,
        reconnect: Duration::from_secs(10),
        max_channels: 1,
    });
    let now = Instant::now();
    let claim = hub.claim("demo".parse().unwrap()).unwrap();
    let tracks = vec![(TrackName::source_video(), config())];
    let producer = claim.start(tracks, now, SystemTime::now()).unwrap();
    let broadcast = Arc::clone(producer.broadcast());
    (producer, broadcast, now)
}

fn unit(dts: i64, arrived: Instant) -> AccessUnit {
    AccessUnit {
        dts: MediaSpan::from_ticks(dts),
        pts: MediaSpan::from_ticks(dts),
        key: true,
        independent: true,
        arrived,
        payload: Bytes::from_static(b"unit"),
    }
}

/// The pending events, as text.
fn events(consumer: &mut Consumer) -> Vec<String> {
    let mut events = Vec::new();
    while let Some(event) = consumer.try_next() {
        events.push(match event {
            Event::Frame { track, .. } => format!("frame {track}"),
            Event::Track(track) => format!("track {}", track.index),
            Event::Config { track, .. } => format!("config {track}"),
            Event::Absent { track } => format!("absent {track}"),
            Event::Gap(_) => "gap".into(),
            Event::Lagged { .. } => "lagged".into(),
            Event::GapUntil(_) | Event::Presence(_) | Event::Rule(_) | Event::Awaited(_) => {
                continue;
            }
        });
    }
    events
}

#[test]
fn a_rendition_becomes_present_with_each_configuration_after_an_absence() {
    let (producer, broadcast, now) = broadcast();
    let mut packager = broadcast.subscribe_from_oldest();
    let mut player = broadcast.subscribe();
    producer.push(TrackIndex::FIRST, unit(0, now)).unwrap();

    let mut rendition = broadcast.rendition("v360".parse().unwrap()).unwrap();
    assert!(broadcast.awaits_renditions());
    assert_eq!(rendition.push(unit(10 * SECOND, now)), Err(OutOfOrder));
    assert_eq!(broadcast.tracks().len(), 1);

    rendition.configure(&config()).unwrap();
    assert!(!broadcast.awaits_renditions());
    rendition.configure(&config()).unwrap();
    rendition.push(unit(10 * SECOND, now)).unwrap();
    assert_eq!(rendition.push(unit(10 * SECOND, now)), Err(OutOfOrder));
    rendition.absent();
    rendition.absent();
    assert_eq!(rendition.push(unit(11 * SECOND, now)), Err(OutOfOrder));
    rendition.configure(&config()).unwrap();
    rendition.push(unit(12 * SECOND, now)).unwrap();
    rendition.configure(&other_config()).unwrap();

    assert_eq!(
        events(&mut packager),
        ["frame 0", "track 1", "frame 1", "absent 1", "config 1", "frame 1", "config 1"]
    );
    assert_eq!(events(&mut player), ["frame 0"]);
    let tracks = broadcast.tracks();
    assert_eq!(
        tracks.iter().map(|track| (track.name.as_str(), track.rendition)).collect::<Vec<_>>(),
        [("v0", false), ("v360", true)]
    );
}

#[test]
fn a_rendition_has_a_name_of_its_own_and_keeps_its_codec_family() {
    let (_producer, broadcast, _) = broadcast();
    assert!(broadcast.rendition(TrackName::source_video()).is_err());
    let mut rendition = broadcast.rendition("v360".parse().unwrap()).unwrap();
    rendition.configure(&config()).unwrap();
    let Config::Avc(avc) = config() else { unreachable!() };
    let codec_string = "avc1.640028".into();
    rendition.configure(&Config::Avc(avc::Config { codec_string, ..avc })).unwrap();
    let other_family = aac::Config::parse(&[0x11, 0x90]).unwrap();
    assert!(rendition.configure(&Config::Aac(other_family)).is_err());
    for n in 0..MAX_TRACKS - 2 {
        std::mem::forget(broadcast.rendition(format!("v{}", n + 1_000).parse().unwrap()).unwrap());
    }
    assert!(broadcast.rendition("v1".parse().unwrap()).is_err());
}

#[test]
fn a_publisher_may_resume_a_broadcast_with_renditions() {
    let (producer, broadcast, now) = broadcast();
    producer.push(TrackIndex::FIRST, unit(0, now)).unwrap();
    let mut rendition = broadcast.rendition("v360".parse().unwrap()).unwrap();
    rendition.configure(&config()).unwrap();
    producer.leave(now);
    assert!(broadcast.resume(u64::MAX, &[(TrackName::source_video(), config())]));
}

#[tokio::test]
async fn the_log_of_an_ended_broadcast_ends_with_its_last_rendition() {
    let (producer, broadcast, now) = broadcast();
    let mut packager = broadcast.subscribe_from_oldest();
    let mut player = broadcast.subscribe();
    producer.push(TrackIndex::FIRST, unit(0, now)).unwrap();
    let mut rendition = broadcast.rendition("v360".parse().unwrap()).unwrap();
    rendition.configure(&config()).unwrap();
    producer.end();
    assert!(matches!(player.next().await, Some(Event::Frame { .. })));
    assert!(matches!(player.next().await, Some(Event::Presence(Presence::Ended))));
    assert!(player.next().await.is_none());
    assert_eq!(events(&mut packager), ["frame 0", "track 1"]);
    rendition.push(unit(10 * SECOND, now)).unwrap();
    let reader = tokio::spawn(async move {
        assert!(matches!(packager.next().await, Some(Event::Frame { track: RENDITION, .. })));
        packager.next().await.is_none()
    });
    tokio::task::yield_now().await;
    drop(rendition);
    assert!(reader.await.unwrap());
}

#[test]
fn a_subscriber_that_lagged_receives_the_absent_renditions() {
    let (producer, broadcast, now) = broadcast();
    producer.push(TrackIndex::FIRST, unit(0, now)).unwrap();
    let mut rendition = broadcast.rendition("v360".parse().unwrap()).unwrap();
    rendition.configure(&config()).unwrap();
    let mut packager = broadcast.subscribe_from_oldest();
    rendition.absent();
    for n in 1..40 {
        let payload = Bytes::from(vec![0; 60_000]);
        producer.push(TrackIndex::FIRST, AccessUnit { payload, ..unit(n * 3_000, now) }).unwrap();
    }
    let told = events(&mut packager);
    assert_eq!(told[..4], ["lagged", "config 0", "track 1", "absent 1"]);
}

#[test]
fn a_subscriber_may_skip_to_the_newest_group_but_not_beyond_it() {
    let (producer, broadcast, now) = broadcast();
    let mut reader = broadcast.subscribe();
    for n in 0..9 {
        let key = n % 3 == 0;
        producer
            .push(TrackIndex::FIRST, AccessUnit { key, independent: key, ..unit(n * 9_000, now) })
            .unwrap();
    }
    reader.skip_to_newest();
    let Some(Event::Lagged { frames: 6, .. }) = reader.try_next() else {
        panic!("six frames are left out");
    };
    assert_eq!(events(&mut reader), ["config 0", "frame 0", "frame 0", "frame 0"]);
    reader.skip_to_newest();
    assert_eq!(events(&mut reader), [""; 0]);
}
