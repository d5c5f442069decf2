use media_core::{
    TrackIndex,
    broadcast::{Consumer, Event},
    hub::Producer,
};

use super::*;
use crate::{
    ladder::testing::{self, RECORD, SOUND, video, video_only},
    plan::Rung as Configured,
};

struct Stage {
    _producer: Producer,
    broadcast: Arc<Broadcast>,
    packager: Consumer,
    source: avc::Config,
}

fn stage() -> Stage {
    let (producer, source) = (video_only(), video());
    let broadcast = Arc::clone(producer.broadcast());
    producer.push(TrackIndex::new(0), unit(0)).unwrap();
    let mut packager = broadcast.subscribe_from_oldest();
    assert!(packager.try_next().is_some());
    Stage { packager, _producer: producer, broadcast, source }
}

/// 240 and 144 lines of a source of 360 lines at 29.97 frames a second, on a machine that encodes
/// `macroblocks_per_s`.
fn rungs(stage: &Stage, macroblocks_per_s: f64) -> Rungs {
    let rung = |height| Configured { height, video_kbps: 300 };
    let planned = plan::renditions(&stage.source, &[rung(240), rung(144)], None);
    let capacity = Capacity::new(macroblocks_per_s, 1.0);
    Rungs::new(&stage.broadcast, &stage.source, planned, "a64".parse().ok(), &capacity)
}

fn unit(dts: i64) -> AccessUnit {
    testing::unit(dts, true)
}

fn states(rungs: &Rungs) -> Vec<String> {
    let status = rungs.status().into_iter();
    status.map(|status| format!("{} {:?}", status.name, status.state)).collect()
}

fn events(consumer: &mut Consumer) -> Vec<String> {
    std::iter::from_fn(|| consumer.try_next())
        .filter_map(|event| match event {
            Event::Frame { track, .. } => Some(format!("frame {track}")),
            Event::Track(track) => Some(format!("track {}", track.index)),
            Event::Config { track, .. } => Some(format!("config {track}")),
            Event::Absent { track } => Some(format!("absent {track}")),
            Event::Gap(_) | Event::GapUntil(_) | Event::Lagged { .. } => unreachable!(),
            Event::Presence(_) | Event::Rule(_) | Event::Awaited(_) => None,
        })
        .collect()
}

#[test]
fn output_of_the_worker_is_published_as_tracks_of_the_broadcast() {
    let mut stage = stage();
    let mut rungs = rungs(&stage, 1e6);
    assert_eq!(states(&rungs), ["v240 Made", "v144 Made", "a64 Made"]);
    assert!(stage.broadcast.awaits_renditions());
    for (index, record) in [RECORD, RECORD, SOUND].into_iter().enumerate() {
        rungs.configure(index, record).unwrap();
        assert!(rungs.push(index, unit(900_000)).is_some());
    }
    assert!(rungs.push(0, unit(900_000)).is_some(), "what comes twice is not published twice");
    assert!(rungs.push(7, unit(900_000)).is_none() && rungs.configure(7, RECORD).is_ok());
    assert_eq!(
        events(&mut stage.packager),
        ["track 1", "frame 1", "track 2", "frame 2", "track 3", "frame 3"]
    );
    assert!(!stage.broadcast.awaits_renditions());
    assert!(rungs.configure(0, b"no record").is_err());
}

#[test]
fn the_most_expensive_rung_is_shed_first_and_restored_last() {
    let mut stage = stage();
    let mut rungs = rungs(&stage, 1e6);
    rungs.configure(0, RECORD).unwrap();
    rungs.push(0, unit(900_000));
    assert_eq!(rungs.shed(), Some(0));
    assert!(rungs.push(0, unit(903_000)).is_none(), "what is still on its way is dropped");
    assert_eq!(rungs.shed(), Some(1));
    assert_eq!(rungs.shed(), None);
    assert_eq!(states(&rungs), ["v240 Shed", "v144 Shed", "a64 Made"]);
    assert_eq!(rungs.restore(), Some(1));
    assert_eq!(rungs.restore(), Some(0));
    assert!(rungs.push(0, unit(906_000)).is_some());
    assert_eq!(
        events(&mut stage.packager),
        ["track 1", "frame 1", "absent 1", "config 1", "frame 1"]
    );
}

