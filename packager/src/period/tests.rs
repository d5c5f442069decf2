use proptest::prelude::*;

use super::*;
use crate::renderer::example::{Cut, Example, FIRST};

/// A segment of tracks that all have the init segment `init`.
fn open(
    periods: &mut Periods,
    msn: u64,
    start: MediaTime,
    (gap, discontinuity): (bool, bool),
    init: u32,
) {
    periods.open(&Opening {
        msn,
        start,
        gap,
        discontinuity,
        gridded: false,
        interrupted: false,
        inits: &[Some(init); 2],
    });
}

fn period(periods: &[Period], msn: u64) -> Vec<&Period> {
    let holds =
        |period: &&Period| period.first <= msn && period.last.is_none_or(|last| msn <= last.msn);
    periods.iter().filter(holds).collect()
}

#[test]
fn segments_that_deviate_by_a_millisecond_end_a_period_after_1002_segments() {
    // 2.002 s each, as 60 frames at 29.97 a second have, the first of them seen as 2.001 s by
    // stamps in milliseconds.
    let mut periods = Periods::new(MediaSpan::from_millis(2_000));
    let mut start = MediaTime::ZERO;
    for msn in 0..3_000 {
        let duration = MediaSpan::from_ticks(if msn == 0 { 180_090 } else { 180_180 });
        open(&mut periods, msn, start, (false, false), 0);
        periods.close(msn, duration);
        start = start + duration;
    }
    let periods = periods.snapshot();
    assert_eq!(
        periods.iter().map(|period| (period.first, period.nominal.ticks())).collect::<Vec<_>>(),
        [(0, 180_090), (1002, 180_180)]
    );
    assert_eq!(periods[1].continues, Some(0));
}

#[test]
fn the_double_segment_at_the_start_of_a_grid_has_its_own_period() {
    let periods = {
        let mut example = Example::new();
        for duration in [360_000, 180_000, 180_000, 180_000, 81_000] {
            example.push(Cut::Media, duration);
        }
        example.end().periods
    };
    let told: Vec<_> = periods
        .iter()
        .map(|period| {
            (
                period.first - FIRST,
                period.nominal.ticks(),
                period.last.map(|last| (last.msn, last.end.ticks())),
            )
        })
        .collect();
    assert_eq!(told, [(0, 360_000, Some((FIRST + 1, 1_440_000))), (2, 180_000, None)]);
}

#[test]
fn a_first_grid_segment_just_below_double_length_sets_the_nominal_duration_at_once() {
    // 29.97 frames a second: 3.971 s until a frame would make it longer than 2T, then marks every
    // T.
    let mut example = Example::new();
    for duration in [357_390, 180_180, 180_180, 180_180, 180_180] {
        example.push(Cut::Media, duration);
    }
    let periods = example.snapshot().periods;
    let nominal: Vec<_> = periods.iter().map(|period| period.nominal.ticks()).collect();
    assert_eq!(nominal, [357_390, 180_180]);
}

#[test]
fn a_segment_cut_short_by_a_gap_does_not_count_for_the_next_nominal_duration() {
    let mut example = Example::new();
    example.push(Cut::Media, 180_000);
    example.push(Cut::Media, 180_000);
    example.push(Cut::Media, 126_000);
    example.push(Cut::Gap, 180_000);
    example.push(Cut::Discontinuity, 180_000);
    example.open_with(Cut::Media, 180_000, 2);
    let periods = example.snapshot().periods;
    let nominal: Vec<_> = periods.iter().map(|period| period.nominal.ticks()).collect();
    assert_eq!(nominal, [180_000, 180_000]);
}

#[test]
fn a_period_without_held_segments_is_removed() {
    let mut periods = Periods::new(MediaSpan::from_millis(2_000));
    for msn in 0..30 {
        let start = MediaTime::from_ticks(180_000 * i64::try_from(msn).unwrap());
        open(&mut periods, msn, start, (msn % 3 == 2, false), 0);
        periods.close(msn, MediaSpan::from_millis(2_000));
    }
    assert_eq!(periods.snapshot().len(), 10);
    periods.expire(12);
    assert_eq!(
        periods.snapshot().iter().map(|period| period.first).collect::<Vec<_>>(),
        [12, 15, 18, 21, 24, 27]
    );
    periods.expire(100);
    assert!(periods.snapshot().is_empty());
}

proptest! {
    #[test]
    fn each_media_segment_lies_in_one_period_near_its_computed_start_and_periods_do_not_change(
        script in prop::collection::vec(
            (0u8..12, prop_oneof![Just(180_000i64), 90i64..360_000]),
            2..100,
        ),
    ) {
        let mut periods = Periods::new(MediaSpan::from_millis(2_000));
        let mut segments = Vec::new();
        let mut told: Vec<Period> = Vec::new();
        let (mut start, mut init) = (MediaTime::from_ticks(900_000), 0);
        for (msn, (kind, duration)) in (FIRST..).zip(script) {
            let duration = MediaSpan::from_ticks(duration);
            let (gap, discontinuity) = (kind == 0, kind == 1);
            init += u32::from(discontinuity);
            open(&mut periods, msn, start, (gap, discontinuity), init);
            segments.push((msn, start, gap, discontinuity, init));
            let now = periods.snapshot();
            prop_assert!(now.len() >= told.len());
            for (is, was) in now.iter().zip(&told) {
                prop_assert_eq!(&Period { last: was.last, ..is.clone() }, was);
                prop_assert!(was.last.is_none() || was.last == is.last);
            }
            let placed = segments.iter().filter(|_| !now.is_empty());
            for (msn, start, gap, discontinuity, init) in placed {
                let holds = period(&now, *msn);
                prop_assert_eq!(holds.len(), usize::from(!gap), "{} {:?}", msn, now);
                for period in holds {
                    let count = i64::try_from(msn - period.first).unwrap();
                    let expected = period.start + period.nominal * count;
                    prop_assert!((expected - *start).abs() * 2 <= period.nominal);
                    prop_assert!(*msn == period.first || !discontinuity);
                    prop_assert!(period.inits.iter().all(|number| *number == Some(*init)));
                    let begins = *start == period.start;
                    let breaks = !discontinuity || period.continues.is_none();
                    prop_assert!(*msn > period.first || (begins && breaks));
                }
            }
            for pair in now.windows(2) {
                prop_assert!(pair[0].last.unwrap().end <= pair[1].start);
            }
            told = now.to_vec();
            periods.close(msn, duration);
            start = start + duration;
        }
    }
}
