//! The index of a track.

use std::fmt;

/// The index of a track in one list of tracks, counted from 0: of a broadcast, in the order in
/// which its tracks appeared, or of a presentation, in the order in which they are listed. Each
/// field and argument states whose list it means.
///
/// A track keeps its index for the life of its broadcast or presentation. A broadcast has at most
/// [`MAX_TRACKS`](crate::broadcast::MAX_TRACKS).
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackIndex(usize);

impl TrackIndex {
    /// The first track of a list.
    pub const FIRST: Self = Self(0);

    /// The track at `index` of its list, counted from 0.
    pub const fn new(index: usize) -> Self {
        Self(index)
    }

    /// The position in the list, counted from 0.
    pub const fn get(self) -> usize {
        self.0
    }
}

impl fmt::Display for TrackIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
