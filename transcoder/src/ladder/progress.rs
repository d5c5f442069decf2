//! How far the units that a worker was fed have come out again, rendition by rendition. Pure: `now` is an argument.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Units remembered: 10 s at 60 a second, and more than any queue on the way holds.
const MOST: usize = 600;
/// More units than any decoder and encoder hold back together.
const MANY: u32 = 30;

/// What was fed, and how far each rendition has come. Times are 90 kHz ticks.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Presentation time and arrival of units fed, in the order of feeding.
    fed: VecDeque<(i64, Instant)>,
    /// Presentation time of each rendition's newest unit.
    out: Vec<Option<i64>>,
    /// Units fed since any came out, and since when something is waited for.
    waiting: u32,
    waiting_since: Option<Instant>,
    /// The newest unit has not found room in the socket yet.
    blocked: bool,
    /// What is presented from here on is the next worker's to make.
    until: Option<i64>,
}

impl Progress {
    pub(crate) fn new(renditions: usize) -> Self {
        Self {
            fed: VecDeque::with_capacity(MOST),
            out: vec![None; renditions],
            waiting: 0,
            waiting_since: None,
            blocked: false,
            until: None,
        }
    }

    /// A unit goes in that had arrived at `arrived`.
    pub(crate) fn feed(&mut self, pts: i64, arrived: Instant, now: Instant) {
        if self.fed.len() == MOST {
            self.fed.pop_front();
        }
        self.fed.push_back((pts, arrived));
        if self.waiting == 0 {
            self.waiting_since = Some(now);
        }
        self.waiting = self.waiting.saturating_add(1);
        self.blocked = true;
    }

    /// The newest unit has gone in.
    pub(crate) fn fed(&mut self) {
        self.blocked = false;
    }

    /// What is presented from `pts` on is the next worker's to make.
    pub(crate) fn leave_at(&mut self, pts: i64) {
        self.until = Some(pts);
    }

    /// Whether a unit is the next worker's to make.
    pub(crate) fn is_left(&self, pts: i64) -> bool {
        self.until.is_some_and(|until| pts >= until)
    }

    /// A rendition is made from now on: how far it had come before says nothing.
    pub(crate) fn begin(&mut self, rendition: usize) {
        if let Some(out) = self.out.get_mut(rendition) {
            *out = None;
        }
    }

    /// A unit of a rendition comes out; when the unit that it was made of had arrived. `None`: none with this time was fed, so it is not
    /// of the source.
    pub(crate) fn come_out(&mut self, rendition: usize, pts: i64, now: Instant) -> Option<Instant> {
        let (_, arrived) = self.fed.iter().rev().find(|(fed, _)| *fed == pts)?;
        let arrived = *arrived;
        if !self.is_left(pts)
            && let Some(out) = self.out.get_mut(rendition)
        {
            *out = (*out).max(Some(pts));
        }
        self.decodes(now);
        Some(arrived)
    }

    /// The worker has decoded something, whether it comes out or not.
    pub(crate) fn decodes(&mut self, now: Instant) {
        (self.waiting, self.waiting_since) = (0, Some(now));
    }

    /// The newest time at which any rendition's unit came out.
    pub(crate) fn newest_out(&self) -> Option<i64> {
        self.out.iter().copied().flatten().max()
    }

    /// How far the renditions for which `made` says so are behind: the age of the oldest unit fed that has not come out of the slowest.
    /// `None` before anything came out: that may take its time, and [`Progress::silence`] says how long it takes.
    pub(crate) fn lag(&self, made: impl Fn(usize) -> bool, now: Instant) -> Option<Duration> {
        let slowest = (0..self.out.len())
            .filter(|index| made(*index))
            .filter_map(|index| self.out[index])
            .min()?;
        // Half rate: the unit after the newest may be one that is left out, and reordered ones come out in another order.
        let mut waiting = self.fed.iter().filter(|(pts, _)| *pts > slowest);
        let oldest = waiting.nth(1).map(|(_, arrived)| *arrived);
        Some(oldest.map_or(Duration::ZERO, |arrived| now.saturating_duration_since(arrived)))
    }

    /// For how long something was waited for, and nothing came of it: many units have gone in, or the next finds no room.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        let since = self.waiting_since.filter(|_| self.waiting >= MANY || self.blocked);
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_slowest_that_is_made_counts() {
        let start = Instant::now();
        let mut progress = Progress::new(2);
        assert_eq!(progress.lag(|_| true, start), None);
        for n in 0..10 {
            progress.feed(n * 3_000, start + 33 * MS * u32::try_from(n).unwrap(), start);
        }
        assert_eq!(progress.lag(|_| true, start + 400 * MS), None);
        assert_eq!(progress.come_out(0, 27_000, start), Some(start + 297 * MS));
        assert_eq!(progress.come_out(1, 6_000, start), Some(start + 66 * MS));
        assert_eq!(progress.come_out(1, 6_001, start), None, "nothing like it was fed");
        assert_eq!(progress.lag(|_| true, start + 400 * MS), Some(268 * MS));
        assert_eq!(progress.lag(|index| index == 0, start + 400 * MS), Some(Duration::ZERO));
        assert_eq!(progress.newest_out(), Some(27_000));
    }

    #[test]
    fn silence_is_told_from_having_nothing_to_do() {
        let start = Instant::now();
        let mut progress = Progress::new(1);
        assert_eq!(progress.silence(start), Duration::ZERO);
        progress.feed(0, start, start);
        assert_eq!(progress.silence(start + 700 * MS), 700 * MS, "there is no room for it");
        progress.fed();
        let later = start + 9_000 * MS;
        assert_eq!(progress.silence(later), Duration::ZERO, "a decoder may hold one back");
        progress.come_out(0, 0, later);
        for n in 1..=30 {
            progress.feed(n, start, start + 10_000 * MS);
            progress.fed();
        }
        assert_eq!(progress.silence(start + 15_000 * MS), 5_000 * MS);
        progress.decodes(start + 15_000 * MS);
        assert_eq!(progress.silence(start + 90_000 * MS), Duration::ZERO);
    }

    #[test]
    fn one_that_is_made_again_is_not_late_for_the_time_in_which_it_was_not() {
        let start = Instant::now();
        let mut progress = Progress::new(2);
        for n in 0..100 {
            progress.feed(n, start, start);
        }
        progress.come_out(0, 10, start);
        progress.come_out(1, 99, start);
        let late = start + 2_000 * MS;
        assert_eq!(progress.lag(|_| true, late), Some(2_000 * MS));
        progress.begin(0);
        assert_eq!(progress.lag(|_| true, late), Some(Duration::ZERO));
        progress.come_out(0, 90, start);
        assert_eq!(progress.lag(|_| true, late), Some(2_000 * MS));
    }

    #[test]
    fn what_is_left_to_the_next_worker_does_not_count_as_made() {
        let start = Instant::now();
        let mut progress = Progress::new(1);
        for n in 0..4 {
            progress.feed(n, start, start);
        }
        progress.leave_at(2);
        assert_eq!([1, 2, 3].map(|pts| progress.is_left(pts)), [false, true, true]);
        for n in 0..4 {
            assert_eq!(progress.come_out(0, n, start), Some(start));
        }
        assert_eq!(progress.newest_out(), Some(1));
    }

    #[test]
    fn memory_is_bounded() {
        let start = Instant::now();
        let mut progress = Progress::new(1);
        for n in 0..100_000 {
            progress.feed(n, start, start);
        }
        assert_eq!(progress.fed.len(), MOST);
    }
}
