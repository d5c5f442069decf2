//! Publishers whose timestamps follow no clock, or a clock of their own: segments stay within
//! TARGETDURATION, tracks stay in step, and media times stay near the wall clock.

use std::collections::BTreeMap;

use proptest::{
    collection::vec,
    prelude::{Just, ProptestConfig, Strategy},
    prop_oneof,
    test_runner::RngSeed,
};

use super::*;

/// A unit as it is sent: milliseconds until it arrives, its track, the difference of its timestamp
/// from the track's last, its composition in milliseconds, whether it is a key frame, and a number
/// that decides what else happens.
type Step = (i64, usize, i64, i64, bool, u8);

/// Sends `steps` between 3 s and 4 s of ordinary media. Returns the milliseconds that passed.
fn send_all(bench: &mut Bench, steps: &[Step]) -> i64 {
    let mut watch = Watch::default();
    bench.run(25.0, 50, false, Some(48_000.0), 0.0..3.0, 0.0);
    watch.sent = 75 + 141;
    let (mut ms, mut stamps) = (3_000, [3_000i64; 2]);
    for &(wait, track, step, composition, key, act) in steps {
        for passed in ms + 1..=ms + wait {
            if passed % 100 == 0 {
                bench.hub.advance(bench.at(passed));
                bench.pump(passed);
                watch.look(bench, passed);
            }
        }
        ms += wait;
        if act < 4 {
            bench.producer.take().unwrap().leave(bench.at(ms));
            let claim = bench.hub.claim("demo".parse().unwrap()).unwrap();
            let producer = claim.start(tracks(AAC_48, true), bench.at(ms), SystemTime::UNIX_EPOCH);
            bench.producer = Some(producer.unwrap());
        } else if act < 8 {
            let config =
                Config::Avc(avc::Config::parse(&[AVC, AVC_OTHER][usize::from(act % 2)]).unwrap());
            // Refused once there were too many: the broadcast is over then.
            let _ = bench.producer.as_ref().unwrap().configure(TrackIndex::new(0), &config);
        }
        stamps[track] = stamps[track].saturating_add(step).clamp(-1 << 50, 1 << 50);
        bench.send(track, ms, stamps[track], composition, key || track == 1);
        watch.sent += 1;
        watch.look(bench, ms);
    }
    let seconds = |ms: i64| Duration::from_millis(ms.unsigned_abs()).as_secs_f64();
    bench.run(25.0, 50, false, Some(48_000.0), seconds(ms)..seconds(ms + 4_000), 0.0);
    watch.sent += 100 + 188;
    watch.look(bench, ms + 4_000);
    ms + 4_000
}

const AVC: [u8; 46] = hex!(
    "0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 68ebe3cb22c0"
    "fdf8f800"
);
const AVC_OTHER: [u8; 46] = hex!(
    "0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 68ebe3cb22d0"
    "fdf8f800"
);

/// A track as a snapshot listed it.
#[derive(Debug, Default)]
struct Seen {
    /// The first number listed, the newest, the discontinuity sequence.
    numbers: [u64; 3],
    /// Complete segments, by their numbers.
    complete: BTreeMap<u64, Complete>,
}

/// A complete segment as a snapshot listed it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Complete {
    start: Ticks,
    duration: Ticks,
    discontinuity: bool,
}

/// Checks each snapshot: everything that was published stays, and is near the wall clock.
#[derive(Debug, Default)]
struct Watch {
    tracks: [Seen; 2],
    target_s: Option<u64>,
    /// Units sent.
    sent: usize,
}

