//! The clock of an audio track. Decode times are sums of sample durations, so that they have no
//! holes, and follow the wire's clock by medians.
//!
//! The wire's stamps are milliseconds with the jitter of the publisher. The median of their
//! distances from this clock is taken over 2 s. Slow drift is absorbed by sample durations a few
//! ticks longer or shorter, drift of whole access units by leaving some out or filling in silence.
//! A hole or an overlap too large to be jitter is corrected at once.

use std::{
    ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign},
    time::Duration,
};

use media_core::{Ticks, Timescale};

use crate::metrics::Audio as Metrics;

/// Part of an access unit's duration that drift may add to it or take from it: 5/1024, about 0.5 %,
/// which is not audible.
const STRETCH_NUM: i64 = 5;
const STRETCH_DEN: u32 = 1024;
/// Distance in access units that cannot be jitter.
const LEAP_UNITS: i64 = 3;
/// Median distance in access units that is corrected by whole units, not by stretching.
const WHOLE_UNITS: i64 = 2;
/// Time over which the median is taken.
const MEDIAN: Duration = Duration::from_secs(2);
/// A median distance up to this is rounding, not drift.
const DEAD_BAND: Duration = Duration::from_millis(2);
/// The most silence filled in at once. After more, the clock leaps: only then `tfdt` does not
/// continue.
const MAX_FILL: Duration = Duration::from_secs(30);

/// The place of an access unit. The clock includes the unit already, but not the silence before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// Append it with `duration`, after `silence` silent access units of the plain duration.
    At {
        /// Silent access units to put before it.
        silence: i64,
        /// Duration of this one in ticks.
        duration: u32,
    },
    /// Other units fill its time already: leave it out.
    Overlap,
}

/// Places the access units of one track. All times are ticks of its clock, which is that of its
/// first sampling rate.
#[derive(Debug)]
pub(crate) struct Clock {
    timescale: Timescale,
    /// Audio samples a second, and in an access unit.
    rate: i64,
    samples: i64,
    /// Time by which the durations so far, each in whole ticks, are too short.
    behind: Parts,
    /// Decode time of the next access unit; none before the first.
    next: Option<Ticks>,
    /// Distances of the wire's stamps since the last median.
    distances: Vec<Ticks>,
    /// Distance that durations have not absorbed yet.
    drift: Parts,
}

/// A duration in units of 1/`rate` of a tick, where `rate` is [`Clock::rate`]: so the duration of
/// an access unit is a whole number, and sums of durations are exact.
///
/// Arithmetic saturates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Parts(i64);

impl Clock {
    /// A clock of ticks of `timescale` for access units of `samples` samples, `rate` of which are a
    /// second.
    pub(crate) fn new(timescale: Timescale, rate: u32, samples: u32) -> Self {
        Self {
            timescale,
            rate: i64::from(rate.max(1)),
            samples: i64::from(samples.max(1)),
            behind: Parts::ZERO,
            next: None,
            distances: Vec::new(),
            drift: Parts::ZERO,
        }
    }

    /// Sets the sampling rate and the samples of an access unit from the next unit on.
    pub(crate) fn change(&mut self, rate: u32, samples: u32) {
        (self.rate, self.samples) = (i64::from(rate.max(1)), i64::from(samples.max(1)));
        self.behind = Parts::ZERO;
        self.forget_distances();
    }

    /// Decode time of the next access unit.
    pub(crate) fn next(&self) -> Option<Ticks> {
        self.next
    }

    /// The duration of one access unit, rounded down; a tick at the least.
    pub(crate) fn unit(&self) -> Ticks {
        self.whole(self.unit_parts()).max(Ticks::ONE)
    }

    /// The exact duration of one access unit.
    fn unit_parts(&self) -> Parts {
        Parts(self.samples * i64::from(self.timescale.hz()))
    }

    /// `ticks` in parts of a tick.
    fn parts(&self, ticks: Ticks) -> Parts {
        Parts(ticks.get()) * self.rate
    }

    /// The whole ticks of `parts`.
    fn whole(&self, parts: Parts) -> Ticks {
        Ticks::new(parts.0 / self.rate)
    }

    /// The most silence filled in at once.
    fn max_fill(&self) -> Ticks {
        Ticks::from_duration(MAX_FILL, self.timescale)
    }

