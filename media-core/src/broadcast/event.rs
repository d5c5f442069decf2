//! The entries of a broadcast's log, from which its readers learn everything about it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{Frame, Mark, MediaSpan, MediaTime, TrackIndex, TrackName, codec::Config};

/// Whether a publisher is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// A publisher is connected.
    Live,
    /// The publisher has left and may return. The time is known after the next
    /// [`Broadcast::advance`].
    Away(Option<Instant>),
    /// The broadcast has ended; at most renditions have further events.
    Ended,
}

/// An entry of the log.
#[derive(Debug, Clone)]
pub enum Event {
    /// A frame of the track with this index.
    Frame {
        /// Index in [`Broadcast::tracks`].
        track: TrackIndex,
        /// The frame.
        frame: Frame,
    },
    /// A track appears, after those of [`Consumer::situation`].
    Track(TrackStart),
    /// The configuration of the track's next frames changes. A rendition that was
    /// [absent](Event::Absent) returns with this event.
    Config {
        /// Index in [`Broadcast::tracks`].
        track: TrackIndex,
        /// The new configuration: of the same codec family, but possibly with another profile, size
        /// or sampling rate.
        config: Arc<Config>,
    },
    /// This rendition has no frames until its next [`Event::Config`], because it has no worker at
    /// present.
    Absent {
        /// Index in [`Broadcast::tracks`].
        track: TrackIndex,
    },
    /// A gap segment starts here, in every rendition, because no frames arrive.
    Gap(Mark),
    /// The open gap is published up to this time, which is later than before: readers make its
    /// parts up to there, and media resume there or later. [`crate::Hub::advance`] appends it.
    GapUntil(MediaTime),
    /// The publisher has left or has returned, or the broadcast has ended. After
    /// [`Presence::Ended`] only renditions have events.
    Presence(Presence),
    /// The next segments are cut by another rule.
    Rule(CutRule),
    /// Number of announced renditions that have no track yet, after a change.
    Awaited(usize),
    /// The subscriber was too slow, and continues at the newest groups.
    Lagged {
        /// Number of lost frames.
        frames: u64,
        /// Their payload bytes, as far as the log still has them.
        bytes: u64,
    },
}

/// A track at a position of the log.
#[derive(Debug, Clone)]
pub struct TrackStart {
    /// Index in [`super::Broadcast::tracks`]. Tracks appear in the order of their indices.
    pub index: TrackIndex,
    /// Its name.
    pub name: TrackName,
    /// Whether the ladder made it here of the source.
    pub rendition: bool,
    /// The configuration of its next frames.
    pub config: Arc<Config>,
    /// Whether it has no frames at present: see [`Event::Absent`].
    pub absent: bool,
}

/// The rule by which the source is cut at present, see [`crate::cut`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutRule {
    /// Whether segments start where players cannot: without a key frame, or at recovery points.
    pub gridded: bool,
    /// L.
    pub(super) longest: MediaSpan,
}

impl CutRule {
    /// The longest duration of a segment; final when the first segment has ended.
    pub fn longest_segment(&self) -> Duration {
        self.longest.duration()
    }
}
