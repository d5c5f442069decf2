//! Identities: persons at foreign providers (OpenID Connect), with which accounts sign in.
//!
//! An identity is the pair of issuer and subject (OpenID Connect Core 2, `iss` and `sub`), and
//! nothing else: an address can pass to another person, at the provider and here. The subject is
//! personal data, which events hold sealed; it is found by its keyed digest.

use super::accounts;
use crate::{command::Command, event::Events as _, export::Export, feature::Feature};

pub mod commands;
pub mod events;
pub mod queries;
pub mod subject;
pub mod tables;
#[cfg(test)]
mod tests;

/// The declaration.
pub const FEATURE: Feature = Feature {
    name: "identities",
    version: 1,
    events: events::Event::TYPES,
    foreign_events: &[accounts::events::ERASED],
    tables: &[tables::IDENTITIES.name(), tables::BY_SUBJECT.name(), tables::BY_ACCOUNT.name()],
    permissions: &[
        queries::LIST,
        commands::RegisterByIdentity::PERMISSION,
        commands::Link::PERMISSION,
        commands::Unlink::PERMISSION,
    ],
    audience: queries::audience,
    export: Export::Many("identities", queries::export),
    fold: tables::fold,
};