impl Watch {
    fn look(&mut self, bench: &Bench, ms: i64) {
        self.assert_memory(bench, ms);
        let Some(presentation) = &bench.last else { return };
        let target_s = presentation.target_duration_s;
        assert_eq!(*self.target_s.get_or_insert(target_s), target_s);
        let next = bench.hub.next_numbers(bench.at(ms));
        for (seen, track) in self.tracks.iter_mut().zip(&presentation.tracks) {
            let newest = track.open.as_ref().or(track.segments.last()).unwrap();
            let first = track.listed().first().unwrap_or(newest);
            let numbers = [first.msn, newest.msn, track.discontinuity_sequence];
            let goes_back = seen.numbers.iter().zip(&numbers).any(|(before, now)| now < before);
            assert!(!goes_back, "{}: {:?}, then {numbers:?}", track.name, seen.numbers);
            assert!(
                next.msn > newest.msn && next.discontinuity >= track.discontinuities(),
                "another broadcast would begin at {next:?}"
            );
            let opens = newest.msn > seen.numbers[1] && !newest.gap;
            if opens && track.config.is_video() {
                assert_near(track.media_time(newest.start), ms);
            }
            seen.numbers = numbers;
            for segment in track.segments.iter().rev().take(4) {
                let &Segment { start, duration, discontinuity, .. } = &**segment;
                let now = Complete { start, duration, discontinuity };
                let before = seen.complete.entry(segment.msn).or_insert(now);
                assert_eq!(*before, now, "segment {} of {}", segment.msn, track.name);
            }
        }
    }

    /// Asserts that the memory held is bounded by the units sent, and marks, gaps and silence by
    /// the time that passed.
    fn assert_memory(&self, bench: &Bench, ms: i64) {
        let seconds = usize::try_from(ms / 1_000).unwrap();
        let held = bench.program.bytes();
        let most = (64 << 10) + 512 * self.sent + (16 << 10) * seconds;
        assert!(held <= most, "{held} bytes of {} units in {seconds} s", self.sent);
        // A configuration is an entry of the log, and of those there are fewer than units.
        let LogSize { entries, bytes } = bench.consumer.broadcast().log_size();
        assert!(
            entries <= 2 * self.sent + seconds + 12 && bytes <= 512 * entries,
            "{entries} {bytes}"
        );
    }
}

/// The least and the most, in milliseconds, by which a picture's segment may lie after the wall
/// clock as it opens: it may lag by 5 s until the second frame that does, which may arrive some
/// seconds later, and be decoded 5 s ahead and shown 4 s later.
const LEAD: std::ops::RangeInclusive<i64> = -8_000..=9_000;
/// The largest distance of the end from the wall clock, once timestamps have been in order for four
/// seconds.
const OFF: i64 = 6_000;
/// By how much audio may start a segment after video. They are kept 3 s apart, but a track that was
/// silent for a second is not compared: where video returns near the wall clock or behind it, audio
/// may be 5 s ahead of that.
const APART: i64 = 6_500;

/// Asserts that media time `at` is near the wall clock after `ms`.
fn assert_near(at: MediaTime, ms: i64) {
    let lead = at.ticks() / 90 - 10_000 - ms;
    assert!(LEAD.contains(&lead), "{lead} ms ahead after {ms} ms");
}

/// Asserts that all tracks are sound, in step, and no longer than the time that passed allows.
fn assert_bounded(presentation: &Presentation, ms: i64) {
    assert_sound(presentation);
    for track in &presentation.tracks {
        let count = i64::try_from(track.segments.len()).unwrap();
        assert!(count <= ms / 1_000 + 12, "{count} segments in {ms} ms");
        let last = track.segments.last().unwrap();
        let off = track.media_time(last.end()).ticks() / 90 - 10_000 - ms;
        assert!(off.abs() <= OFF, "{} ends {off} ms after the wall clock", track.name);
        assert!(track.frame_rate.is_none_or(|rate| rate <= 1_000.0));
    }
    let [video, audio] = &presentation.tracks[..] else { panic!("two tracks") };
    for (v, a) in video.segments.iter().rev().zip(audio.segments.iter().rev()) {
        let late = (audio.media_time(a.start) - video.media_time(v.start)).whole_millis();
        assert!((-1..=APART).contains(&late), "segment {} of audio starts {late} ms late", v.msn);
    }
}

