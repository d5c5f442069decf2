use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::{Anchor, MediaSpan, MediaTime, TrackIndex};

const MS: i64 = 90;
const VIDEO: TrackIndex = TrackIndex::new(0);
const AUDIO: TrackIndex = TrackIndex::new(1);

/// A timeline of video and audio whose first frame arrives at `start`.
struct Bench {
    timeline: Timeline,
    start: Instant,
    notices: Vec<Notice>,
}

impl Bench {
    fn new() -> Self {
        let start = Instant::now() + Duration::from_secs(1_000);
        Self {
            timeline: Timeline::new(Anchor::new(start, SystemTime::UNIX_EPOCH), &[true, false]),
            start,
            notices: Vec::new(),
        }
    }

    fn at(&self, ms: f64) -> Instant {
        self.start + Duration::from_secs_f64(ms / 1_000.0)
    }

    /// Maps a timestamp in milliseconds that arrives at `ms`; the result in milliseconds since the
    /// start.
    fn try_map(&mut self, track: TrackIndex, stamp: i64, ms: f64) -> Result<f64, TooFarAhead> {
        let placed = self.timeline.map(track, MediaSpan::from_millis(stamp), self.at(ms))?;
        self.notices.extend(placed.notice);
        Ok(placed.dts.ticks() as f64 / 90.0 - Anchor::LEAD.as_secs_f64() * 1_000.0)
    }

    fn map(&mut self, track: TrackIndex, stamp: i64, ms: f64) -> f64 {
        self.try_map(track, stamp, ms).unwrap()
    }
}

#[test]
fn steady_timestamps_keep_their_spacing_and_the_offset_between_tracks() {
    let mut bench = Bench::new();
    assert_eq!(bench.map(VIDEO, 500, 0.0), 0.0);
    assert_eq!(bench.map(AUDIO, 480, 0.0), -20.0);
    assert_eq!(bench.map(VIDEO, 533, 0.0), 33.0);
}

#[test]
fn a_jump_in_both_tracks_keeps_them_in_step() {
    for jump in [3_600_000, -400, -86_400_000] {
        let mut bench = Bench::new();
        bench.map(VIDEO, 0, 0.0);
        bench.map(AUDIO, 10, 0.0);
        let video = bench.map(VIDEO, 40 + jump, 40.0);
        assert!((video - 40.0).abs() <= 10.0, "{jump}: {video}");
        // Audio sent before the jump, then after it.
        assert_eq!(bench.map(AUDIO, 31, 40.0), 31.0);
        assert_eq!(bench.map(AUDIO, 52 + jump, 40.0) - video, 12.0);
        assert_eq!(bench.notices, [Notice::Jumped]);
    }
}

#[test]
fn equal_and_slightly_older_timestamps_are_placed_a_millisecond_later() {
    for track in [VIDEO, AUDIO] {
        let mut bench = Bench::new();
        bench.map(track, 1_000, 0.0);
        assert_eq!(bench.map(track, 1_000, 0.0), 1.0);
        assert_eq!(bench.map(track, 990, 0.0), 2.0);
        assert_eq!(bench.map(track, 1_033, 0.0), 33.0);
        assert_eq!(bench.notices, []);
    }
}

#[test]
fn a_hole_that_matches_the_wall_clock_is_kept() {
    let mut bench = Bench::new();
    bench.map(VIDEO, 0, 0.0);
    assert_eq!(bench.map(VIDEO, 60_000, 60_000.0), 60_000.0);
}

#[test]
fn a_publisher_that_returns_resumes_at_the_wall_clock() {
    let mut bench = Bench::new();
    bench.map(VIDEO, 7_000, 0.0);
    bench.timeline.republish();
    assert_eq!(bench.map(AUDIO, 0, 5_000.0), 5_000.0);
    assert_eq!(bench.map(VIDEO, 20, 5_000.0), 5_020.0);
}

#[test]
fn a_publisher_2_5_s_ahead_must_wait_and_frames_over_5_s_ahead_are_refused() {
    let mut bench = Bench::new();
    let (mut ahead, mut taken) = (None, 0);
    for n in 0..250 {
        let (stamp, arrived) = (n * 40, bench.at(0.0));
        let Ok(at) = bench.try_map(VIDEO, stamp, 0.0) else {
            break;
        };
        assert_eq!(at, stamp as f64);
        bench.try_map(AUDIO, stamp, 0.0).unwrap();
        taken = stamp;
        ahead = ahead.or(bench.timeline.ahead_until(arrived).map(|until| (stamp, until - arrived)));
    }
    // From 2.5 s ahead on the publisher must wait until the wall clock has caught up, and no
    // longer.
    assert_eq!(ahead, Some((2_520, Duration::from_millis(20))));
    assert_eq!(taken, 5_000);
    assert_eq!(bench.map(VIDEO, 5_040, 40.0), 5_040.0);
    assert_eq!(bench.notices, []);
}

