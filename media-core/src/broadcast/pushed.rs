//! The results for a frame that a publisher pushes.

use std::time::Instant;

use crate::{TrackIndex, timeline::Notice};

/// The result for an accepted frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Set if all tracks of the publisher lead the wall clock: nothing more should be read from it
    /// until then, so that no frame is refused as [too far ahead](Refused::TooFarAhead).
    pub resume_at: Option<Instant>,
    /// A track was given another offset since the last accepted frame.
    pub notice: Option<TrackNotice>,
}

/// A track was given another offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackNotice {
    /// Its index in [`Broadcast::tracks`].
    pub track: TrackIndex,
    /// The cause.
    pub notice: Notice,
}

/// Why a frame was refused. The caller counts each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The broadcast begins, or resumes, with a key frame, and this frame is none.
    BeforeKeyFrame,
    /// Its time lies in a published gap.
    InGap,
    /// It would lead the wall clock by more than 5 s.
    TooFarAhead,
    /// It waited behind an outage of the publisher, or belongs to a burst at its start
    /// ([`Producer::drop_lead`](crate::hub::Producer::drop_lead)), which would otherwise remain as
    /// latency. It is dropped, with all frames up to a key frame.
    AfterOutage,
    /// The broadcast has ended.
    Ended,
    /// Another publisher has taken over.
    Superseded,
}
