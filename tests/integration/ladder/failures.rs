//! Workers die, hang and fall behind: their renditions become gaps with the source's numbers and
//! return; the source is not affected.

use crate::{
    ladder::stage::{self, RUNGS, Rendition, Stage, VIDEO},
    support::{
        daemon::Settings,
        follow,
        media::{PLAIN, Recipe},
        playlist::Media,
        proc,
        push::{self, Push},
        rtmp::{self, Tag, VIDEO as VIDEO_TAG},
        wait_for,
    },
};
use std::{
    thread,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(180);
/// Time limit for rungs to return, with groups of 2 s.
const BACK: Duration = Duration::from_secs(3);

fn tags(recipe: Recipe, seconds: u32) -> Vec<Tag> {
    push::first(&rtmp::tags(&recipe.flv()), seconds)
}

fn frames(tags: &[Tag]) -> usize {
    tags.iter().filter(|tag| tag.is_picture()).count()
}

/// Publishes to `worker` and follows it to its end while `meanwhile` does harm.
fn harmed(stage: &Stage, tags: Vec<Tag>, meanwhile: impl FnOnce() + Send) -> Vec<Rendition> {
    thread::scope(|scope| {
        let push = Push::start(stage.rtmp, "harmed", tags);
        let follower = scope.spawn(|| stage::follow_to_the_end(stage, "harmed", &VIDEO, LIMIT));
        stage.wait_until_live("harmed");
        meanwhile();
        push.finish();
        follower.join().expect("all renditions can be followed")
    })
}

/// Asserts that the source has all its frames and no gap before its end, and that rungs have gaps
/// with the source's numbers, after which they returned.
#[track_caller]
fn assert_source_undisturbed(renditions: &[Rendition], frames: usize) {
    stage::assert_in_step(renditions);
    let original = &renditions[0];
    assert_eq!(original.times().len(), frames, "nothing of the source is lost");
    let gaps = original.gaps();
    let last = original.segments.iter().rfind(|(_, cut)| cut.span.is_some());
    let (last, _) = last.expect("media");
    assert!(gaps.iter().all(|gap| gap > last), "gaps {gaps:?} before {last}");
    for rung in &renditions[1..] {
        stage::assert_frames_of_whole(rung, original, 1);
    }
}

/// The last listed part: its segment's number, its index, and whether it is a gap.
fn edge(media: &Media) -> Option<(u64, usize, bool)> {
    let newest = media.with_open().filter(|segment| !segment.parts.is_empty()).last()?;
    let gap = newest.gap || newest.parts.last()?.gap;
    Some((newest.msn, newest.parts.len(), gap))
}

/// Waits until the newest part of `rendition` is a gap, and then until it is not; polls frequently.
#[track_caller]
fn wait_for_gap_and_return(stage: &Stage, rendition: &str, limit: Duration) {
    let path = format!("/live/harmed/{rendition}.m3u8");
    let deadline = Instant::now() + limit;
    let mut seen_gap = false;
    loop {
        let gap = edge(&follow::read(stage.http, &path)).is_some_and(|(.., gap)| gap);
        if seen_gap && !gap {
            return;
        }
        seen_gap |= gap;
        assert!(
            Instant::now() < deadline,
            "{rendition}: gap seen: {seen_gap}; not back after {limit:?}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// The longest time between two frames, in seconds.
fn longest_hole(times: &[i64]) -> f64 {
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().expect("frames");
    #[expect(clippy::cast_precision_loss, reason = "seconds of ticks")]
    let longest = longest as f64;
    longest / 90_000.0
}

#[test]
fn rungs_of_a_killed_worker_are_gaps_for_at_most_3_s_and_the_source_is_unaffected() {
    const KILLS: usize = 3;
    let stage = Stage::start();
    let sent = tags(PLAIN, 32);
    let renditions = harmed(&stage, sent.clone(), || {
        let mut gone = Vec::new();
        for _ in 0..KILLS {
            // Late enough that the worker does not count as faulty; and not always at the same
            // position in a group.
            thread::sleep(Duration::from_millis(6_300));
            let worker = stage.worker(&gone);
            proc::signal(worker, "KILL");
            let killed = Instant::now();
            thread::scope(|scope| {
                for rung in &VIDEO[1..] {
                    let stage = &stage;
                    scope.spawn(move || {
                        wait_for_gap_and_return(stage, rung, Duration::from_secs(20))
                    });
                }
            });
            let took = killed.elapsed();
            assert!(took <= BACK, "back after {took:?}");
            gone.push(worker);
        }
    });
    assert_source_undisturbed(&renditions, frames(&sent));
    for rung in &renditions[1..] {
        let missing = rung.gaps().len() - renditions[0].gaps().len();
        assert!((1..=2 * KILLS).contains(&missing), "{}: {missing} segments", rung.name);
        let hole = longest_hole(&rung.times_in_parts());
        assert!(hole <= BACK.as_secs_f64(), "{}: {hole} s without a picture", rung.name);
        assert!(hole > 0.1, "{}: it cannot be that nothing is missing", rung.name);
    }
    assert_eq!(
        stage.metric("streamforge_transcoder_failures_total{reason=\"died\"}"),
        KILLS as f64
    );
}

#[test]
fn a_stopped_worker_is_replaced() {
    let stage = Stage::start();
    let sent = tags(PLAIN, 26);
    let renditions = harmed(&stage, sent.clone(), || hang(&stage));
    assert_source_undisturbed(&renditions, frames(&sent));
    assert_eq!(stage.metric("streamforge_transcoder_failures_total{reason=\"stuck\"}"), 1.0);
}

/// Kills the worker, and waits until another has replaced it.
#[track_caller]
fn hang(stage: &Stage) {
    thread::sleep(Duration::from_secs(4));
    let worker = stage.worker(&[]);
    proc::signal(worker, "STOP");
    wait_for_gap_and_return(stage, "v240", Duration::from_secs(30));
    assert_eq!(proc::command_line(worker), Vec::<String>::new(), "the old one is gone");
    assert_eq!(stage.workers().len(), 1);
}

#[test]
fn a_stopped_worker_with_a_full_socket_is_replaced() {
    let stage = Stage::start();
    let sent: Vec<Tag> = tags(PLAIN, 26).into_iter().map(|tag| stuffed(tag, 40_000)).collect();
    let renditions = harmed(&stage, sent.clone(), || hang(&stage));
    assert_source_undisturbed(&renditions, frames(&sent));
    assert_eq!(stage.metric("streamforge_transcoder_failures_total{reason=\"stuck\"}"), 1.0);
}

/// An access unit with `bytes` more bytes without effect: a filler data NAL unit (ISO/IEC 14496-10
/// 7.3.2.7).
fn stuffed(mut tag: Tag, bytes: usize) -> Tag {
    if tag.kind == VIDEO_TAG && tag.is_picture() {
        let length = u32::try_from(bytes).expect("it fits");
        tag.payload.extend(length.to_be_bytes());
        tag.payload.push(0x0c);
        tag.payload.resize(tag.payload.len() + bytes - 2, 0xff);
        tag.payload.push(0x80);
    }
    tag
}

/// Slows the worker down until a rendition is stopped.
#[track_caller]
fn give_up(stage: &Stage, worker: u32, rendition: &str) {
    let _throttle = proc::Throttle::to_share(worker, 0.4);
    wait_for("rung to be given up", Duration::from_secs(30), || {
        (stage.state("harmed", rendition) == "shed").then_some(())
    });
}

/// Waits for one line of the log with this message about the upper rung. The state may change
/// before the line is read.
#[track_caller]
fn wait_for_log(stage: &Stage, message: &str) {
    let lines = || stage.count_log_lines_of("v240", message);
    wait_for(message, Duration::from_secs(10), || (lines() > 0).then_some(()));
    assert_eq!(lines(), 1);
}

#[test]
fn the_most_expensive_rung_of_a_late_worker_is_shed_and_restored() {
    let stage = Stage::with(&Settings {
        ladder: RUNGS.replace("shedding = false", "shedding = true"),
        ..stage::lasting()
    });
    const SHED: &str = "rendition shed: encoders are behind";
    let sent = tags(PLAIN, 80);
    let renditions = harmed(&stage, sent.clone(), || {
        thread::sleep(Duration::from_secs(4));
        let worker = stage.worker(&[]);
        give_up(&stage, worker, "v240");
        assert_eq!(stage.state("harmed", "v144"), "made", "one at a time");
        assert_eq!(stage.metric("streamforge_renditions_shed_total"), 1.0);
        wait_for_log(&stage, SHED);

        wait_for("gap", Duration::from_secs(10), || {
            let media = follow::read(stage.http, "/live/harmed/v240.m3u8");
            edge(&media).is_some_and(|(.., gap)| gap).then_some(())
        });
        wait_for("rung to be tried again", Duration::from_secs(60), || {
            (stage.state("harmed", "v240") == "made").then_some(())
        });
        wait_for_log(&stage, "rendition restored");
        wait_for("media of the rung", Duration::from_secs(20), || {
            let media = follow::read(stage.http, "/live/harmed/v240.m3u8");
            edge(&media).is_some_and(|(.., gap)| !gap).then_some(())
        });
        assert_eq!(stage.worker(&[]), worker, "the same worker");
    });
    assert_source_undisturbed(&renditions, frames(&sent));
    assert_eq!(stage.metric("streamforge_renditions_shed_total"), 1.0, "once is enough");
    let [original, top, lowest] = &renditions[..] else { panic!("three renditions") };
    let missing = |rung: &Rendition| rung.gaps().len() - original.gaps().len();
    assert!(missing(top) >= 10, "some 30 s of {}: {}", top.name, missing(top));
    assert!(missing(lowest) <= 4, "the others go on: {} of {}", missing(lowest), lowest.name);
}

#[test]
fn a_ladder_is_restored_after_its_only_rung_was_shed() {
    let stage = Stage::with(&Settings {
        ladder: "rungs = [{ height = 144, video_kbps = 200 }]\nshedding = true\ncpu_percent = 100"
            .into(),
        ..stage::lasting()
    });
    let _push = Push::start(stage.rtmp, "harmed", tags(PLAIN, 80));
    stage.wait_until_live("harmed");
    thread::sleep(Duration::from_secs(4));
    let worker = stage.worker(&[]);
    give_up(&stage, worker, "v144");
    wait_for("rung to be tried again", Duration::from_secs(60), || {
        (stage.state("harmed", "v144") == "made").then_some(())
    });
}
