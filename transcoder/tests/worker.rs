//! The ladder's worker as a process: orders in, reports out. The worker is this program, started
//! again. It confines itself, which is possible only while one thread runs, so the test has its own
//! `main`.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test says what is wrong by failing"
)]

mod support;

use std::{
    env, fs, panic,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use support::{
    process::{self, Said, Worker},
    sound,
    source::{PLAIN, Recipe, Source},
};
use transcoder::protocol::{
    AudioRendition, Encoder, Figures, Job, Media, Order, Report, Tuning, VideoRendition,
};

/// Number of tests that run at the same time, because they mostly wait for their workers.
const AT_ONCE: usize = 3;

macro_rules! test {
    ($name:ident) => {
        (stringify!($name), $name as fn())
    };
}

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    if args == [process::SUBCOMMAND] {
        return match transcoder::worker::run_for_parent() {
            Ok(()) => ExitCode::SUCCESS,
            Err(err) => {
                eprintln!("{err}");
                ExitCode::FAILURE
            }
        };
    }
    tests(&args)
}

/// Runs the tests whose names contain an argument, some in parallel; options are for the usual
/// harness and are ignored.
fn tests(args: &[String]) -> ExitCode {
    let tests = [
        test!(every_rendition_has_each_picture_of_the_source_and_a_key_frame_at_each_mark),
        test!(quality_reorders_and_loses_nothing),
        test!(where_x264_is_not_installed_openh264_does_the_same),
        test!(stamps_are_the_sources_wherever_they_start),
        test!(stamps_of_a_variable_rate_are_kept),
        test!(a_frame_rate_told_wrongly_does_not_change_the_bitrate),
        test!(a_lost_unit_costs_itself),
        test!(a_lost_key_frame_costs_no_mark),
        test!(a_broken_unit_costs_at_most_itself),
        test!(any_kind_of_picture_becomes_a_rendition),
        test!(renditions_look_like_the_source),
        test!(the_configuration_says_what_was_asked_for),
        test!(a_rendition_turned_off_returns_at_a_mark),
        test!(garbage_ends_a_worker_alone_and_soon),
        test!(a_socket_that_carries_no_messages_ends_a_worker),
        test!(a_worker_ends_quietly_with_the_daemon),
        test!(audio_is_encoded_again_unit_for_unit_and_in_step),
        test!(audio_that_cannot_be_decoded_is_silence_and_stays_in_step),
        test!(pictures_are_taken_of_the_source_now_and_then),
        test!(a_worker_tells_how_it_does_once_a_second),
        test!(a_worker_has_the_niceness_of_its_job),
    ];
    if args.iter().any(|arg| arg == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let parts: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let chosen =
        |name: &str| parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str()));
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((name, test)) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if chosen(name) {
                        let ended = panic::catch_unwind(test);
                        println!("test {name} ... {}", if ended.is_ok() { "ok" } else { "FAILED" });
                        failed.fetch_add(usize::from(ended.is_err()), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    if failed.into_inner() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

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

/// A mark every two seconds, independent of key frames, in units that are the first shown at or
/// after it: as the daemon marks a source whose groups are too long.
fn gridded(source: &Source) -> (Vec<Order>, Vec<i64>) {
    let times = shown(source.units.iter().map(|unit| unit.pts));
    let last = times.last().unwrap();
    let marks: Vec<_> =
        (0..).map(|number| times[0] + number * 180_000).take_while(|mark| mark <= last).collect();
    let at: Vec<_> =
        marks.iter().map(|mark| *times.iter().find(|&pts| pts >= mark).unwrap()).collect();
    let mark = |pts| at.iter().position(|&at| at == pts).map(|number| marks[number]);
    let orders = source.units.iter().map(|unit| unit.order(mark(unit.pts)));
    (orders.collect(), at)
}

fn every_rendition_has_each_picture_of_the_source_and_a_key_frame_at_each_mark() {
    let seconds = |fps: (u32, u32), seconds: f64| {
        (f64::from(fps.0) / f64::from(fps.1) * seconds).round() as u32
    };
    for fps in [(25, 1), (30_000, 1_001), (30, 1), (60, 1)] {
        for (group_s, b_frames) in [(1.0, 0), (2.0, 2), (2.5, 1), (8.3, 0), (8.3, 2)] {
            let recipe = Recipe {
                size: (128, 72),
                fps,
                group: seconds(fps, group_s),
                pictures: seconds(fps, 2.2 * group_s).min(seconds(fps, 9.0)),
                b_frames,
                ..PLAIN
            };
            let source = recipe.source(900_000);
            let halved = VideoRendition { halve_rate: true, ..rendition(96, 54) };
            let (orders, marks) = match group_s {
                8.3 => gridded(&source),
                _ => (marked(&source), key_times(&source)),
            };
            let said = made(job(&recipe, &source, &[rendition(128, 72), halved]), orders);
            each_picture_once(&said, 0, &source);
            for rendition in 0..2 {
                key_frames_at(&said, rendition, &marks);
                assert_eq!(said.records(rendition).len(), 1);
            }
            // Half of the pictures, counted again from each mark.
            let times = shown(source.units.iter().map(|unit| unit.pts));
            let mut since = 0;
            let half = times.iter().copied().filter(|pts| {
                since = if marks.contains(pts) { 0 } else { since + 1 };
                since % 2 == 0
            });
            let halved: Vec<_> = said.units(1).iter().map(|unit| unit.pts).collect();
            assert_eq!(halved, half.collect::<Vec<_>>(), "{recipe:?}");
        }
    }
}

fn quality_reorders_and_loses_nothing() {
    for b_frames in [0, 2] {
        let recipe = Recipe { b_frames, ..PLAIN };
        let source = recipe.source(0);
        let job = Job {
            tuning: Tuning::Quality,
            preset: "veryfast".into(),
            ..job(&recipe, &source, &[rendition(320, 180), rendition(160, 90)])
        };
        let said = made(job, marked(&source));
        for rendition in 0..2 {
            each_picture_once(&said, rendition, &source);
            key_frames_at(&said, rendition, &key_times(&source));
            assert!(said.units(rendition).iter().any(|unit| unit.dts < unit.pts), "it reorders");
        }
    }
}

fn where_x264_is_not_installed_openh264_does_the_same() {
    for b_frames in [0, 2] {
        let recipe = Recipe { b_frames, ..PLAIN };
        let source = recipe.source(90_000);
        let job = Job {
            encoder: Encoder::OpenH264,
            ..job(&recipe, &source, &[rendition(320, 180), rendition(160, 90)])
        };
        let said = made(job, marked(&source));
        for rendition in 0..2 {
            each_picture_once(&said, rendition, &source);
            key_frames_at(&said, rendition, &key_times(&source));
            assert_eq!(said.records(rendition).len(), 1);
        }
        let report = probed(&said, 0);
        assert!(report.contains(&format!("nb_read_frames={}", source.units.len())), "{report}");
    }
}

fn stamps_are_the_sources_wherever_they_start() {
    // Zero, below it, a year, more than a thousand hours later than anything may be, and off every
    // grid.
    for first in [0, -450_000, 90_000 * 3_600 * 24 * 365, 1 << 50, 8_100_001] {
        let recipe = Recipe { pictures: 30, group: 15, b_frames: 2, ..PLAIN };
        let source = recipe.source(first);
        let said = made(job(&recipe, &source, &[rendition(160, 90)]), marked(&source));
        each_picture_once(&said, 0, &source);
        key_frames_at(&said, 0, &key_times(&source));
    }
}

fn stamps_of_a_variable_rate_are_kept() {
    let mut source = PLAIN.source(0);
    // 10 to 60 pictures a second, and milliseconds' rounding.
    let mut pts = 0;
    for (number, unit) in source.units.iter_mut().enumerate() {
        (unit.dts, unit.pts) = (pts, pts);
        pts += 90 * [16, 17, 33, 100, 34, 41][number % 6];
    }
    let said = made(job(&PLAIN, &source, &[rendition(160, 90)]), marked(&source));
    each_picture_once(&said, 0, &source);
    key_frames_at(&said, 0, &key_times(&source));
}

fn a_frame_rate_told_wrongly_does_not_change_the_bitrate() {
    let recipe = Recipe { pictures: 600, filter: "noise=alls=20:allf=t", ..PLAIN };
    let source = recipe.source(0);
    for told in [15.0, 30.0, 60.0] {
        let mut job = job(&recipe, &source, &[rendition(160, 90)]);
        job.frame_rate = told;
        let said = made(job, marked(&source));
        // Without the pictures before the rate could be measured.
        let units = said.units(0);
        let bytes: usize =
            units.iter().filter(|unit| unit.pts >= 6 * 90_000).map(|unit| unit.payload.len()).sum();
        let bps = bytes as f64 * 8.0 / 14.0;
        assert!((bps / 200_000.0 - 1.0).abs() < 0.15, "told {told}: {bps:.0} bit/s");
    }
}

fn a_lost_unit_costs_itself() {
    for b_frames in [0, 2] {
        let recipe = Recipe { b_frames, ..PLAIN };
        let mut source = recipe.source(0);
        source.units.remove(10);
        source.units.remove(50);
        let said = made(
            job(&recipe, &source, &[rendition(320, 180), rendition(160, 90)]),
            marked(&source),
        );
        for rendition in 0..2 {
            each_picture_once(&said, rendition, &source);
            key_frames_at(&said, rendition, &key_times(&source));
        }
    }
}

fn a_lost_key_frame_costs_no_mark() {
    for b_frames in [0, 2] {
        let recipe = Recipe { b_frames, ..PLAIN };
        let mut source = recipe.source(0);
        let first = source.units[0].pts;
        let second = source.units.iter().position(|unit| unit.key && unit.pts > first).unwrap();
        let mark = source.units.remove(second).pts;
        // The first unit shown after the mark has it.
        let mut told = false;
        let orders = source.units.iter().map(|unit| {
            let lost = !told && unit.pts >= mark;
            told |= lost;
            unit.order(if lost { Some(mark) } else { unit.key.then_some(unit.pts) })
        });
        let said = made(
            job(&recipe, &source, &[rendition(320, 180), rendition(160, 90)]),
            orders.collect(),
        );
        // Pictures that refer to it may be missing; the renditions must agree about that.
        let units =
            [said.units(0), said.units(1)].map(|units| shown(units.iter().map(|unit| unit.pts)));
        assert_eq!(units[0], units[1]);
        let third = mark + 90_000;
        let of_group =
            |times: &[i64]| times.iter().filter(|&&pts| (mark..third).contains(&pts)).count();
        let whole = shown(source.units.iter().map(|unit| unit.pts));
        assert_eq!(units[0].len() - of_group(&units[0]), whole.len() - of_group(&whole));
        let after = *units[0].iter().find(|&&pts| pts >= mark).unwrap();
        for rendition in 0..2 {
            key_frames_at(&said, rendition, &[first, after, third]);
        }
    }
}

fn a_broken_unit_costs_at_most_itself() {
    for b_frames in [0, 2] {
        let recipe = Recipe { b_frames, ..PLAIN };
        let source = recipe.source(0);
        let mut orders = marked(&source);
        for number in [20, 35] {
            let Order::Unit { payload, .. } = &mut orders[number] else {
                continue;
            };
            let mut bytes = payload.to_vec();
            let from = bytes.len() / 2;
            bytes[from..].iter_mut().for_each(|byte| *byte ^= 0x5a);
            *payload = bytes.into();
        }
        let said = made(job(&recipe, &source, &[rendition(320, 180), rendition(160, 90)]), orders);
        let units =
            [said.units(0), said.units(1)].map(|units| shown(units.iter().map(|unit| unit.pts)));
        assert_eq!(units[0], units[1]);
        assert!(
            units[0].len() + 2 >= source.units.len(),
            "{} of {}",
            units[0].len(),
            source.units.len()
        );
        for rendition in 0..2 {
            key_frames_at(&said, rendition, &key_times(&source));
        }
    }
}

fn any_kind_of_picture_becomes_a_rendition() {
    let kinds: [(&str, Recipe); 8] = [
        ("odd", Recipe { size: (321, 181), options: &["-pix_fmt", "yuv444p"], ..PLAIN }),
        ("vertical", Recipe { size: (180, 320), ..PLAIN }),
        ("anamorphic", Recipe { filter: "setsar=16/11", ..PLAIN }),
        ("4:2:2", Recipe { options: &["-pix_fmt", "yuv422p"], ..PLAIN }),
        ("10 bit", Recipe { options: &["-pix_fmt", "yuv420p10le"], ..PLAIN }),
        (
            "interlaced",
            Recipe { filter: "interlace=lowpass=0", options: &["-flags", "+ilme+ildct"], ..PLAIN },
        ),
        (
            "bottom field first",
            Recipe {
                filter: "interlace=lowpass=0:scan=bff",
                options: &["-flags", "+ilme+ildct", "-x264-params", "bff=1"],
                b_frames: 2,
                ..PLAIN
            },
        ),
        (
            "said to be interlaced",
            Recipe { options: &["-x264-params", "fake-interlaced=1"], ..PLAIN },
        ),
    ];
    for (kind, recipe) in kinds {
        let recipe = Recipe { pictures: 40, group: 20, ..recipe };
        let source = recipe.source(0);
        let said = made(
            job(&recipe, &source, &[rendition(256, 144), rendition(90, 160)]),
            marked(&source),
        );
        for rendition in 0..2 {
            assert_eq!(said.units(rendition).len(), source.units.len(), "{kind}");
            each_picture_once(&said, rendition, &source);
            key_frames_at(&said, rendition, &key_times(&source));
        }
    }
}

fn the_configuration_says_what_was_asked_for() {
    let recipe = Recipe {
        options: &["-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709"],
        ..PLAIN
    };
    let source = recipe.source(0);
    let rendition = VideoRendition { level: 31, ..rendition(256, 144) };
    let job = Job { preset: "veryfast".into(), ..job(&recipe, &source, &[rendition]) };
    let said = made(job, marked(&source));
    let records = said.records(0);
    let config = media_core::codec::avc::Config::parse(&records[0]).unwrap();
    assert_eq!((config.width, config.height), (256, 144));
    assert_eq!(config.sample_aspect, media_core::codec::avc::SampleAspect::SQUARE);
    assert_eq!(config.codec_string, "avc1.64001f");
    assert_eq!(config.length_size, 4);
    let report = probed(&said, 0);
    assert!(report.contains("color_primaries=bt709"), "{report}");
    assert!(report.contains("color_transfer=bt709"), "{report}");
    assert!(report.contains("color_space=bt709"), "{report}");
    assert!(report.contains(&format!("nb_read_frames={}", source.units.len())), "{report}");
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

/// The similarity (SSIM) of a rendition to the source, scaled by ffmpeg after `filter`: 1 is equal.
#[track_caller]
fn like(
    said: &Said,
    rendition: u8,
    (width, height): (u32, u32),
    recipe: &Recipe,
    filter: &str,
) -> f64 {
    let path = stream(said, rendition);
    let graph = format!(
        "[1]settb=1/30,setpts=N,{filter},format=yuv420p,\
         scale={width}:{height}:flags=lanczos[source];\
         [0]settb=1/30,setpts=N[made];[made][source]ssim"
    );
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-hide_banner", "-nostdin", "-i"]).arg(&path).arg("-i").arg(recipe.flv());
    let output = ffmpeg.args(["-lavfi", &graph, "-f", "null", "-"]).output().unwrap();
    fs::remove_file(&path).unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let ssim =
        text.rsplit_once("All:").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    ssim.unwrap_or_else(|| panic!("no SSIM: {text}"))
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

fn renditions_look_like_the_source() {
    const INTERLACED: Recipe =
        Recipe { filter: "interlace=lowpass=0", options: &["-flags", "+ilme+ildct"], ..PLAIN };
    let odd = Recipe { size: (321, 181), options: &["-pix_fmt", "yuv444p"], ..PLAIN };
    for (recipe, filter, least) in
        [(PLAIN, "null", 0.97), (odd, "null", 0.96), (INTERLACED, "bwdif=mode=0", 0.85)]
    {
        let source = recipe.source(0);
        let sizes = [(320, 180), (214, 120), (160, 90), (426, 240)];
        let renditions = sizes.map(|(width, height)| VideoRendition {
            bitrate_bps: 1_500_000,
            ..rendition(width, height)
        });
        let said = made(job(&recipe, &source, &renditions), marked(&source));
        for (index, size) in (0..).zip(sizes) {
            let like = like(&said, index, size, &recipe, filter);
            assert!(like > least, "{size:?} of {recipe:?}: {like}");
        }
    }
}

fn a_rendition_turned_off_returns_at_a_mark() {
    let source = Recipe { group: 15, ..PLAIN }.source(0);
    let mut orders = marked(&source);
    // Off within the second group, on within the fourth: it is back with the fifth, although the
    // fourth's first picture may still be in transit when the order arrives. The other rendition is
    // not affected.
    orders.insert(52, Order::Make { rendition: 1, on: true });
    orders.insert(20, Order::Make { rendition: 1, on: false });
    let said = made(job(&PLAIN, &source, &[rendition(256, 144), rendition(160, 90)]), orders);
    each_picture_once(&said, 0, &source);
    let units = said.units(1);
    let back = source.units[60].pts;
    // Pictures in transit when the order arrives are not awaited.
    let before: Vec<_> =
        units.iter().map(|unit| unit.pts).take_while(|&pts| pts < source.units[45].pts).collect();
    assert!(before.len() <= 20, "{}", before.len());
    let after: Vec<_> =
        units.iter().map(|unit| unit.pts).filter(|&pts| pts >= source.units[45].pts).collect();
    assert_eq!(after, source.units[60..].iter().map(|unit| unit.pts).collect::<Vec<_>>());
    assert!(units.iter().any(|unit| unit.key && unit.pts == back));
}

fn garbage_ends_a_worker_alone_and_soon() {
    let source = PLAIN.source(0);
    let orders = (0..10_000).map(|number: i64| Order::Unit {
        media: Media::Video,
        key: number % 30 == 0,
        dts: number * 3_000,
        pts: number * 3_000,
        mark: None,
        payload: (0..200)
            .map(|byte| ((byte * 31 + number * 17) % 251) as u8)
            .collect::<Vec<_>>()
            .into(),
    });
    let worker = Worker::start();
    worker.send(
        [Order::Job(Box::new(job(&PLAIN, &source, &[rendition(160, 90)])))]
            .into_iter()
            .chain(orders)
            .collect(),
    );
    let said = worker.finish();
    assert!(!said.status.success());
    assert!(said.stderr.contains("the decoder made no picture of"), "{}", said.stderr);
    assert!(
        said.warnings().iter().any(|text| text.contains("the decoder made no picture of")),
        "{:?}",
        said.warnings()
    );
    assert_eq!(said.units(0), []);
}

fn a_socket_that_carries_no_messages_ends_a_worker() {
    use std::io::Write;
    for (bytes, what) in [
        (&[0_u8; 16][..], "a message of 0 bytes"),
        (&[0xff; 16], "a message of 4294967295 bytes"),
        (&[0, 0, 0, 2, 99, 0], "kind 99"),
        (&[0, 0, 0, 3, 3, 0, 1], "the first order, and no other, must be a job"),
    ] {
        let worker = Worker::start();
        worker.socket().write_all(bytes).unwrap();
        let said = worker.finish();
        assert!(!said.status.success(), "{what}");
        assert!(said.stderr.contains(what), "{}", said.stderr);
    }
}

fn a_worker_ends_quietly_with_the_daemon() {
    let source = PLAIN.source(0);
    let mut worker = Worker::start();
    let job = job(&PLAIN, &source, &[rendition(160, 90)]);
    worker.send([Order::Job(Box::new(job))].into_iter().chain(marked(&source)).collect());
    assert!(worker.next().is_some());
    worker.socket().shutdown(std::net::Shutdown::Both).unwrap();
    let said = worker.finish();
    assert!(said.status.success(), "{}", said.stderr);
    assert!(!said.stderr.contains("socket"), "{}", said.stderr);

    // A worker without any order ends in the same way.
    let worker = Worker::start();
    worker.socket().shutdown(std::net::Shutdown::Both).unwrap();
    assert!(worker.finish().status.success());
}

/// Two seconds of video and audio, interleaved in the order of sending.
fn with_sound(source: &Source, sound: &sound::Sound, first: i64, hz: u32) -> Vec<Order> {
    let audio = sound.units.iter().enumerate().map(|(number, payload)| {
        // Milliseconds, as in RTMP.
        let ms = (number * sound::UNIT * 1_000) as i64 / i64::from(hz);
        (first + ms * 90, payload)
    });
    let audio = audio.map(|(pts, payload)| Order::Unit {
        media: Media::Audio,
        key: true,
        dts: pts,
        pts,
        mark: None,
        payload: payload.clone(),
    });
    let mut orders: Vec<_> = marked(source).into_iter().take(60).chain(audio).collect();
    orders.sort_by_key(|order| match order {
        Order::Unit { dts, .. } => *dts,
        _ => 0,
    });
    orders
}

fn is_audio(order: &Order) -> bool {
    matches!(order, Order::Unit { media: Media::Audio, .. })
}

fn audio_is_encoded_again_unit_for_unit_and_in_step() {
    for hz in [44_100, 48_000] {
        let (source, sound) = (PLAIN.source(90_000), sound::rising_tone(hz));
        let orders = with_sound(&source, &sound, 90_000, hz);
        let job = Job {
            audio: Some(sound.record.clone()),
            audio_rendition: Some(AudioRendition { bitrate_bps: 64_000 }),
            ..job(&PLAIN, &source, &[rendition(160, 90)])
        };
        let times = orders.iter().filter(|order| is_audio(order)).map(|order| match order {
            Order::Unit { pts, .. } => *pts,
            _ => 0,
        });
        let times: Vec<_> = times.collect();
        let said = made(job, orders);
        let units = said.units(1);
        assert_eq!(units.iter().map(|unit| unit.pts).collect::<Vec<_>>(), times);
        let config = media_core::codec::aac::Config::parse(&said.records(1)[0]).unwrap();
        assert_eq!((config.timescale.hz(), config.channels, config.frame_samples), (hz, 2, 1_024));
        let payloads: Vec<_> = units.into_iter().map(|unit| unit.payload).collect();
        let bits = payloads.iter().map(|payload| payload.len() * 8).sum::<usize>() / 2;
        assert!((40_000..80_000).contains(&bits), "{bits} bits a second");
        let before = sound::decoded(&sound.record, &sound.units, &format!("before-{hz}"));
        let after = sound::decoded(&said.records(1)[0], &payloads, &format!("after-{hz}"));
        let (shift, like) = sound::shift(&before, &after);
        assert!(shift.abs() <= 1 && like > 0.98, "moved by {shift} samples, like {like}");
    }
}

fn audio_that_cannot_be_decoded_is_silence_and_stays_in_step() {
    let (source, sound) = (PLAIN.source(0), sound::rising_tone(48_000));
    let mut orders = with_sound(&source, &sound, 0, 48_000);
    let broken = orders.iter_mut().filter(|order| is_audio(order)).skip(20).take(10);
    for order in broken {
        let Order::Unit { payload, .. } = order else { continue };
        *payload = vec![0xff; 40].into();
    }
    let job = Job {
        audio: Some(sound.record.clone()),
        audio_rendition: Some(AudioRendition { bitrate_bps: 64_000 }),
        ..job(&PLAIN, &source, &[rendition(160, 90)])
    };
    let worker = Worker::start();
    worker
        .send([Order::Job(Box::new(job))].into_iter().chain(orders).chain([Order::End]).collect());
    let said = worker.finish();
    assert!(said.status.success(), "{}", said.stderr);
    let payloads: Vec<_> = said.units(1).into_iter().map(|unit| unit.payload).collect();
    assert_eq!(payloads.len(), sound.units.len());
    let before = sound::decoded(&sound.record, &sound.units[32..], "before-broken");
    let after = sound::decoded(&said.records(1)[0], &payloads[32..], "after-broken");
    let (shift, like) = sound::shift(&before, &after);
    assert!(shift.abs() <= 1 && like > 0.98, "moved by {shift} samples, like {like}");
}

fn pictures_are_taken_of_the_source_now_and_then() {
    let recipe = Recipe {
        filter: "setsar=16/11",
        options: &["-color_range", "tv", "-colorspace", "bt709"],
        ..PLAIN
    };
    let source = recipe.source(0);
    let job = Job {
        picture_ms: 1_000,
        picture_size: (240, 92),
        ..job(&recipe, &source, &[rendition(160, 90)])
    };
    // As slowly as in a live source, so that none is dropped for being early.
    let said = made(job, marked(&source));
    let pictures = said.pictures();
    assert_eq!(pictures[0].0, 0);
    let spans: Vec<_> = pictures.windows(2).map(|two| two[1].0 - two[0].0).collect();
    assert!(!spans.is_empty() && spans.iter().all(|&span| span >= 90_000), "{spans:?}");
    for (_, jpeg) in &pictures {
        // Start of image; in the frame header (SOF0), height and width.
        assert!(jpeg.starts_with(&[0xff, 0xd8, 0xff]) && jpeg.ends_with(&[0xff, 0xd9]));
        let header = jpeg.windows(2).position(|bytes| bytes == [0xff, 0xc0]).unwrap();
        assert_eq!(jpeg[header + 5..header + 9], [0, 92, 0, 240]);
    }
}

fn a_worker_tells_how_it_does_once_a_second() {
    let source = PLAIN.source(0);
    let started = Instant::now();
    let mut worker = Worker::start_without_privileges();
    worker.send(
        [Order::Job(Box::new(job(&PLAIN, &source, &[rendition(160, 90)])))]
            .into_iter()
            .chain(marked(&source))
            .collect(),
    );
    // The worker waits for more units, and its reports continue meanwhile: at least three, and as
    // many as it takes to decode a group.
    let mut taken: Vec<Figures> = Vec::new();
    while taken.len() < 3 || taken.last().is_some_and(|figures| figures.decoded <= 30) {
        match worker.next().expect("a worker that runs") {
            Report::Figures(figures) => taken.push(figures),
            _ => continue,
        }
        // A slow machine makes the reports fewer, but never more than one a second.
        assert!(taken.len() as u64 <= started.elapsed().as_secs(), "{taken:?}");
    }
    for two in taken.windows(2) {
        assert!(two[0].decoded <= two[1].decoded && two[0].cpu_us <= two[1].cpu_us, "{taken:?}");
    }
    for figures in &taken {
        assert_eq!(figures.broken, 0, "{taken:?}");
        assert!(figures.cpu_us > 10_000 && figures.resident_bytes > 10 << 20, "{taken:?}");
    }
}

fn a_worker_has_the_niceness_of_its_job() {
    let source = PLAIN.source(0);
    for nice in [12, 17] {
        let job = Job { nice, ..job(&PLAIN, &source, &[rendition(160, 90)]) };
        let said = made(job, marked(&source));
        let confined = said.reports.iter().find_map(|report| match report {
            Report::Log { text, .. } => Some(text),
            _ => None,
        });
        assert!(confined.is_some_and(|text| text.ends_with(&format!(", nice {nice}"))), "{said:?}");
    }
}
