//! Videos: from the announcement to the deletion.
//!
//! A video belongs to a channel, and nobody may know more of it than of its channel. When a channel
//! is deleted, its videos are gone at once for all queries. Their deletions follow as events, by
//! [`commands::DeleteOrphans`]: a fold that deleted all of them would hold up every other command.

use super::channels;
use crate::{command::Command, event::Events as _, export::Export, feature::Feature};

pub mod access;
pub mod commands;
pub mod details;
pub mod events;
pub mod index;
pub mod processing;
pub mod queries;
pub mod state;
pub mod tables;
#[cfg(test)]
mod tests;

/// The declaration.
pub const FEATURE: Feature = Feature {
    name: "videos",
    version: 1,
    events: events::Event::TYPES,
    foreign_events: &[channels::events::DELETED],
    tables: &[
        tables::VIDEOS.name(),
        tables::BY_CHANNEL.name(),
        tables::COUNTS.name(),
        tables::ORPHANED.name(),
        index::DUE.name(),
        index::NEWEST.name(),
        index::NEWEST_OF_CHANNEL.name(),
        index::BY_TAG.name(),
        index::BY_CATEGORY.name(),
        index::TAGS.name(),
        index::POPULAR_TAGS.name(),
    ],
    permissions: &[
        commands::Announce::PERMISSION,
        commands::Edit::PERMISSION,
        commands::Publish::PERMISSION,
        commands::Unpublish::PERMISSION,
        commands::PublishDue::PERMISSION,
        commands::Delete::PERMISSION,
        commands::DeleteOrphans::PERMISSION,
        processing::StartUpload::PERMISSION,
        processing::FinishUpload::PERMISSION,
        processing::FinishProcessing::PERMISSION,
        processing::Fail::PERMISSION,
    ],
    audience: queries::audience,
    export: Export::Many("videos", queries::export),
    fold: tables::fold,
};
