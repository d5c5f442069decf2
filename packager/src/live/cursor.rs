//! The complete segments of a track in order, for recorders and relays: each with its bytes exactly
//! once, and the numbers of those that were missed.

use std::{ops::RangeInclusive, sync::Arc};

use media_core::TrackIndex;

use super::{Changed, Live};
use crate::{Segment, presentation::Track, waiters::Awaited};

/// A result of [`SegmentCursor::next`].
#[derive(Debug, Clone)]
pub enum Finished {
    /// A complete segment, with all its bytes. One with [`Segment::gap`] lacks media.
    Segment(Arc<Segment>),
    /// The segments with these media sequence numbers are not held any more: the reader was too
    /// slow, or began before the oldest.
    Missed(RangeInclusive<u64>),
}

/// Reads the complete segments of a track.
#[derive(Debug)]
pub struct SegmentCursor {
    live: Arc<Live>,
    track: TrackIndex,
    /// Number of the next segment; `None`: the oldest that is held.
    next: Option<u64>,
}

impl Live {
    /// The complete segments of the track with this index in the presentation, from segment `from`
    /// on; `None`: from the oldest that is held.
    pub fn segments(self: &Arc<Self>, track: TrackIndex, from: Option<u64>) -> SegmentCursor {
        SegmentCursor { live: Arc::clone(self), track, next: from }
    }
}

impl SegmentCursor {
    /// Number of the next segment: a cursor from there continues this one. `None` before the first,
    /// if none was given.
    pub fn position(&self) -> Option<u64> {
        self.next
    }

    /// Waits for the next complete segment. `None` when the broadcast has ended and all were read,
    /// or if there is no such track. Cancel-safe.
    pub async fn next(&mut self) -> Option<Finished> {
        loop {
            // Read before the snapshot, which is then the last.
            let ended = self.live.has_ended();
            let presentation = self.live.first().await?;
            let track = presentation.tracks.get(self.track.get())?;
            if let Some(finished) = self.take(track) {
                return Some(finished);
            }
            if ended || presentation.ended {
                return None;
            }
            let open = track.open.as_ref().map_or(0, |open| open.msn);
            Changed {
                live: Arc::clone(&self.live),
                track: self.track,
                awaited: Awaited::Listed { msn: self.next.unwrap_or(open), part: None },
                until: None,
                ticket: None,
            }
            .await;
        }
    }

    /// The next segment of a snapshot, if it is complete there.
    fn take(&mut self, track: &Track) -> Option<Finished> {
        let oldest = track.segments.first()?.msn;
        let next = self.next.unwrap_or(oldest);
        // The reader gets the numbers that it has missed, and continues with the oldest segment
        // held.
        if next < oldest {
            self.next = Some(oldest);
            return Some(Finished::Missed(next..=oldest - 1));
        }
        // Gaps after the last media of a broadcast that has ended do not belong to it.
        let complete = track.segments.len().saturating_sub(track.withdrawn);
        let index = usize::try_from(next - oldest).ok().filter(|index| *index < complete)?;
        let segment = Arc::clone(track.segments.get(index)?);
        self.next = Some(next + 1);
        Some(Finished::Segment(segment))
    }
}
