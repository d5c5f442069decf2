//! What the API must know of the ladder; whoever makes renditions answers.

use media_core::{BroadcastId, TrackName};
use serde::Serialize;
use utoipa::ToSchema;

/// Says what a broadcast's renditions are doing. Called for each listing: it must be quick and must not block.
pub trait Renditions: Send + Sync + 'static {
    /// Those that are wanted, whether they are made or not, dearest first.
    fn of(&self, broadcast: BroadcastId) -> Vec<(TrackName, Doing)>;
}

/// Nobody makes renditions.
#[derive(Debug, Clone, Copy)]
pub struct NoRenditions;

impl Renditions for NoRenditions {
    fn of(&self, _: BroadcastId) -> Vec<(TrackName, Doing)> {
        Vec::new()
    }
}

/// `made`: it is made, or a worker is being started. `shed`: given up because encoders fell behind, to be tried again. `refused`: the machine
/// had no room for it, to be tried again. `failed`: not for the rest of the broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Doing {
    /// It is made.
    Made,
    /// Given up for now.
    Shed,
    /// No room for now.
    Refused,
    /// Given up for good.
    Failed,
}

/// A rendition that the ladder wants to make of a broadcast.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rendition {
    /// Its track's name; the track is listed from its first frame on.
    #[schema(example = "v720", pattern = "^[a-z0-9-]{1,32}$")]
    track: String,
    state: Doing,
}

impl Rendition {
    pub(crate) fn new((track, state): (TrackName, Doing)) -> Self {
        Self {
            track: track.to_string(),
            state,
        }
    }
}