#[test]
fn rungs_over_the_capacity_are_refused() {
    let stage = stage();
    // Decoding costs about 8 270, 240 lines 12 137, 144 lines 4 316.
    let capacity = Capacity::new(30_000.0, 1.0);
    let others = [4_000.0, 6_000.0].map(|cost| capacity.admit_all(0.0, &[cost]));
    let rung = |height| Configured { height, video_kbps: 300 };
    let planned = plan::renditions(&stage.source, &[rung(240), rung(144)], None);
    let mut rungs = Rungs::new(&stage.broadcast, &stage.source, planned, None, &capacity);
    assert_eq!(states(&rungs), ["v240 Refused", "v144 Made"]);
    assert!(rungs.any_made() && !rungs.is_made(0) && rungs.is_made(1));
    assert!(rungs.admit().is_empty());
    let [one, other] = others;
    drop(one);
    assert!(rungs.admit().is_empty(), "there is still too little");
    drop(other);
    assert_eq!(rungs.admit(), [0]);
    assert_eq!(states(&rungs), ["v240 Made", "v144 Made"]);
    assert!(rungs.admit().is_empty(), "nothing is refused any more");
    rungs.configure(0, RECORD).unwrap();
    assert!(rungs.push(0, unit(900_000)).is_some());
    let capacity = Capacity::new(1_000.0, 1.0);
    let planned = plan::renditions(&stage.source, &[rung(240)], None);
    let stage = self::stage();
    let none = Rungs::new(&stage.broadcast, &stage.source, planned, "a64".parse().ok(), &capacity);
    assert_eq!(states(&none), ["v240 Refused", "a64 Refused"]);
    assert!(!none.any_made() && !stage.broadcast.awaits_renditions());
}

#[test]
fn rungs_are_admitted_again_when_the_frame_rate_of_the_source_changes() {
    let mut stage = stage();
    // Decoding, 240 and 144 lines cost 8 270, 12 137 and 4 316; with 60 frames a second 16 560, 24
    // 300 and 4 320.
    let mut rungs = rungs(&stage, 30_000.0);
    rungs.configure(0, RECORD).unwrap();
    rungs.push(0, unit(900_000));
    let fast = avc::Config { frame_rate: Some(60.0), ..stage.source.clone() };
    assert!(rungs.is_of_another(&fast) && !rungs.is_of_another(&stage.source));
    rungs.follow(&fast, Vec::new());
    assert!(!rungs.is_of_another(&fast));
    assert_eq!(states(&rungs), ["v240 Refused", "v144 Made", "a64 Made"]);
    let made = |video: &VideoRendition| (video.height, video.level, video.halve_rate);
    assert_eq!(
        rungs.video(&fast).iter().map(made).collect::<Vec<_>>(),
        [(240, 30, false), (144, 21, true)]
    );
    let slow = stage.source.clone();
    rungs.follow(&slow, Vec::new());
    assert_eq!(states(&rungs), ["v240 Made", "v144 Made", "a64 Made"]);
    rungs.configure(0, RECORD).unwrap();
    assert_eq!(events(&mut stage.packager), ["track 1", "frame 1", "absent 1", "config 1"]);
}

#[test]
fn a_larger_source_gets_more_rungs_and_a_shed_rung_stays_shed() {
    let stage = stage();
    let mut rungs = rungs(&stage, 1e6);
    assert_eq!(rungs.shed(), Some(0));
    let large = avc::Config { width: 1280, height: 720, ..stage.source.clone() };
    let planned = [480, 240, 144].map(|height| Configured { height, video_kbps: 300 });
    rungs.follow(&large, plan::renditions(&large, &planned, None));
    assert_eq!(states(&rungs), ["v480 Made", "v240 Shed", "v144 Made", "a64 Made"]);
    assert_eq!(rungs.restore(), Some(1));
}

#[test]
fn a_new_level_of_a_rendition_continues_its_track() {
    let mut stage = stage();
    let mut rungs = rungs(&stage, 1e6);
    rungs.configure(0, RECORD).unwrap();
    rungs.configure(1, RECORD).unwrap();
    let mut other = RECORD.to_vec();
    // Level 3.1 in the record and in its parameter set.
    (other[3], other[11]) = (0x1f, 0x1f);
    rungs.configure(0, &other).unwrap();
    assert_eq!(states(&rungs), ["v240 Made", "v144 Made", "a64 Made"]);
    assert!(rungs.newly_failed().is_empty());
    assert!(rungs.push(0, unit(900_000)).is_some() && rungs.push(1, unit(900_000)).is_some());
    assert_eq!(
        events(&mut stage.packager),
        ["track 1", "track 2", "config 1", "frame 1", "frame 2"]
    );
}

#[test]
fn late_audio_gets_one_rendition() {
    let stage = stage();
    let rung = Configured { height: 240, video_kbps: 300 };
    let planned = plan::renditions(&stage.source, &[rung], None);
    let capacity = Capacity::new(1e6, 1.0);
    let mut rungs = Rungs::new(&stage.broadcast, &stage.source, planned, None, &capacity);
    assert_eq!(states(&rungs), ["v240 Made"]);
    rungs.hear("a64".parse().unwrap());
    rungs.hear("a64".parse().unwrap());
    assert_eq!(states(&rungs), ["v240 Made", "a64 Made"]);
}

#[test]
fn renditions_are_absent_from_the_end_of_a_worker_to_the_next_configuration() {
    let mut stage = stage();
    let mut rungs = rungs(&stage, 1e6);
    rungs.configure(0, RECORD).unwrap();
    rungs.absent();
    rungs.configure(0, RECORD).unwrap();
    assert_eq!(events(&mut stage.packager), ["track 1", "absent 1", "config 1"]);
}
