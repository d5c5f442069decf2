//! Renditions whose frames are late or missing: the gaps that are listed, and those that are
//! bridged.

use super::{joining::assert_sound_but_late, renditions::*, *};

/// 30 frames a second and a key frame every 2 s, for 20 s; `v720` is killed and back at these
/// milliseconds.
fn run_with_a_death(killed: i64, back: i64, delay: i64) -> Bench {
    let mut bench = Bench::with_rungs(&[("v720", delay), ("v480", 100)]);
    bench.act(killed, |bench| bench.rungs[0].kill());
    bench.act(back, |bench| bench.rungs[0].restart());
    bench.run(30.0, 60, true, Some(48_000.0), 0.0..20.0, 0.0);
    bench
}

#[test]
fn a_worker_restarted_within_a_segment_loses_the_rest_of_that_segment() {
    let mut bench = run_with_a_death(8_900, 9_300, 150);
    let presentation = bench.end(20_000);
    assert_sound(presentation);
    assert_renditions_agree(presentation);
    let [killed, other] = ["v720", "v480"].map(|name| named(presentation, name));
    assert_eq!(kinds(killed), "mmmmgmmmmm");
    assert_eq!(kinds(other), "mmmmmmmmmm");
    let hit = &killed.segments[4];
    let gaps = hit.parts.iter().map(|part| part.gap);
    let first = gaps.clone().take_while(|gap| !gap).count();
    assert!((3..=4).contains(&first), "0.75 s of 2 had come, in parts of 0.2 s: {first}");
    assert!(gaps.skip(first).all(|gap| gap));
    assert!(!hit.bytes.is_empty());
}

#[test]
fn a_rendition_lists_gaps_without_a_worker_and_resumes_at_the_next_mark() {
    for (killed, back, wanted) in [
        // Dead for two marks and back in the middle.
        (8_900, 13_000, "mmmmgggmmm"),
        // Its frames in flight at the segment's end are lost with it, and all of the next segment.
        (9_900, 12_100, "mmmmggmmmm"),
        // No more than a part of it: the last picture is shown for so long.
        (10_050, 12_100, "mmmmmgmmmm"),
        // Back in time for the mark's own picture, since a new worker begins with the newest group.
        (8_900, 10_300, "mmmmgmmmmm"),
        // One segment had arrived whole, and nothing of the next.
        (10_160, 10_300, "mmmmmmmmmm"),
        (10_400, 10_500, "mmmmmgmmmm"),
        // Not any more.
        (8_900, 21_000, "mmmmgggggg"),
    ] {
        let mut bench = run_with_a_death(killed, back, 150);
        let presentation = bench.end(20_000);
        assert_sound(presentation);
        assert_renditions_agree(presentation);
        let case = format!("{killed} to {back}");
        assert_eq!(kinds(named(presentation, "v720")), wanted, "{case}");
        assert_eq!(kinds(named(presentation, "v480")), "mmmmmmmmmm", "{case}");
    }
}

#[test]
fn gaps_of_a_rendition_are_listed_in_step_with_the_source() {
    let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
    bench.act(8_900, |bench| bench.rungs[0].kill());
    for ms in (10_000..20_000).step_by(170) {
        bench.act(ms, move |bench| {
            let last = bench.last.as_ref().unwrap();
            let end = |track: &Track| track.open.as_ref().map_or(Ticks::ZERO, |open| open.end());
            let behind = end(&last.tracks[0]) - end(named(last, "v720"));
            // Patience, a part, and the source's open part.
            assert!((0..90 * 1_200).contains(&behind.get()), "{behind:?} at {ms}");
        });
    }
    bench.run(30.0, 60, true, Some(48_000.0), 0.0..20.0, 0.0);
    assert_eq!(bench.script.len(), 0);
    assert_renditions_agree(bench.end(20_000));
}

