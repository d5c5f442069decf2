//! The marks at which the master has cut: discontinuities before them, and the newest of them for
//! tracks that appear later.

use std::collections::VecDeque;

use media_core::{Mark, MediaTime};

use crate::track::Cut;

/// Cuts remembered for renditions that appear later, which start some seconds after the source at
/// the most.
const MAX_HISTORY: usize = 16;

/// The marks of a broadcast that the master has reached.
#[derive(Debug)]
pub(super) struct Marks {
    /// The newest cuts, oldest first; [`MAX_HISTORY`] at the most.
    history: VecDeque<Cut>,
    /// EXT-X-DISCONTINUITY-SEQUENCE of the next segment.
    discontinuities: u64,
    /// The master's segments start at frames that are not independent.
    gridded: bool,
    /// The first segment has a discontinuity before it: another broadcast was listed at this
    /// address.
    replaces: bool,
}

impl Marks {
    /// No marks yet. The first segment has this discontinuity sequence; `replaces`: and a
    /// discontinuity, because it replaces another broadcast.
    pub(super) fn new(discontinuities: u64, replaces: bool) -> Self {
        Self { history: VecDeque::new(), discontinuities, gridded: false, replaces }
    }

    /// The newest cuts, oldest first.
    pub(super) fn history(&self) -> &VecDeque<Cut> {
        &self.history
    }

    /// EXT-X-DISCONTINUITY-SEQUENCE of the next segment.
    pub(super) fn discontinuities(&self) -> u64 {
        self.discontinuities
    }

    /// Whether a gap of the source's own is before the newest mark.
    pub(super) fn resumes(&self) -> bool {
        let before = self.history.iter().rev().nth(1);
        before.is_some_and(|before| before.mark.gap)
    }

    /// Settles whether there is a discontinuity before `mark`, which the master has reached. `due`:
    /// there must be one, because a track of the source needs another init segment.
    pub(super) fn settle(&mut self, mut mark: Mark, due: bool) -> Mark {
        mark.discontinuity |= std::mem::take(&mut self.replaces) | due;
        mark
    }

    /// Whether segments are gridded from `mark` on. They are once a segment starts without an
    /// `independent` frame in a source with a `grid`, until the next discontinuity.
    pub(super) fn regrid(&mut self, mark: Mark, independent: bool, grid: bool) -> bool {
        self.gridded &= mark.gap || !mark.discontinuity;
        self.gridded |= !independent && !mark.gap && grid;
        self.gridded
    }

    /// Adds the master's cut at `mark`, whose segment starts at `start`. `held`: the master shows a
    /// still picture there.
    pub(super) fn push(&mut self, mark: Mark, start: MediaTime, held: bool) -> Cut {
        let cut =
            Cut { mark, start, held, discontinuities: self.discontinuities, gridded: self.gridded };
        self.discontinuities += u64::from(mark.discontinuity);
        // A rendition that appears later begins at a newer cut than the oldest.
        if self.history.len() == MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(cut);
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(msn: u64, gap: bool, discontinuity: bool) -> Mark {
        Mark { msn, pts: MediaTime::from_ticks(0), gap, discontinuity }
    }

    #[test]
    fn a_broadcast_that_replaces_another_has_one_discontinuity_before_its_first_segment() {
        let mut marks = Marks::new(7, true);
        let first = marks.settle(mark(0, false, false), false);
        let first = marks.push(first, MediaTime::from_ticks(0), false);
        let second = marks.settle(mark(1, false, false), false);
        let second = marks.push(second, MediaTime::from_ticks(180_000), false);
        assert_eq!((first.mark.discontinuity, first.discontinuities), (true, 7));
        assert_eq!((second.mark.discontinuity, second.discontinuities), (false, 8));
        assert_eq!(marks.discontinuities(), 8);
    }

    #[test]
    fn a_missed_discontinuity_is_applied_at_the_next_mark() {
        let mut marks = Marks::new(0, false);
        assert!(marks.settle(mark(0, false, false), true).discontinuity);
        assert!(marks.settle(mark(1, false, true), false).discontinuity);
        assert!(!marks.settle(mark(2, false, false), false).discontinuity);
    }

    #[test]
    fn a_grid_lasts_until_the_next_discontinuity_and_through_gaps() {
        let mut marks = Marks::new(0, false);
        assert!(!marks.regrid(mark(0, false, false), true, true));
        assert!(!marks.regrid(mark(1, true, false), false, true), "a gap has no frame");
        assert!(marks.regrid(mark(2, false, false), false, true));
        assert!(marks.regrid(mark(3, false, false), true, true));
        assert!(marks.regrid(mark(4, true, true), false, true), "nothing is shown in a gap");
        assert!(!marks.regrid(mark(5, false, true), true, true));
    }

    #[test]
    fn the_last_16_cuts_are_kept_and_the_mark_after_a_gap_resumes() {
        let mut marks = Marks::new(0, false);
        for msn in 0..40 {
            marks.push(mark(msn, msn == 38, false), MediaTime::from_ticks(0), false);
            assert_eq!(marks.resumes(), msn == 39);
        }
        let history: Vec<_> = marks.history().iter().map(|cut| cut.mark.msn).collect();
        assert_eq!(history, (24..40).collect::<Vec<_>>());
    }
}