#[test]
fn leaping_audio_timestamps_do_not_advance_media_time_while_video_is_stopped() {
    for step in [600, 1_024, 3_000, 1_000_000] {
        let mut bench = Bench::new();
        bench.map(VIDEO, 0, 0.0);
        let mut last = bench.map(AUDIO, 0, 0.0);
        for n in 1..20_000 {
            if let Ok(at) = bench.try_map(AUDIO, n * step, 0.0) {
                assert!(at > last);
                last = at;
            }
        }
        assert!(last <= 5_000.0, "{step}: {last}");
        assert_eq!(bench.notices[bench.notices.len() - 1], Notice::Retimed);
    }
}

/// Plays 60 s of video at 25 frames a second and audio in real time whose timestamps are given by
/// functions of milliseconds, or of the frame's number. Returns the largest distance of both from
/// the wall clock in the last 30 s.
fn played(video: impl Fn(i64) -> i64, audio: impl Fn(i64) -> i64) -> ([f64; 2], Vec<Notice>) {
    let (mut bench, mut off) = (Bench::new(), [0.0f64; 2]);
    for ms in (0..60_000).step_by(20) {
        for (track, due) in [(VIDEO, ms % 40 == 0), (AUDIO, true)] {
            let stamp = if track == VIDEO { video(ms) } else { audio(ms) };
            // Up to 15 ms of jitter.
            let arrived = ms as f64 + f64::from(u8::try_from(ms / 20 * 7 % 16).unwrap());
            if !due {
                continue;
            }
            if let Ok(at) = bench.try_map(track, stamp, arrived)
                && ms >= 30_000
            {
                off[track.get()] = off[track.get()].max((at - arrived).abs());
            }
        }
    }
    (off, bench.notices)
}

#[test]
fn a_track_whose_timestamps_are_no_clock_is_timed_by_arrival() {
    type Stamps = fn(i64) -> i64;
    let audio: [(&str, Stamps); 6] = [
        ("zero", |_| 0),
        ("frames", |ms| ms / 20),
        ("samples of 48 kHz", |ms| ms * 48),
        ("90 kHz", |ms| ms * 90),
        ("hundredths", |ms| ms / 10),
        ("twice as fast", |ms| ms * 2),
    ];
    for (unit, stamps) in audio {
        let (off, notices) = played(|ms| ms, stamps);
        assert!(off[VIDEO.get()] < 40.0 && off[AUDIO.get()] < 60.0, "audio in {unit}: {off:?}");
        assert!(notices.contains(&Notice::Retimed), "{unit}: {notices:?}");
        let (off, notices) = played(stamps, |ms| ms);
        assert!(off[AUDIO.get()] < 40.0 && off[VIDEO.get()] < 60.0, "video in {unit}: {off:?}");
        assert!(notices.contains(&Notice::Retimed), "{unit}: {notices:?}");
    }
}

#[test]
fn a_track_timed_by_arrival_uses_its_timestamps_again_when_they_follow_the_wall_clock() {
    let (off, notices) = played(|ms| if ms < 10_000 { 0 } else { ms }, |ms| ms);
    assert!(off[VIDEO.get()] <= 20.0, "{off:?}");
    assert_eq!(notices, [Notice::Retimed]);
}

#[test]
fn timestamps_that_are_too_slow_are_moved_to_the_wall_clock() {
    // Both at nine tenths of the rate: 5 s behind after 50 s.
    let (off, notices) = played(|ms| ms * 9 / 10, |ms| ms * 9 / 10);
    assert!(off[VIDEO.get()] <= 6_200.0 && off[AUDIO.get()] <= 6_200.0, "{off:?}");
    assert!(notices.contains(&Notice::Late) && !notices.contains(&Notice::Jumped), "{notices:?}");
}

