//! Broadcasts whose publisher, video or audio is away, is late or returns: numbers and time go on,
//! and nothing that was published is taken back.

use super::*;

#[test]
fn an_absence_makes_gap_segments_with_the_same_numbers_in_both_tracks() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.run(30.0, 60, true, Some(48_000.0), 0.0..5.0, 0.0);
    bench.producer.take().unwrap().leave(bench.at(5_000));
    bench.tick(5_000..9_000);
    let open = bench.last.as_ref().unwrap().tracks[0].open.clone().unwrap();
    assert!(open.gap && !open.parts.is_empty(), "{open:?}");
    let claim = bench.hub.claim("demo".parse().unwrap()).unwrap();
    bench.producer =
        Some(claim.start(tracks(AAC_48, true), bench.at(9_000), SystemTime::UNIX_EPOCH).unwrap());
    bench.run(30.0, 60, true, Some(48_000.0), 9.0..14.0, 9.0);
    let presentation = bench.end(14_000);
    let kinds =
        |track: &Track| track.segments.iter().map(|s| (s.gap, s.discontinuity)).collect::<Vec<_>>();
    let wanted = [false, false, false, true, true, false, false, false].map(|gap| (gap, false));
    for track in &presentation.tracks {
        assert_continuous(track);
        assert_eq!(kinds(track), wanted, "{}", track.name);
        assert_parts_keep_the_target(track);
    }
    assert_in_step(presentation);
    let video = &presentation.tracks[0];
    let back = video.segments[5].start - video.segments[0].start;
    let back = back.duration(Timescale::VIDEO);
    assert!(back.abs_diff(Duration::from_secs(9)) < Duration::from_millis(80), "{back:?}");
    let covered: Vec<_> = presentation.periods.iter().map(|period| period.first).collect();
    assert_eq!(covered, [1_000, 1_005]);
}

#[test]
fn audio_that_stops_is_filled_with_silence_part_by_part() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.run(30.0, 60, false, Some(48_000.0), 0.0..3.0, 0.0);
    for n in 90..240i64 {
        let ms = n * 1000 / 30;
        bench.send(0, ms, ms, 0, n % 60 == 0);
        if n >= 120 {
            // Players present what is a second old: the sound must be there by then.
            let [video, audio] = &bench.last.as_ref().unwrap().tracks[..] else {
                panic!("two tracks")
            };
            let end = |track: &Track| {
                let end = track.open.as_ref().map_or(Ticks::ZERO, |open| open.end());
                end.duration(track.timescale())
            };
            let behind = end(video).saturating_sub(end(audio));
            assert!(behind < Duration::from_millis(500), "{behind:?} at {ms} ms");
        }
    }
    let presentation = bench.end(8_000);
    assert_sound(presentation);
    assert_in_step(presentation);
    assert_parts_keep_the_target(&presentation.tracks[1]);
}

#[test]
fn audio_that_resumes_after_silence_keeps_its_timestamps() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.run(30.0, 60, false, Some(48_000.0), 0.0..3.0, 0.0);
    bench.run(30.0, 60, false, None, 3.0..7.0, 0.0);
    bench.run(30.0, 60, false, Some(48_000.0), 7.0..11.0, 0.0);
    let presentation = bench.end(11_000);
    assert_sound(presentation);
    assert_in_step(presentation);
    let heard = stamps(&presentation.tracks[1]).iter().filter(|stamp| **stamp >= 7_000).count();
    assert!(heard >= 4 * 48_000 / 1024 - 3, "{heard}");
}

#[test]
fn stopped_video_becomes_a_still_picture_while_audio_continues() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.run(30.0, 60, false, Some(48_000.0), 0.0..3.0, 0.0);
    for n in 141..937i64 {
        let ms = n * 1024 / 48;
        bench.hub.advance(bench.at(ms));
        bench.send(1, ms, ms, 0, true);
    }
    let master = &bench.program.tracks[0].output;
    assert!(master.segmenter.clocked().is_some(), "the clock makes the parts");
    bench.run(30.0, 60, false, Some(48_000.0), 20.0..24.0, 0.0);
    let presentation = bench.end(24_000);
    assert_sound(presentation);
    let [video, audio] = &presentation.tracks[..] else { panic!("two tracks") };
    for track in [video, audio] {
        assert!(track.segments.iter().all(|segment| !segment.gap && segment.independent));
        assert_parts_keep_the_target(track);
    }
    assert_eq!(stamps(audio).iter().filter(|stamp| **stamp >= 0).count(), 937 + 188);
    let shown = stamps(video);
    assert_eq!(shown[..90].iter().max(), Some(&2_966));
    let (still, back) = shown[90..].split_at(shown.len() - 90 - 120);
    assert!(still.len() > 70 && still.iter().all(|stamp| *stamp == 2_000), "{still:?}");
    assert_eq!(back[0], 20_000);
    let whole: Vec<_> = presentation.periods.iter().map(|period| period.continues).collect();
    assert!(whole[1..].iter().all(Option::is_some), "no gap lies between Periods: {whole:?}");
}

