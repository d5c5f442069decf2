//! The log: every event, by its sequence, which begins at 1 and has no holes.

use control_domain::{Envelope, Fault, event::unreadable, features::accounts};
use redb::{
    Database, Durability, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition,
    WriteTransaction,
};

use super::{database::fault, vault::KeyVault};

/// Events as JSON, because any tool must be able to read them in ten years.
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// The progress of readers of the log, by their name.
const CURSORS: TableDefinition<&str, u64> = TableDefinition::new("cursors");
/// The cursor of the erasure of keys.
const ERASURE: &str = "erasure";

/// Events that one read transaction reads at most.
pub(super) const PAGE: usize = 256;

/// Makes the tables of the log.
pub(super) fn create(database: &Database) -> Result<(), Fault> {
    let transaction = database.begin_write().map_err(fault)?;
    transaction.open_table(LOG).map_err(fault)?;
    transaction.open_table(CURSORS).map_err(fault)?;
    transaction.commit().map_err(fault)
}

/// The log within a write transaction.
pub(super) struct Appender<'a> {
    log: Table<'a, u64, &'static [u8]>,
    last: u64,
}

impl<'a> Appender<'a> {
    pub(super) fn new(transaction: &'a WriteTransaction) -> Result<Self, Fault> {
        let log = transaction.open_table(LOG).map_err(fault)?;
        let last = log.last().map_err(fault)?.map_or(0, |(sequence, _)| sequence.value());
        Ok(Self { log, last })
    }

    /// The sequence of the last event.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Appends an event.
    pub(super) fn append(&mut self, envelope: &Envelope) -> Result<(), Fault> {
        let json = serde_json::to_vec(envelope).map_err(|err| unreadable(&envelope.kind, err))?;
        self.last += 1;
        self.log.insert(self.last, json.as_slice()).map_err(fault)?;
        Ok(())
    }
}

/// The sequence of the last event: 0 if there is none.
pub(super) fn last(database: &Database) -> Result<u64, Fault> {
    let transaction = database.begin_read().map_err(fault)?;
    let log = transaction.open_table(LOG).map_err(fault)?;
    Ok(log.last().map_err(fault)?.map_or(0, |(sequence, _)| sequence.value()))
}

/// At most `limit` events behind a sequence, as they are stored.
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

/// Deletes the keys of persons whose erasure is in the log, and was not carried out before the
/// process ended. The keys are in another file, so no transaction covers both.
pub(super) fn erase_keys(database: &Database, vault: &KeyVault) -> Result<(), Fault> {
    let transaction = database.begin_read().map_err(fault)?;
    let cursors = transaction.open_table(CURSORS).map_err(fault)?;
    let begin = cursors.get(ERASURE).map_err(fault)?.map_or(0, |sequence| sequence.value());
    drop(cursors);
    transaction.close().map_err(fault)?;
    let mut after = begin;
    loop {
        let events = page(database, after, PAGE)?;
        let Some((last, _)) = events.last() else { break };
        after = *last;
        for (_, envelope) in &events {
            erase(vault, envelope)?;
        }
    }
    if after > begin {
        let mut transaction = database.begin_write().map_err(fault)?;
        transaction.set_durability(Durability::Immediate).map_err(fault)?;
        let mut cursors = transaction.open_table(CURSORS).map_err(fault)?;
        cursors.insert(ERASURE, after).map_err(fault)?;
        drop(cursors);
        transaction.commit().map_err(fault)?;
    }
    Ok(())
}

/// Deletes the key of a person if the event is the erasure of their account.
pub(super) fn erase(vault: &KeyVault, envelope: &Envelope) -> Result<(), Fault> {
    use accounts::events::{ERASED, Event};
    use control_domain::event::Events as _;

    if envelope.kind == ERASED
        && let Event::Erased(event) = Event::read(envelope)?
    {
        vault.erase(event.account)?;
    }
    Ok(())
}
