//! The file of the keys of personal data: a row for each person, encrypted under the master key.
//!
//! An erased person has an empty row, so that no key is made again. redb keeps old bytes in free
//! pages; therefore the file is written anew after keys were erased.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use control_domain::Fault;
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    TableDefinition,
};

use crate::store::{
    database::{self, fault, is_of_disk},
    open_error::OpenError,
};

/// Each person's key, encrypted.
const KEYS: TableDefinition<[u8; 16], &[u8]> = TableDefinition::new("keys");
/// Whether free pages may hold erased keys.
const STATE: TableDefinition<&str, bool> = TableDefinition::new("state");
const HOLDS_ERASED: &str = "holds_erased";

/// Memory for pages of the file.
const CACHE_BYTES: usize = 8 << 20;
/// Keys that one transaction copies.
const SLICE: usize = 10_000;

/// The bytes of a person's identifier.
pub(super) type PersonId = [u8; 16];

/// The open file.
pub(super) struct Keys {
    /// `None` after an error of the disk, until the next access opens it.
    database: Option<Database>,
    path: PathBuf,
    /// Persons whose rows have changed while the file is written anew.
    changed: Option<Vec<PersonId>>,
}

impl Keys {
    /// Opens the file, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let _ = fs::remove_file(renewed(path));
        let database = database::open(path, CACHE_BYTES)?;
        create_tables(&database)?;
        Ok(Self { database: Some(database), path: path.to_owned(), changed: None })
    }

    /// Reads or writes the file, and opens it first if the last access has failed.
    fn with<T>(&mut self, act: impl FnOnce(&Database) -> Result<T, Fault>) -> Result<T, Fault> {
        let database = match &mut self.database {
            Some(database) => database,
            closed => {
                let opened = database::builder(CACHE_BYTES).open(&self.path);
                closed.insert(opened.map_err(|error| of_vault(fault(error)))?)
            }
        };
        let result = act(database);
        if result.as_ref().is_err_and(is_of_disk) {
            self.database = None;
        }
        result.map_err(of_vault)
    }

    /// The stored key of a person.
    pub(super) fn get(&mut self, person: PersonId) -> Result<Option<Vec<u8>>, Fault> {
        self.with(|database| get(&database.begin_read().map_err(fault)?, person))
    }

    /// Stores keys, durable. Returns whether none of these persons had one; otherwise nothing is
    /// stored.
    pub(super) fn insert(&mut self, keys: &[(PersonId, Vec<u8>)]) -> Result<bool, Fault> {
        let are_new = self.with(|database| {
            let transaction = database.begin_write().map_err(fault)?;
            let mut table = transaction.open_table(KEYS).map_err(fault)?;
            let mut are_new = true;
            for (person, key) in keys {
                are_new &= table.insert(person, key.as_slice()).map_err(fault)?.is_none();
            }
            drop(table);
            match are_new {
                true => transaction.commit().map_err(fault)?,
                false => transaction.abort().map_err(fault)?,
            }
            Ok(are_new)
        })?;
        if let Some(changed) = &mut self.changed {
            changed.extend(keys.iter().map(|(person, _)| person));
        }
        Ok(are_new)
    }

    /// Stores keys, durable, but for those of persons who have one, also an erased one.
    pub(super) fn insert_missing(&mut self, keys: &[(PersonId, Vec<u8>)]) -> Result<(), Fault> {
        self.with(|database| {
            let transaction = database.begin_write().map_err(fault)?;
            let mut table = transaction.open_table(KEYS).map_err(fault)?;
            for (person, key) in keys {
                if table.get(person).map_err(fault)?.is_none() {
                    table.insert(person, key.as_slice()).map_err(fault)?;
                }
            }
            drop(table);
            transaction.commit().map_err(fault)
        })?;
        if let Some(changed) = &mut self.changed {
            changed.extend(keys.iter().map(|(person, _)| person));
        }
        Ok(())
    }

    /// Deletes keys, durable. Their bytes remain in free pages until the file is written anew.
    pub(super) fn erase(&mut self, persons: &[PersonId]) -> Result<(), Fault> {
        self.with(|database| {
            let transaction = database.begin_write().map_err(fault)?;
            let mut table = transaction.open_table(KEYS).map_err(fault)?;
            let mut held_a_key = false;
            for person in persons {
                let before = table.insert(person, &[][..]).map_err(fault)?;
                held_a_key |= before.is_some_and(|key| !key.value().is_empty());
            }
            drop(table);
            if held_a_key {
                let mut state = transaction.open_table(STATE).map_err(fault)?;
                state.insert(HOLDS_ERASED, true).map_err(fault)?;
            }
            transaction.commit().map_err(fault)
        })?;
        if let Some(changed) = &mut self.changed {
            changed.extend(persons);
        }
        Ok(())
    }

    /// All keys as they are now. It is read without holding the file.
    pub(super) fn snapshot(&mut self) -> Result<ReadTransaction, Fault> {
        self.with(|database| database.begin_read().map_err(fault))
    }

    /// Begins to write the file anew: the keys as they are now. `None` if no erased key is in it,
    /// or it is being written already.
    pub(super) fn begin_renewal(&mut self) -> Result<Option<(ReadTransaction, PathBuf)>, Fault> {
        if self.changed.is_some() {
            return Ok(None);
        }
        let snapshot = self.snapshot()?;
        let state = snapshot.open_table(STATE).map_err(|error| of_vault(fault(error)))?;
        let holds = state.get(HOLDS_ERASED).map_err(|error| of_vault(fault(error)))?;
        if !holds.is_some_and(|holds| holds.value()) {
            return Ok(None);
        }
        self.changed = Some(Vec::new());
        Ok(Some((snapshot, renewed(&self.path))))
    }

    /// Replaces the file by its copy, after the rows that have changed meanwhile.
    pub(super) fn end_renewal(&mut self, copy: Result<Database, Fault>) -> Result<(), Fault> {
        let changed = self.changed.take().unwrap_or_default();
        let copy = copy.map_err(of_vault)?;
        let mut rows = Vec::with_capacity(changed.len());
        for person in changed {
            rows.extend(self.get(person)?.map(|key| (person, key)));
        }
        if !rows.is_empty() {
            let transaction = copy.begin_write().map_err(fault).map_err(of_vault)?;
            insert_rows(&transaction, rows.iter().map(|(person, key)| (*person, key.as_slice())))
                .map_err(of_vault)?;
            transaction.commit().map_err(fault).map_err(of_vault)?;
        }
        let replace = || {
            fs::rename(renewed(&self.path), &self.path)?;
            fs::File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        replace().map_err(|error| Fault::Vault(Box::new(error)))?;
        self.database = Some(copy);
        Ok(())
    }
}

