//! The state of the ladder, which the transcoder provides.

use media_core::{BroadcastId, TrackName};
use serde::Serialize;
use utoipa::ToSchema;

/// Lists the states of a broadcast's renditions. Called for each listing: it must be quick and must
/// not block.
pub trait Renditions: Send + Sync + 'static {
    /// The planned renditions, whether they are made or not, the most expensive first.
    fn of(&self, broadcast: BroadcastId) -> Vec<(TrackName, Doing)>;
}

/// There are no renditions.
#[derive(Debug, Clone, Copy)]
pub struct NoRenditions;

impl Renditions for NoRenditions {
    fn of(&self, _: BroadcastId) -> Vec<(TrackName, Doing)> {
        Vec::new()
    }
}

/// `made`: it is made, or a worker is being started. `shed`: stopped because encoders fell behind,
/// to be tried again. `refused`: the machine had no capacity for it, to be tried again. `failed`:
/// not for the rest of the broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Doing {
    /// It is made.
    Made,
    /// Stopped for now.
    Shed,
    /// No capacity for now.
    Refused,
    /// Stopped for the rest of the broadcast.
    Failed,
}

/// A planned rendition of a broadcast.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rendition {
    /// Its track's name; the track is listed from its first frame on.
    #[schema(example = "v720", pattern = "^[a-z0-9-]{1,32}$")]
    track: String,
    state: Doing,
}

impl Rendition {
    /// A rendition with the name of its track.
    pub(crate) fn new((track, state): (TrackName, Doing)) -> Self {
        Self { track: track.to_string(), state }
    }
}
