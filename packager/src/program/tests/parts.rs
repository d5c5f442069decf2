//! Parts and segments: each frame is in one part, by pointer, and the rules of RFC 8216bis are
//! kept.

use super::*;

/// 12 s of audio and video: each frame in one part, in order, and the rules of parts and segments
/// kept.
fn assert_whole(
    fps: f64,
    group: u64,
    b_frames: bool,
    (asc, rate): (Option<[u8; 2]>, f64),
    phase: f64,
    audio_late: f64,
) {
    let mut bench = Bench::new(tracks(asc, true));
    (bench.phase, bench.audio_late) = (phase, audio_late);
    bench.run(fps, group, b_frames, Some(rate), 0.0..12.0, 0.0);
    let presentation = bench.end(12_000);
    assert_sound(presentation);
    for track in &presentation.tracks {
        assert_parts_keep_the_target(track);
        assert_eq!(track.part_target, Duration::from_millis(234));
        let stamps: Vec<_> = stamps(track).into_iter().filter(|stamp| *stamp >= 0).collect();
        assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]), "{fps} {}", track.name);
    }
    assert_in_step(presentation);
    let video = &presentation.tracks[0];
    let sent = (0u32..).take_while(|&n| f64::from(n) / fps < 12.0).count();
    assert_eq!(stamps(video).len(), sent);
    let rate = video.frame_rate.unwrap();
    assert!((rate - fps).abs() < 0.05, "{fps}: {rate}");
    let first = video.segments.first().unwrap();
    assert!(first.msn == 1_000 && first.independent);
}

#[test]
fn each_frame_is_in_one_part_at_common_frame_rates() {
    for (fps, group) in RATES {
        assert_whole(fps, group, false, (AAC_48, 48_000.0), 0.0, 0.0);
        assert_whole(fps, group, true, (AAC_44, 44_100.0), 0.0, 0.0);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn each_frame_is_in_one_part_for_any_timestamp_rounding_and_audio_offset(
        rate in 0usize..8, b_frames: bool, cd: bool,
        phase in 0.0..1.0f64, audio_early in 0.0..0.09f64,
    ) {
        let (fps, group) = RATES[rate];
        let audio = if cd { (AAC_44, 44_100.0) } else { (AAC_48, 48_000.0) };
        assert_whole(fps, group, b_frames, audio, phase, -audio_early);
    }
}

#[test]
fn a_track_of_long_frames_has_a_part_target_that_its_frames_fit() {
    let mut bench = Bench::new(tracks(None, true));
    bench.run(12.5, 25, false, None, 0.0..8.0, 0.0);
    let track = &bench.end(8_000).tracks[0];
    assert_eq!(track.part_target, Duration::from_millis(240));
    assert_parts_keep_the_target(track);
}

#[test]
fn audio_alone_is_cut_every_two_seconds() {
    let mut bench = Bench::new(tracks(AAC_44, false));
    for n in 0..500i64 {
        let ms = n * 1024 * 1000 / 44_100;
        bench.send(0, ms, ms, 0, true);
    }
    let track = &bench.end(11_610).tracks[0];
    assert_continuous(track);
    assert_parts_keep_the_target(track);
    assert_eq!(stamps(track).len(), 500);
    assert_eq!(track.segments.len(), 6);
}

#[test]
fn payloads_are_not_copied_into_the_segment() {
    let mut bench = Bench::new(tracks(None, true));
    let mut sent = Vec::new();
    for n in 0..61i64 {
        let payload = Bytes::from(vec![7; 100]);
        sent.push(payload.as_ptr());
        let arrived = bench.at(n * 40);
        let unit = AccessUnit {
            dts: MediaSpan::from_ticks(n * 3_600),
            pts: MediaSpan::from_ticks(n * 3_600),
            key: n % 50 == 0,
            independent: n % 50 == 0,
            arrived,
            payload,
        };
        bench.producer.as_ref().unwrap().push(TrackIndex::new(0), unit).unwrap();
        bench.pump(n * 40);
    }
    let segment = &bench.last.as_ref().unwrap().tracks[0].segments[0];
    let samples =
        segment.bytes.pieces().filter(|piece| piece.len() == 100).map(|piece| piece.as_ptr());
    assert_eq!(samples.collect::<Vec<_>>(), sent[..50]);
}

#[test]
fn every_hinted_audio_part_is_published() {
    // 48 frames at 25 a second are 90 access units, 9 full parts: nothing is left of a segment
    // after its ninth.
    let mut bench = Bench::new(tracks(AAC_48, true));
    let mut hints = Vec::new();
    for n in 0..400i64 {
        bench.send(0, n * 40, n * 40, 0, n % 48 == 0);
        for unit in (n * 40 * 48).div_euclid(1024)..((n + 1) * 40 * 48).div_euclid(1024) {
            bench.send(1, n * 40 + 20, unit * 1024 / 48, 0, true);
        }
        if let Some(open) = bench.last.as_ref().and_then(|last| last.tracks[1].open.clone()) {
            hints.push((open.msn, open.parts.len()));
        }
    }
    let audio = &bench.end(16_000).tracks[1];
    hints.dedup();
    for (msn, part) in &hints[..hints.len() - 1] {
        assert!(
            audio.segment(*msn).unwrap().parts.len() > *part,
            "part {part} of {msn} was hinted at"
        );
    }
}
