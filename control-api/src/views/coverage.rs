//! The media time that a session has got: a union of intervals, so that the same media count once,
//! however often and in how many renditions they are sent.

/// Intervals that are remembered at most. A live session has one, and another after each pause or
/// seek.
const MAX: usize = 4;

/// A set of milliseconds of a timeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Coverage {
    /// Disjoint intervals in order, of which the first `len` are in use.
    intervals: [(u64, u64); MAX],
    len: usize,
    total_ms: u64,
}

impl Coverage {
    /// Adds the interval from `start` to `end`.
    ///
    /// If there are too many intervals, those with the smallest hole between them become one. The
    /// hole is not counted, neither now nor later: the total is never too large.
    pub(super) fn add(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let overlap = |&(from, to): &(u64, u64)| to.min(end).saturating_sub(from.max(start));
        let known = self.iter().map(overlap).sum::<u64>();
        self.total_ms = self.total_ms.saturating_add((end - start).saturating_sub(known));

        // All intervals that it touches become one with it.
        let (mut merged, mut rest) = ((start, end), [(0, 0); MAX + 1]);
        let mut count = 0;
        for &(from, to) in self.iter() {
            if from <= merged.1 && merged.0 <= to {
                merged = (merged.0.min(from), merged.1.max(to));
            } else {
                rest[count] = (from, to);
                count += 1;
            }
        }
        rest[count] = merged;
        count += 1;
        rest[..count].sort_unstable();
        if count > MAX {
            let hole = |at: &usize| rest[at + 1].0.saturating_sub(rest[*at].1);
            if let Some(at) = (0..count - 1).min_by_key(hole) {
                rest[at].1 = rest[at + 1].1;
                rest.copy_within(at + 2..count, at + 1);
                count -= 1;
            }
        }
        self.intervals.copy_from_slice(&rest[..MAX]);
        self.len = count;
    }

    /// The length of all intervals, without holes.
    pub(super) fn total_ms(&self) -> u64 {
        self.total_ms
    }

    fn iter(&self) -> impl Iterator<Item = &(u64, u64)> {
        self.intervals.iter().take(self.len)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn of(intervals: &[(u64, u64)]) -> Coverage {
        let mut coverage = Coverage::default();
        intervals.iter().for_each(|&(start, end)| coverage.add(start, end));
        coverage
    }

    #[test]
    fn the_same_media_count_once_and_renditions_beside_each_other_too() {
        assert_eq!(of(&[(0, 2_000), (0, 2_000), (500, 600)]).total_ms(), 2_000);
        // Audio ends a little later than video.
        assert_eq!(of(&[(0, 2_000), (0, 2_005), (2_000, 4_000), (2_005, 4_010)]).total_ms(), 4_010);
        assert_eq!(of(&[(4_000, 6_000), (0, 2_000), (1_000, 5_000)]).total_ms(), 6_000);
        assert_eq!(of(&[(5, 5), (7, 3)]).total_ms(), 0);
    }

    #[test]
    fn beyond_the_limit_of_intervals_holes_are_not_counted() {
        let far = [(0, 10), (100, 110), (200, 210), (215, 220), (300, 310)];
        let mut coverage = of(&far);
        assert_eq!((coverage.total_ms(), coverage.len), (45, MAX));
        coverage.add(210, 215);
        assert_eq!(coverage.total_ms(), 45, "the hole counts for covered");
        coverage.add(110, 120);
        assert_eq!(coverage.total_ms(), 55);
    }

    proptest! {
        #[test]
        fn the_total_is_never_too_large_and_exact_for_few_intervals(
            intervals in proptest::collection::vec((0u64..200, 0u64..20), 0..12),
        ) {
            let (mut coverage, mut all) = (Coverage::default(), BTreeSet::new());
            let mut is_exact = true;
            for (start, length) in intervals {
                coverage.add(start, start + length);
                all.extend(start..start + length);
                let holes = all.iter().filter(|&&ms| !all.contains(&(ms + 1))).count();
                is_exact &= holes < MAX;
                prop_assert!(coverage.total_ms() <= all.len() as u64);
                prop_assert!(!is_exact || coverage.total_ms() == all.len() as u64);
                let ordered = coverage.iter().zip(coverage.iter().skip(1));
                for (one, next) in ordered {
                    prop_assert!(one.0 < one.1 && one.1 < next.0);
                }
            }
        }
    }
}