#[test]
fn a_late_track_moves_the_other_track_on_the_same_clock() {
    let mut bench = Bench::new();
    for n in 0..26 {
        bench.map(VIDEO, n * 40, n as f64 * 40.0);
        bench.map(AUDIO, n * 40, n as f64 * 40.0);
    }
    // Audio goes to another clock and falls silent; video, late on its own, follows it there.
    let jump = 1_000_000;
    bench.map(AUDIO, jump + 1_040, 1_040.0);
    bench.map(VIDEO, 1_040, 7_000.0);
    bench.map(VIDEO, jump + 1_120, 8_100.0);
    assert_eq!(bench.notices, [Notice::Jumped, Notice::Late]);
    assert!((bench.map(AUDIO, jump + 1_080, 8_100.0) - 8_060.0).abs() <= 10.0);
}

#[test]
fn video_stamped_in_presentation_order_keeps_its_presentation_times() {
    for (name, order) in [
        ("ipbb", &[0i64, 3, 1, 2][..]),
        ("ipbbb", &[0, 4, 2, 1, 3]),
        ("pyramid", &[0, 8, 4, 2, 1, 3, 6, 5, 7]),
    ] {
        for frame in [40i64, 67] {
            let mut bench = Bench::new();
            let (count, mut last) = (order.len() as i64, f64::MIN);
            for n in 0..1_500i64 {
                let shown = (n / count) * count + order[usize::try_from(n % count).unwrap()];
                let ms = n as f64 * frame as f64;
                let stamp = MediaSpan::from_millis(1_000 + shown * frame);
                let placed = bench.timeline.map(VIDEO, stamp, bench.at(ms)).unwrap();
                bench.notices.extend(placed.notice);
                let lead = placed.dts.ticks() as f64 / 90.0 - 10_000.0 - ms;
                assert!(lead.abs() <= (8 * frame) as f64 + 20.0, "{name} at {ms}: {lead}");
                assert!(placed.dts.ticks() as f64 > last);
                last = placed.dts.ticks() as f64;
                // All frames but the first are shown at their timestamps.
                if n > 8 {
                    let off = placed.stamp.ticks() - (shown * frame * MS + 900_000);
                    assert!(off.abs() <= MS, "{name} {n}: {off}");
                    assert!(placed.stamp >= placed.dts, "{name} {n}");
                }
            }
            assert_eq!(bench.notices, [], "{name}");
        }
    }
}

#[test]
fn a_backlog_delays_both_tracks_only_if_both_were_silent() {
    let mut bench = Bench::new();
    for n in 0..100 {
        bench.map(VIDEO, n * 40, n as f64 * 40.0);
        bench.map(AUDIO, n * 40, n as f64 * 40.0);
    }
    // Both tracks become silent, and then continue.
    bench.map(AUDIO, 4_000, 8_000.0);
    bench.map(VIDEO, 4_000, 8_000.0);
    assert!(bench.timeline.delay(VIDEO, MediaSpan::from_millis(4_000), bench.at(8_000.0)));
    assert_eq!(bench.map(AUDIO, 4_020, 8_000.0), 8_020.0);
    // Only video becomes silent.
    for n in 0..1_000 {
        bench.map(AUDIO, 4_040 + n * 20, 8_000.0 + n as f64 * 20.0);
    }
    bench.map(VIDEO, 4_040, 28_000.0);
    assert!(bench.timeline.delay(VIDEO, MediaSpan::from_millis(20_000), bench.at(28_000.0)));
    assert_eq!(bench.map(AUDIO, 24_040, 28_000.0), 28_040.0);
    assert_eq!(bench.map(VIDEO, 4_080, 28_000.0), 28_080.0);
}

/// Both tracks become silent at 4 s. At 12 s a backlog arrives at once, up to the timestamp `until`
/// or until the publisher must wait, in groups of 2 s, and is placed after a gap of 8 s. Returns
/// the times of the kept pictures, by their timestamps.
fn after_an_outage(bench: &mut Bench, until: i64) -> Vec<(i64, f64)> {
    for n in 0..100 {
        bench.map(VIDEO, n * 40, n as f64 * 40.0);
        bench.map(AUDIO, n * 40, n as f64 * 40.0);
    }
    bench.map(AUDIO, 4_000, 12_000.0);
    let mut placed = vec![(4_000, bench.map(VIDEO, 4_000, 12_000.0) + 8_000.0)];
    assert!(bench.timeline.delay(VIDEO, MediaSpan::from_millis(8_000), bench.at(12_000.0)));
    for stamp in (4_040..until).step_by(40) {
        let now = bench.at(12_000.0);
        for track in [VIDEO, AUDIO] {
            let starts = track == VIDEO && stamp % 2_000 == 0;
            if !bench.timeline.leaves_out(track, MediaSpan::from_millis(stamp), starts, now) {
                let at = bench.map(track, stamp, 12_000.0);
                placed.extend((track == VIDEO).then_some((stamp, at)));
            }
        }
        if bench.timeline.ahead_until(now).is_some() {
            break;
        }
    }
    placed
}

