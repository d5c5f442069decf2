//! The tables of the audit log, and the fold that writes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::events::{Event, Outcome, PERFORMED, Performed};
use crate::{
    actor::{ActorId, Authority},
    event::{Envelope, Events as _, unreadable},
    feature::Folding,
    id::EventId,
    rows::Fault,
    table::Table,
    time::Time,
    vault::Sealed,
};

/// The place of an entry: its time, and its event.
pub type Place = (Time, EventId);

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// On whose behalf it happened.
    pub actor: ActorId,
    /// The right by which it was done; `None` for an operation on an own thing.
    pub authority: Option<Authority>,
    /// The type of its event.
    pub kind: String,
    /// The thing that it happened to.
    pub subject: String,
    /// The request by which it was done.
    pub request: Option<String>,
    /// The fields of the event that describe the act.
    pub details: BTreeMap<String, String>,
    /// The operation, if it is one of the daemon.
    pub operation: Option<Operation>,
}

/// An operation of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its name.
    pub name: String,
    /// The result.
    pub outcome: Outcome,
    /// The value that it has set.
    pub value: Option<String>,
    /// Why, in the sender's words.
    pub reason: Option<Sealed>,
}

/// All entries, by time.
pub const ENTRIES: Table<Place, Entry> = Table::new("audit.entries");
/// The entries of an actor.
pub const BY_ACTOR: Table<(String, Time, EventId), ()> = Table::new("audit.by_actor");
/// The entries of a type of events.
pub const BY_TYPE: Table<(String, Time, EventId), ()> = Table::new("audit.by_type");
/// The entries about a thing.
pub const BY_SUBJECT: Table<(String, Time, EventId), ()> = Table::new("audit.by_subject");

/// Fields of events that an entry repeats: short names and identifiers, never personal data, which
/// are sealed, and never secrets.
const DETAILS: [&str; 11] = [
    "account",
    "cause",
    "channel",
    "into",
    "name",
    "owner",
    "position",
    "role",
    "tag",
    "video",
    "visibility",
];
/// Longest detail, in characters.
const MAX_DETAIL: usize = 120;

/// Adds an event that needed an authority, or is an operation, to the log.
///
/// # Errors
/// A [`Fault`] of the tables, or of an event that cannot be read.
pub fn fold(folding: &mut Folding<'_>, envelope: &Envelope) -> Result<(), Fault> {
    let is_operation = envelope.kind == PERFORMED;
    // Nearly all events are of owners. They are not parsed.
    if envelope.authority.is_none() && !is_operation {
        return Ok(());
    }
    let (operation, details) = match is_operation {
        true => (Some(operation(envelope)?), BTreeMap::new()),
        false => (None, details(envelope)?),
    };
    let actor = envelope.actor.to_string();
    let entry = Entry {
        actor: envelope.actor,
        authority: envelope.authority,
        kind: envelope.kind.clone(),
        subject: envelope.subject.clone(),
        request: envelope.request.clone(),
        details,
        operation,
    };
    let (time, id) = (envelope.time, envelope.id);
    let rows = &mut *folding.rows;
    BY_ACTOR.put(rows, &(actor, time, id), &())?;
    BY_TYPE.put(rows, &(envelope.kind.clone(), time, id), &())?;
    BY_SUBJECT.put(rows, &(envelope.subject.clone(), time, id), &())?;
    ENTRIES.put(rows, &(time, id), &entry)
}

fn operation(envelope: &Envelope) -> Result<Operation, Fault> {
    let Event::Performed(Performed { operation, outcome, value, reason, .. }) =
        Event::read(envelope)?;
    let value = value.map(String::from);
    Ok(Operation { name: operation.into(), outcome, value, reason })
}

fn details(envelope: &Envelope) -> Result<BTreeMap<String, String>, Fault> {
    let data = serde_json::from_str::<Value>(envelope.data.get())
        .map_err(|error| unreadable(&envelope.kind, error))?;
    let detail = |name: &&str| {
        let text = match data.get(name)? {
            Value::String(text) => text.chars().take(MAX_DETAIL).collect(),
            Value::Number(number) => number.to_string(),
            // Sealed values are objects.
            _ => return None,
        };
        Some(((*name).to_owned(), text)).filter(|(_, text)| *text != envelope.subject)
    };
    Ok(DETAILS.iter().filter_map(detail).collect())
}
