//! The state of a video on its way to its viewers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{text::Reason, time::Time};

/// The properties of a video's media, which are known once it is processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Media {
    /// Its duration in milliseconds.
    pub duration_ms: u64,
    /// The width of its picture in pixels; `null` for audio.
    pub width: Option<u32>,
    /// The height of its picture in lines; `null` for audio.
    pub height: Option<u32>,
}

/// The part of the work that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The upload did not end, or arrived damaged.
    Upload,
    /// The file is not media that can be played.
    Media,
    /// The platform could not store or process it; another attempt may succeed.
    Platform,
}

/// The state of a video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It is announced and has no media.
    Draft,
    /// Its media arrive.
    Uploading,
    /// Its media are there and are being examined.
    Processing,
    /// It can be published.
    Ready(Media),
    /// It can be watched.
    Published {
        /// Since when.
        at: Time,
        /// Its media.
        media: Media,
    },
    /// It has no media that can be published. Another upload may begin.
    Failed {
        /// The part of the work that failed.
        cause: Cause,
        /// The reason for its owner.
        reason: Reason,
    },
}

impl State {
    /// The name of the state, for the API.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Uploading => "uploading",
            Self::Processing => "processing",
            Self::Ready(_) => "ready",
            Self::Published { .. } => "published",
            Self::Failed { .. } => "failed",
        }
    }

    /// The media, if they are known.
    pub const fn media(&self) -> Option<Media> {
        match *self {
            Self::Ready(media) | Self::Published { media, .. } => Some(media),
            Self::Draft | Self::Uploading | Self::Processing | Self::Failed { .. } => None,
        }
    }

    /// When it was published, if it is.
    pub const fn published(&self) -> Option<Time> {
        match *self {
            Self::Published { at, .. } => Some(at),
            _ => None,
        }
    }
}
