//! What becomes of publishers whose timestamps are no clock, or a clock of their own: segments stay within TARGETDURATION, tracks in
//! step, and all of it near the wall clock.

use super::*;

/// A unit as it is sent: milliseconds until it comes, its track, what its timestamp adds to the track's last, its composition in
/// milliseconds, whether it is a key frame, and a number that decides what else happens.
type Step = (i64, usize, i64, i64, bool, u8);

/// Sends `steps` between 3 s and 4 s of ordinary media. Returns the milliseconds that passed.
fn send_all(bench: &mut Bench, steps: &[Step]) -> i64 {
    bench.run(25.0, 50, false, Some(48_000.0), 0.0..3.0, 0.0);
    let (mut ms, mut stamps) = (3_000, [3_000i64; 2]);
    for &(wait, track, step, composition, key, act) in steps {
        for passed in ms + 1..=ms + wait {
            if passed % 100 == 0 {
                bench.hub.advance(bench.at(passed));
                bench.pump(passed);
            }
        }
        ms += wait;
        if act < 4 {
            bench.producer.take().unwrap().leave(bench.at(ms));
            let claim = bench.hub.claim("demo".parse().unwrap()).unwrap();
            let producer = claim.start(tracks(AAC_48, true), bench.at(ms), SystemTime::UNIX_EPOCH);
            bench.producer = Some(producer.unwrap());
        } else if act < 8 {
            let config = Config::Avc(avc::Config::parse(&[AVC, AVC_OTHER][usize::from(act % 2)]).unwrap());
            // Refused once there were too many: the broadcast is over then.
            let _ = bench.producer.as_ref().unwrap().configure(0, &config);
        }
        stamps[track] = stamps[track].saturating_add(step).clamp(-1 << 50, 1 << 50);
        bench.send(track, ms, stamps[track], composition, key || track == 1);
    }
    let seconds = |ms: i64| Duration::from_millis(ms.unsigned_abs()).as_secs_f64();
    bench.run(25.0, 50, false, Some(48_000.0), seconds(ms)..seconds(ms + 4_000), 0.0);
    ms + 4_000
}

const AVC: [u8; 46] =
    hex!("0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 68ebe3cb22c0 fdf8f800");
const AVC_OTHER: [u8; 46] =
    hex!("0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 68ebe3cb22d0 fdf8f800");

/// No more segments, and no later ones, than the time that passed allows.
fn assert_bounded(presentation: &Presentation, ms: i64) {
    assert_sound(presentation);
    let limit = Timescale::VIDEO.ticks(Duration::from_secs(10)) + ms * 90;
    for track in &presentation.tracks {
        let count = i64::try_from(track.segments.len()).unwrap();
        assert!(count <= ms / 1_000 + 12, "{count} segments in {ms} ms");
        let end = track.segments.last().unwrap().end();
        let end = track.timescale().rescale(end, Timescale::VIDEO);
        assert!(
            end <= limit + 10 * 90_000,
            "{} ends {} ms late",
            track.name,
            (end - limit) / 90
        );
        assert!(track.frame_rate.is_none_or(|rate| rate <= 1_000.0));
    }
    let [video, audio] = &presentation.tracks[..] else {
        panic!("two tracks")
    };
    for (v, a) in video.segments.iter().zip(audio.segments.iter()) {
        let late = audio.timescale().rescale(a.start, Timescale::VIDEO) - v.start;
        assert!(
            // Audio may be sent up to 3 s ahead, and units may be far apart.
            (-90 * 1_000..=90 * 4_500).contains(&late),
            "segment {} of audio starts {} ms late",
            v.msn,
            late / 90
        );
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(96))]
    #[test]
    fn whatever_timestamps_say_segments_are_sound_and_follow_the_wall_clock(
        steps in proptest::collection::vec((
            proptest::prop_oneof![8 => 0i64..60, 1 => 0i64..4_000],
            0usize..2,
            proptest::prop_oneof![6 => -100i64..200, 2 => -2_000i64..4_000, 1 => proptest::num::i64::ANY],
            proptest::prop_oneof![20 => 0i64..100, 1 => -20_000i64..20_000],
            proptest::bool::weighted(0.2),
            0u8..=255,
        ), 1..300),
    ) {
        let mut bench = Bench::new(tracks(AAC_48, true));
        let ms = send_all(&mut bench, &steps);
        assert_bounded(bench.end(ms), ms);
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
fn a_broadcast_of_one_picture_shows_it_for_a_part() {
    let mut bench = Bench::new(tracks(None, true));
    bench.send(0, 0, 0, 0, true);
    let track = &bench.end(0).tracks[0];
    let duration = track.timescale().duration(track.segments[0].duration);
    assert_eq!(duration, Duration::from_millis(200));
}

#[test]
fn video_stamped_in_presentation_order_keeps_its_pictures_and_stays_beside_audio() {
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
        let end = track.timescale().duration(track.segments.last().unwrap().end());
        let late = end.as_secs_f64() - 50.0;
        assert!(late.abs() < 0.25, "{} ends {late} s late", track.name);
        assert!(track.segments.iter().all(|segment| !segment.gap));
    }
    // The window has let go of some.
    assert_eq!(stamps(&presentation.tracks[0]).len() % 4, 0);
}
