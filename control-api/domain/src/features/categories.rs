//! Categories of videos and live broadcasts: a short ordered list with translations, which
//! administrators keep. A new platform begins with a set of eighteen.
//!
//! A category that is removed stays in the rows of its videos, where queries ignore it.

use crate::{command::Command, event::Events as _, export::Export, feature::Feature};

pub mod commands;
pub mod events;
pub mod queries;
mod start;
pub mod tables;
#[cfg(test)]
mod tests;

/// The declaration.
pub const FEATURE: Feature = Feature {
    name: "categories",
    version: 1,
    events: events::Event::TYPES,
    foreign_events: &[],
    tables: &[tables::CATEGORIES.name(), tables::BY_NAME.name(), tables::ORDER.name()],
    permissions: &[
        commands::Make::PERMISSION,
        commands::Rename::PERMISSION,
        commands::Move::PERMISSION,
        commands::Remove::PERMISSION,
        commands::MakeStartSet::PERMISSION,
    ],
    audience: queries::audience,
    export: Export::Nothing("categories are the platform's"),
    fold: tables::fold,
};
