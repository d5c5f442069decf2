//! Tags that mean the same: an administrator merges one into another. Videos keep their tags; lists
//! of a tag have the videos of all its spellings, and new videos get the tag into which theirs was
//! merged. Tags are compared in their folded form.

use crate::{command::Command, event::Events as _, export::Export, feature::Feature};

pub mod commands;
pub mod events;
pub mod queries;
pub mod tables;
#[cfg(test)]
mod tests;

/// The declaration.
pub const FEATURE: Feature = Feature {
    name: "tags",
    version: 1,
    events: events::Event::TYPES,
    foreign_events: &[],
    tables: &[tables::MERGED.name(), tables::BY_TARGET.name()],
    permissions: &[commands::Merge::PERMISSION, commands::Separate::PERMISSION],
    audience: queries::audience,
    export: Export::Nothing("what a tag means is the platform's; videos have their own tags"),
    fold: tables::fold,
};
