//! What the API must know of the audience; those who serve it answer.

use media_core::{BroadcastId, ChannelName};
use serde::Serialize;
use utoipa::ToSchema;

/// Counts who watches a broadcast. Called for each listing: it must be quick and must not block.
pub trait Viewers: Send + Sync + 'static {
    /// Who watches now.
    fn count(&self, channel: &ChannelName, broadcast: BroadcastId) -> Count;
}

/// Viewers of a broadcast by the protocol that they use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(title = "Viewers")]
pub struct Count {
    /// Players of HLS and DASH, as far as they can be told apart.
    pub http: u64,
    /// RTMP connections that play.
    pub rtmp: u64,
}
