//! Cuts: the places where segments of the master start, and cuts that wait in the queue of another
//! track.

use std::sync::Arc;

use media_core::{Mark, MediaTime, codec::Config};

/// A cut of the master. Every other track makes it at its own next frame, so that all segments of a
/// number belong together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// The hub's mark.
    pub(crate) mark: Mark,
    /// Start of the master's segment: the mark's time, unless the source is decoded late.
    pub(crate) start: MediaTime,
    /// The mark's gap is of the master's frames alone: the master shows a still picture, and audio
    /// continues.
    pub(crate) held: bool,
    /// EXT-X-DISCONTINUITY-SEQUENCE of the segment, its own discontinuity not counted.
    pub(crate) discontinuities: u64,
    /// The master's segments start at frames that are not independent.
    pub(crate) gridded: bool,
}

/// A cut that a track has not made yet.
#[derive(Debug, Clone)]
pub(crate) struct PendingCut {
    pub(crate) cut: Cut,
    /// Number of the init segment that this track's segment needs.
    pub(crate) init: u32,
    /// The configuration that this init segment describes; `None`: the one that is known when the
    /// segment starts.
    pub(crate) config: Option<Arc<Config>>,
}
