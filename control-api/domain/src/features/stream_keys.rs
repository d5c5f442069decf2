//! Stream keys: the rights to publish on a channel. A channel has several, each with a name, and
//! each can be revoked alone.
//!
//! A key is a random secret of the daemon. Only its SHA-256 is kept, because a random value of 256
//! bits cannot be guessed from it; the key itself is shown once.

use super::channels;
use crate::{command::Command, event::Events as _, export::Export, feature::Feature};

pub mod commands;
pub mod events;
pub mod queries;
pub mod tables;
#[cfg(test)]
mod tests;

/// The declaration.
pub const FEATURE: Feature = Feature {
    name: "stream_keys",
    version: 1,
    events: events::Event::TYPES,
    foreign_events: &[channels::events::DELETED],
    tables: &[tables::KEYS.name(), tables::BY_DIGEST.name(), tables::BY_CHANNEL.name()],
    permissions: &[queries::LIST, commands::AddKey::PERMISSION, commands::RevokeKey::PERMISSION],
    audience: queries::audience,
    export: Export::Many("stream_keys", queries::export),
    fold: tables::fold,
};