#[test]
fn a_worker_slower_than_the_patience_is_marked_late_and_counted() {
    let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
    bench.act(8_900, |bench| bench.rungs[0].delay = 8_000);
    bench.act(22_000, |bench| {
        assert_eq!(bench.program.metrics.renditions_late.get(), 1);
        bench.rungs[0].kill();
        bench.rungs[0].delay = 150;
        bench.rungs[0].restart();
    });
    bench.run(30.0, 60, false, Some(48_000.0), 0.0..30.0, 0.0);
    let presentation = bench.end(30_000);
    assert_sound(presentation);
    assert_renditions_agree(presentation);
    assert_eq!(kinds(named(presentation, "v720")), "mmmmgggggggmmmm");
}

#[test]
fn a_late_worker_that_has_caught_up_resumes_its_rendition() {
    for late in [1_500, 2_300] {
        let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
        bench.act(3_900, |bench| bench.rungs[0].delay = 8_000);
        bench.act(7_900, move |bench| bench.rungs[0].delay = late);
        bench.run(30.0, 60, false, Some(48_000.0), 0.0..24.0, 0.0);
        let presentation = bench.end(24_000);
        assert_sound(presentation);
        assert_renditions_agree(presentation);
        assert_eq!(kinds(named(presentation, "v720")), "mmggggggmmmm", "{late}");
    }
}

#[test]
fn a_worker_that_stalls_for_a_while_loses_nothing() {
    let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
    bench.act(8_900, |bench| bench.rungs[0].delay = 4_000);
    bench.act(11_000, |bench| bench.rungs[0].delay = 150);
    bench.run(30.0, 60, false, Some(48_000.0), 0.0..20.0, 0.0);
    let presentation = bench.end(20_000);
    assert_sound(presentation);
    assert_renditions_agree(presentation);
    let track = named(presentation, "v720");
    assert_eq!((kinds(track).as_str(), stamps(track).len()), ("mmmmmmmmmm", 600));
}

#[test]
fn undecodable_pictures_are_bridged_and_segments_start_at_the_mark() {
    // The mark's own picture, one amid the segment, five before a mark and four from a mark on.
    for lost in [vec![120], vec![150], vec![175, 176, 177, 178, 179], vec![180, 181, 182, 183]] {
        for b_frames in [false, true] {
            let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
            (bench.rungs[0].undecodable, bench.rungs[0].b_frames) = (lost.clone(), b_frames);
            bench.run(30.0, 60, false, Some(48_000.0), 0.0..12.0, 0.0);
            let presentation = bench.end(12_000);
            assert_sound(presentation);
            assert_renditions_agree(presentation);
            let track = named(presentation, "v720");
            assert_eq!(kinds(track), "mmmmmm", "{lost:?}");
            assert_eq!(stamps(track).len(), 360 - lost.len(), "{lost:?}");
            assert!(track.segments.iter().all(|segment| segment.parts[0].independent));
        }
    }
}

#[test]
fn a_hole_in_a_rendition_makes_its_segment_a_gap() {
    let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
    bench.rungs[0].undecodable = (125..175).collect();
    bench.run(30.0, 60, false, Some(48_000.0), 0.0..12.0, 0.0);
    let presentation = bench.end(12_000);
    assert_renditions_agree(presentation);
    assert_eq!(kinds(named(presentation, "v720")), "mmgmmm");
}

#[test]
fn periods_list_only_the_renditions_with_media() {
    let mut bench = run_with_a_death(8_900, 13_000, 150);
    let presentation = bench.end(20_000);
    let index = presentation.tracks.iter().position(|track| track.name.as_str() == "v720").unwrap();
    let periods: Vec<_> = presentation
        .periods
        .iter()
        .map(|period| (period.first, period.init(TrackIndex::new(index))))
        .collect();
    assert_eq!(periods, [(1_000, Some(0)), (1_005, None), (1_007, Some(0))]);
    assert_eq!(presentation.periods[1].continues, Some(1_000));
    assert_eq!(presentation.periods[2].continues, Some(1_005));
}