/// The stored key of a person in a snapshot.
pub(super) fn get(snapshot: &ReadTransaction, person: PersonId) -> Result<Option<Vec<u8>>, Fault> {
    let table = snapshot.open_table(KEYS).map_err(fault)?;
    Ok(table.get(person).map_err(fault)?.map(|key| key.value().to_vec()))
}

/// Writes these keys into a new file, slice by slice. Those of some persons become erased.
pub(super) fn copy(
    from: &ReadTransaction,
    path: &Path,
    without: &BTreeSet<PersonId>,
) -> Result<Database, Fault> {
    let _ = fs::remove_file(path);
    let copy = database::builder(CACHE_BYTES).create(path).map_err(fault)?;
    create_tables(&copy)?;
    let from = from.open_table(KEYS).map_err(fault)?;
    let mut rows = from.iter().map_err(fault)?.peekable();
    while rows.peek().is_some() {
        let mut transaction = copy.begin_write().map_err(fault)?;
        transaction.set_durability(Durability::None).map_err(fault)?;
        let mut to = transaction.open_table(KEYS).map_err(fault)?;
        for row in rows.by_ref().take(SLICE) {
            let (person, key) = row.map_err(fault)?;
            let (person, key) = (person.value(), key.value());
            let key = if without.contains(&person) { &[] } else { key };
            to.insert(person, key).map_err(fault)?;
        }
        drop(to);
        transaction.commit().map_err(fault)?;
    }
    // This one is durable, and all before with it.
    copy.begin_write().map_err(fault)?.commit().map_err(fault)?;
    Ok(copy)
}

/// Inserts rows; an empty one after a key leaves the erased key in a free page.
fn insert_rows<'a>(
    transaction: &redb::WriteTransaction,
    rows: impl Iterator<Item = (PersonId, &'a [u8])>,
) -> Result<(), Fault> {
    let mut table = transaction.open_table(KEYS).map_err(fault)?;
    let mut holds_erased = false;
    for (person, key) in rows {
        let before = table.insert(person, key).map_err(fault)?;
        holds_erased |= key.is_empty() && before.is_some_and(|key| !key.value().is_empty());
    }
    let mut state = transaction.open_table(STATE).map_err(fault)?;
    state.insert(HOLDS_ERASED, holds_erased).map_err(fault)?;
    Ok(())
}

fn create_tables(database: &Database) -> Result<(), Fault> {
    let transaction = database.begin_write().map_err(fault)?;
    transaction.open_table(KEYS).map_err(fault)?;
    transaction.open_table(STATE).map_err(fault)?;
    transaction.commit().map_err(fault)
}

/// Where the file is written anew, before it replaces the old one.
fn renewed(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Another fault than that of the log and the tables, whose file is not to be opened again.
fn of_vault(fault: Fault) -> Fault {
    match fault {
        Fault::Storage(error) => Fault::Vault(error),
        other => other,
    }
}
