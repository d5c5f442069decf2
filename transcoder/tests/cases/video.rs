//! The units of renditions: times, key frames and rates.

use super::*;

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

pub(crate) fn every_rendition_has_each_picture_of_the_source_and_a_key_frame_at_each_mark() {
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

pub(crate) fn quality_tuning_reorders_pictures_and_loses_none() {
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

pub(crate) fn openh264_renditions_have_each_picture_and_mark() {
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

pub(crate) fn timestamps_of_the_source_are_kept_for_any_start() {
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

pub(crate) fn timestamps_of_a_variable_frame_rate_are_kept() {
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

pub(crate) fn an_incorrectly_declared_frame_rate_does_not_change_the_bit_rate() {
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

pub(crate) fn a_rendition_that_was_turned_off_resumes_at_a_mark() {
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
