//! The states of a publisher: before its broadcast, in it, and after it.

use media_core::{ChannelName, TrackIndex, broadcast::Broadcast, hub::Producer};

use super::{settling::Settling, tracks::Kind};

/// The state of a publisher.
#[derive(Debug)]
pub(super) enum State {
    /// The list of tracks is not settled; access units are held.
    Settling(Settling),
    /// The broadcast has started.
    Live(Live),
    /// It could not start; no more frames are accepted.
    Over,
}

/// The state of a publisher whose broadcast has started.
#[derive(Debug)]
pub(super) struct Live {
    /// The right to publish in the broadcast.
    pub(super) producer: Producer,
    /// At most one of each kind.
    pub(super) tracks: Vec<LiveTrack>,
}

/// A track of the broadcast that this publisher sends.
#[derive(Debug, Clone, Copy)]
pub(super) struct LiveTrack {
    pub(super) kind: Kind,
    /// Its index in the broadcast.
    pub(super) index: TrackIndex,
}

impl State {
    /// The name that is published, unless it could not start.
    pub(super) fn channel(&self) -> Option<&ChannelName> {
        match self {
            Self::Settling(settling) => Some(settling.claim.name()),
            Self::Live(live) => Some(live.producer.broadcast().name()),
            Self::Over => None,
        }
    }

    /// The broadcast, if it has started.
    pub(super) fn broadcast(&self) -> Option<&Broadcast> {
        match self {
            Self::Live(live) => Some(live.producer.broadcast()),
            Self::Settling(_) | Self::Over => None,
        }
    }
}

impl Live {
    /// The kind of the track with this index in the broadcast.
    pub(super) fn kind(&self, index: TrackIndex) -> Option<Kind> {
        self.tracks.iter().find(|track| track.index == index).map(|track| track.kind)
    }

    /// The track's index in the broadcast.
    pub(super) fn index(&self, kind: Kind) -> Option<TrackIndex> {
        self.tracks.iter().find(|track| track.kind == kind).map(|track| track.index)
    }
}
