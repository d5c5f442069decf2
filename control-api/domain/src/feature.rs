//! The declaration of a feature: all that the store and the API need to know about it.

use crate::{
    actor::{Actor, ActorId, Role},
    audience::Audience,
    event::{Envelope, EventType},
    export::Export,
    permission::Permission,
    rows::{Fault, Rows, RowsMut},
    vault::Vault,
};

/// Stands for all types of events among a feature's foreign ones.
pub const ANY_EVENT: &str = "*";

/// A feature: one folder with its events, commands, tables and queries.
#[derive(Debug, Clone, Copy)]
pub struct Feature {
    /// The name, with which its tables' names begin.
    pub name: &'static str,
    /// The version of its tables. If it differs from the version in the database, the tables are
    /// dropped and folded again from the log.
    pub version: u32,
    /// The types of its events.
    pub events: &'static [EventType],
    /// The types of other features' events that change its tables too, such as the deletion of a
    /// thing that its rows belong to; [`ANY_EVENT`] for all.
    pub foreign_events: &'static [&'static str],
    /// The names of its tables.
    pub tables: &'static [&'static str],
    /// The actors that may send its commands.
    pub permissions: &'static [Permission],
    /// The actors that may read one of its own events, by the tables as they are now.
    pub audience: fn(&dyn Rows, &Envelope) -> Result<Audience, Fault>,
    /// Its part in the export of a person's data.
    pub export: Export,
    /// Applies one of these events to its tables.
    pub fold: fn(&mut Folding<'_>, &Envelope) -> Result<(), Fault>,
}

impl Feature {
    /// Whether events of this type are its own.
    pub fn declares(&self, kind: &str) -> bool {
        self.events.iter().any(|event| event.name == kind)
    }

    /// Whether events of this type change its tables.
    pub fn folds(&self, kind: &str) -> bool {
        let is_foreign = |event: &&str| *event == kind || *event == ANY_EVENT;
        self.declares(kind) || self.foreign_events.iter().any(is_foreign)
    }
}

/// The tables and the keys of personal data that a fold uses.
pub struct Folding<'a> {
    /// The tables.
    pub rows: &'a mut dyn RowsMut,
    /// Opens personal data.
    pub vault: &'a dyn Vault,
}

impl std::fmt::Debug for Folding<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Folding")
    }
}

/// Applies an event to the tables of all features that fold it, in the order of the features. An
/// event of an unknown type changes nothing: a newer version wrote it.
///
/// # Errors
/// A [`Fault`]; then the transaction must be aborted.
pub fn fold(
    features: &[&Feature],
    folding: &mut Folding<'_>,
    envelope: &Envelope,
) -> Result<(), Fault> {
    let mut features = features.iter().filter(|feature| feature.folds(&envelope.kind));
    features.try_for_each(|feature| (feature.fold)(folding, envelope))
}

/// Whether an actor may read an event, by the tables as they are now.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn may_read(
    features: &[&Feature],
    rows: &dyn Rows,
    actor: &Actor,
    envelope: &Envelope,
) -> Result<bool, Fault> {
    let is_own = matches!(envelope.actor, ActorId::Account(id) if actor.account() == Some(id));
    if is_own || actor.has(Role::Administrator) {
        return Ok(true);
    }
    let declares = |feature: &&&Feature| feature.declares(&envelope.kind);
    match features.iter().find(declares) {
        Some(feature) => Ok((feature.audience)(rows, envelope)?.includes(actor)),
        // A newer version wrote it.
        None => Ok(false),
    }
}
