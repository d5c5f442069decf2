//! Second factors: the secret of an authenticator app (TOTP, RFC 6238), and recovery codes for the
//! day on which the app is gone.
//!
//! The secret is personal data, which events and tables hold sealed. Codes are computed before a
//! command is sent; the command carries the time step of the code, and the rule that no step is
//! accepted twice (RFC 6238 5.2) is decided here. Of recovery codes, which are random, only the
//! digests are kept.

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
    name: "second_factors",
    version: 1,
    events: events::Event::TYPES,
    foreign_events: &[accounts::events::ERASED],
    tables: &[tables::PENDING.name(), tables::CONFIRMED.name(), tables::OWNERS.name()],
    permissions: &[
        queries::SHOW,
        commands::Begin::PERMISSION,
        commands::Confirm::PERMISSION,
        commands::UseCode::PERMISSION,
        commands::UseRecoveryCode::PERMISSION,
        commands::Remove::PERMISSION,
    ],
    audience: queries::audience,
    export: Export::One("second_factor", queries::export),
    fold: tables::fold,
};
