//! Renditions that appear after the source: the first snapshot waits for them, and later ones are
//! added.

use super::{renditions::*, *};

#[test]
fn the_first_snapshot_waits_at_most_6_s_for_renditions() {
    // Renditions whose first segment is complete 2.6 s after the source's, and one that never
    // appears.
    let first = |delay: i64, dead: bool| {
        let mut bench = Bench::with_rungs(&[("v720", delay), ("v480", 100)]);
        if dead {
            bench.rungs[0].kill();
        }
        let mut shown = None;
        for n in 0..400i64 {
            bench.send(0, n * 40, n * 40, 0, n % 50 == 0);
            bench.send(1, n * 40, n * 40, 0, true);
            shown = shown.or(bench.last.as_ref().map(|last| (n * 40, last.tracks.len())));
        }
        let presentation = bench.end(16_000);
        assert_renditions_agree(presentation);
        (shown.unwrap(), presentation.tracks.len(), presentation.periods.len())
    };
    let (shown, tracks, periods) = first(2_600, false);
    assert_eq!((tracks, periods), (4, 1));
    assert!(shown.1 == 4 && (4_600..4_800).contains(&shown.0), "{shown:?}");
    let (shown, tracks, periods) = first(100, true);
    assert_eq!((tracks, periods), (3, 1));
    assert!(shown.1 == 3 && (6_000..6_100).contains(&shown.0), "{shown:?}");
}

#[test]
fn a_late_rendition_has_the_numbers_of_the_source_and_a_new_period() {
    let mut bench = Bench::with_rungs(&[("v720", 100)]);
    bench.act(9_100, |bench| {
        let broadcast = Arc::clone(bench.consumer.broadcast());
        bench.rungs.push(Rung::new(&broadcast, "v360", 300));
    });
    bench.run(30.0, 60, true, Some(48_000.0), 0.0..20.0, 0.0);
    let held_back = bench.last.as_ref().unwrap().part_hold_back;
    let presentation = bench.end(20_000);
    assert_sound_but_late(presentation);
    assert_renditions_agree(presentation);
    let late = named(presentation, "v360");
    assert_eq!(late.segments.first().unwrap().msn, 1_004);
    assert_eq!(presentation.tracks[3].name, late.name);
    assert_eq!(presentation.part_hold_back, held_back);
    let periods: Vec<_> = presentation
        .periods
        .iter()
        .map(|period| (period.first, period.init(TrackIndex::new(3))))
        .collect();
    assert_eq!(periods, [(1_000, None), (1_006, Some(0))]);
}

/// [`assert_sound`] for tracks that lack some of the source's segments.
pub(super) fn assert_sound_but_late(presentation: &Presentation) {
    let newest = presentation.tracks[0].segments.last().unwrap().msn;
    for track in &presentation.tracks {
        assert_continuous(track);
        assert_eq!(track.segments.last().unwrap().msn, newest, "{}", track.name);
    }
}

#[test]
fn a_late_rendition_has_the_discontinuity_count_of_the_source() {
    let mut bench = Bench::with_rungs(&[("v720", 100)]);
    let source = |bench: &Bench, width: u16| {
        let Some((_, Config::Avc(avc))) = tracks(None, true).pop() else { panic!("video") };
        let config = Config::Avc(avc::Config { width: width.into(), ..avc });
        bench.producer.as_ref().unwrap().configure(TrackIndex::new(0), &config).unwrap();
    };
    bench.act(3_000, move |bench| source(bench, 720));
    bench.act(9_100, |bench| {
        let broadcast = Arc::clone(bench.consumer.broadcast());
        bench.rungs.push(Rung::new(&broadcast, "v360", 300));
    });
    bench.act(11_000, move |bench| source(bench, 640));
    bench.run(30.0, 60, true, Some(48_000.0), 0.0..20.0, 0.0);
    let presentation = bench.end(20_000);
    assert_renditions_agree(presentation);
    let (source, late) = (&presentation.tracks[0], named(presentation, "v360"));
    let sequence = source.discontinuity_sequence;
    assert_eq!(late.discontinuity_sequence, sequence + 1);
    assert_eq!(source.discontinuities(), late.discontinuities());
    // Another init segment at each discontinuity, whether or not its configuration has changed.
    let inits =
        |track: &Track| track.segments.iter().map(|segment| segment.init).collect::<Vec<_>>();
    assert_eq!(inits(named(presentation, "v720")), [0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
    for period in presentation.periods.iter() {
        for (index, track) in presentation.tracks.iter().enumerate() {
            let Some(init) = period.init(TrackIndex::new(index)) else { continue };
            assert_eq!(track.segment(period.first).unwrap().init, init, "{}", track.name);
        }
    }
}
