//! The viewers of a video. Nobody may know more of a video than of its channel.

use super::{details::Visibility, tables::Video};
use crate::{
    actor::{Actor, Role},
    features::channels::{self, queries::Channel},
    id::VideoId,
};

/// A video with its channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The video's identifier.
    pub id: VideoId,
    /// The video.
    pub video: Video,
    /// Its channel.
    pub channel: Channel,
}

/// The condition under which an actor may watch a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// None.
    Open,
    /// The video's password.
    Password,
    /// A playback token. The actor itself may not know that the video exists.
    Token,
    /// It may neither watch the video nor know that it exists.
    Closed,
}

impl Entry {
    /// The condition under which the actor may watch the video.
    pub fn access(&self, actor: &Actor) -> Access {
        if self.is_own(actor) {
            return Access::Open;
        }
        if self.video.state.published().is_none() {
            return Access::Closed;
        }
        if !channels::queries::is_visible(&self.channel, actor) {
            return Access::Token;
        }
        match self.video.details.visibility {
            Visibility::Public | Visibility::Unlisted => Access::Open,
            Visibility::Password => Access::Password,
            Visibility::Private | Visibility::Members => Access::Token,
            Visibility::Internal if actor.account().is_some() => Access::Open,
            Visibility::Internal => Access::Closed,
        }
    }

    /// Whether the actor may know that the video exists.
    pub fn is_visible(&self, actor: &Actor) -> bool {
        matches!(self.access(actor), Access::Open | Access::Password)
    }

    /// Whether the video is listed for the actor in the lists of the whole platform.
    pub fn is_listed(&self, actor: &Actor) -> bool {
        self.is_listed_in_channel(actor) && channels::queries::is_listed(&self.channel, actor)
    }

    /// Whether the video is listed for the actor in the list of its channel.
    pub fn is_listed_in_channel(&self, actor: &Actor) -> bool {
        let is_open =
            matches!(self.video.details.visibility, Visibility::Public | Visibility::Internal);
        (is_open || self.is_own(actor)) && self.is_visible(actor)
    }

    /// Whether the actor decides about the video: its owner, and moderators.
    fn is_own(&self, actor: &Actor) -> bool {
        actor.has(Role::Moderator) || actor.account() == Some(self.channel.owner)
    }
}
