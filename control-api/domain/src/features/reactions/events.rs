//! The events of a reaction.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    events,
    id::{AccountId, VideoId},
};

/// The opinion of a person about a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reaction {
    /// They like it.
    Like,
    /// They dislike it.
    Dislike,
}

/// A person has reacted to a video, instead of an earlier reaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReactionSet {
    /// The video.
    pub video: VideoId,
    /// The person.
    pub person: AccountId,
    /// The reaction.
    pub reaction: Reaction,
}

/// A person has withdrawn their reaction to a video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReactionRemoved {
    /// The video.
    pub video: VideoId,
    /// The person.
    pub person: AccountId,
}

events! {
    /// An event of a reaction.
    pub enum Event {
        ReactionSet = "streamforge.video.reaction_set.v1" on video,
        ReactionRemoved = "streamforge.video.reaction_removed.v1" on video,
    }
}
