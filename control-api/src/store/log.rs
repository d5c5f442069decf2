//! The log: every event, by its sequence, which begins at 1 and has no holes. Beside it are the
//! progress of its readers, and the erasures whose keys may still exist.

use control_domain::{
    Envelope, Fault,
    event::{Events as _, unreadable},
    features::accounts::events::{ERASED, Event},
    id::AccountId,
};
use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition,
    WriteTransaction,
};
use uuid::Uuid;

use super::database::fault;

/// Events as JSON, because any tool must be able to read them in ten years.
pub(super) const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// The progress of followers, by their name.
const CURSORS: TableDefinition<&str, u64> = TableDefinition::new("cursors");
/// Erased persons whose keys may still exist, because they are in another file, which no
/// transaction covers.
const ERASURES: TableDefinition<[u8; 16], ()> = TableDefinition::new("erasures");

/// Events that one read transaction reads at most.
pub(super) const PAGE: usize = 256;

/// Makes the tables of the log.
pub(super) fn create(transaction: &WriteTransaction) -> Result<(), Fault> {
    transaction.open_table(LOG).map_err(fault)?;
    transaction.open_table(CURSORS).map_err(fault)?;
    transaction.open_table(ERASURES).map_err(fault)?;
    Ok(())
}

/// Events of another node's log that do not follow the last event here.
#[derive(Debug, thiserror::Error)]
#[error("the log ends with event {last}, so that events after {after} cannot follow")]
struct NotNext {
    last: u64,
    after: u64,
}

/// The log within a write transaction.
pub(super) struct Appender<'a> {
    transaction: &'a WriteTransaction,
    log: Table<'a, u64, &'static [u8]>,
    last: u64,
    erased: Vec<AccountId>,
}

impl<'a> Appender<'a> {
    pub(super) fn new(transaction: &'a WriteTransaction) -> Result<Self, Fault> {
        let log = transaction.open_table(LOG).map_err(fault)?;
        let last = log.last().map_err(fault)?.map_or(0, |(sequence, _)| sequence.value());
        Ok(Self { transaction, log, last, erased: Vec::new() })
    }

    /// The sequence of the last event.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Appends an event.
    pub(super) fn append(&mut self, envelope: &Envelope) -> Result<(), Fault> {
        let json = serde_json::to_vec(envelope).map_err(|err| unreadable(&envelope.kind, err))?;
        self.append_as(envelope, &json)
    }

    /// Refuses events of another node that do not follow the last event.
    pub(super) fn expect(&self, after: u64) -> Result<(), Fault> {
        match self.last == after {
            true => Ok(()),
            false => Err(Fault::Storage(Box::new(NotNext { last: self.last, after }))),
        }
    }

    /// Appends an event in these bytes.
    pub(super) fn append_as(&mut self, envelope: &Envelope, json: &[u8]) -> Result<(), Fault> {
        self.last += 1;
        self.log.insert(self.last, json).map_err(fault)?;
        if let Some(person) = erased(envelope)? {
            let mut erasures = self.transaction.open_table(ERASURES).map_err(fault)?;
            erasures.insert(person.uuid().into_bytes(), ()).map_err(fault)?;
            self.erased.push(person);
        }
        Ok(())
    }

    /// The persons that were erased in this transaction.
    pub(super) fn into_erased(self) -> Vec<AccountId> {
        self.erased
    }
}

/// The sequence of the last event: 0 if there is none.
pub(super) fn last(database: &Database) -> Result<u64, Fault> {
    last_in(&database.begin_read().map_err(fault)?)
}

/// The sequence of the last event in a snapshot.
pub(super) fn last_in(snapshot: &ReadTransaction) -> Result<u64, Fault> {
    let log = snapshot.open_table(LOG).map_err(fault)?;
    Ok(log.last().map_err(fault)?.map_or(0, |(sequence, _)| sequence.value()))
}

/// At most `limit` events behind a sequence, and at most [`PAGE`], as they are stored.
pub(super) fn page_of_bytes(
    database: &Database,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, Vec<u8>)>, Fault> {
    let transaction = database.begin_read().map_err(fault)?;
    let log = transaction.open_table(LOG).map_err(fault)?;
    let events = log.range(after.saturating_add(1)..).map_err(fault)?;
    let events = events.take(limit.min(PAGE));
    let events = events.map(|event| {
        let (sequence, json) = event.map_err(fault)?;
        Ok((sequence.value(), json.value().to_vec()))
    });
    events.collect()
}

/// At most `limit` events behind a sequence, and at most [`PAGE`].
pub(super) fn page(
    database: &Database,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, Envelope)>, Fault> {
    let page = page_of_bytes(database, after, limit)?;
    page.iter().map(|(sequence, json)| Ok((*sequence, parse(json)?))).collect()
}