    /// Advances the clock by one access unit of the plain duration. Returns that duration.
    pub(crate) fn pass(&mut self) -> u32 {
        let duration = self.duration(Parts::ZERO);
        self.next = self.next.map(|next| next + duration);
        u32::try_from(duration.get()).unwrap_or(1024)
    }

    /// The next access unit's duration, longer by `stretch`. The sum of all durations is exact
    /// to a tick, however many there are.
    fn duration(&mut self, stretch: Parts) -> Ticks {
        // The remainder of each division is carried over, so that rounding never adds up.
        let parts = self.unit_parts() + stretch + self.behind;
        self.behind = Parts(parts.0 % self.rate);
        self.whole(parts)
    }

    /// Sets the clock to `at`, for example after a gap.
    pub(crate) fn restart(&mut self, at: Ticks) {
        self.next = Some(at);
        self.forget_distances();
    }

    /// Forgets the distances so far, because they no longer measure drift.
    fn forget_distances(&mut self) {
        self.distances.clear();
        self.drift = Parts::ZERO;
    }

    /// Places the access unit stamped `wire`.
    pub(crate) fn place(&mut self, wire: Ticks, metrics: &Metrics) -> Placed {
        let next = *self.next.get_or_insert(wire);
        let distance = wire - next;
        let unit = self.unit();
        // Silence for a longer hole would be too many units at once, so the clock leaps, and `tfdt`
        // with it.
        if distance > self.max_fill() {
            metrics.leaps.inc();
            self.restart(wire);
            return self.place_here(0);
        }
        // A hole: silence takes the place of the missing units. Distances before it no longer
        // measure drift.
        if distance >= unit * LEAP_UNITS {
            // In parts: a unit in ticks is rounded, which adds up over a long hole.
            let unit = self.unit_parts();
            let silence = (self.parts(distance) + unit / 2).units(unit);
            self.restart(next);
            return self.place_here(silence);
        }
        // Units are left out until the wire's time is that of the clock again.
        if distance <= unit * -LEAP_UNITS {
            return Placed::Overlap;
        }
        // Within the jitter the unit follows the one before it without a gap. The median over some
        // seconds shows by how much the clocks differ.
        self.distances.push(distance);
        let mut silence = 0;
        if self.distances.len() as i64 >= self.units_in_median() {
            // A distance that rounding explains is not corrected, so that sources in step keep
            // equal durations.
            let median = median(&mut self.distances);
            self.distances.clear();
            let explained = median.abs() <= Ticks::from_duration(DEAD_BAND, self.timescale);
            self.drift = if explained { Parts::ZERO } else { self.parts(median) };
            // Some units of drift would take too long to absorb: one is left out or some are filled
            // in, and the rest is absorbed by durations.
            let unit = self.unit_parts();
            if self.drift <= unit * -WHOLE_UNITS {
                self.drift += unit;
                return Placed::Overlap;
            }
            if self.drift >= unit * WHOLE_UNITS {
                silence = self.drift.units(unit);
                self.drift -= unit * silence;
            }
        }
        self.place_here(silence)
    }

    /// The number of silent access units that advance the clock to `until` or just past it. The
    /// caller calls [`Self::pass`] for each.
    pub(crate) fn fill(&mut self, until: Ticks) -> i64 {
        let next = *self.next.get_or_insert(until);
        let missing = (until - next).clamp(Ticks::ZERO, self.max_fill());
        self.forget_distances();
        // In parts of a tick and rounded up, so that the last unit ends at `until` or just after
        // it.
        let (parts, unit) = (self.parts(missing) - self.behind, self.unit_parts());
        (parts + unit - Parts(1)).units(unit).max(0)
    }

    /// How many distances a median is taken of: the whole access units in [`MEDIAN`].
    fn units_in_median(&self) -> i64 {
        Ticks::from_duration(MEDIAN, self.timescale).get() / self.unit().get()
    }

    fn place_here(&mut self, silence: i64) -> Placed {
        // The limit may be less than a tick. The fraction is carried over, because a whole tick for
        // each unit would be several percent of a unit that has few ticks.
        let most = self.unit_parts() * STRETCH_NUM / STRETCH_DEN;
        let stretch = self.drift.clamp(-most, most);
        self.drift -= stretch;
        let duration = self.duration(stretch);
        if let Some(next) = &mut self.next {
            *next += duration;
        }
        Placed::At { silence, duration: u32::try_from(duration.get()).unwrap_or(1024) }
    }
}

