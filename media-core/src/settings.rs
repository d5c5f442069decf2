//! The settings of a channel, which its owner decides. A broadcast keeps the settings with which it
//! began.

use std::{sync::Arc, time::Duration};

/// The settings of a channel's broadcasts. By default they are the daemon's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelSettings {
    /// The renditions that are made of a broadcast.
    pub renditions: Renditions,
    /// Time for which a broadcast waits for its publisher to return; `None`: the hub's.
    pub reconnect: Option<Duration>,
    /// How far viewers are behind.
    pub latency: Latency,
}

/// The renditions that are made of a broadcast, among those that the daemon makes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Renditions {
    /// All.
    #[default]
    All,
    /// None: viewers get the source alone.
    None,
    /// Those of these heights in lines.
    OfHeights(Arc<[u16]>),
}

impl Renditions {
    /// Whether a rendition of this height is made.
    pub fn include(&self, height: u16) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::OfHeights(heights) => heights.contains(&height),
        }
    }
}

/// How far viewers are behind a live broadcast.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Latency {
    /// About a second: playlists list parts.
    #[default]
    Low,
    /// Some segments, with fewer requests: playlists list whole segments.
    Standard,
}
