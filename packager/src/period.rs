//! Where one DASH Period ends and the next begins. Pure and incremental: the master track's
//! segments in, periods out.
//!
//! Numbers are media sequence numbers, and a player finds a segment's time by `start + (number -
//! first) * nominal` (ISO/IEC 23009-1 5.3.9.5.3, `SegmentTemplate@duration`). So a Period holds
//! segments of one timeline that start within half a nominal duration of that; a gap lies in no
//! Period; and a Period that was published never changes, except that it gets its end.

use std::{collections::VecDeque, sync::Arc};

use media_core::{MediaSpan, MediaTime, TrackIndex};

/// The number of recent durations that a nominal duration is computed from.
const RECENT: usize = 6;

/// A Period as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    /// Number of its first segment: startNumber and, since no number is used twice, its id.
    pub first: u64,
    /// Where its first segment starts: Period@start.
    pub start: MediaTime,
    /// The nominal duration of its segments: `SegmentTemplate@duration`. More than zero.
    pub nominal: MediaSpan,
    /// Its last segment; `None` while it grows, and when the broadcast ended in it.
    pub last: Option<LastSegment>,
    /// The number of the Period before it, if timeline and init segments continue (5.3.2.4, period
    /// continuity).
    pub continues: Option<u64>,
    /// The init segment of each track, in the presentation's order; `None`: the track is not in it.
    /// Tracks that appeared later are not there.
    pub inits: Arc<[Option<u32>]>,
    /// The source's segments start at frames that are not independent.
    pub gridded: bool,
}

/// The last segment of a Period, or of the Period that has been published so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSegment {
    /// Its number.
    pub msn: u64,
    /// Where it ends.
    pub end: MediaTime,
}

/// The open segment of the master track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OpenSegment {
    msn: u64,
    /// Where it starts.
    start: MediaTime,
}

/// A segment of the master track, as it opens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening<'a> {
    /// Its number.
    pub(crate) msn: u64,
    /// Where it starts.
    pub(crate) start: MediaTime,
    /// It has no media in any track.
    pub(crate) gap: bool,
    /// EXT-X-DISCONTINUITY precedes it.
    pub(crate) discontinuity: bool,
    /// The source's segments start at frames that are not independent.
    pub(crate) gridded: bool,
    /// Media of a segment before it are missing in a rendition, which is complete from here on.
    pub(crate) interrupted: bool,
    /// The init segment of each track in the presentation's order; `None` for a track that is not
    /// expected to have the segment.
    pub(crate) inits: &'a [Option<u32>],
}

impl Period {
    /// The init segment of the track with this index in the presentation; `None`: it is not in this
    /// Period.
    pub fn init(&self, track: TrackIndex) -> Option<u32> {
        self.inits.get(track.get()).copied().flatten()
    }

    /// Where a player expects segment `msn` to start.
    fn expected(&self, msn: u64) -> MediaTime {
        let count = i64::try_from(msn.saturating_sub(self.first)).unwrap_or(i64::MAX);
        self.start + self.nominal * count
    }
}

/// Makes the periods of a broadcast. The owner passes each segment of the master track: the first
/// video track, else the first audio track.
#[derive(Debug)]
pub(crate) struct Periods {
    /// T, the segment duration aimed at.
    segment: MediaSpan,
    /// Oldest first. Only the newest may lack its end, only a broadcast's first its nominal
    /// duration (zero).
    periods: VecDeque<Period>,
    /// The same, as snapshots share it.
    shared: Arc<[Period]>,
    /// Durations of the last complete segments, oldest first; at most [`RECENT`].
    recent: VecDeque<MediaSpan>,
    /// The newest complete segment, if it is no gap.
    closed: Option<LastSegment>,
    /// The open segment, if it is no gap.
    opened: Option<OpenSegment>,
}

impl Periods {
    /// No periods yet, of a broadcast whose segments should last `segment`.
    pub(crate) fn new(segment: MediaSpan) -> Self {
        Self {
            segment,
            periods: VecDeque::new(),
            shared: Arc::default(),
            recent: VecDeque::new(),
            closed: None,
            opened: None,
        }
    }

    /// A segment of the master opens. `opening` must hold until the next one opens.
    pub(crate) fn open(&mut self, opening: &Opening<'_>) {
        self.place(opening);
        self.share();
    }

