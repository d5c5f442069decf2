//! Views: how often the channel or the video was watched, and for how long. The daemon counts them
//! by the media that it has delivered, and records them each minute.

use super::{channels, videos};
use crate::{command::Command, event::Events as _, export::Export, feature::Feature};

pub mod commands;
pub mod events;
pub mod queries;
mod subject;
pub mod tables;
#[cfg(test)]
mod tests;

/// The declaration.
pub const FEATURE: Feature = Feature {
    name: "views",
    version: 1,
    events: events::Event::TYPES,
    foreign_events: &[channels::events::DELETED, videos::events::DELETED],
    tables: &[
        tables::TOTALS.name(),
        tables::DAYS.name(),
        tables::BATCHES.name(),
        tables::DELETED.name(),
    ],
    permissions: &[queries::SHOW, commands::Record::PERMISSION],
    audience: queries::audience,
    export: Export::Nothing("counts are of channels and videos, and name no person"),
    fold: tables::fold,
};