#[test]
fn a_file_after_a_stall_loses_the_stalled_time_and_is_then_paced() {
    let mut bench = Bench::new();
    let placed = after_an_outage(&mut bench, 100_000);
    let went_on = placed.windows(2).find(|pair| pair[1].0 > pair[0].0 + 40).unwrap();
    // 2.5 s are kept. Of the 8 s after that, the rest of the last group is dropped, too.
    assert_eq!((went_on[0].0, went_on[1].0), (6_520, 16_000));
    assert_eq!(went_on[1].1, went_on[0].1 + 40.0);
    assert!(bench.timeline.ahead_until(bench.at(12_000.0)).is_some());
    assert_eq!(bench.notices, []);
}

#[test]
fn after_an_outage_a_live_publisher_resumes_at_a_key_frame_near_the_wall_clock() {
    let mut bench = Bench::new();
    let placed = after_an_outage(&mut bench, 12_000);
    assert_eq!(placed.last().unwrap(), &(6_520, 14_520.0));
    let mut went_on = None;
    for stamp in (12_000..40_000i64).step_by(40) {
        let ms = stamp as f64;
        for track in [VIDEO, AUDIO] {
            let starts = track == VIDEO && stamp % 2_000 == 0;
            if !bench.timeline.leaves_out(
                track,
                MediaSpan::from_millis(stamp),
                starts,
                bench.at(ms),
            ) {
                let at = bench.map(track, stamp, ms);
                went_on.get_or_insert((track, stamp, at));
                assert!((at - ms).abs() <= 600.0, "{at} at {ms}");
            }
        }
        assert_eq!(bench.timeline.ahead_until(bench.at(ms)), None);
    }
    assert_eq!(went_on, Some((VIDEO, 14_000, 14_560.0)));
    assert_eq!(bench.notices, []);
}

#[test]
fn the_burst_of_a_live_publisher_is_dropped_until_a_key_frame_near_the_wall_clock() {
    // A burst of 10 s, then real time; its end is noticed after 2 s.
    let mut bench = Bench::new();
    let (mut stamp, mut kept) = (0i64, Vec::new());
    for ms in (0..30_000i64).step_by(20) {
        let now = bench.at(ms as f64);
        if ms == 2_000 {
            bench.timeline.drop_lead(now);
        }
        while stamp <= ms + 10_000 && bench.timeline.ahead_until(now).is_none() {
            for track in [VIDEO, AUDIO] {
                let starts = track == VIDEO && stamp % 2_000 == 0;
                if (track == AUDIO || stamp % 40 == 0)
                    && !bench.timeline.leaves_out(track, MediaSpan::from_millis(stamp), starts, now)
                {
                    let at = bench.map(track, stamp, ms as f64);
                    kept.extend((track == VIDEO).then_some((stamp, at)));
                }
            }
            stamp += 20;
        }
    }
    let (before, after): (Vec<_>, Vec<_>) =
        kept.iter().copied().partition(|(stamp, _)| *stamp < 10_000);
    // It goes on at the next key frame that comes while the lead is at most 1 s, without a gap.
    let (newest, next): ((i64, f64), (i64, f64)) = (before[before.len() - 1], after[0]);
    assert_eq!((newest.0, next.0), (4_520, 14_000));
    assert_eq!(next.1, newest.1 + 40.0);
    assert_eq!(after.last().unwrap(), &(39_960, 30_520.0));
    assert_eq!(bench.notices, []);
}

#[test]
fn after_an_outage_audio_resumes_within_5_s_without_a_key_frame() {
    let mut bench = Bench::new();
    after_an_outage(&mut bench, 12_000);
    let mut first = None;
    for stamp in (12_000..30_000i64).step_by(40) {
        let now = bench.at(stamp as f64);
        if !bench.timeline.leaves_out(AUDIO, MediaSpan::from_millis(stamp), false, now) {
            let at = bench.map(AUDIO, stamp, stamp as f64);
            first.get_or_insert((stamp, (at - stamp as f64).abs() <= 50.0));
        }
    }
    // 5 s after the last kept frame.
    assert_eq!(first, Some((19_560, true)));
}