/// An event in the life of a worker in a random run.
#[derive(Debug, Clone)]
enum Fate {
    Delayed(i64),
    Killed,
    Restarted,
    /// From its n-th unit on so many are lost.
    Loses(usize, usize),
    Blind(usize, usize),
    Reconfigured(u16),
}

fn fate() -> impl proptest::strategy::Strategy<Value = Fate> {
    use proptest::prelude::*;
    prop_oneof![
        3 => (0i64..900).prop_map(Fate::Delayed),
        1 => (900i64..7_000).prop_map(Fate::Delayed),
        2 => Just(Fate::Killed),
        3 => Just(Fate::Restarted),
        2 => (0usize..600, 1usize..80).prop_map(|(from, count)| Fate::Loses(from, count)),
        2 => (0usize..600, 1usize..80).prop_map(|(from, count)| Fate::Blind(from, count)),
        1 => (100u16..900).prop_map(Fate::Reconfigured),
    ]
}

impl Rung {
    fn suffer(&mut self, fate: Fate) {
        match fate {
            Fate::Delayed(delay) => self.delay = delay,
            Fate::Killed => self.kill(),
            Fate::Restarted => {
                self.kill();
                self.restart();
            }
            Fate::Loses(from, count) => self.lost.extend(from..from + count),
            Fate::Blind(from, count) => self.undecodable.extend(from..from + count),
            Fate::Reconfigured(width) => self.reconfigure(width),
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]
    #[test]
    fn a_rendition_has_the_segments_of_the_source_for_any_worker_failures(
        rate in 2usize..8, group in 20u64..150, b_frames: bool, encodes_b_frames: bool,
        halved: bool, away in 0i64..5_000, other: bool,
        fates in proptest::collection::vec((0i64..24_000, 0usize..2, fate()), 0..12),
    ) {
        let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
        let (fps, _) = RATES[rate];
        bench.rungs[0].b_frames = encodes_b_frames;
        if halved {
            bench.rungs[1].halve(fps);
        }
        let mut fates = fates;
        fates.sort_by_key(|(at, ..)| *at);
        for (at, rung, fate) in fates {
            bench.act(at, move |bench| bench.rungs[rung].suffer(fate));
        }
        bench.run(fps, group, b_frames, Some(48_000.0), 0.0..12.0, 0.0);
        let mut back = 12_000;
        if away > 500 {
            bench.producer.take().unwrap().leave(bench.at(12_000));
            back += away;
            bench.tick(12_000..back);
            let mut again = tracks(AAC_48, true);
            if let (true, (_, Config::Avc(avc))) = (other, &mut again[0]) {
                avc.width = 480;
            }
            let claim = bench.hub.claim("demo".parse().unwrap()).unwrap();
            let now = bench.at(back);
            bench.producer = Some(claim.start(again, now, SystemTime::UNIX_EPOCH).unwrap());
        }
        let from = f64::from(i32::try_from(back).unwrap()) / 1_000.0;
        let key = if away > 500 { from } else { 0.0 };
        bench.run(fps, group, b_frames, Some(48_000.0), from..from + 10.0, key);
        let presentation = bench.end(back + 10_000);
        assert_sound_but_late(presentation);
        assert_renditions_agree(presentation);
        for period in presentation.periods.iter() {
            for (index, track) in presentation.tracks.iter().enumerate() {
                let Some(init) = period.init(TrackIndex::new(index)) else { continue };
                for msn in period.first..period.last.map_or(period.first, |last| last.msn) {
                    // The Period's init segment is that of the segment, or there is a gap.
                    let segment = track.segment(msn);
                    let is_sound = |segment: &Arc<Segment>| segment.gap || segment.init == init;
                    assert!(segment.is_none_or(is_sound), "{msn} of {}", track.name);
                }
            }
        }
    }
}