impl Parts {
    const ZERO: Self = Self(0);

    /// How many access units of the duration `unit`, which is more than zero, fit into this one.
    fn units(self, unit: Self) -> i64 {
        self.0 / unit.0
    }
}

impl Add for Parts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Parts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Parts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl SubAssign for Parts {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Neg for Parts {
    type Output = Self;

    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl Mul<i64> for Parts {
    type Output = Self;

    fn mul(self, times: i64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

/// Rounds towards zero. The divisor is never zero.
impl Div<u32> for Parts {
    type Output = Self;

    fn div(self, by: u32) -> Self {
        Self(self.0 / i64::from(by))
    }
}

/// Whether [`LEAP_UNITS`] access units or more are missing between the clock at `at` and a unit
/// stamped `wire`.
pub(crate) fn is_hole(at: Ticks, wire: Ticks, unit: Ticks) -> bool {
    wire - at >= unit * LEAP_UNITS
}

fn median(values: &mut [Ticks]) -> Ticks {
    let middle = values.len() / 2;
    *values.select_nth_unstable(middle).1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs stamps through a 48 kHz clock; returns (units placed, silence, overlaps, end of the
    /// clock).
    fn run(stamps: impl IntoIterator<Item = i64>) -> (u64, i64, u64, i64) {
        let metrics = Metrics::default();
        let mut clock = Clock::new(Timescale::new(48_000).unwrap(), 48_000, 1024);
        let (mut units, mut silent, mut overlaps) = (0, 0, 0);
        for wire in stamps {
            let wire = Ticks::new(wire);
            let before = clock.next().unwrap_or(wire);
            match clock.place(wire, &metrics) {
                Placed::At { silence, duration } => {
                    assert!((1019..=1029).contains(&duration));
                    assert_eq!(clock.next().unwrap(), before + Ticks::from(duration));
                    (0..silence).for_each(|_| assert_eq!(clock.pass(), 1024));
                    units += 1;
                    silent += silence;
                }
                Placed::Overlap => overlaps += 1,
            }
        }
        (units, silent, overlaps, clock.next().unwrap().get())
    }

    /// Stamp of access unit `n` in whole milliseconds, as ticks.
    fn in_ms(n: i64) -> i64 {
        n * 1024 * 1000 / 48_000 * 48
    }

    #[test]
    fn millisecond_timestamps_leave_audio_durations_unchanged() {
        assert_eq!(run((0..10_000).map(in_ms)), (10_000, 0, 0, 10_240_000));
    }

    #[test]
    fn slow_drift_is_absorbed_without_losing_or_adding_an_access_unit() {
        // 0.2 % fast for 10 minutes.
        for sign in [1, -1] {
            let stamps = (0..28_000).map(|n| in_ms(n) + sign * n * 2);
            let (units, silent, overlaps, end) = run(stamps);
            assert_eq!((units, silent, overlaps), (28_000, 0, 0));
            let wire = 28_000 * (1024 + sign * 2);
            assert!((end - wire).abs() < 48 * 15, "{}", end - wire);
        }
    }

    #[test]
    fn a_hole_in_audio_is_filled_with_silence_at_once() {
        let stamps = (0..200).map(in_ms).chain((230..400).map(in_ms));
        assert_eq!(run(stamps), (370, 30, 0, 400 * 1024));
    }

    #[test]
    fn a_hole_is_filled_exactly_however_few_ticks_a_unit_has() {
        let metrics = Metrics::default();
        let mut clock = Clock::new(Timescale::new(8_000).unwrap(), 8_000, 1024);
        clock.restart(Ticks::ZERO);
        clock.change(96_000, 1024);
        // 10 s at 96 kHz: 937.5 units of 85.3 ticks.
        let Placed::At { silence, .. } = clock.place(Ticks::new(80_000), &metrics) else {
            panic!("it is a hole")
        };
        assert_eq!(silence, 938);
    }

    #[test]
    fn overlapping_access_units_are_dropped_whole() {
        let stamps = (0..200).map(in_ms).chain((190..400).map(in_ms));
        let (units, silent, overlaps, end) = run(stamps);
        assert_eq!((units + overlaps, silent), (410, 0));
        assert!((end - 400 * 1024).abs() <= 3 * 1024, "{end}");
    }

    #[test]
    fn an_access_unit_a_minute_late_does_not_move_the_clock_backward() {
        let metrics = Metrics::default();
        let mut clock = Clock::new(Timescale::new(48_000).unwrap(), 48_000, 1024);
        clock.restart(Ticks::ZERO);
        for _ in 0..48_000 * 60 / 1024 {
            clock.pass();
        }
        let at = clock.next();
        assert_eq!(clock.place(Ticks::ZERO, &metrics), Placed::Overlap);
        assert_eq!(clock.next(), at);
    }

    #[test]
    fn jitter_of_two_access_units_is_not_a_hole() {
        let stamps = (0..5_000).map(|n| in_ms(n / 2 * 2));
        let (units, silent, overlaps, _) = run(stamps);
        assert_eq!((units, silent, overlaps), (5_000, 0, 0));
    }

    #[test]
    fn a_new_sampling_rate_is_exact_over_hours_on_the_first_timescale() {
        let metrics = Metrics::default();
        let mut clock = Clock::new(Timescale::new(48_000).unwrap(), 48_000, 1024);
        clock.restart(Ticks::ZERO);
        clock.change(44_100, 1024);
        let units = 44_100 * 60; // 1024 minutes of sound.
        let mut sum = Ticks::ZERO;
        for n in 0..units {
            let wire = Ticks::new(n * 1024 * 48_000 / 44_100);
            let Placed::At { silence: 0, duration } = clock.place(wire, &metrics) else {
                panic!("unit {n}")
            };
            assert!((1114..=1115).contains(&duration), "{duration}");
            sum += Ticks::from(duration);
        }
        assert_eq!(sum, Ticks::new(1024 * 60 * 48_000));
        assert_eq!(clock.fill(sum + Ticks::new(48_000)), 44);
    }

    #[test]
    fn drift_changes_durations_by_half_a_percent_however_few_ticks_a_unit_has() {
        // The clock's rate, and the sampling rate of the units.
        for (hz, rate) in [(8_000, 96_000), (1_000, 192_000), (96_000, 8_000)] {
            for sign in [1, -1] {
                let metrics = Metrics::default();
                let mut clock = Clock::new(Timescale::new(hz).unwrap(), hz, 1024);
                clock.restart(Ticks::ZERO);
                clock.change(rate, 1024);
                let (hz, rate) = (i64::from(hz), i64::from(rate));
                // 0.2 % fast or slow for 10 minutes.
                let wire = |n| Ticks::new(n * 1024 * hz * (500 + sign) / (rate * 500));
                let units = rate * 600 / 1024;
                let (mut end, mut since) = (Ticks::ZERO, Ticks::ZERO);
                for n in 0..units {
                    let Placed::At { silence: 0, duration } = clock.place(wire(n), &metrics) else {
                        panic!("unit {n} at {rate} Hz")
                    };
                    assert!(duration > 0);
                    end += Ticks::from(duration);
                    // Each duration is whole ticks, so that half a percent is that of many units.
                    if (n + 1) % 250 == 0 {
                        let (of_run, plain) = ((end - since).get(), 250 * 1024 * hz / rate);
                        assert!((of_run - plain).abs() <= plain / 200 + 1, "{of_run} of {plain}");
                        since = end;
                    }
                }
                let left = (end - wire(units)).get();
                assert!(left.abs() <= hz / 100, "{left} ticks of 1/{hz} s");
            }
        }
    }

    #[test]
    fn a_late_audio_track_is_filled_with_silence_up_to_a_given_time() {
        let mut clock = Clock::new(Timescale::new(48_000).unwrap(), 48_000, 1024);
        clock.restart(Ticks::ZERO);
        assert_eq!(clock.fill(Ticks::new(96_000)), 94);
        (0..94).for_each(|_| assert_eq!(clock.pass(), 1024));
        assert_eq!(clock.next(), Some(Ticks::new(96_256)));
        assert_eq!(clock.fill(Ticks::new(96_000)), 0);
    }
}
