use std::time::{Instant, SystemTime};

use super::*;

const PART: Duration = Duration::from_millis(200);

fn sample(duration: u32, key: bool) -> Sample {
    Sample {
        duration,
        composition: 0,
        key,
        head: Bytes::new(),
        payload: Bytes::from_static(&[0; 8]),
    }
}

fn segment(gap: bool) -> Segment {
    Segment {
        msn: 7,
        start: Ticks::new(900_000),
        duration: Ticks::ZERO,
        init: 0,
        discontinuity: false,
        gap,
        independent: true,
        still: None,
        parts: Vec::new(),
        bytes: Rope::default(),
    }
}

/// A segmenter at 90 kHz with an open segment.
fn open(gap: bool) -> Segmenter {
    let anchor = Anchor::new(Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(2_000));
    let mut segmenter = Segmenter::new(Timescale::VIDEO, anchor, PART);
    segmenter.start(segment(gap), Sets::default());
    segmenter
}

/// Start, duration and kind of each part: `i`ndependent, `d`ependent or a `g`ap.
fn parts(segment: &Segment) -> Vec<(i64, i64, char)> {
    let kind = |part: &Part| match (part.gap, part.independent) {
        (true, _) => 'g',
        (false, true) => 'i',
        (false, false) => 'd',
    };
    let parts = segment.parts.iter();
    let start = Ticks::new(900_000);
    parts.map(|part| ((part.start - start).get(), part.duration.get(), kind(part))).collect()
}

#[test]
fn full_parts_last_85_to_100_percent_of_the_part_target() {
    assert_eq!(part_target(PART), Duration::from_millis(234));
    assert_eq!(part_target(Duration::from_millis(50)), Duration::from_millis(57));
    // At 12.5 frames a second two frames are 160 ms and three 240: a track that must keep 234 ms
    // takes two.
    assert_eq!(part_target_within(PART, Some(12.5)), Duration::from_millis(188));
    assert_eq!(part_target_within(PART, Some(30.0)), Duration::from_millis(234));
    assert_eq!(part_target_within(PART, None), Duration::from_millis(234));
}

#[test]
fn a_part_closes_at_the_first_sample_that_reaches_its_duration() {
    let mut segmenter = open(false);
    let closed: Vec<_> = (0..12).map(|n| segmenter.push(sample(3_000, n == 0))).collect();
    assert_eq!(closed, [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    let segment = segmenter.close(Ticks::ZERO).unwrap();
    assert_eq!(parts(&segment), [(0, 18_000, 'i'), (18_000, 18_000, 'd')]);
    let whole: usize = segment.parts.iter().map(|part| part.bytes.len()).sum();
    assert_eq!((segment.duration, segment.bytes.len()), (Ticks::new(36_000), whole));
}

#[test]
fn a_part_closes_a_sample_earlier_if_it_would_become_longer_than_the_target() {
    let mut segmenter = open(false);
    segmenter.limit_parts(part_target(PART));
    // 160 ms and 80 ms are more than 234 ms.
    for _ in 0..4 {
        segmenter.push(sample(7_200, false));
    }
    let segment = segmenter.close(Ticks::ZERO).unwrap();
    assert_eq!(parts(&segment), [(0, 14_400, 'd'), (14_400, 14_400, 'd')]);
}

#[test]
fn a_gap_has_parts_of_the_usual_length_and_ends_at_its_closing_time() {
    let mut segmenter = open(true);
    assert!(segmenter.clocked().is_some() && !segmenter.takes_samples());
    assert_eq!(segmenter.push_gaps(Ticks::new(900_000 + 40_000)), 2);
    let segment = segmenter.close(Ticks::new(900_000 + 50_000)).unwrap();
    let least = 17_910; // 199 ms
    let last = 50_000 - 2 * least;
    assert_eq!(parts(&segment), [(0, least, 'g'), (least, least, 'g'), (2 * least, last, 'g')]);
    assert!(segment.gap && segment.bytes.is_empty());
}

#[test]
fn an_interrupted_segment_has_media_and_gap_parts_and_is_a_gap() {
    let mut segmenter = open(false);
    for _ in 0..8 {
        segmenter.push(sample(3_000, false));
    }
    assert_eq!(segmenter.push_gaps(Ticks::MAX), 0, "samples may come");
    assert_eq!(segmenter.interrupt(), 1);
    assert!(!segmenter.takes_samples());
    let segment = segmenter.close(Ticks::new(900_000 + 30_000)).unwrap();
    assert_eq!(parts(&segment), [(0, 18_000, 'd'), (18_000, 6_000, 'd'), (24_000, 6_000, 'g')]);
    assert!(segment.gap && !segment.bytes.is_empty());
}

#[test]
fn a_still_picture_is_repeated_in_each_part_and_makes_it_independent() {
    let mut segmenter = open(false);
    let still = Bytes::from_static(&[1; 100]);
    segmenter.show(still.clone());
    assert!(segmenter.clocked().is_some());
    // 800 bits every 199 ms.
    assert_eq!(segmenter.still_bps(&still), 4_020);
    segmenter.push_gaps(Ticks::new(900_000 + 36_000));
    let segment = segmenter.close(Ticks::new(900_000 + 36_000)).unwrap();
    assert_eq!(parts(&segment), [(0, 17_910, 'i'), (17_910, 17_910, 'i'), (35_820, 180, 'i')]);
    assert!(!segment.gap && segment.still.is_some());
    let pictures = segment.parts.iter().flat_map(|part| part.bytes.pieces());
    let shared = pictures.filter(|piece| piece.as_ptr() == still.as_ptr());
    assert_eq!(shared.count(), 3, "the picture is held once");
}

#[test]
fn a_segment_without_a_sample_is_a_gap_of_no_duration() {
    let segment = open(false).close(Ticks::ZERO).unwrap();
    assert_eq!((segment.gap, segment.duration, segment.parts.len()), (true, Ticks::ZERO, 0));
}

#[test]
fn a_gap_without_parts_is_discarded_and_media_is_not() {
    let mut gap = open(true);
    gap.discard_empty_gap();
    assert!(gap.open().is_none());
    let mut media = open(false);
    media.discard_empty_gap();
    assert!(media.open().is_some());
}
