//! Pictures: the avatars of accounts and channels, and the banners of channels.
//!
//! The files are elsewhere, under their hash; the events hold the hash alone. Files whose hash no
//! row holds are removed: see [`queries::holds`].

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
    name: "pictures",
    version: 1,
    events: events::Event::TYPES,
    foreign_events: &[accounts::events::ERASED, channels::events::DELETED],
    tables: &[
        tables::AVATARS.name(),
        tables::CHANNEL_AVATARS.name(),
        tables::BANNERS.name(),
        tables::HELD.name(),
    ],
    permissions: &[
        commands::ChangeAvatar::PERMISSION,
        commands::ChangeChannelAvatar::PERMISSION,
        commands::ChangeBanner::PERMISSION,
    ],
    audience: queries::audience,
    export: Export::Many("pictures", queries::export),
    fold: tables::fold,
};
