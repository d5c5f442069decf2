//! Sessions: the devices on which an account is signed in.
//!
//! A session begins when credentials were checked, and ends once. Its present refresh token and its
//! last use are traffic and no events: the store keeps them in another file.

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
    name: "sessions",
    version: 1,
    events: events::Event::TYPES,
    // Nobody is signed in to an erased account.
    foreign_events: &[accounts::events::ERASED],
    tables: &[tables::SESSIONS.name(), tables::BY_ACCOUNT.name()],
    permissions: &[
        queries::LIST,
        commands::Start::PERMISSION,
        commands::End::PERMISSION,
        commands::EndOthers::PERMISSION,
        commands::ChangePassword::PERMISSION,
    ],
    audience: queries::audience,
    export: Export::Many("sessions", queries::export),
    fold: tables::fold,
};
