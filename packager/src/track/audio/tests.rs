use super::{
    super::fixture::{T, audio, frame, mark, output, pending, segments},
    *,
};

/// Ticks of 2 s at 48 kHz.
const T_48: i64 = 96_000;

struct Bench {
    audio: Audio,
    output: Output,
    metrics: Metrics,
    start: Instant,
}

impl Bench {
    /// Stereo at 48 kHz for which cuts wait every 2 s; it joins later than others if `late`.
    fn new(cuts: u64, late: bool) -> Self {
        let config = audio();
        let Config::Aac(aac) = &*config else { panic!("audio") };
        let (mut audio, output) = (Audio::new(aac), output(&config, false, late));
        for msn in 0..cuts {
            audio.await_cut(&output, pending(mark(msn, T * i64::try_from(msn).unwrap())));
        }
        Self { audio, output, metrics: Metrics::default(), start: Instant::now() }
    }

    /// Takes units by their numbers, which arrive at the start, while the master is at `reached`.
    fn send(&mut self, units: std::ops::Range<i64>, reached: i64) {
        for n in units {
            let unit = Frame { arrived: self.start, ..frame(n * 1_024, true) };
            let reached = MediaTime::from_ticks(reached);
            self.audio.take(&self.output, unit, reached, &self.metrics);
        }
    }

    /// The master is at `reached` (90 kHz) when `ms` have passed.
    fn release(&mut self, reached: i64, ms: u64) {
        let reached = MediaTime::from_ticks(reached);
        let progress = Progress {
            reached,
            marked: reached,
            segment: Duration::from_secs(2),
            longest: Duration::from_secs(4),
        };
        let now = self.start + Duration::from_millis(ms);
        self.audio.release(&mut self.output, &progress, Some(now), &self.metrics);
    }

    /// Number and start of the open segment, in samples.
    fn open(&self) -> Option<(u64, i64)> {
        self.output.segmenter.open().map(|open| (open.msn, open.start.get()))
    }
}

#[test]
fn an_audio_unit_waits_until_the_master_reaches_its_end_or_for_250_ms() {
    let mut bench = Bench::new(1, false);
    bench.send(0..1, 0);
    assert_eq!(bench.audio.poll_timeout(), Some(bench.start + HOLD));
    bench.release(1_919, 0);
    assert_eq!(bench.open(), None);
    bench.release(1_920, 0);
    assert_eq!((bench.open(), bench.audio.edge()), (Some((0, 0)), Some(Ticks::new(1_024))));

    let mut bench = Bench::new(1, false);
    bench.send(0..1, 0);
    bench.release(0, 249);
    assert_eq!(bench.open(), None);
    bench.release(0, 250);
    assert_eq!(bench.open(), Some((0, 0)));
}

#[test]
fn a_segment_starts_with_the_first_unit_at_or_after_the_mark() {
    let mut bench = Bench::new(2, false);
    bench.send(0..100, 0);
    bench.release(2 * T, 0);
    // Unit 93 lies before 2 s (93.75 units), unit 94 after.
    assert_eq!(segments(&bench.output), [(0, 0, 94 * 1_024, false)]);
    assert_eq!(bench.open(), Some((1, 94 * 1_024)));
    assert_eq!(bench.metrics.audio.silence.get(), 0);
}

#[test]
fn silence_in_a_hole_is_split_among_the_segments_that_the_hole_covers() {
    let mut bench = Bench::new(4, false);
    bench.send(0..50, 0);
    // Units are back in the fourth segment.
    bench.send(300..310, 0);
    bench.release(4 * T, 0);
    let numbers: Vec<_> = segments(&bench.output)
        .iter()
        .map(|(msn, _, duration, gap)| (*msn, *duration / 1_024, *gap))
        .collect();
    assert_eq!(numbers, [(0, 94, false), (1, 94, false), (2, 94, false)]);
    assert_eq!(bench.audio.edge(), Some(Ticks::new(310 * 1_024)));
    assert_eq!(bench.metrics.audio.silence.get(), 250);
}

#[test]
fn missing_audio_units_become_silence_up_to_the_mark_after_the_hold_time() {
    let mut bench = Bench::new(2, false);
    bench.send(0..90, 0);
    let patience = MediaSpan::from_duration(HOLD).ticks();
    bench.release(T + patience - 1, 0);
    assert!(segments(&bench.output).is_empty());
    bench.release(T + patience, 0);
    assert_eq!(segments(&bench.output), [(0, 0, 94 * 1_024, false)]);
    assert_eq!(bench.metrics.audio.silence.get(), 4);
}

#[test]
fn stopped_audio_is_filled_with_silence_after_500_ms_without_a_mark() {
    let mut bench = Bench::new(1, false);
    bench.send(0..10, 0);
    let before = |bench: &Bench| bench.audio.edge().unwrap().get();
    bench.release(T, 499);
    assert_eq!(before(&bench), 10 * 1_024);
    bench.release(T, 500);
    // Up to a quarter of a second behind the master, whose next mark may be there.
    assert!((T_48 - 12_000 - 1_024..=T_48 - 12_000).contains(&before(&bench)));
}

#[test]
fn a_joining_audio_track_starts_at_a_mark_that_a_unit_directly_follows() {
    let mut bench = Bench::new(3, true);
    // Two units after the mark at 2 s: too late to start there.
    bench.send(96..97, 0);
    bench.release(3 * T, 0);
    assert_eq!(bench.open(), None);
    // The first unit after the mark at 4 s.
    bench.send(188..189, 0);
    bench.release(3 * T, 0);
    assert_eq!(bench.open(), Some((2, 188 * 1_024)));
    assert_eq!(bench.metrics.audio.silence.get(), 0);
}

#[test]
fn a_gap_of_the_master_is_a_gap_of_audio_unless_audio_continues() {
    for alive in [false, true] {
        let mut bench = Bench::new(1, false);
        bench.send(0..200, 0);
        bench.release(T, 0);
        let gap = media_core::Mark { gap: true, ..mark(1, T) };
        bench.audio.await_cut(&bench.output, pending(gap));
        let progress = Progress {
            reached: MediaTime::from_ticks(3 * T),
            marked: MediaTime::from_ticks(3 * T),
            segment: Duration::from_secs(2),
            longest: Duration::from_secs(4),
        };
        let (now, metrics) = (bench.start, bench.metrics.clone());
        bench.audio.meet_gap(&mut bench.output, &progress, alive, now, &metrics);
        let open = bench.output.segmenter.open().unwrap();
        assert_eq!((open.msn, open.gap), (1, !alive));
    }
}

#[test]
fn units_and_cuts_that_wait_are_bounded_and_counted() {
    let mut bench = Bench::new(10_000, true);
    assert_eq!(bench.audio.cuts.len(), MAX_CUTS);
    bench.send(0..3_000, 0);
    assert_eq!(bench.audio.held.len(), MAX_HELD);
    assert_eq!(bench.audio.bytes(), MAX_HELD * (UNIT_BYTES + 5));
}
