//! Renditions beside the source: the same numbers, starts and durations, and their own
//! configurations.

use std::{cell::RefCell, rc::Rc};

use super::*;

/// Checks every video rendition beside the source, for any input: the source's numbers, starts and
/// durations.
pub(super) fn assert_renditions_agree(presentation: &Presentation) {
    assert_renditions_agree_but(presentation, "");
}

pub(super) fn assert_renditions_agree_but(presentation: &Presentation, audio: &str) {
    let source = &presentation.tracks[0];
    let renditions = presentation.tracks.iter().filter(|track| track.rendition);
    for track in renditions.filter(|track| track.name.as_str() != audio) {
        assert_continuous(track);
        assert!(!track.segments[0].gap, "{} appears with media", track.name);
        for segment in track.segments.iter() {
            let same = source.segment(segment.msn).unwrap();
            let place = |segment: &crate::Segment| {
                (segment.msn, segment.start, segment.duration, segment.discontinuity)
            };
            let last = track.listed().newest().is_some_and(|last| last.msn == segment.msn);
            if presentation.ended && last {
                // It ends with its media.
                assert_eq!(place(segment).1, place(same).1, "{} {}", track.name, kinds(track));
                assert!(segment.duration <= same.duration, "{} {}", track.name, kinds(track));
            } else {
                assert_eq!(place(segment), place(same), "{} {}", track.name, kinds(track));
            }
            assert_eq!(segment.gap, segment.parts.iter().any(|part| part.gap), "{}", segment.msn);
            assert!(track.init(segment.init).is_some());
            for part in &segment.parts {
                let samples = payloads(track, part).len();
                let duration = part.duration.duration(Timescale::VIDEO);
                assert!(
                    duration <= track.part_target || samples == 1,
                    "{duration:?} of {:?}, {samples} samples in {} of {}",
                    track.part_target,
                    segment.msn,
                    track.name
                );
                assert_eq!(part.gap, part.bytes.is_empty());
            }
        }
        assert!(presentation.part_hold_back >= 3 * track.part_target);
        let listed = |track: &Track| track.listed().first().map(|segment| segment.msn);
        if listed(track) == listed(source) {
            assert_eq!(track.discontinuity_sequence, source.discontinuity_sequence);
        }
    }
}

pub(super) fn named<'a>(presentation: &'a Presentation, name: &str) -> &'a Track {
    let found = presentation.tracks.iter().find(|track| track.name.as_str() == name);
    found.unwrap_or_else(|| panic!("no {name}"))
}

pub(super) fn kinds(track: &Track) -> String {
    track.segments.iter().map(|segment| if segment.gap { 'g' } else { 'm' }).collect()
}

impl Bench {
    pub(super) fn with_rungs(delays: &[(&str, i64)]) -> Self {
        let mut bench = Self::new(tracks(AAC_48, true));
        let broadcast = Arc::clone(bench.consumer.broadcast());
        bench.rungs =
            delays.iter().map(|(name, delay)| Rung::new(&broadcast, name, *delay)).collect();
        bench
    }

    pub(super) fn act(&mut self, ms: i64, act: impl FnOnce(&mut Self) + 'static) {
        self.script.push_back(Act { due: ms, run: Box::new(act) });
    }
}

