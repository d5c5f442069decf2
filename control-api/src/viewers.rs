//! The size of the audience, which the servers of HTTP and RTMP provide.

use media_core::{BroadcastId, ChannelName};
use serde::Serialize;
use utoipa::ToSchema;

/// Counts the viewers of a broadcast. Called for each listing: it must be quick and must not block.
pub trait Viewers: Send + Sync + 'static {
    /// The present number of viewers.
    fn count(&self, channel: &ChannelName, broadcast: BroadcastId) -> Count;
}

/// Viewers of a broadcast by protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(title = "Viewers")]
pub struct Count {
    /// Players of HLS and DASH, as far as they can be distinguished.
    pub http: u64,
    /// RTMP connections that play.
    pub rtmp: u64,
}