impl Bench {
    /// Units of audio at `rate` from track `track`, alone, while the hub's clock runs.
    fn audio_alone(&mut self, track: usize, rate: i64, ms: std::ops::Range<i64>) {
        let first = (ms.start * rate + 1_023_999) / 1_024_000;
        for ms in (first..).map(|n| n * 1_024_000 / rate).take_while(|at| *at < ms.end) {
            self.hub.advance(self.at(ms));
            self.send(track, ms, ms, 0, true);
        }
    }

    /// 25 pictures a second in groups of 2 s, with audio; key frames have `size` bytes.
    fn pictures(&mut self, size: usize, ms: std::ops::Range<i64>) {
        for ms in ms.step_by(20) {
            if ms % 40 == 0 {
                let key = ms % 2_000 == 0;
                let unit = AccessUnit {
                    dts: MediaSpan::from_millis(ms),
                    pts: MediaSpan::from_millis(ms),
                    key,
                    independent: key,
                    arrived: self.at(ms),
                    payload: vec![0; if key { size } else { 1_000 }].into(),
                };
                self.producer.as_ref().unwrap().push(TrackIndex::new(0), unit).unwrap();
            }
            self.send(1, ms, ms, 0, true);
        }
    }
}

fn aac_44() -> Config {
    tracks(AAC_44, false).remove(0).1
}

/// How many units of these milliseconds are in a track's segments.
fn heard(track: &Track, ms: std::ops::Range<i64>) -> usize {
    stamps(track).iter().filter(|stamp| ms.contains(stamp)).count()
}

#[test]
fn audio_reconfigured_while_video_is_silent_is_packaged_from_the_next_mark() {
    // With a still picture, and without one, where groups begin with recovery points.
    for open_gop in [false, true] {
        let mut bench = Bench::new(tracks(AAC_48, true));
        bench.open_gop = open_gop;
        bench.run(25.0, 50, false, Some(48_000.0), 0.0..5.0, 0.0);
        bench.audio_alone(1, 48_000, 5_000..10_000);
        bench.producer.as_ref().unwrap().configure(TrackIndex::new(1), &aac_44()).unwrap();
        bench.audio_alone(1, 44_100, 10_000..20_000);
        bench.run(25.0, 50, false, Some(44_100.0), 20.0..24.0, 0.0);
        let presentation = bench.end(24_000);
        assert_sound(presentation);
        let [video, audio] = &presentation.tracks[..] else { panic!("two tracks") };
        // From the next mark on.
        assert!(heard(audio, 12_000..20_000) > 8 * 44_100 / 1_024 - 4);
        assert_eq!(heard(audio, 20_000..24_000), 4 * 44_100 / 1_024 + 1);
        assert_eq!(audio.inits.len(), 2);
        let silent = video.segments.iter().filter(|segment| segment.gap).count();
        assert_eq!(silent > 0, open_gop, "{silent}");
        assert!(video.inits.len() == 1 && video.segments.last().is_some_and(|last| !last.gap));
        for (v, a) in video.segments.iter().zip(audio.segments.iter()) {
            assert_eq!(v.discontinuity, a.discontinuity, "segment {}", v.msn);
        }
    }
}

#[test]
fn audio_of_a_publisher_that_returns_without_video_is_packaged() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.run(25.0, 50, false, Some(48_000.0), 0.0..5.0, 0.0);
    bench.producer.take().unwrap().leave(bench.at(5_000));
    bench.tick(5_000..8_000);
    let claim = bench.hub.claim("demo".parse().unwrap()).unwrap();
    let back = claim.start(tracks(AAC_44, false), bench.at(8_000), SystemTime::UNIX_EPOCH);
    bench.producer = Some(back.unwrap());
    bench.audio_alone(1, 44_100, 8_000..20_000);
    let presentation = bench.end(20_000);
    assert_sound(presentation);
    assert!(heard(&presentation.tracks[1], 11_000..20_000) > 9 * 44_100 / 1_024 - 20);
}

