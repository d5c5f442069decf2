//! The domain's tables in redb: rows of bytes, in a snapshot or in the writer's transaction.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
    ops::Bound,
};

use control_domain::{
    Fault, Rows, RowsMut,
    rows::{Order, Row, is_empty},
};
use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable, Table, TableDefinition,
    WriteTransaction,
};

use super::database::fault;

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

/// A snapshot of the tables.
pub(super) struct ReadRows(ReadTransaction);

impl ReadRows {
    pub(super) fn begin(database: &Database) -> Result<Self, Fault> {
        database.begin_read().map(Self).map_err(fault)
    }
}

impl Rows for ReadRows {
    fn get(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        get(&self.0.open_table(definition(table)).map_err(fault)?, key)
    }

    fn range(
        &self,
        table: &'static str,
        keys: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, Fault> {
        range(&self.0.open_table(definition(table)).map_err(fault)?, keys, order, limit)
    }
}

/// A table of a feature in a write transaction.
type Open<'a> = Table<'a, &'static [u8], &'static [u8]>;

/// The tables in the writer's transaction. Each is opened once a transaction.
pub(super) struct WriteRows<'a> {
    transaction: &'a WriteTransaction,
    open: RefCell<HashMap<&'static str, Open<'a>>>,
}

impl<'a> WriteRows<'a> {
    pub(super) fn new(transaction: &'a WriteTransaction) -> Self {
        Self { transaction, open: RefCell::default() }
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
