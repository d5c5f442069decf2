//! Reactions: a person likes or dislikes a video.

use super::{accounts, videos};
use crate::{command::Command, event::Events as _, export::Export, feature::Feature};

pub mod commands;
pub mod events;
pub mod queries;
pub mod tables;
#[cfg(test)]
mod tests;

/// The declaration.
pub const FEATURE: Feature = Feature {
    name: "reactions",
    version: 1,
    events: events::Event::TYPES,
    foreign_events: &[accounts::events::ERASED, videos::events::DELETED],
    tables: &[
        tables::REACTIONS.name(),
        tables::BY_PERSON.name(),
        tables::COUNTS.name(),
        tables::DELETED.name(),
        tables::ERASED.name(),
    ],
    permissions: &[queries::SHOW, commands::React::PERMISSION, commands::Withdraw::PERMISSION],
    audience: queries::audience,
    export: Export::Many("reactions", queries::export),
    fold: tables::fold,
};
