//! The tracks that are listed, and when each is added.
//!
//! The first snapshot waits until each track of the source has a complete segment, and then, for a
//! limited time, for renditions that are announced. Tracks that have a segment later are added at
//! the end.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use media_core::{Mark, MediaSpan, MediaTime, TrackIndex};

use crate::{
    period::{Opening, Period, Periods},
    track::{Cut, Track},
};

/// The first snapshot waits for renditions for two segments, or for this time if it is longer.
const LEAST_WAIT: Duration = Duration::from_secs(3);

/// The tracks that are listed, and their DASH periods.
#[derive(Debug)]
pub(super) struct ListedTracks {
    /// Indices in the broadcast of the tracks listed, in the order of the presentation: the one in
    /// which they appeared.
    shown: Vec<TrackIndex>,
    /// The time that the master had reached when each of the source's tracks had a complete
    /// segment.
    whole: Option<MediaTime>,
    /// The longest PART-TARGET, settled with the first snapshot.
    part_target: Option<Duration>,
    periods: Periods,
}

/// The state of the program that decides what can be listed.
#[derive(Debug)]
pub(super) struct State<'a> {
    /// The segment duration aimed at.
    pub(super) segment: Duration,
    /// Number of announced renditions that have no track yet.
    pub(super) awaited: usize,
    /// The newest cuts, oldest first.
    pub(super) history: &'a VecDeque<Cut>,
    /// The time that the master has reached.
    pub(super) reached: MediaTime,
    /// The broadcast is over.
    pub(super) ended: bool,
}

impl ListedTracks {
    /// No tracks yet, of a broadcast whose segments are meant to last `segment`.
    pub(super) fn new(segment: MediaSpan) -> Self {
        Self { shown: Vec::new(), whole: None, part_target: None, periods: Periods::new(segment) }
    }

    /// The longest PART-TARGET that a track may have; `None` before the first snapshot.
    pub(super) fn part_target(&self) -> Option<Duration> {
        self.part_target
    }

    /// Indices in the broadcast of the tracks listed, in the order of the presentation.
    pub(super) fn shown(&self) -> &[TrackIndex] {
        &self.shown
    }

    /// The DASH periods.
    pub(super) fn periods(&self) -> Arc<[Period]> {
        self.periods.snapshot()
    }

    /// Adds the tracks that can be listed by now.
    pub(super) fn update(&mut self, tracks: &mut [Track], state: &State<'_>) {
        let first = self.shown.is_empty();
        if first && !self.can_begin(tracks, state) {
            return;
        }
        for (index, track) in tracks.iter().enumerate() {
            let index = TrackIndex::new(index);
            if has_started(track) && !self.shown.contains(&index) {
                self.shown.push(index);
            }
        }
        // Players keep PART-HOLD-BACK, and the Periods that were published, for the broadcast's
        // life.
        if first {
            self.settle_parts(tracks);
            self.open_past_periods(tracks, state.history);
        }
    }

    /// Whether there can be a first snapshot.
    fn can_begin(&mut self, tracks: &[Track], state: &State<'_>) -> bool {
        if !tracks.iter().filter(|track| !track.output.late).all(has_started) {
            return false;
        }
        // The wait for renditions begins when the source alone could be listed.
        let whole = *self.whole.get_or_insert(state.reached);
        if state.ended {
            return true;
        }
        // Viewers read the list of variants once, so it waits for renditions, but not forever.
        let unborn = |track: &Track| track.output.rendition && !has_started(track);
        let awaits_renditions = tracks.iter().any(unborn) || state.awaited > 0;
        let longest = MediaSpan::from_duration((2 * state.segment).max(LEAST_WAIT));
        !awaits_renditions || state.reached - whole >= longest
    }

    /// PART-HOLD-BACK is written in the first playlists: no track that starts later has a longer
    /// PART-TARGET.
    fn settle_parts(&mut self, tracks: &mut [Track]) {
        let targets =
            self.shown.iter().map(|&index| tracks[index.get()].output.window.part_target());
        let longest = targets.max().unwrap_or_default();
        self.part_target = Some(longest);
        for track in tracks.iter_mut().filter(|track| !has_started(track)) {
            track.output.window.limit_parts(longest);
        }
    }

    /// Opens the periods so far, of the tracks that are listed from the start. None has been
    /// published before.
    fn open_past_periods(&mut self, tracks: &[Track], history: &VecDeque<Cut>) {
        for (index, cut) in history.iter().enumerate() {
            let shown = self.shown.iter();
            let inits: Vec<_> =
                shown.map(|&track| tracks[track.get()].init_of(cut.mark.msn)).collect();
            self.periods.open(&opening(cut, &inits, false));
            if let Some(next) = history.get(index + 1) {
                self.periods.close(cut.mark.msn, next.start - cut.start);
            }
        }
    }

    /// The master has cut: a period continues or begins. `resumes`: a gap of the source itself ends
    /// there, after which renditions are expected to have media as well.
    pub(super) fn open_period(&mut self, tracks: &mut [Track], cut: &Cut, resumes: bool) {
        // Each track is queried, because the query also resets the track's state.
        let mut interrupted = false;
        for &index in &self.shown {
            let track = &mut tracks[index.get()];
            interrupted |= track.take_interrupted() && !track.is_missing();
        }
        // A rendition that is missing would stall players in this Period, so the Period is made
        // without it.
        let expected = |track: &Track| match resumes || !track.is_missing() {
            true => track.init_of(cut.mark.msn),
            false => None,
        };
        let inits: Vec<_> =
            self.shown.iter().map(|&index| expected(&tracks[index.get()])).collect();
        if !inits.is_empty() {
            self.periods.open(&opening(cut, &inits, interrupted));
        }
    }

    /// Segment `msn` of the master is complete, and `duration` long.
    pub(super) fn close_period(&mut self, msn: u64, duration: MediaSpan) {
        self.periods.close(msn, duration);
    }

    /// Forgets the periods that hold no segment from `oldest` on.
    pub(super) fn expire_periods(&mut self, oldest: u64) {
        self.periods.expire(oldest);
    }
}

fn has_started(track: &Track) -> bool {
    track.output.window.has_started()
}

fn opening<'a>(cut: &Cut, inits: &'a [Option<u32>], interrupted: bool) -> Opening<'a> {
    let Mark { msn, gap, discontinuity, .. } = cut.mark;
    Opening {
        msn,
        start: cut.start,
        gap: gap && !cut.held,
        discontinuity,
        gridded: cut.gridded,
        interrupted,
        inits,
    }
}