/// Reads a stored event.
pub(super) fn parse(json: &[u8]) -> Result<Envelope, Fault> {
    serde_json::from_slice(json).map_err(|error| unreadable("of the log", error))
}

/// Reads a stored event if its type is wanted. Of others the type alone is read, which takes a
/// fraction of the time.
pub(super) fn parse_if(
    json: &[u8],
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Option<Envelope>, Fault> {
    if let Some(kind) = kind_of(json) {
        return is_wanted(kind).then(|| parse(json)).transpose();
    }
    let envelope = parse(json)?;
    Ok(is_wanted(&envelope.kind).then_some(envelope))
}

/// The type of an event that is stored as this version writes it: only values without quotes
/// precede it. `None` if it must be parsed.
fn kind_of(json: &[u8]) -> Option<&str> {
    const BEFORE: &[u8] = b",\"type\":\"";
    let head = json.get(..200).unwrap_or(json);
    let begin = head.windows(BEFORE.len()).position(|window| window == BEFORE)? + BEFORE.len();
    let length = json[begin..].iter().position(|&byte| matches!(byte, b'"' | b'\\'))?;
    match json[begin + length] {
        b'"' => std::str::from_utf8(&json[begin..begin + length]).ok(),
        _ => None,
    }
}

/// Whether events of this type are erasures of persons.
pub(super) fn is_erasure(kind: &str) -> bool {
    kind == ERASED
}

/// The person whose erasure an event is.
pub(crate) fn erased(envelope: &Envelope) -> Result<Option<AccountId>, Fault> {
    if is_erasure(&envelope.kind)
        && let Event::Erased(event) = Event::read(envelope)?
    {
        return Ok(Some(event.account));
    }
    Ok(None)
}

/// The persons whose keys may still exist although they are erased.
pub(super) fn erasures(database: &Database) -> Result<Vec<AccountId>, Fault> {
    let transaction = database.begin_read().map_err(fault)?;
    let erasures = transaction.open_table(ERASURES).map_err(fault)?;
    let persons = erasures.iter().map_err(fault)?.map(|row| {
        let (person, ()) = row.map(|(person, unit)| (person.value(), unit.value()))?;
        Ok(AccountId::new(Uuid::from_bytes(person)))
    });
    persons.collect::<Result<_, redb::StorageError>>().map_err(fault)
}

/// Records that the keys of these persons are gone.
pub(super) fn keys_are_gone(
    transaction: &WriteTransaction,
    persons: &[AccountId],
) -> Result<(), Fault> {
    if persons.is_empty() {
        return Ok(());
    }
    let mut erasures = transaction.open_table(ERASURES).map_err(fault)?;
    for person in persons {
        erasures.remove(person.uuid().into_bytes()).map_err(fault)?;
    }
    Ok(())
}

/// The progress of a follower: the last event that it has handled, or `None` if it is new.
pub(super) fn cursor(database: &Database, name: &str) -> Result<Option<u64>, Fault> {
    let transaction = database.begin_read().map_err(fault)?;
    let cursors = transaction.open_table(CURSORS).map_err(fault)?;
    Ok(cursors.get(name).map_err(fault)?.map(|sequence| sequence.value()))
}

/// Moves the cursor of a follower.
pub(super) fn move_cursor(
    transaction: &WriteTransaction,
    name: &str,
    sequence: u64,
) -> Result<(), Fault> {
    let mut cursors = transaction.open_table(CURSORS).map_err(fault)?;
    cursors.insert(name, sequence).map_err(fault)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_stored_event_is_found_however_it_is_written() {
        let golden = include_str!("../../domain/golden/streamforge.account.registered.v1.json");
        let events = serde_json::from_str::<Vec<Envelope>>(golden).expect("events");
        let stored = serde_json::to_vec(&events[0]).expect("JSON");
        assert_eq!(kind_of(&stored), Some("streamforge.account.registered.v1"));
        let is_wanted = |kind: &str| kind == "streamforge.account.registered.v1";
        let found = |json: &[u8]| parse_if(json, is_wanted).expect("an event").is_some();
        assert!(found(&stored));
        assert!(parse_if(&stored, |_| false).expect("an event").is_none());
        // Other writers may write spaces, another order or escapes.
        let other = serde_json::to_string_pretty(&events[0]).expect("JSON");
        assert_eq!(kind_of(other.as_bytes()), None);
        assert!(found(other.as_bytes()));
        let escaped =
            String::from_utf8(stored).expect("text").replace("forge.acc", "forge\\u002eacc");
        assert_eq!(kind_of(escaped.as_bytes()), None);
        assert!(found(escaped.as_bytes()));
    }
}