#[test]
fn each_segment_of_every_rendition_has_the_number_start_and_duration_of_the_source() {
    for fps in [25.0, 29.97, 30.0, 60.0] {
        for group_s in [1.0, 2.0, 2.5, 8.3] {
            for b_frames in [false, true] {
                let mut bench = Bench::with_rungs(&[("v720", 120), ("v480", 350), ("v360", 90)]);
                (bench.rungs[1].halved, bench.rungs[2].b_frames) = (fps > 50.0, true);
                let group =
                    (0..).take_while(|n| f64::from(*n) < fps * group_s - 0.5).count() as u64;
                bench.run(fps, group, b_frames, Some(48_000.0), 0.0..26.0, 0.0);
                let presentation = bench.end(26_000);
                assert_sound(presentation);
                assert_renditions_agree(presentation);
                let names: Vec<_> =
                    presentation.tracks.iter().map(|track| track.name.as_str()).collect();
                assert_eq!(names.len(), 5, "{names:?}");
                let source = &presentation.tracks[0];
                for track in &presentation.tracks[2..] {
                    assert_eq!(track.segments.len(), source.segments.len());
                    assert!(track.segments.iter().all(|segment| !segment.gap), "{}", kinds(track));
                    assert_eq!(track.part_target, Duration::from_millis(234));
                    let rate =
                        fps / if fps > 50.0 && track.name.as_str() == "v480" { 2.0 } else { 1.0 };
                    assert!(
                        (track.frame_rate.unwrap() - rate).abs() < 0.05,
                        "{:?} of {rate}",
                        track.frame_rate
                    );
                    let (shown, sent) = (stamps(track).len(), stamps(source).len());
                    let wanted =
                        if fps > 50.0 && track.name.as_str() == "v480" { sent / 2 } else { sent };
                    assert!(shown.abs_diff(wanted) <= source.segments.len(), "{shown} of {wanted}");
                    // The source may end between a picture and one to be shown before it.
                    assert!(
                        fps > 50.0 || shown == sent || b_frames && shown + 1 == sent,
                        "{shown} of {sent}"
                    );
                }
                assert_eq!(presentation.periods.first().unwrap().inits.len(), 5);
                assert_eq!(presentation.part_hold_back, Duration::from_millis(702));
            }
        }
    }
}

#[test]
fn a_new_configuration_of_a_rendition_takes_effect_at_the_next_mark() {
    let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
    bench.act(8_900, |bench| bench.rungs[0].reconfigure(400));
    bench.run(30.0, 60, true, Some(48_000.0), 0.0..16.0, 0.0);
    let presentation = bench.end(16_000);
    assert_renditions_agree(presentation);
    let track = named(presentation, "v720");
    assert_eq!(kinds(track), "mmmmgmmm");
    assert_eq!(
        track.segments.iter().map(|segment| segment.init).collect::<Vec<_>>(),
        [0, 0, 0, 0, 0, 1, 1, 1]
    );
    let index = presentation.tracks.iter().position(|other| other.name == track.name).unwrap();
    let periods: Vec<_> = presentation
        .periods
        .iter()
        .map(|period| (period.first, period.init(TrackIndex::new(index))))
        .collect();
    assert_eq!(periods, [(1_000, Some(0)), (1_005, Some(1))]);
    assert_eq!(presentation.periods[1].continues, None);
}

#[test]
fn a_worker_late_after_a_source_change_loses_only_the_segments_listed_as_gaps() {
    for discontinuities in [1, 2] {
        let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
        // Units of the worker before have arrived when the next one names its configuration.
        bench.act(3_970, |bench| bench.rungs[0].stalled = 10_500);
        for n in 0..discontinuities {
            let change = 3_970 + 2_000 * i64::from(n);
            bench.act(change, move |bench| {
                let Some((_, Config::Avc(avc))) = tracks(None, true).pop() else { panic!("video") };
                let config =
                    Config::Avc(avc::Config { frame_rate: Some(60.0 + f64::from(n)), ..avc });
                bench.producer.as_ref().unwrap().configure(TrackIndex::new(0), &config).unwrap();
            });
            bench.act(change + 300, |bench| bench.rungs[0].reconfigure(400));
        }
        bench.run(30.0, 60, false, Some(48_000.0), 0.0..20.0, 0.0);
        let presentation = bench.end(20_000);
        assert_sound(presentation);
        assert_renditions_agree(presentation);
        let track = named(presentation, "v720");
        assert_eq!(kinds(track), "mmgggmmmmm", "{discontinuities}");
        for segment in track.segments.iter().filter(|segment| !segment.gap) {
            let Config::Avc(avc) = &*track.init(segment.init).unwrap().config else {
                panic!("video")
            };
            let wanted = if segment.msn < 1_002 { 320 } else { 400 };
            assert_eq!(avc.width, wanted, "{} of {discontinuities}", segment.msn);
        }
        // Periods that begin after the worker is back name the init segments of their media.
        let index = presentation.tracks.iter().position(|other| other.name == track.name).unwrap();
        let newest = presentation.periods.last().unwrap();
        let newest_init = track.segment(newest.first).unwrap().init;
        assert_eq!(newest.init(TrackIndex::new(index)), Some(newest_init), "{discontinuities}");
    }
}

