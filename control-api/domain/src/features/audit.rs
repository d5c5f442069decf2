//! The audit log: who has used a right over the things of others or over the daemon, when, and on
//! what. It is folded from the events of all features that needed an authority
//! ([`Authority`](crate::Authority)).
//!
//! Operations of the daemon that change no thing of the platform, such as a backup, are events of
//! this feature.

use crate::{
    command::Command,
    event::Events as _,
    export::Export,
    feature::{ANY_EVENT, Feature},
};

pub mod commands;
pub mod events;
pub mod queries;
pub mod tables;
#[cfg(test)]
mod tests;

/// The declaration.
pub const FEATURE: Feature = Feature {
    name: "audit",
    version: 1,
    events: events::Event::TYPES,
    foreign_events: &[ANY_EVENT],
    tables: &[
        tables::ENTRIES.name(),
        tables::BY_ACTOR.name(),
        tables::BY_TYPE.name(),
        tables::BY_SUBJECT.name(),
    ],
    permissions: &[queries::LIST, commands::Record::PERMISSION, commands::EndStream::PERMISSION],
    audience: queries::audience,
    export: Export::Nothing("acts are of the installation, and name identifiers alone"),
    fold: tables::fold,
};
