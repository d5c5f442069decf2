//! The subject of a view: a channel or a video.

use serde::{Deserialize, Serialize};

use crate::{
    id::{ChannelId, VideoId},
    table::Key,
};

/// A channel, whose broadcasts are watched live, or a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// All broadcasts of a channel.
    Channel(ChannelId),
    /// A video.
    Video(VideoId),
}

/// The first byte of a channel's key.
const CHANNEL: u8 = b'c';
/// The first byte of a video's key.
const VIDEO: u8 = b'v';

impl Key for Subject {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Channel(id) => {
                out.push(CHANNEL);
                id.write(out);
            }
            Self::Video(id) => {
                out.push(VIDEO);
                id.write(out);
            }
        }
    }

    fn parse(bytes: &mut &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        *bytes = rest;
        match *kind {
            CHANNEL => ChannelId::parse(bytes).map(Self::Channel),
            VIDEO => VideoId::parse(bytes).map(Self::Video),
            _ => None,
        }
    }
}