#[test]
fn renditions_stay_in_step_when_the_publisher_returns() {
    for (other, worker_dies) in [(false, false), (true, false), (false, true), (true, true)] {
        for b_frames in [false, true] {
            let mut bench = Bench::with_rungs(&[("v720", 300), ("v480", 100)]);
            bench.run(30.0, 60, b_frames, Some(48_000.0), 0.0..5.0, 0.0);
            bench.producer.take().unwrap().leave(bench.at(5_000));
            if worker_dies {
                bench.act(6_000, |bench| bench.rungs.iter_mut().for_each(Rung::kill));
            }
            bench.tick(5_000..9_000);
            let mut again = tracks(AAC_48, true);
            if let (true, (_, Config::Avc(avc))) = (other, &mut again[0]) {
                avc.width = 480;
            }
            let claim = bench.hub.claim("demo".parse().unwrap()).unwrap();
            bench.producer =
                Some(claim.start(again, bench.at(9_000), SystemTime::UNIX_EPOCH).unwrap());
            if worker_dies {
                bench.rungs.iter_mut().for_each(Rung::restart);
            }
            if other {
                bench.rungs.iter_mut().for_each(|rung| rung.reconfigure(240));
            }
            bench.run(30.0, 60, b_frames, Some(48_000.0), 9.0..14.0, 9.0);
            let presentation = bench.end(14_000);
            assert_sound(presentation);
            assert_renditions_agree(presentation);
            for name in ["v720", "v480"] {
                let track = named(presentation, name);
                assert_eq!(kinds(track), "mmmggmmm", "{name} {other} {worker_dies} {b_frames}");
                let inits: Vec<_> = track.segments.iter().map(|segment| segment.init).collect();
                assert_eq!(inits[5..], [u32::from(other); 3], "{name}");
            }
            let periods: Vec<_> = presentation
                .periods
                .iter()
                .map(|period| (period.first, &period.inits[2..]))
                .collect();
            let init = Some(u32::from(other));
            assert_eq!(periods, [(1_000, &[Some(0); 2][..]), (1_005, &[init; 2][..])]);
        }
    }
}

#[test]
fn a_worker_replaced_exactly_at_a_mark_starts_no_new_period() {
    let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
    // The first worker's last frames arrive with the mark's own frame, and the next worker begins
    // with that.
    bench.act(10_100, |bench| {
        let rung = &mut bench.rungs[0];
        rung.queue.retain(|sent| sent.unit.pts < MediaSpan::from_millis(20_000));
        for sent in &mut rung.queue {
            sent.due = 10_100;
        }
    });
    bench.act(10_101, |bench| {
        bench.rungs[0].kill();
        bench.rungs[0].restart();
    });
    bench.run(30.0, 60, false, Some(48_000.0), 0.0..16.0, 0.0);
    let presentation = bench.end(16_000);
    assert_renditions_agree(presentation);
    let track = named(presentation, "v720");
    assert_eq!((kinds(track).as_str(), stamps(track).len()), ("mmmmmmmm", 480));
    assert_eq!(presentation.periods.len(), 1);
}

#[test]
fn renditions_of_a_gridded_source_are_not_gridded() {
    let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
    bench.run(30.0, 1_000, true, Some(48_000.0), 0.0..27.0, 0.0);
    let presentation = bench.end(27_000);
    assert_sound(presentation);
    assert_renditions_agree(presentation);
    let source = &presentation.tracks[0];
    assert!(source.gridded && source.segments.iter().any(|segment| !segment.independent));
    for name in ["v720", "v480"] {
        let track = named(presentation, name);
        assert!(
            !track.gridded
                && track
                    .segments
                    .iter()
                    .all(|segment| segment.parts[0].independent && !segment.gap)
        );
    }
    let gridded: Vec<_> =
        presentation.periods.iter().map(|period| (period.first, period.gridded)).collect();
    assert_eq!(gridded, [(1_000, false), (1_001, true)]);
    let text = String::from_utf8(presentation.multivariant().plain().to_vec()).unwrap();
    assert!(!text.contains("v0.m3u8") && text.contains("v720.m3u8"), "{text}");
}

