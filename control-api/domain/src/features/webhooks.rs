//! Webhooks: addresses to which events are delivered, signed with a secret of each. One belongs to
//! an account, and receives the events that this account may see, or to the operator, and receives
//! all events.
//!
//! The daemon delivers; here are the facts: the addresses, their filters and secrets, and whether
//! they are in use.

use super::accounts;
use crate::{command::Command, event::Events as _, export::Export, feature::Feature};

pub mod commands;
pub mod events;
pub mod filter;
pub mod queries;
pub mod secret;
pub mod tables;
#[cfg(test)]
mod tests;
pub mod url;

/// The declaration.
pub const FEATURE: Feature = Feature {
    name: "webhooks",
    version: 1,
    events: events::Event::TYPES,
    foreign_events: &[accounts::events::ERASED],
    tables: &[tables::WEBHOOKS.name(), tables::BY_OWNER.name()],
    permissions: &[
        queries::LIST,
        commands::Create::PERMISSION,
        commands::Edit::PERMISSION,
        commands::RotateSecret::PERMISSION,
        commands::Enable::PERMISSION,
        commands::Disable::PERMISSION,
        commands::GiveUp::PERMISSION,
        commands::Delete::PERMISSION,
        commands::DELIVER,
    ],
    audience: queries::audience,
    export: Export::Many("webhooks", queries::export),
    fold: tables::fold,
};