fn assert_bounded_after(steps: &[Step]) {
    let mut bench = Bench::new(tracks(AAC_48, true));
    let ms = send_all(&mut bench, steps);
    assert_bounded(bench.end(ms), ms);
}

/// Both tracks at rates of their own for a while: how many times, milliseconds between, by how much
/// each track's timestamps step or `None` if it is silent, pictures in a group, and the act at the
/// start.
type Stretch = (i64, i64, [Option<i64>; 2], i64, u8);

fn steps_of(stretches: &[Stretch]) -> Vec<Step> {
    let mut steps = Vec::new();
    for &(count, wait, rates, group, act) in stretches {
        for n in 0..count {
            let mut wait = wait;
            for (track, step) in rates.into_iter().enumerate() {
                if let Some(step) = step {
                    let (wait, act) =
                        (std::mem::take(&mut wait), if n == 0 { act } else { u8::MAX });
                    steps.push((wait, track, step, 0, n % group == 0, act));
                }
            }
        }
    }
    steps
}

/// By how much timestamps step: as they should be, crawling, standing still, jumping.
fn rate() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        1 => Just(None),
        3 => Just(Some(40)),
        2 => (30i64..50).prop_map(Some),
        2 => (-50i64..400).prop_map(Some),
        1 => (0i64..3).prop_map(Some),
        1 => (-2_000i64..4_000).prop_map(Some),
    ]
}

/// The same cases each time.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(2_026),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest::proptest! {
    #![proptest_config(config(32))]
    #[test]
    fn segments_are_valid_and_follow_the_wall_clock_for_arbitrary_timestamps(
        steps in vec((
            prop_oneof![8 => 0i64..60, 1 => 0i64..4_000],
            0usize..2,
            prop_oneof![6 => -100i64..200, 2 => -2_000i64..4_000, 1 => proptest::num::i64::ANY],
            prop_oneof![20 => 0i64..100, 1 => -20_000i64..20_000],
            proptest::bool::weighted(0.2),
            0u8..=255,
        ), 1..300),
    ) {
        assert_bounded_after(&steps);
    }
}

proptest::proptest! {
    #![proptest_config(config(12))]
    #[test]
    fn segments_are_valid_and_follow_the_wall_clock_for_arbitrary_timestamp_rates(
        stretches in vec((
            1i64..200,
            prop_oneof![4 => Just(40), 1 => 0i64..50, 1 => 0i64..1_500],
            [rate(), rate()],
            prop_oneof![2 => 1i64..60, 1 => 1i64..300],
            0u8..64,
        ), 1..6),
    ) {
        assert_bounded_after(&steps_of(&stretches));
    }
}

#[test]
fn audio_half_a_minute_late_does_not_move_its_clock_backward() {
    let crawls = (25, 1_249, [Some(143), None], 1, 4);
    let both = |video| (1, 40, [Some(video), Some(0)], 1, 4);
    assert_bounded_after(&steps_of(&[both(2_541), crawls, both(129)]));
}

/// Asserts that in the newest snapshot, after `ms`, the segment that has just opened is near the
/// wall clock, and within half a nominal segment of the time at which a DASH player expects it.
fn assert_where_players_look(bench: &Bench, ms: i64) {
    let Some(presentation) = &bench.last else { return };
    let Some(period) = presentation.periods.last() else {
        return;
    };
    let half = period.nominal / 2;
    for track in &presentation.tracks {
        let Some(open) = &track.open else { continue };
        let start = track.media_time(open.start);
        let count = i64::try_from(open.msn - period.first).unwrap();
        let expected = period.start + period.nominal * count;
        // Its newest part ends where the publisher is; audio waits for video.
        let wall = MediaTime::from_ticks(900_000 + ms * 90);
        let end = track.media_time(open.end());
        assert!(
            (end - wall).abs() <= half,
            "{} is {} ms off at {ms}",
            track.name,
            (end - wall).whole_millis()
        );
        let off = (expected - start).whole_millis();
        assert!(
            (expected - start).abs() <= half,
            "{} is expected {off} ms late at {ms}",
            track.name
        );
        let at_edge = expected + (end - start);
        assert!(
            (at_edge - wall).abs() <= half + MediaSpan::from_millis(250),
            "{} is expected {} ms off the wall clock at {ms}",
            track.name,
            (at_edge - wall).whole_millis()
        );
    }
}