#[test]
fn segments_that_start_at_recovery_points_are_not_listed_as_independent() {
    let mut bench = Bench::with_rungs(&[("v720", 150)]);
    bench.open_gop = true;
    bench.run(30.0, 60, true, Some(48_000.0), 0.0..9.0, 0.0);
    let presentation = bench.end(9_000);
    assert_sound(presentation);
    assert_renditions_agree(presentation);
    let source = &presentation.tracks[0];
    let independent = |track: &Track| -> Vec<_> {
        let segments = track.segments.iter();
        segments.map(|segment| (segment.independent, segment.parts[0].independent)).collect()
    };
    assert_eq!(
        independent(source),
        [(true, true), (false, false), (false, false), (false, false), (false, false)]
    );
    assert_eq!(independent(named(presentation, "v720")), [(true, true); 5]);
    assert!(source.gridded);
    let playlist = String::from_utf8(
        presentation.media_playlist(TrackIndex::new(0), crate::Skip::No).plain().to_vec(),
    )
    .unwrap();
    assert!(!playlist.contains("EXT-X-INDEPENDENT-SEGMENTS"), "{playlist}");
    let manifest = String::from_utf8(presentation.manifest().plain().to_vec()).unwrap();
    let last = manifest.rsplit("<Period").next().unwrap();
    assert_eq!(last.matches("startWithSAP").count(), 2, "the rendition and the audio: {manifest}");
    let text = String::from_utf8(presentation.multivariant().plain().to_vec()).unwrap();
    assert!(!text.contains("v0.m3u8") && text.contains("v720.m3u8"), "{text}");
}

#[test]
fn every_hinted_part_of_a_rendition_is_published() {
    let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 470)]);
    let hints = Rc::new(RefCell::new(Vec::new()));
    for ms in (3_000..16_000).step_by(20) {
        let hints = Rc::clone(&hints);
        bench.act(ms, move |bench| {
            let tracks = bench.last.as_ref().map(|last| &last.tracks[2..]).unwrap_or_default();
            let open = tracks
                .iter()
                .filter_map(|track| track.open.as_ref().map(|open| (&track.name, open)));
            let hinted = open.map(|(name, open)| (name.to_string(), open.msn, open.parts.len()));
            hints.borrow_mut().extend(hinted);
        });
    }
    bench.run(25.0, 48, false, Some(48_000.0), 0.0..18.0, 0.0);
    let presentation = bench.end(18_000);
    assert!(hints.borrow().len() > 1_000);
    for (name, msn, part) in hints.borrow().iter() {
        let parts = named(presentation, name).segment(*msn).unwrap().parts.len();
        assert!(parts > *part, "part {part} of {msn} in {name} was hinted at");
    }
}

#[test]
fn a_broadcast_of_audio_alone_has_an_audio_rendition() {
    let mut bench = Bench::new(tracks(AAC_48, false));
    let broadcast = Arc::clone(bench.consumer.broadcast());
    bench.rungs.push(Rung::of_audio(&broadcast, "a64", 300));
    for n in 0..500i64 {
        let ms = n * 1_024 * 1_000 / 48_000;
        bench.send(0, ms, ms, 0, true);
    }
    let presentation = bench.end(10_640);
    assert_sound(presentation);
    let [source, audio] = &presentation.tracks[..] else { panic!("two tracks") };
    assert_eq!((kinds(source), kinds(audio)), ("mmmmmm".into(), "mmmmmm".into()));
    assert!(bench.program.metrics.audio.silence.get() <= 3);
}

#[test]
fn an_audio_rendition_is_cut_at_the_marks_of_the_source() {
    for delay in [60, 400, 900] {
        let mut bench = Bench::with_rungs(&[("v720", 150)]);
        let broadcast = Arc::clone(bench.consumer.broadcast());
        bench.rungs.push(Rung::of_audio(&broadcast, "a64", delay));
        bench.run(30.0, 60, true, Some(48_000.0), 0.0..20.0, 0.0);
        let presentation = bench.end(20_000);
        assert_sound(presentation);
        assert_renditions_agree_but(presentation, "a64");
        let (source, audio) = (&presentation.tracks[0], named(presentation, "a64"));
        assert_eq!(kinds(audio), "mmmmmmmmmm");
        for (segment, same) in audio.segments.iter().zip(source.segments.iter()) {
            let late = (audio.media_time(segment.start) - source.media_time(same.start)).ticks();
            assert!((-1..=2_100).contains(&late), "{late} in {} after {delay} ms", segment.msn);
        }
        let silent = bench.program.metrics.audio.silence.get();
        assert!(silent <= 3, "{silent} after {delay} ms");
        assert_eq!(bench.last.as_ref().unwrap().periods[0].inits.len(), 4);
    }
}
