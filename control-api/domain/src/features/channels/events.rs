//! The events of a channel.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settings::Changes;
use crate::{
    events,
    id::{AccountId, ChannelId},
    text::{ChannelName, ChannelTitle, Description},
};

/// The viewers that may watch a channel and find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Everybody, and it is listed.
    #[default]
    Public,
    /// Everybody who has the address; it is not listed.
    Unlisted,
    /// Viewers with a playback token.
    Private,
    /// Members of the channel, with a playback token.
    Members,
}

/// Somebody has a new channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Created {
    /// The channel.
    pub channel: ChannelId,
    /// The account that owns it.
    pub owner: AccountId,
    /// Its name in addresses.
    pub name: ChannelName,
    /// Its title.
    pub title: ChannelTitle,
    /// Its visibility.
    pub visibility: Visibility,
}

/// A channel has other properties. Fields that are absent keep their value.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Edits {
    /// Its title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<ChannelTitle>,
    /// Its description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Description>,
    /// Its visibility.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
}

/// A channel was edited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Edited {
    /// The channel.
    pub channel: ChannelId,
    /// The properties that changed.
    #[serde(flatten)]
    pub edits: Edits,
}

/// A channel's broadcasts have other settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SettingsChanged {
    /// The channel.
    pub channel: ChannelId,
    /// The settings that changed.
    #[serde(flatten)]
    pub changes: Changes,
}

/// A channel is gone, and its name is free.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {
    /// The channel.
    pub channel: ChannelId,
}

events! {
    /// An event of a channel.
    pub enum Event {
        Created = "streamforge.channel.created.v1" on channel,
        Edited = "streamforge.channel.edited.v1" on channel,
        SettingsChanged = "streamforge.channel.settings_changed.v1" on channel,
        Deleted = "streamforge.channel.deleted.v1" on channel,
    }
}

/// The type of [`Deleted`].
pub const DELETED: &str = "streamforge.channel.deleted.v1";
