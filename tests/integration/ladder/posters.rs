//! `poster.jpg`: a recent picture of each live channel, with and without a ladder.

use crate::{
    ladder::stage::{self, File, RUNGS, Stage},
    support::{
        daemon::Settings,
        ffprobe,
        http::Response,
        media::{PLAIN, Recipe},
        push::{self, Push},
        rtmp, wait_for,
    },
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(30);
const OFF: &str = "enabled = false\n";

/// A stage with this `[ladder]` and pictures that are fresh for `seconds`.
fn stage(ladder: &str, seconds: u64) -> Stage {
    Stage::with(&Settings { ladder: format!("{ladder}poster_s = {seconds}\n"), ..stage::lasting() })
}

fn push(stage: &Stage, channel: &str, recipe: Recipe, seconds: u32) -> Push {
    let tags = push::first(&rtmp::tags(&recipe.flv()), seconds);
    Push::start(stage.rtmp, channel, tags)
}

fn poster(stage: &Stage, channel: &str) -> Response {
    stage.get(&format!("/live/{channel}/poster.jpg"))
}

#[track_caller]
fn first_poster(stage: &Stage, channel: &str) -> Response {
    wait_for("poster", LIMIT, || {
        let response = poster(stage, channel);
        (response.status == 200).then_some(response)
    })
}

/// Width, height and the number in the picture of a valid JPEG.
#[track_caller]
fn read(response: &Response) -> (u64, u64, u32) {
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("image/jpeg"));
    let file = File::of([&response.body]);
    let stream = &ffprobe::streams(file.path())[0];
    assert_eq!(stream.get("codec_name").and_then(Value::as_str), Some("mjpeg"));
    let side = |name: &str| stream.get(name).and_then(Value::as_u64).expect("a side");
    let numbers = ffprobe::numbers(file.path(), None);
    assert_eq!(numbers.len(), 1, "one picture");
    (side("width"), side("height"), numbers[0])
}

/// Asserts that posters of three sources have the right sizes, and that newer ones follow.
#[track_caller]
fn assert_posters(stage: &Stage) {
    let sources = [
        ("landscape", PLAIN, (640, 360)),
        ("portrait", Recipe { seconds: 40, size: (360, 640), ..PLAIN }, (360, 640)),
        (
            "anamorphic",
            Recipe { seconds: 40, size: (480, 360), sample_aspect: (4, 3), ..PLAIN },
            (640, 360),
        ),
    ];
    thread::scope(|scope| {
        for (channel, recipe, size) in sources {
            scope.spawn(move || {
                let push = push(stage, channel, recipe, 40);
                // The ladder's worker has made one already.
                stage.wait_until_live(channel);
                let (width, height, mut number) = read(&first_poster(stage, channel));
                assert_eq!((width, height), size, "{channel}");
                for _ in 0..2 {
                    number = wait_for("newer picture", LIMIT, || {
                        let (.., next) = read(&poster(stage, channel));
                        (next > number).then_some(next)
                    });
                }
                assert!(number > 25, "{channel}: at least a second has passed: picture {number}");
                push.stop();
            });
        }
    });
}

#[test]
fn with_a_ladder_posters_are_renewed() {
    let stage = stage(RUNGS, 1);
    assert_posters(&stage);
}

#[test]
fn with_a_ladder_posters_are_made_by_its_worker() {
    let stage = stage(RUNGS, 60);
    let _push = push(&stage, "worked", PLAIN, 40);
    stage.wait_until_live("worked");
    let (seen, ()) = workers_during(&stage, || {
        for _ in 0..20 {
            read(&poster(&stage, "worked"));
        }
    });
    assert_eq!(seen.len(), 1, "that of the ladder and no other: {seen:?}");
}

#[test]
fn without_a_ladder_posters_are_made_only_on_demand() {
    let stage = stage(OFF, 1);
    assert_posters(&stage);
    assert_eq!(poster(&stage, "nobody").status, 404);

    let push = push(&stage, "alone", PLAIN, 6);
    stage.wait_until_live("alone");
    for _ in 0..20 {
        assert_eq!(stage.workers(), Vec::<u32>::new(), "nobody asks");
        thread::sleep(Duration::from_millis(100));
    }
    first_poster(&stage, "alone");
    push.finish();
    wait_for("404 when it is over", LIMIT, || {
        (poster(&stage, "alone").status == 404).then_some(())
    });
}

#[test]
fn concurrent_poster_requests_run_one_worker_at_a_time() {
    // A picture stays fresh for as long as all of them wait.
    let stage = stage(OFF, 60);
    let _push = push(&stage, "popular", PLAIN, 40);
    stage.wait_until_live("popular");
    let (seen, answers) = workers_during(&stage, || {
        thread::scope(|scope| {
            let askers: Vec<_> =
                (0..40).map(|_| scope.spawn(|| poster(&stage, "popular"))).collect();
            let answers = askers.into_iter().map(|asker| asker.join().expect("an answer"));
            answers.collect::<Vec<_>>()
        })
    });
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    read(&answers[0]);
    assert_eq!(seen.len(), 1, "{seen:?}");
}

/// Runs `act`. Returns the workers that ran meanwhile.
fn workers_during<T>(stage: &Stage, act: impl FnOnce() -> T) -> (BTreeSet<u32>, T) {
    /// Signals the end, also when `act` panics.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                seen.extend(stage.workers());
                thread::sleep(Duration::from_millis(5));
            }
            seen
        });
        let acted = {
            let _done = Done(&done);
            act()
        };
        (watch.join().expect("it only counts"), acted)
    })
}