#[test]
fn audio_that_a_relay_sends_after_its_burst_of_pictures_keeps_their_clock() {
    for burst in [4_000i64, 8_000, 20_000] {
        let mut bench = Bench::new();
        // The pictures are taken as far as they lead by 2.5 s, and the audio comes once all are.
        let taken = |stamp: i64| (stamp - 2_500).max(0) as f64;
        for stamp in (0..burst).step_by(40) {
            bench.map(VIDEO, stamp, taken(stamp));
        }
        for stamp in (0..burst).step_by(20) {
            let at = bench.map(AUDIO, stamp, taken(burst));
            assert_eq!(at, stamp as f64, "{burst}");
        }
        for stamp in (burst..burst + 20_000).step_by(20) {
            if stamp % 40 == 0 {
                assert_eq!(bench.map(VIDEO, stamp, taken(stamp)), stamp as f64);
            }
            assert_eq!(bench.map(AUDIO, stamp, taken(stamp)), stamp as f64);
        }
        assert_eq!(bench.notices, []);
    }
}

#[test]
fn silence_is_counted_from_the_time_of_a_frame_ahead_of_the_wall_clock() {
    let mut bench = Bench::new();
    for stamp in (0..2_000).step_by(40) {
        bench.map(VIDEO, stamp, 0.0);
    }
    let newest =
        Arrival { dts: MediaTime::from_ticks(900_000 + 1_960 * MS), arrived: bench.at(0.0) };
    let silence = |ms| bench.timeline.silence(newest, bench.at(ms));
    assert_eq!(silence(1_960.0), Duration::ZERO);
    assert_eq!(silence(2_960.0), Duration::from_secs(1));
}

/// The largest distance from the wall clock, and between the tracks, after the first hour of 30
/// days with a publisher's clock that is off by `ppm`, with jitter.
fn month(ppm: f64) -> (f64, f64) {
    let (mut bench, mut off, mut apart) = (Bench::new(), 0.0f64, 0.0f64);
    let mut jitter = 1u32;
    for s in (0..30 * 86_400).step_by(5) {
        jitter = jitter.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let ms = f64::from(s) * 1_000.0;
        #[expect(clippy::cast_possible_truncation, reason = "a month of milliseconds")]
        let stamp = (ms * (1.0 + ppm / 1e6)) as i64;
        // Up to 60 ms late.
        let arrived = ms + f64::from(jitter >> 16) / 1_092.0;
        let video = bench.map(VIDEO, stamp, arrived);
        let audio = bench.map(AUDIO, stamp + 10, arrived);
        if s > 3_600 {
            off = off.max((video - ms).abs());
            apart = apart.max((audio - video - 10.0).abs());
        }
    }
    assert_eq!(bench.notices, []);
    (off, apart)
}

#[test]
fn a_drifting_publisher_clock_is_followed_for_thirty_days() {
    for ppm in [-200.0, -50.0, 50.0, 200.0] {
        let (off, apart) = month(ppm);
        assert!(off < 250.0 && apart < 1.0, "{ppm}: {off} ms off, {apart} ms apart");
    }
}

proptest::proptest! {
    #[test]
    fn decode_times_increase_and_are_at_most_5_s_ahead_of_the_wall_clock(
        frames in proptest::collection::vec(
            (
                0usize..2,
                proptest::prop_oneof![-500i64..3_000, proptest::num::i64::ANY],
                0u64..2_000,
            ),
            1..300,
        ),
    ) {
        let mut bench = Bench::new();
        let (mut ms, mut last, mut stamps) = (0.0, [f64::MIN; 2], [0i64; 2]);
        for (track, step, wait) in frames {
            ms += wait as f64;
            stamps[track] = stamps[track].saturating_add(step).clamp(-1 << 50, 1 << 50);
            if let Ok(at) = bench.try_map(TrackIndex::new(track), stamps[track], ms) {
                proptest::prop_assert!(at > last[track]);
                proptest::prop_assert!(at <= ms + 5_000.0, "{at} at {ms}");
                last[track] = at;
            }
            let now = bench.timeline.at(bench.at(ms)).ticks() as f64 / 90.0 - 10_000.0;
            proptest::prop_assert!(now <= ms + 5_000.0);
        }
    }
}