#[test]
fn the_discontinuity_count_of_a_channel_never_decreases_between_broadcasts() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    let first = bench.consumer.broadcast().first_discontinuity();
    bench.program =
        Program::new(&bench.consumer, bench.settings, bench.metrics.clone(), Some(first));
    bench.run(25.0, 50, false, Some(48_000.0), 0.0..5.0, 0.0);
    bench.audio_alone(1, 48_000, 5_000..8_000);
    bench.producer.as_ref().unwrap().configure(TrackIndex::new(1), &aac_44()).unwrap();
    bench.audio_alone(1, 44_100, 8_000..12_000);
    bench.run(25.0, 50, false, Some(44_100.0), 12.0..16.0, 0.0);
    bench.hub.kick(&"demo".parse().unwrap());
    bench.pump(16_000);
    let reached = bench.last.as_ref().unwrap().tracks[0].discontinuities();
    // It replaced another broadcast, audio changed while video was silent, and video is back.
    assert_eq!(reached, first + 3);
    let claim = bench.hub.claim("demo".parse().unwrap()).unwrap();
    let next =
        claim.start(tracks(AAC_48, true), bench.at(17_000), SystemTime::UNIX_EPOCH + T * 500);
    assert!(next.unwrap().broadcast().first_discontinuity() >= reached);
}

#[test]
fn silent_open_gop_video_becomes_gaps_instead_of_a_still_picture() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.open_gop = true;
    bench.run(25.0, 50, false, Some(48_000.0), 0.0..5.0, 0.0);
    bench.audio_alone(1, 48_000, 5_000..12_000);
    let presentation = bench.end(12_000);
    assert_sound(presentation);
    let video = &presentation.tracks[0];
    assert_eq!(stamps(video).len(), 125);
    assert!(video.segments.iter().skip(3).all(|segment| segment.gap));
    // Audio continues.
    assert!(heard(&presentation.tracks[1], 5_000..12_000) > 7 * 48_000 / 1_024 - 20);
}

#[test]
fn a_still_picture_is_counted_once_and_does_not_raise_the_peak_bit_rate() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    (bench.settings.window, bench.settings.window_bytes) = (T * 8, 4 << 20);
    bench.restart();
    bench.pictures(400_000, 0..4_000);
    let peak = bench.last.as_ref().unwrap().tracks[0].peak_bps;
    for minute in 0..2 {
        bench.audio_alone(1, 48_000, 4_000 + minute * 60_000..64_000 + minute * 60_000);
        let held = bench.program.bytes();
        assert!(held < 2 << 20, "{held}");
    }
    bench.pictures(400_000, 124_000..130_000);
    let presentation = bench.end(130_000);
    presentation.tracks.iter().for_each(|track| assert_continuous(track));
    let video = &presentation.tracks[0];
    let stills = video.segments.iter().filter(|segment| segment.still.is_some());
    assert!(stills.count() > 8 && video.segments.iter().all(|segment| !segment.gap));
    assert!(video.peak_bps < peak + peak / 10, "{} {peak}", video.peak_bps);
}

#[test]
fn a_picture_too_large_to_repeat_in_each_part_is_not_used_as_a_still() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.pictures(1_400_000, 0..4_000);
    bench.audio_alone(1, 48_000, 4_000..12_000);
    let presentation = bench.end(12_000);
    assert_sound(presentation);
    let video = &presentation.tracks[0];
    assert!(video.segments.iter().skip(2).all(|segment| segment.gap));
    assert!(heard(&presentation.tracks[1], 4_000..12_000) > 8 * 48_000 / 1_024 - 20);
}

#[test]
fn video_and_audio_that_stop_together_are_gaps() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.run(30.0, 60, false, Some(48_000.0), 0.0..3.0, 0.0);
    bench.tick(3_000..9_000);
    let presentation = bench.end(9_000);
    assert_sound(presentation);
    for track in &presentation.tracks {
        assert!(track.segments.iter().skip(2).all(|segment| segment.gap), "{}", track.name);
    }
}

#[test]
fn a_hole_in_the_timestamps_does_not_lengthen_a_part_or_the_part_target() {
    for hole in [1.8, 2.9] {
        for before in [1.0, 5.9] {
            let mut bench = Bench::new(tracks(AAC_48, true));
            bench.run(30.0, 60, false, Some(48_000.0), 0.0..before, 0.0);
            bench.run(30.0, 60, false, Some(48_000.0), before + hole..before + hole + 4.0, 0.0);
            let presentation = bench.end(12_000);
            assert_sound(presentation);
            let video = &presentation.tracks[0];
            assert_eq!(video.part_target, Duration::from_millis(234));
            assert_parts_keep_the_target(video);
        }
    }
}

