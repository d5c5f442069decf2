//! The events of views.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    events,
    id::{ChannelId, NodeId, VideoId},
    time::Time,
};

/// Views of a channel's broadcasts were counted in a minute. There may be several events of a
/// channel and minute, which are added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelViewsCounted {
    /// The channel.
    pub channel: ChannelId,
    /// The beginning of the minute.
    pub minute: Time,
    /// The node that has counted.
    pub node: NodeId,
    /// The number of the node's batch that has the count.
    pub batch: u64,
    /// The views that became views in this minute.
    pub views: u64,
    /// The media that were watched in this minute, in milliseconds, over all viewers.
    pub watched_ms: u64,
}

/// Views of a video were counted in a minute. There may be several events of a video and minute,
/// which are added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VideoViewsCounted {
    /// The video.
    pub video: VideoId,
    /// The beginning of the minute.
    pub minute: Time,
    /// The node that has counted.
    pub node: NodeId,
    /// The number of the node's batch that has the count.
    pub batch: u64,
    /// The views that became views in this minute.
    pub views: u64,
    /// The media that were watched in this minute, in milliseconds, over all viewers.
    pub watched_ms: u64,
}

events! {
    /// An event of views.
    pub enum Event {
        ChannelViewsCounted = "streamforge.channel.views_counted.v1" on channel,
        VideoViewsCounted = "streamforge.video.views_counted.v1" on video,
    }
}
