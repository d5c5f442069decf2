//! The events of a follow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    events,
    id::{AccountId, ChannelId},
};

/// The notices that a person wants of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Notices {
    /// Of everything.
    All,
    /// Of the most important things, as the platform chooses.
    #[default]
    Some,
    /// None.
    None,
}

/// A person follows a channel, or wants other notices of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Followed {
    /// The channel.
    pub channel: ChannelId,
    /// The person.
    pub person: AccountId,
    /// The notices.
    pub notices: Notices,
}

/// A person follows a channel no more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Unfollowed {
    /// The channel.
    pub channel: ChannelId,
    /// The person.
    pub person: AccountId,
}

events! {
    /// An event of a follow.
    pub enum Event {
        Followed = "streamforge.channel.followed.v1" on channel,
        Unfollowed = "streamforge.channel.unfollowed.v1" on channel,
    }
}