#[test]
fn an_hour_of_200_ppm_drift_moves_segments_by_at_most_half_their_nominal_duration() {
    const AAC_8: Option<[u8; 2]> = Some(hex!("1590"));
    for ppm in [-200, 200] {
        let mut bench = Bench::new(tracks(AAC_8, true));
        // Pictures 200 ms apart and access units of 128 ms, by a clock that is off.
        for stamp in (0..3_600_000i64).filter(|stamp| stamp % 200 == 0 || stamp % 128 == 0) {
            let ms = stamp * 1_000_000 / (1_000_000 + ppm);
            if stamp % 200 == 0 {
                bench.send(0, ms, stamp, 0, stamp % 2_000 == 0);
            }
            if stamp % 128 == 0 {
                bench.send(1, ms, stamp, 0, true);
            }
            if stamp % 2_000 == 1_600 {
                assert_where_players_look(&bench, ms);
            }
        }
        let presentation = bench.last.as_ref().unwrap();
        assert_sound(presentation);
        let track = &presentation.tracks[0];
        assert_eq!(track.open.as_ref().unwrap().msn, 1_000 + 1_799);
        assert!(track.segments.iter().all(|segment| !segment.gap && !segment.discontinuity));
    }
}

#[test]
fn pictures_two_seconds_apart_are_segments_of_one_picture_each() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    for ms in (0..20_000).step_by(20) {
        if ms % 100 == 0 {
            bench.hub.advance(bench.at(ms));
        }
        if ms % 2_000 == 0 {
            bench.send(0, ms, ms, 0, true);
        }
        bench.send(1, ms, ms, 0, true);
    }
    let presentation = bench.end(20_000);
    assert_sound(presentation);
    let video = &presentation.tracks[0];
    assert!(video.segments.iter().all(|segment| !segment.gap));
    assert!(video.segments.len() >= 9);
    assert_eq!(video.frame_rate, Some(0.5));
}

#[test]
fn a_broadcast_of_one_picture_lasts_one_part() {
    let mut bench = Bench::new(tracks(None, true));
    bench.send(0, 0, 0, 0, true);
    let track = &bench.end(0).tracks[0];
    let duration = track.segments[0].duration.duration(track.timescale());
    assert_eq!(duration, Duration::from_millis(200));
}

#[test]
fn video_stamped_in_presentation_order_keeps_its_pictures_in_step_with_audio() {
    let mut bench = Bench::new(tracks(AAC_48, true));
    for n in 0..1_000i64 {
        let shown = n / 4 * 4 + [0, 3, 1, 2][usize::try_from(n % 4).unwrap()];
        bench.send(0, n * 40, 1_000 + shown * 40, 0, n % 40 == 0);
        for unit in (n * 40 * 48).div_euclid(1024)..((n + 1) * 40 * 48).div_euclid(1024) {
            bench.send(1, n * 40 + 20, 1_000 + unit * 1024 / 48, 0, true);
        }
    }
    let presentation = bench.end(40_000);
    assert_sound(presentation);
    for track in &presentation.tracks {
        let end = track.segments.last().unwrap().end().duration(track.timescale());
        let late = end.as_secs_f64() - 50.0;
        assert!(late.abs() < 0.25, "{} ends {late} s late", track.name);
        assert!(track.segments.iter().all(|segment| !segment.gap));
    }
    // The window has dropped some.
    assert_eq!(stamps(&presentation.tracks[0]).len() % 4, 0);
}
