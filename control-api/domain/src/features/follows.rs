//! Follows: the channels that a person follows, and the notices that they want.

use super::{accounts, channels};
use crate::{command::Command, event::Events as _, export::Export, feature::Feature};

pub mod commands;
pub mod events;
pub mod queries;
pub mod tables;
#[cfg(test)]
mod tests;

/// The declaration.
pub const FEATURE: Feature = Feature {
    name: "follows",
    version: 1,
    events: events::Event::TYPES,
    foreign_events: &[accounts::events::ERASED, channels::events::DELETED],
    tables: &[
        tables::FOLLOWS.name(),
        tables::BY_CHANNEL.name(),
        tables::FOLLOWERS.name(),
        tables::FOLLOWED.name(),
        tables::DELETED.name(),
    ],
    permissions: &[queries::LIST, commands::Follow::PERMISSION, commands::Unfollow::PERMISSION],
    audience: queries::audience,
    export: Export::Many("follows", queries::export),
    fold: tables::fold,
};
