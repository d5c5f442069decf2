//! Channels: where somebody publishes, with title, description, visibility and settings.
//!
//! A channel's name is a part of its addresses. Names that differ only in case are the same name.
//! The channels of an erased account are gone at once. Their deletions follow as events of their
//! own, by [`commands::DeleteOrphans`], so that a feature whose rows belong to channels need not
//! know owners.

use super::accounts;
use crate::{command::Command, event::Events as _, export::Export, feature::Feature};

pub mod commands;
pub mod events;
pub mod queries;
pub mod settings;
pub mod tables;
#[cfg(test)]
mod tests;

/// The declaration.
pub const FEATURE: Feature = Feature {
    name: "channels",
    version: 2,
    events: events::Event::TYPES,
    // The channels of an erased account are gone, too.
    foreign_events: &[accounts::events::ERASED],
    tables: &[
        tables::CHANNELS.name(),
        tables::BY_NAME.name(),
        tables::BY_OWNER.name(),
        tables::SETTINGS.name(),
        tables::ORPHANED.name(),
    ],
    permissions: &[
        queries::ADMIT_VIEWERS,
        queries::SHOW_SETTINGS,
        commands::Create::PERMISSION,
        commands::Edit::PERMISSION,
        commands::ChangeSettings::PERMISSION,
        commands::Delete::PERMISSION,
        commands::DeleteOrphans::PERMISSION,
    ],
    audience: queries::audience,
    export: Export::Many("channels", queries::export),
    fold: tables::fold,
};
