//! The ladder's worker as a process: orders in, reports out.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod support;

use support::{
    process::{Said, Worker},
    source::{PLAIN, Recipe, Source},
};
use transcoder::protocol::{Encoder, Job, Order, Tuning, VideoRendition};

/// The worker: what the other tests start.
#[test]
#[ignore = "a process of the other tests"]
fn process() {
    if let Err(err) = transcoder::worker::run_for_parent() {
        eprintln!("{err}");
        std::process::exit(1);
    }
}

fn rendition(width: u32, height: u32) -> VideoRendition {
    VideoRendition {
        width,
        height,
        bitrate_bps: 200_000,
        halve_rate: false,
        level: 30,
        threads: 1,
    }
}

fn job(recipe: &Recipe, source: &Source, renditions: &[VideoRendition]) -> Job {
    Job {
        video: source.record.clone(),
        audio: None,
        frame_rate: recipe.frame_rate(),
        renditions: renditions.to_vec(),
        audio_rendition: None,
        encoder: Encoder::X264,
        preset: "ultrafast".into(),
        tuning: Tuning::Latency,
        picture_ms: 0,
        picture_size: (160, 90),
        memory_bytes: 1 << 30,
    }
}

/// A mark at each of the source's key frames.
fn marked(source: &Source) -> Vec<Order> {
    source
        .units
        .iter()
        .map(|unit| unit.order(unit.key.then_some(unit.pts)))
        .collect()
}

/// What a worker makes of `job` and `orders`; it must end well, and without a warning.
#[track_caller]
fn made(job: Job, orders: Vec<Order>) -> Said {
    let worker = Worker::start();
    let first = Order::Job(Box::new(job));
    worker.send([first].into_iter().chain(orders).chain([Order::End]).collect());
    let said = worker.finish();
    assert!(said.status.success(), "{}: {}", said.status, said.stderr);
    assert_eq!(said.warnings(), Vec::<&str>::new());
    said
}

/// Presentation times in order.
fn shown(pts: impl IntoIterator<Item = i64>) -> Vec<i64> {
    let mut pts: Vec<_> = pts.into_iter().collect();
    pts.sort_unstable();
    pts
}

#[track_caller]
fn each_picture_once(said: &Said, rendition: u8, source: &Source) {
    let units = said.units(rendition);
    assert_eq!(
        shown(units.iter().map(|unit| unit.pts)),
        shown(source.units.iter().map(|unit| unit.pts)),
        "times of rendition {rendition}"
    );
    assert!(
        units.iter().all(|unit| unit.dts <= unit.pts),
        "decoded before it is shown"
    );
    assert!(units.is_sorted_by(|one, next| one.dts < next.dts), "decode times grow");
}

#[track_caller]
fn key_frames_at(said: &Said, rendition: u8, marks: &[i64]) {
    let keys: Vec<_> = said
        .units(rendition)
        .iter()
        .filter(|unit| unit.key)
        .map(|unit| unit.pts)
        .collect();
    assert_eq!(keys, marks, "key frames of rendition {rendition}");
}

fn key_times(source: &Source) -> Vec<i64> {
    source
        .units
        .iter()
        .filter(|unit| unit.key)
        .map(|unit| unit.pts)
        .collect()
}

#[test]
fn every_rendition_has_each_picture_of_the_source_and_a_key_frame_at_each_mark() {
    for b_frames in [0, 2] {
        let recipe = Recipe { b_frames, ..PLAIN };
        let source = recipe.source(900_000);
        let renditions = [rendition(320, 180), rendition(256, 144), rendition(160, 90)];
        let said = made(job(&recipe, &source, &renditions), marked(&source));
        for rendition in 0..3 {
            each_picture_once(&said, rendition, &source);
            key_frames_at(&said, rendition, &key_times(&source));
            assert_eq!(said.records(rendition).len(), 1);
        }
    }
}
