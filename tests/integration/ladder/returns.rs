//! The publisher leaves and returns: the renditions follow the source, have a gap where it has one,
//! and keep their names and sizes.

use crate::{
    ladder::stage::{self, Rendition, Stage, VIDEO},
    support::{
        daemon::Settings,
        media::{PLAIN, Recipe},
        playlist::{Media, Multivariant, resolve},
        push::{self, Push},
        rtmp, wait_for,
    },
};
use std::{thread, time::Duration};

const LIMIT: Duration = Duration::from_secs(120);
const MASTER: &str = "/live/back/master.m3u8";

/// Pushes 9 s of one source, and 5 s later 10 s of another. Returns the renditions from the first
/// to the last.
fn back_with(stage: &Stage, first: Recipe, second: Recipe) -> Vec<Rendition> {
    let tags = |recipe: Recipe, seconds| push::first(&rtmp::tags(&recipe.flv()), seconds);
    let (first, second) = (tags(first, 9), tags(second, 10));
    thread::scope(|scope| {
        let follower = scope.spawn(|| stage::follow_to_the_end(stage, "back", &VIDEO, LIMIT));
        Push::start(stage.rtmp, "back", first).finish();
        thread::sleep(Duration::from_secs(5));
        Push::start(stage.rtmp, "back", second).finish();
        follower.join().expect("all renditions can be followed")
    })
}

fn stage() -> Stage {
    Stage::with(&Settings { ladder: stage::RUNGS.into(), reconnect_s: 10, ..stage::lasting() })
}

/// Asserts that all have media, then all a gap, and then all media again. Returns the number of the
/// segment after the gap.
#[track_caller]
fn assert_hole(renditions: &[Rendition]) -> u64 {
    stage::assert_in_step(renditions);
    let [original, rungs @ ..] = renditions else { panic!("a source") };
    let whole: Vec<bool> = original.segments.values().map(|cut| cut.span.is_some()).collect();
    let runs: Vec<bool> = whole.chunk_by(|a, b| a == b).map(|run| run[0]).collect();
    // After the last media the broadcast waits for a return, which is also listed as a gap.
    assert!(runs.starts_with(&[true, false, true]), "{whole:?}");
    for rung in rungs {
        assert_eq!(rung.gaps(), original.gaps(), "{} misses what the source misses", rung.name);
        stage::assert_frames(rung, original, 1);
    }
    let gaps = original.gaps();
    let back = original.segments.keys().find(|msn| **msn > gaps[0] && !gaps.contains(msn));
    *back.expect("media after the hole")
}

#[test]
fn a_publisher_back_after_5_s_makes_the_same_hole_in_all_renditions() {
    let stage = stage();
    let renditions = back_with(&stage, PLAIN, PLAIN);
    let back = assert_hole(&renditions);
    for rendition in &renditions {
        let discontinuities: Vec<u64> = rendition
            .segments
            .iter()
            .filter(|(_, cut)| cut.discontinuity)
            .map(|(msn, _)| *msn)
            .collect();
        assert!(
            discontinuities.is_empty(),
            "{}: {discontinuities:?}; back at {back}",
            rendition.name
        );
        let headers =
            rendition.followed.segments.iter().filter_map(|(segment, _)| segment.map.clone());
        let mut headers: Vec<_> = headers.collect();
        headers.dedup();
        assert_eq!(headers.len(), 1, "{}: {headers:?}", rendition.name);
    }
}

