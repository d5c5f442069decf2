//! Channels: where somebody publishes, with title, description and visibility.
//!
//! A channel's name is a part of its addresses. Names that differ only in case are the same name.

use super::accounts;
use crate::{command::Command, event::Events as _, feature::Feature};

pub mod commands;
pub mod events;
pub mod queries;
pub mod tables;
#[cfg(test)]
mod tests;

/// The declaration.
pub const FEATURE: Feature = Feature {
    name: "channels",
    version: 1,
    events: events::Event::TYPES,
    // The channels of an erased account are gone, too.
    foreign_events: &[accounts::events::ERASED],
    tables: &[tables::CHANNELS.name(), tables::BY_NAME.name(), tables::BY_OWNER.name()],
    permissions: &[
        queries::ADMIT_VIEWERS,
        commands::Create::PERMISSION,
        commands::Edit::PERMISSION,
        commands::Delete::PERMISSION,
    ],
    audience: queries::audience,
    fold: tables::fold,
};