#[test]
fn segments_after_a_stall_and_its_backlog_never_overlap() {
    for (stall, b_frames) in [(3_500i64, false), (2_100, true), (9_000, false)] {
        let mut bench = Bench::new(tracks(AAC_48, true));
        bench.run(30.0, 60, b_frames, Some(48_000.0), 0.0..5.0, 0.0);
        bench.tick(5_000..5_000 + stall);
        // The backlog arrives at once, then the stream continues.
        let back = 5_000 + stall;
        for n in 150..400i64 {
            let stamp = n * 1000 / 30;
            let ms = stamp.max(back);
            bench.send(0, ms, stamp, 0, n % 60 == 0);
            bench.send(1, ms, stamp, 0, true);
        }
        assert_sound(bench.end(14_000));
    }
}

#[test]
fn media_time_never_decreases_when_a_publisher_reconnects_repeatedly() {
    for away in [30i64, 150, 480, 1_400] {
        let mut bench = Bench::new(tracks(AAC_48, true));
        let mut at = 0;
        for _ in 0..12 {
            for n in 0..20i64 {
                // Audio 150 ms ahead of video on the wire.
                bench.send(1, at + n * 21, n * 21, 0, true);
                bench.send(0, at + n * 33, n * 33 + 40, 33, n == 0);
            }
            at += 700;
            bench.producer.take().unwrap().leave(bench.at(at));
            bench.tick(at..at + away);
            at += away;
            let claim = bench.hub.claim("demo".parse().unwrap()).unwrap();
            let tracks = tracks(AAC_48, true);
            bench.producer =
                Some(claim.start(tracks, bench.at(at), SystemTime::UNIX_EPOCH).unwrap());
        }
        assert_sound(bench.end(at));
    }
}

#[test]
fn segments_lost_by_a_lagging_packager_are_gaps() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.run(25.0, 50, false, Some(48_000.0), 0.0..5.0, 0.0);
    // Nothing is read for a while, and more is sent than the log holds.
    for n in 125..2_600i64 {
        let (arrived, payload) = (bench.at(n * 40), Bytes::from(vec![1; 64 << 10]));
        let unit = AccessUnit {
            dts: MediaSpan::from_ticks(n * 3_600),
            pts: MediaSpan::from_ticks(n * 3_600),
            key: n % 50 == 0,
            independent: n % 50 == 0,
            arrived,
            payload,
        };
        bench.producer.as_ref().unwrap().push(TrackIndex::new(0), unit).unwrap();
    }
    bench.run(25.0, 50, false, Some(48_000.0), 104.0..108.0, 0.0);
    let presentation = bench.end(108_000);
    assert_sound(presentation);
    let video = &presentation.tracks[0];
    let newest = video.segments.last().unwrap().msn;
    assert!(video.segment(newest).is_some_and(|segment| segment.msn == newest));
    assert!(video.segments.iter().filter(|segment| segment.gap).count() > 10);
}

#[test]
fn a_broadcast_that_ends_while_its_publisher_is_away_has_no_empty_segment() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.run(25.0, 50, false, Some(48_000.0), 0.0..4.0, 0.0);
    bench.producer.take().unwrap().leave(bench.at(4_000));
    bench.tick(4_000..14_050);
    let presentation = bench.end(14_050);
    assert_sound(presentation);
    for track in &presentation.tracks {
        assert!(
            track.segments.iter().all(|segment| segment.duration > Ticks::ZERO),
            "{}",
            track.name
        );
    }
}

#[test]
fn audio_that_ends_just_after_a_gap_began_does_not_extend_past_the_next_mark() {
    for fps in [23.976, 25.0, 29.97, 30.0, 60.0] {
        for ended in [4_333i64, 5_007, 5_120, 5_871] {
            let mut bench = Bench::new(tracks(AAC_48, true));
            bench.run(fps, 60, true, Some(48_000.0), 0.0..ended as f64 / 1000.0, 0.0);
            bench.producer.take().unwrap().leave(bench.at(ended));
            // The hub's clock is a little slow beside ours.
            for ms in (ended..ended + 7_000).step_by(50) {
                if (ms - ended) % 250 == 200 {
                    bench.hub.advance(bench.at(ms));
                }
                bench.pump(ms);
            }
            assert_sound(bench.end(ended + 7_000));
        }
    }
}
