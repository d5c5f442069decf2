//! The port to the tables: rows of bytes, ordered by their keys. The database and a map in memory
//! implement it.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Bound, RangeInclusive},
};

/// A failure of the storage, or a row that cannot be read. It is never the fault of the person that
/// sent a command.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The database refused to read or write.
    #[error("the database failed: {0}")]
    Storage(Box<dyn std::error::Error + Send + Sync>),
    /// A row does not have its table's format: the file is damaged, or a newer version wrote it.
    #[error("a row of table {table} cannot be read")]
    Row {
        /// The table's name.
        table: &'static str,
    },
    /// An event does not have its type's format.
    #[error("event data of type {kind} cannot be read: {error}")]
    Event {
        /// The event's type.
        kind: String,
        /// The cause.
        error: serde_json::Error,
    },
    /// The tables of a feature are being built again from the log. It is over within seconds or
    /// minutes.
    #[error("the tables of feature {feature} are being built again: try again later")]
    Rebuilding {
        /// The feature's name.
        feature: &'static str,
    },
    /// A personal value cannot be sealed or opened.
    #[error("the keys of personal data failed: {0}")]
    Vault(Box<dyn std::error::Error + Send + Sync>),
}

/// The direction in which a range is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the smallest key on.
    Up,
    /// From the greatest key on.
    Down,
}

/// A row: its key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Reads rows.
pub trait Rows {
    /// The value at a key.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    fn get(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, Fault>;

    /// At most `limit` rows of a range of keys, in this order.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    fn range(
        &self,
        table: &'static str,
        keys: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, Fault>;
}

/// Writes rows. Only folds have it.
pub trait RowsMut: Rows {
    /// Sets the value at a key.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    fn put(&mut self, table: &'static str, key: &[u8], value: &[u8]) -> Result<(), Fault>;

    /// Removes the row at a key, if there is one.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    fn remove(&mut self, table: &'static str, key: &[u8]) -> Result<(), Fault>;
}

/// Tables in memory: for tests, and to compare a database with its log.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MemoryRows {
    tables: BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl MemoryRows {
    /// All rows of a table, in order of their keys.
    pub fn rows(&self, table: &'static str) -> impl Iterator<Item = (&[u8], &[u8])> {
        let rows = self.tables.get(table).into_iter().flatten();
        rows.map(|(key, value)| (key.as_slice(), value.as_slice()))
    }
}

impl fmt::Debug for MemoryRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.tables.iter().map(|(name, rows)| (name, rows.len()))).finish()
    }
}

impl Rows for MemoryRows {
    fn get(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.tables.get(table).and_then(|rows| rows.get(key)).cloned())
    }

    fn range(
        &self,
        table: &'static str,
        keys: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, Fault> {
        let Some(rows) = self.tables.get(table).filter(|_| !is_empty(keys)) else {
            return Ok(Vec::new());
        };
        let rows = rows.range::<[u8], _>(keys).map(|(key, value)| (key.clone(), value.clone()));
        Ok(match order {
            Order::Up => rows.take(limit).collect(),
            Order::Down => rows.rev().take(limit).collect(),
        })
    }
}

impl RowsMut for MemoryRows {
    fn put(&mut self, table: &'static str, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.tables.entry(table).or_default().insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn remove(&mut self, table: &'static str, key: &[u8]) -> Result<(), Fault> {
        // An empty table equals none, so that the order of writes cannot be seen.
        if let Some(rows) = self.tables.get_mut(table) {
            rows.remove(key);
            if rows.is_empty() {
                self.tables.remove(table);
            }
        }
        Ok(())
    }
}

/// Whether no key can be in a range: its ends meet or cross. Maps panic for some of these ranges.
pub fn is_empty((from, to): (Bound<&[u8]>, Bound<&[u8]>)) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (
            Bound::Included(from) | Bound::Excluded(from),
            Bound::Included(to) | Bound::Excluded(to),
        ) => from >= to,
    }
}

/// The number of rows that one page may hold.
pub const PAGE: RangeInclusive<usize> = 1..=100;
