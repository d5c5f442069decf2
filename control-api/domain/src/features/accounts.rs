//! Accounts: who is known here, and with which role.
//!
//! Names, addresses and passwords are personal data, which events hold sealed. Erasing an account
//! deletes its key; the account itself remains as a row without personal data.

use crate::{command::Command, event::Events as _, export::Export, feature::Feature};

pub mod commands;
pub mod events;
pub mod queries;
pub mod tables;
#[cfg(test)]
mod tests;

/// The declaration.
pub const FEATURE: Feature = Feature {
    name: "accounts",
    version: 2,
    events: events::Event::TYPES,
    foreign_events: &[],
    tables: &[
        tables::ACCOUNTS.name(),
        tables::BY_EMAIL.name(),
        tables::BY_NAME.name(),
        tables::ADMINISTRATORS.name(),
    ],
    permissions: &[
        queries::LIST,
        queries::SHOW,
        queries::EXPORT,
        commands::Register::PERMISSION,
        commands::Add::PERMISSION,
        commands::Bootstrap::PERMISSION,
        commands::EditProfile::PERMISSION,
        commands::SetPassword::PERMISSION,
        commands::ExpirePassword::PERMISSION,
        commands::VerifyEmail::PERMISSION,
        commands::ChangeEmail::PERMISSION,
        commands::ChangeRole::PERMISSION,
        commands::Erase::PERMISSION,
    ],
    audience: queries::audience,
    export: Export::One("account", queries::export),
    fold: tables::fold,
};