    fn place(&mut self, opening: &Opening<'_>) {
        let &Opening { msn, start, gap, discontinuity, gridded, interrupted, inits } = opening;
        self.opened = (!gap).then_some(OpenSegment { msn, start });
        if gap && self.closed.is_some() && self.recent.len() > 1 {
            self.recent.pop_back(); // It was cut short.
        }
        // The segments before a grid have other durations, so they do not predict those of the
        // grid.
        let grid = gridded && self.periods.back().is_some_and(|period| !period.gridded);
        let nominal = if grid { self.segment } else { self.nominal() };
        // The open Period continues while the tracks are the same and the segment starts where
        // players expect it. Otherwise it ends with the last complete segment, and another one
        // begins.
        let continues = match self.periods.back_mut().filter(|period| period.last.is_none()) {
            None => None,
            Some(period) => {
                let goes_on = !gap && !discontinuity;
                let same =
                    goes_on && !interrupted && *period.inits == *inits && period.gridded == gridded;
                if same
                    && (period.nominal == MediaSpan::ZERO
                        || (start - period.expected(msn)).abs() * 2 < period.nominal)
                {
                    return;
                }
                let last =
                    self.closed.unwrap_or(LastSegment { msn: msn.saturating_sub(1), end: start });
                // Periods must not overlap, even if the last segment ends a little after the mark.
                let end = last.end.min(start);
                period.last = Some(LastSegment { end, ..last });
                // A track that is in both Periods must have the same init segment in both.
                let unchanged = |(old, new): (&Option<u32>, &Option<u32>)| {
                    old.is_none() || new.is_none() || old == new
                };
                (goes_on && period.inits.iter().zip(inits).all(unchanged)).then_some(period.first)
            }
        };
        // The next segment with media begins a Period, with the tracks that have it.
        if !gap {
            let inits = inits.into();
            self.periods.push_back(Period {
                first: msn,
                start,
                nominal,
                last: None,
                continues,
                inits,
                gridded,
            });
        }
    }

    /// Segment `msn` is complete and `duration` long.
    pub(crate) fn close(&mut self, msn: u64, duration: MediaSpan) {
        self.closed = None;
        let Some(opened) = self.opened.take_if(|opened| opened.msn == msn) else {
            return;
        };
        let end = opened.start + duration;
        self.closed = Some(LastSegment { msn, end });
        if duration <= MediaSpan::ZERO {
            return;
        }
        // Old durations are forgotten, because a source may change its groups.
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(duration);
        if let Some(first) =
            self.periods.back_mut().filter(|period| period.nominal == MediaSpan::ZERO)
        {
            // The first segment of a broadcast may start with a frame that lasts longer, so T is
            // the better estimate for a duration near T.
            let near = (duration - self.segment).abs() * 20 <= self.segment
                && (duration - self.segment).abs() * 500 > self.segment;
            first.nominal = if near { self.segment } else { duration };
        }
        self.share();
    }

    /// Forgets the periods that hold no segment from `oldest` on.
    pub(crate) fn expire(&mut self, oldest: u64) {
        while self
            .periods
            .front()
            .is_some_and(|period| period.last.is_some_and(|last| last.msn < oldest))
        {
            self.periods.pop_front();
        }
        self.share();
    }

    /// The periods, oldest first; none before the first segment is complete.
    pub(crate) fn snapshot(&self) -> Arc<[Period]> {
        Arc::clone(&self.shared)
    }

    /// Renews the periods that snapshots share, if they have changed: a snapshot is taken at each
    /// part, and they change every few seconds at the most.
    fn share(&mut self) {
        let known = self.periods.iter().filter(|period| period.nominal > MediaSpan::ZERO);
        if !known.clone().eq(self.shared.iter()) {
            self.shared = known.cloned().collect();
        }
    }

    /// The mean of the recent durations that are near their median, because a segment cut short by
    /// a gap, or one of almost 2T at the start of a grid, does not predict the next. Zero if there
    /// are none.
    fn nominal(&self) -> MediaSpan {
        let mut sorted: Vec<_> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        let Some(&median) = sorted.get(sorted.len().saturating_sub(1) / 2) else {
            return MediaSpan::ZERO;
        };
        // Durations of more than one and a half times the median, or less than two thirds of it, do
        // not count.
        sorted.retain(|&duration| duration * 2 < median * 3 && median * 2 < duration * 3);
        let count = i64::try_from(sorted.len()).unwrap_or(1).max(1);
        let sum: MediaSpan = sorted.into_iter().sum();
        MediaSpan::from_ticks((sum.ticks() + count / 2) / count)
    }
}

#[cfg(test)]
mod tests;