#[test]
fn a_different_size_on_return_is_a_discontinuity_and_rungs_keep_name_and_size() {
    let stage = stage();
    let smaller = Recipe { seconds: 20, size: (480, 270), ..PLAIN };
    let renditions = back_with(&stage, PLAIN, smaller);
    let back = assert_hole(&renditions);
    for rendition in &renditions {
        assert!(rendition.segments[&back].discontinuity, "{}: segment {back}", rendition.name);
        let others =
            rendition.segments.iter().filter(|(msn, cut)| **msn != back && cut.discontinuity);
        assert_eq!(others.count(), 0, "{}", rendition.name);
    }
    let sizes = |rendition: &Rendition| {
        let mut sizes = rendition.shown_sizes(&stage, "back");
        sizes.dedup();
        sizes
    };
    assert_eq!(sizes(&renditions[0]), [(640, 360), (480, 270)]);
    assert_eq!(sizes(&renditions[1]), [(426, 240)]);
    assert_eq!(sizes(&renditions[2]), [(256, 144)]);
    let master = Multivariant::parse(&stage.get(MASTER).text());
    let uris: Vec<_> = master.variants.iter().map(|(_, uri)| resolve(MASTER, uri)).collect();
    assert_eq!(uris, VIDEO.map(|name| format!("/live/back/{name}.m3u8")));
}

/// Complete segments of a rendition from its newest discontinuity on, or from its start.
fn whole_since_the_change(stage: &Stage, rendition: &str) -> usize {
    let response = stage.get(&format!("/live/back/{rendition}.m3u8"));
    if response.status != 200 {
        return 0;
    }
    let segments = Media::parse(&response.text()).segments;
    let change = segments.iter().rposition(|segment| segment.discontinuity);
    let since = segments.iter().skip(change.unwrap_or(0));
    since.filter(|segment| !segment.gap && !segment.uri.is_empty()).count()
}

#[test]
fn a_return_at_60_frames_a_second_keeps_the_rungs_and_halves_the_rate_of_the_lower_one() {
    let stage = stage();
    let faster = Recipe { fps: Some((60, 1)), seconds: 60, ..PLAIN };
    let (slow, fast) = (rtmp::tags(&PLAIN.flv()), rtmp::tags(&faster.flv()));
    let renditions = thread::scope(|scope| {
        let publish = |tags, changed: bool| {
            let push = Push::start(stage.rtmp, "back", tags);
            for rendition in VIDEO {
                wait_for(&format!("segments of {rendition}"), LIMIT, || {
                    let discontinuity =
                        stage.get("/live/back/v0.m3u8").text().contains("EXT-X-DISCONTINUITY\n");
                    (discontinuity == changed && whole_since_the_change(&stage, rendition) >= 2)
                        .then_some(())
                });
            }
            push.stop();
        };
        let follower = scope.spawn(|| stage::follow_to_the_end(&stage, "back", &VIDEO, LIMIT));
        publish(slow, false);
        publish(fast, true);
        follower.join().expect("all renditions can be followed")
    });
    stage::assert_in_step(&renditions);
    let [original, top, lowest] = &renditions[..] else { panic!("three renditions") };
    let change = original.segments.iter().find(|(_, cut)| cut.discontinuity);
    let (change, _) = change.expect("another configuration");
    for (rung, every) in [(top, 1), (lowest, 2)] {
        for (msn, have) in rung.segments.iter().filter(|(_, cut)| cut.span.is_some()) {
            let every = if msn < change { 1 } else { every };
            let want: Vec<i64> =
                original.segments[msn].times.iter().copied().step_by(every).collect();
            assert_eq!(have.times, want, "{}: frames of segment {msn}", rung.name);
        }
    }
}

#[test]
fn every_rendition_of_a_broadcast_that_ends_at_once_has_all_frames() {
    let stage =
        Stage::with(&Settings { ladder: stage::RUNGS.into(), reconnect_s: 0, ..stage::lasting() });
    let reordered = Recipe { seconds: 9, b_frames: 2, ..PLAIN };
    let tags = rtmp::tags(&reordered.flv());
    let frames = tags.iter().filter(|tag| tag.is_picture()).count();
    let push = Push::start(stage.rtmp, "back", tags);
    let renditions = stage::follow_to_the_end(&stage, "back", &VIDEO, LIMIT);
    push.finish();
    stage::assert_in_step(&renditions);
    assert_eq!(renditions[0].times().len(), frames);
    for rung in &renditions[1..] {
        stage::assert_frames(rung, &renditions[0], 1);
    }
}
