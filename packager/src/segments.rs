//! The complete segments of a track, oldest first, as a sequence that snapshots share.
//!
//! A snapshot is taken at each part and a segment is added every few seconds, while a window of a
//! day holds some 86 400 of them. So the sequence is kept in chunks behind reference counts: a
//! clone increments one count, and a change copies at most one chunk and the list of chunks.

use std::{collections::VecDeque, ops::Index, sync::Arc};

use crate::Segment;

/// Segments of a full chunk. The list of chunks of a day is about as long, so that a change copies
/// about as many pointers as the square root of all segments.
const CHUNK: usize = 256;

/// Segments, oldest first. Cheap to clone; a clone does not change with the original.
#[derive(Debug, Clone, Default)]
pub struct Segments {
    /// All but the first and the last hold [`CHUNK`] segments; none is empty.
    chunks: Arc<VecDeque<Arc<Vec<Arc<Segment>>>>>,
    /// Segments that have been taken from the front of the first chunk.
    taken: usize,
    len: usize,
}

impl Segments {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The segment at `index`, counted from the oldest.
    pub fn get(&self, index: usize) -> Option<&Arc<Segment>> {
        // Places count from the start of the first chunk, including the segments that were taken
        // from it. Only in that chunk do they differ from the index in the chunk.
        #[cfg(test)]
        tests::READS.set(tests::READS.get() + 1);
        let place = self.taken + index;
        let before = if place < CHUNK { self.taken } else { 0 };
        let chunk = self.chunks.get(place / CHUNK)?;
        chunk.get(place % CHUNK - before)
    }

    /// The oldest.
    pub fn first(&self) -> Option<&Arc<Segment>> {
        self.get(0)
    }

    /// The newest.
    pub fn last(&self) -> Option<&Arc<Segment>> {
        self.get(self.len.checked_sub(1)?)
    }

    /// All, oldest first.
    pub fn iter(&self) -> Iter<'_> {
        self.range(0, self.len)
    }

    /// Those from index `from` up to but not including `to`, as far as there are any.
    pub fn range(&self, from: usize, to: usize) -> Iter<'_> {
        let to = to.min(self.len);
        Iter { segments: self, from: from.min(to), to }
    }

    /// The index of the first segment for which `before` is false. It must be true of those before
    /// that and false of those after.
    pub fn partition_point(&self, before: impl Fn(&Segment) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low.midpoint(high);
            match before(&self[middle]) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// Adds the newest.
    pub fn push(&mut self, segment: Arc<Segment>) {
        let chunks = Arc::make_mut(&mut self.chunks);
        // The last chunk is full, or there is none.
        if (self.taken + self.len).is_multiple_of(CHUNK) {
            chunks.push_back(Arc::default());
        }
        if let Some(last) = chunks.back_mut() {
            Arc::make_mut(last).push(segment);
        }
        self.len += 1;
    }

    /// Takes the oldest.
    pub fn pop_front(&mut self) -> Option<Arc<Segment>> {
        let chunks = Arc::make_mut(&mut self.chunks);
        let first = Arc::make_mut(chunks.front_mut()?);
        let oldest = first.remove(0);
        self.taken += 1;
        self.len -= 1;
        // From now on places count from the start of the next chunk.
        if first.is_empty() {
            chunks.pop_front();
            self.taken = 0;
        }
        Some(oldest)
    }

    /// Takes the newest.
    pub fn pop(&mut self) -> Option<Arc<Segment>> {
        let chunks = Arc::make_mut(&mut self.chunks);
        let last = Arc::make_mut(chunks.back_mut()?);
        let newest = last.pop();
        self.len -= 1;
        if last.is_empty() {
            chunks.pop_back();
        }
        // No chunk is left from which segments could have been taken.
        if self.len == 0 {
            self.taken = 0;
        }
        newest
    }
}

impl Index<usize> for Segments {
    type Output = Arc<Segment>;

    fn index(&self, index: usize) -> &Arc<Segment> {
        self.get(index).expect("an index below the length")
    }
}

impl FromIterator<Arc<Segment>> for Segments {
    fn from_iter<I: IntoIterator<Item = Arc<Segment>>>(segments: I) -> Self {
        let mut all = Self::default();
        segments.into_iter().for_each(|segment| all.push(segment));
        all
    }
}

