//! The units that went into the decoder: the pictures that it owes for them, and which of these
//! become key frames. Shared by the thread that feeds the decoder and the thread that reads its
//! pictures.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use media_core::{MediaSpan, MediaTime};

/// Distance before a mark at which a picture still counts as the mark's: half a millisecond, since
/// sources have timestamps in milliseconds.
const TOLERANCE: MediaSpan = MediaSpan::from_ticks(45);
/// Maximum number of pending marks; marks are a second or more apart.
const MAX_MARKS: usize = 256;
/// More units than any decoder holds: at most 16 reordered ones and as many threads.
const MAX_OWED: usize = 128;

/// Units in the decoder.
#[derive(Debug, Default)]
pub(super) struct Owed {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Presentation times of units in the decoder.
    units: BTreeSet<MediaTime>,
    /// Marks that no picture has reached, in order of time.
    marks: VecDeque<MediaTime>,
    /// Number of the last of `marks`. The first mark has number 1.
    newest_mark: u64,
    counts: Counts,
    /// The units since the last picture.
    silent: Option<Silent>,
}

/// Units that went into the decoder without a picture since.
#[derive(Debug, Clone, Copy)]
struct Silent {
    /// Decode time of the first.
    since: MediaTime,
    /// Number of them.
    units: u64,
}

/// Totals of a decoder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Decoded pictures.
    pub(super) decoded: u64,
    /// Units without a picture.
    pub(super) broken: u64,
}

/// The time for which a decoder has been without a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silence {
    /// The decode time of the newest unit since that of the first.
    pub(super) span: MediaSpan,
    /// Number of units.
    pub(super) units: u64,
}

/// An expected picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// The number of the mark of which it is the first picture at or after.
    pub(super) mark: Option<u64>,
}

impl Owed {
    /// Records a unit that goes into the decoder. Returns the silence since the last picture.
    pub(super) fn enter(&self, dts: MediaTime, pts: MediaTime, mark: Option<MediaTime>) -> Silence {
        let mut state = self.lock();
        if let Some(mark) = mark {
            // Marks without pictures, for example while the decoder fails, must not accumulate.
            if state.marks.len() == MAX_MARKS {
                state.marks.pop_front();
            }
            state.marks.push_back(mark);
            state.newest_mark += 1;
        }
        if !state.units.insert(pts) {
            // Of two units with the same time, only one picture can be identified.
            state.counts.broken += 1;
        }
        // The decoder has dropped it without a picture.
        if state.units.len() > MAX_OWED {
            state.units.pop_first();
            state.counts.broken += 1;
        }
        let silent = state.silent.get_or_insert(Silent { since: dts, units: 0 });
        silent.units += 1;
        Silence { span: dts - silent.since, units: silent.units }
    }

    /// Records a unit that cannot be decoded.
    pub(super) fn refuse(&self) {
        self.lock().counts.broken += 1;
    }

    /// Records a decoded picture. `None` if it belongs to no unit, or to one that already has a
    /// picture: decoders that conceal losses and deinterlacers can output more pictures than units.
    pub(super) fn leave(&self, pts: MediaTime) -> Option<Due> {
        let mut state = self.lock();
        state.silent = None;
        if !state.units.remove(&pts) {
            return None;
        }
        // Pictures are output in order of presentation, so earlier ones that are still missing will
        // not follow.
        // `split_off` keeps the earlier units in place, which are counted and replaced by the later
        // ones.
        let later = state.units.split_off(&pts);
        state.counts.broken += state.units.len() as u64;
        state.units = later;
        state.counts.decoded += 1;
        let mut mark = None;
        // Several marks may be due at one picture after a hole in the source. The last one counts:
        // renditions that wait for an earlier one start too.
        while state.marks.front().is_some_and(|&mark| pts >= mark - TOLERANCE) {
            state.marks.pop_front();
            mark = Some(state.newest_mark - state.marks.len() as u64);
        }
        Some(Due { mark })
    }

    /// The decoder has ended: missing pictures will not follow.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        state.counts.broken += state.units.len() as u64;
        state.units.clear();
    }

    /// The number of the next mark.
    pub(super) fn next_mark(&self) -> u64 {
        self.lock().newest_mark + 1
    }

    /// The decoder's totals.
    pub(super) fn counts(&self) -> Counts {
        self.lock().counts
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Option<Due> = Some(Due { mark: None });

    /// Records a unit; times are ticks.
    fn enter(owed: &Owed, dts: i64, pts: i64, mark: Option<i64>) -> Silence {
        let [dts, pts] = [dts, pts].map(MediaTime::from_ticks);
        owed.enter(dts, pts, mark.map(MediaTime::from_ticks))
    }

    fn leave(owed: &Owed, pts: i64) -> Option<Due> {
        owed.leave(MediaTime::from_ticks(pts))
    }

    fn marked(number: u64) -> Option<Due> {
        Some(Due { mark: Some(number) })
    }

    #[test]
    fn only_the_first_picture_at_or_after_a_mark_is_marked() {
        let owed = Owed::default();
        // A key frame, a picture that refers to it, and one between the two.
        enter(&owed, 0, 3600, Some(3600));
        enter(&owed, 3600, 10_800, None);
        enter(&owed, 7200, 7200, None);
        assert_eq!([3600, 7200, 10_800].map(|pts| leave(&owed, pts)), [marked(1), PLAIN, PLAIN]);
        // The unit at the mark is lost: the next picture replaces it, however many marks it passes.
        enter(&owed, 10_800, 14_400, Some(14_400));
        enter(&owed, 14_400, 18_000, Some(18_030));
        assert_eq!(owed.next_mark(), 4);
        assert_eq!(leave(&owed, 18_000), marked(3));
        assert_eq!(owed.counts(), Counts { decoded: 4, broken: 1 });
    }

    #[test]
    fn decoded_pictures_without_a_source_unit_are_ignored() {
        let owed = Owed::default();
        enter(&owed, 0, 0, None);
        assert_eq!(leave(&owed, 1800), None);
        assert_eq!(leave(&owed, 0), PLAIN);
        assert_eq!(leave(&owed, 0), None);
        assert_eq!(owed.counts(), Counts { decoded: 1, broken: 0 });
    }

    #[test]
    fn silence_is_counted_from_the_last_decoded_picture() {
        let owed = Owed::default();
        assert_eq!(enter(&owed, 0, 0, None), Silence { span: MediaSpan::from_ticks(0), units: 1 });
        assert_eq!(
            enter(&owed, 3000, 3000, None),
            Silence { span: MediaSpan::from_ticks(3000), units: 2 }
        );
        leave(&owed, 0);
        assert_eq!(
            enter(&owed, 6000, 6000, None),
            Silence { span: MediaSpan::from_ticks(0), units: 1 }
        );
    }

    #[test]
    fn units_and_marks_awaiting_the_decoder_are_bounded() {
        let owed = Owed::default();
        for number in 0..10_000 {
            enter(&owed, number, number, Some(number));
        }
        assert_eq!(owed.lock().units.len(), MAX_OWED);
        assert_eq!(owed.lock().marks.len(), MAX_MARKS);
        assert_eq!(owed.counts(), Counts { decoded: 0, broken: 10_000 - MAX_OWED as u64 });
        owed.finish();
        assert_eq!(owed.counts(), Counts { decoded: 0, broken: 10_000 });
    }
}
