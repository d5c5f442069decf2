//! The events of a video.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    details::{Details, Edits},
    state::{Cause, Media},
};
use crate::{
    events,
    id::{ChannelId, VideoId},
    text::Reason,
    time::Time,
    vault::Sealed,
};

/// There is a draft of a video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Announced {
    /// The video.
    pub video: VideoId,
    /// The channel to which it belongs.
    pub channel: ChannelId,
    /// Its properties.
    #[serde(flatten)]
    pub details: Details,
}

/// A video has other properties.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Edited {
    /// The video.
    pub video: VideoId,
    /// The properties that changed.
    #[serde(flatten)]
    pub edits: Edits,
}

/// A video has another password. It is in force while the visibility is `password`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PasswordSet {
    /// The video.
    pub video: VideoId,
    /// The password's hash in PHC format.
    pub password: Sealed,
}

/// The upload of a video's media has begun. Media that it had are replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UploadStarted {
    /// The video.
    pub video: VideoId,
}

/// The last byte of a video's media has arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Uploaded {
    /// The video.
    pub video: VideoId,
    /// The size of the media.
    pub bytes: u64,
}

/// A video can be published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Processed {
    /// The video.
    pub video: VideoId,
    /// Its media.
    #[serde(flatten)]
    pub media: Media,
}

/// The upload or the processing of a video has failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Failed {
    /// The video.
    pub video: VideoId,
    /// The part of the work that failed.
    pub cause: Cause,
    /// The reason for its owner.
    pub reason: Reason,
}

/// A video is published at a time, or as soon as it is processed afterwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scheduled {
    /// The video.
    pub video: VideoId,
    /// The time.
    pub at: Time,
}

/// A video is no longer published at the time for which it was scheduled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Unscheduled {
    /// The video.
    pub video: VideoId,
}

/// A video can be watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Published {
    /// The video.
    pub video: VideoId,
    /// The channel to which it belongs.
    pub channel: ChannelId,
}

/// A video can no longer be watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Unpublished {
    /// The video.
    pub video: VideoId,
}

/// A video is gone. Those of a deleted channel are gone before, at the event of the channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {
    /// The video.
    pub video: VideoId,
    /// The channel to which it belongs.
    pub channel: ChannelId,
}

events! {
    /// An event of a video.
    pub enum Event {
        Announced = "streamforge.video.announced.v1" on video,
        Edited = "streamforge.video.edited.v1" on video,
        PasswordSet = "streamforge.video.password_set.v1" on video,
        UploadStarted = "streamforge.video.upload_started.v1" on video,
        Uploaded = "streamforge.video.uploaded.v1" on video,
        Processed = "streamforge.video.processed.v1" on video,
        Failed = "streamforge.video.failed.v1" on video,
        Scheduled = "streamforge.video.scheduled.v1" on video,
        Unscheduled = "streamforge.video.unscheduled.v1" on video,
        Published = "streamforge.video.published.v1" on video,
        Unpublished = "streamforge.video.unpublished.v1" on video,
        Deleted = "streamforge.video.deleted.v1" on video,
    }
}

/// The type of [`Published`], at which followers of the channel are notified.
pub const PUBLISHED: &str = "streamforge.video.published.v1";
/// The type of [`Deleted`], at which other features delete what belongs to the video.
pub const DELETED: &str = "streamforge.video.deleted.v1";
