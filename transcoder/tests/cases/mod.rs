//! The tests of a worker, by subject, and the jobs that they share.

pub(crate) mod audio;
pub(crate) mod life;
pub(crate) mod loss;
pub(crate) mod picture;
pub(crate) mod video;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Instant,
};

use media_core::MediaTime;
use transcoder::protocol::{
    AudioRendition, Encoder, Job, Media, Order, Report, Stats, Tuning, VideoRendition,
};

use crate::support::{
    process::{Said, Worker},
    sound,
    source::{PLAIN, Recipe, Source},
};

fn rendition(width: u32, height: u32) -> VideoRendition {
    VideoRendition { width, height, bitrate_bps: 200_000, halve_rate: false, level: 30, threads: 1 }
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
        nice: 10,
    }
}

/// A mark at each of the source's key frames.
fn marked(source: &Source) -> Vec<Order> {
    source.units.iter().map(|unit| unit.order(unit.key.then_some(unit.pts))).collect()
}

/// The output of a worker for `job` and `orders`; it must end successfully, without a warning.
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

/// Presentation times in ascending order.
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
    assert!(units.iter().all(|unit| unit.dts <= unit.pts), "decoded before it is shown");
    assert!(units.is_sorted_by(|one, next| one.dts < next.dts), "decode times grow");
}

#[track_caller]
fn key_frames_at(said: &Said, rendition: u8, marks: &[i64]) {
    let keys: Vec<_> =
        said.units(rendition).iter().filter(|unit| unit.key).map(|unit| unit.pts).collect();
    assert_eq!(keys, marks, "key frames of rendition {rendition}");
}

fn key_times(source: &Source) -> Vec<i64> {
    source.units.iter().filter(|unit| unit.key).map(|unit| unit.pts).collect()
}

/// ffprobe's information about a rendition, all of which it decodes.
#[track_caller]
fn probed(said: &Said, rendition: u8) -> String {
    let path = stream(said, rendition);
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error", "-count_frames", "-show_streams"]).arg(&path);
    let output = ffprobe.output().unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap()
}

/// A rendition as a file with start codes.
fn stream(said: &Said, rendition: u8) -> PathBuf {
    let mut stream = Vec::new();
    let mut append = |nal: &[u8]| {
        stream.extend([0, 0, 0, 1]);
        stream.extend(nal);
    };
    // One of each parameter set, after a count and a length.
    let record = said.records(rendition)[0].clone();
    let sps = usize::from(u16::from_be_bytes([record[6], record[7]]));
    append(&record[8..8 + sps]);
    let pps = usize::from(u16::from_be_bytes([record[9 + sps], record[10 + sps]]));
    append(&record[11 + sps..11 + sps + pps]);
    for unit in said.units(rendition) {
        let mut rest = &unit.payload[..];
        while let Some((len, tail)) = rest.split_first_chunk() {
            let (nal, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
            append(nal);
            rest = tail;
        }
    }
    let name = format!("rendition-{}-{:?}.h264", std::process::id(), thread::current().id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, stream).unwrap();
    path
}
