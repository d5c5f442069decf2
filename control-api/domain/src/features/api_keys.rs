//! API keys: parts of an account's rights for programs, each with a name, scopes and, if its owner
//! wants it, an end.
//!
//! A key is a random secret of the daemon. Only its SHA-256 is kept, because a random value of 256
//! bits cannot be guessed from it; the key itself is shown once.

use super::accounts;
use crate::{command::Command, event::Events as _, export::Export, feature::Feature};

pub mod commands;
pub mod events;
pub mod queries;
pub mod tables;
#[cfg(test)]
mod tests;

/// The declaration.
pub const FEATURE: Feature = Feature {
    name: "api_keys",
    version: 1,
    events: events::Event::TYPES,
    foreign_events: &[accounts::events::ERASED],
    tables: &[tables::KEYS.name(), tables::BY_DIGEST.name(), tables::BY_ACCOUNT.name()],
    permissions: &[queries::LIST, commands::AddKey::PERMISSION, commands::RevokeKey::PERMISSION],
    audience: queries::audience,
    export: Export::Many("api_keys", queries::export),
    fold: tables::fold,
};
