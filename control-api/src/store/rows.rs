//! The domain's tables in redb: rows of bytes, in a snapshot or in the writer's transaction. Tables
//! of a feature that is being built again cannot be read.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
    ops::Bound,
    sync::Arc,
};

use control_domain::{
    Fault, Feature, Rows, RowsMut,
    rows::{Order, Row, is_empty},
};
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase as _, ReadableTable, Table,
    TableDefinition, WriteTransaction,
};
use tokio::sync::watch;

use super::database::fault;

/// Features whose tables are being built again.
#[derive(Debug, Clone, Default)]
pub(super) struct Rebuilding {
    /// The features.
    pub(super) features: Vec<&'static Feature>,
    /// Why it cannot go on.
    pub(super) failed: Option<Arc<Fault>>,
}

impl Rebuilding {
    /// Refuses a table of such a feature.
    fn check(&self, table: &str) -> Result<(), Fault> {
        match self.features.iter().find(|feature| feature.tables.contains(&table)) {
            None => Ok(()),
            Some(feature) => Err(Fault::Rebuilding { feature: feature.name }),
        }
    }

    /// Whether a feature is one of these.
    pub(super) fn contains(&self, feature: &Feature) -> bool {
        self.features.iter().any(|other| other.name == feature.name)
    }
}

/// The definition of a feature's table.
pub(super) fn definition(
    name: &'static str,
) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(name)
}

fn get(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<Vec<u8>>, Fault> {
    Ok(table.get(key).map_err(fault)?.map(|value| value.value().to_vec()))
}

fn range(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    keys: (Bound<&[u8]>, Bound<&[u8]>),
    order: Order,
    limit: usize,
) -> Result<Vec<Row>, Fault> {
    if is_empty(keys) {
        return Ok(Vec::new());
    }
    let rows = table.range::<&[u8]>(keys).map_err(fault)?;
    let rows: &mut dyn Iterator<Item = _> = match order {
        Order::Up => &mut { rows },
        Order::Down => &mut rows.rev(),
    };
    let rows = rows.take(limit).map(|row| {
        let (key, value) = row.map_err(fault)?;
        Ok((key.value().to_vec(), value.value().to_vec()))
    });
    rows.collect()
}

/// A table of a feature in a snapshot.
type OpenForReads = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// A snapshot of the tables. Each is opened once.
pub(super) struct ReadRows {
    snapshot: ReadTransaction,
    open: RefCell<Vec<(&'static str, OpenForReads)>>,
    rebuilding: Arc<Rebuilding>,
}

impl ReadRows {
    /// The tables as they are now.
    pub(super) fn begin(
        database: &Database,
        rebuilding: &watch::Receiver<Arc<Rebuilding>>,
    ) -> Result<Self, Fault> {
        loop {
            let before = Arc::clone(&rebuilding.borrow());
            let snapshot = database.begin_read().map_err(fault)?;
            // If it has changed meanwhile, nobody knows which of both belongs to the snapshot.
            if Arc::ptr_eq(&before, &rebuilding.borrow()) {
                return Ok(Self::of(snapshot, before));
            }
        }
    }

    /// The snapshot.
    pub(super) fn snapshot(&self) -> &ReadTransaction {
        &self.snapshot
    }

    /// Refuses a feature whose tables are being built again.
    pub(super) fn check(&self, feature: &Feature) -> Result<(), Fault> {
        feature.tables.iter().try_for_each(|table| self.rebuilding.check(table))
    }

    /// The tables in a snapshot.
    pub(super) fn of(snapshot: ReadTransaction, rebuilding: Arc<Rebuilding>) -> Self {
        Self { snapshot, open: RefCell::default(), rebuilding }
    }

    fn with<T>(
        &self,
        name: &'static str,
        act: impl FnOnce(&OpenForReads) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut open = self.open.borrow_mut();
        // A query uses few tables, so that a search beats a map.
        if let Some((_, table)) = open.iter().find(|(other, _)| *other == name) {
            return act(table);
        }
        self.rebuilding.check(name)?;
        let table = self.snapshot.open_table(definition(name)).map_err(fault)?;
        let result = act(&table);
        open.push((name, table));
        result
    }
}

impl Rows for ReadRows {
    fn get(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.with(table, |table| get(table, key))
    }

    fn range(
        &self,
        table: &'static str,
        keys: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, Fault> {
        self.with(table, |table| range(table, keys, order, limit))
    }
}

/// A table of a feature in a write transaction.
type Open<'a> = Table<'a, &'static [u8], &'static [u8]>;

/// The tables in the writer's transaction. Each is opened once a transaction.
pub(super) struct WriteRows<'a> {
    transaction: &'a WriteTransaction,
    open: RefCell<HashMap<&'static str, Open<'a>>>,
    rebuilding: Arc<Rebuilding>,
}

impl<'a> WriteRows<'a> {
    /// The tables of a transaction, without those of features that are being built again.
    pub(super) fn new(transaction: &'a WriteTransaction, rebuilding: Arc<Rebuilding>) -> Self {
        Self { transaction, open: RefCell::default(), rebuilding }
    }

    /// Sets rows of a table, and removes those without a value.
    pub(super) fn change_all(
        &self,
        table: &'static str,
        changes: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>,
    ) -> Result<(), Fault> {
        self.with(table, |table| {
            for (key, value) in changes {
                match value {
                    Some(value) => table.insert(&key[..], &value[..]).map(drop).map_err(fault)?,
                    None => table.remove(&key[..]).map(drop).map_err(fault)?,
                }
            }
            Ok(())
        })
    }

    fn with<T>(
        &self,
        name: &'static str,
        act: impl FnOnce(&mut Open<'a>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut open = self.open.borrow_mut();
        match open.entry(name) {
            Entry::Occupied(mut table) => act(table.get_mut()),
            Entry::Vacant(place) => {
                self.rebuilding.check(name)?;
                let table = self.transaction.open_table(definition(name)).map_err(fault)?;
                act(place.insert(table))
            }
        }
    }
}

impl Rows for WriteRows<'_> {
    fn get(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.with(table, |table| get(table, key))
    }

    fn range(
        &self,
        table: &'static str,
        keys: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, Fault> {
        self.with(table, |table| range(table, keys, order, limit))
    }
}

impl RowsMut for WriteRows<'_> {
    fn put(&mut self, table: &'static str, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.with(table, |table| table.insert(key, value).map(drop).map_err(fault))
    }

    fn remove(&mut self, table: &'static str, key: &[u8]) -> Result<(), Fault> {
        self.with(table, |table| table.remove(key).map(drop).map_err(fault))
    }
}