/// A range of a track's segments, iterated from either end.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    segments: &'a Segments,
    from: usize,
    to: usize,
}

impl<'a> Iter<'a> {
    /// The oldest of them.
    pub fn first(&self) -> Option<&'a Arc<Segment>> {
        self.clone().next()
    }

    /// The newest of them.
    pub fn newest(&self) -> Option<&'a Arc<Segment>> {
        self.clone().next_back()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Arc<Segment>;

    fn next(&mut self) -> Option<Self::Item> {
        self.nth(0)
    }

    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        // Skipping takes constant time, whatever the number of segments.
        let index = self.from.saturating_add(n).min(self.to);
        self.from = (index + 1).min(self.to);
        self.segments.get(index).filter(|_| index < self.to)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.to - self.from;
        (left, Some(left))
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.from == self.to {
            return None;
        }
        self.to -= 1;
        self.segments.get(self.to)
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use media_core::Ticks;
    use net_core::Rope;
    use proptest::prelude::*;

    use super::*;

    thread_local! {
        /// Calls of [`Segments::get`] on this thread, for tests of costs.
        pub(crate) static READS: Cell<usize> = const { Cell::new(0) };
    }

    fn segment(msn: u64) -> Arc<Segment> {
        Arc::new(Segment {
            msn,
            start: Ticks::ZERO,
            duration: Ticks::ZERO,
            init: 0,
            discontinuity: false,
            gap: false,
            independent: true,
            still: None,
            parts: Vec::new(),
            bytes: Rope::default(),
        })
    }

    fn numbers<'a>(segments: impl Iterator<Item = &'a Arc<Segment>>) -> Vec<u64> {
        segments.map(|segment| segment.msn).collect()
    }

    proptest! {
        #[test]
        fn a_segment_list_is_a_queue_whose_clones_do_not_change(
            steps in prop::collection::vec((0u8..4, 1usize..400), 1..40),
        ) {
            let (mut segments, mut model, mut next) = (Segments::default(), VecDeque::new(), 0);
            for (kind, count) in steps {
                let (before, was) = (segments.clone(), model.clone());
                for _ in 0..count {
                    match kind {
                        0 | 1 => {
                            segments.push(segment(next));
                            model.push_back(next);
                            next += 1;
                        }
                        2 => {
                            let oldest = segments.pop_front().map(|segment| segment.msn);
                            prop_assert_eq!(oldest, model.pop_front());
                        }
                        _ => prop_assert_eq!(segments.pop().map(|s| s.msn), model.pop_back()),
                    }
                }
                prop_assert_eq!(numbers(segments.iter()), Vec::from(model.clone()));
                prop_assert_eq!(numbers(before.iter()), Vec::from(was));
                prop_assert_eq!(segments.len(), model.len());
                let ends = [segments.first(), segments.last()].map(|end| end.map(|end| end.msn));
                prop_assert_eq!(ends, [model.front().copied(), model.back().copied()]);
                let half = segments.len() / 2;
                let reversed = numbers(segments.range(half, usize::MAX).rev());
                let expected: Vec<_> = model.iter().skip(half).rev().copied().collect();
                prop_assert_eq!(reversed, expected);
                if let Some(&number) = model.get(half) {
                    prop_assert_eq!(segments.partition_point(|segment| segment.msn < number), half);
                }
                prop_assert!(segments.get(segments.len()).is_none());
            }
        }
    }

    #[test]
    fn a_change_at_either_end_copies_one_chunk() {
        let segments: Segments = (0..10_000).map(segment).collect();
        let shared = |chunk: &Arc<Vec<Arc<Segment>>>| {
            segments.chunks.iter().any(|old| Arc::ptr_eq(old, chunk))
        };
        let changes: [fn(&mut Segments); 3] = [
            |segments| segments.push(segment(10_000)),
            |segments| drop(segments.pop_front()),
            |segments| drop(segments.pop()),
        ];
        for change in changes {
            let mut changed = segments.clone();
            change(&mut changed);
            assert_eq!(changed.chunks.iter().filter(|chunk| !shared(chunk)).count(), 1);
        }
    }
}
