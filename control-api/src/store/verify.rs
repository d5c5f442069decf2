//! Compares the tables with the log: folds it into tables of their own, in a file that is deleted
//! afterwards, and compares these with the database's. So the memory is bounded; the file takes
//! about as much of the disk as the tables do.

use std::{
    fs,
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
};

use control_domain::{
    Fault, Feature, Rows as _,
    feature::{Folding, fold},
    rows::Order,
};
use redb::{Database, Durability, ReadableDatabase as _};
use tokio::sync::watch;

use super::{
    buffer::BufferedRows,
    database::{builder, fault},
    log,
    rows::{ReadRows, Rebuilding, WriteRows, definition},
    vault::KeyVault,
};

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The events that were read.
    pub events: u64,
    /// The rows that were compared.
    pub rows: u64,
    /// The faults, as sentences. None: the database is sound.
    pub faults: Vec<String>,
}

/// Greatest number of faults that are listed.
const MAX_FAULTS: usize = 20;
/// The file of the tables that the log gives.
const SCRATCH: &str = "verify.redb";
/// Memory for pages of that file.
const CACHE_BYTES: usize = 32 << 20;
/// Pages of the log that one transaction folds.
const SLICE: usize = 200;
/// Rows that are compared at once.
const ROWS: usize = 1024;

/// Folds the log, and compares the result with the tables, while commands go on. The comparison
/// holds a snapshot, about a second for a million rows.
pub(super) fn verify(
    database: &Database,
    vault: &KeyVault,
    features: &[&'static Feature],
    rebuilding: &watch::Receiver<Arc<Rebuilding>>,
    folder: &Path,
) -> Result<Verified, Fault> {
    let mut expected = Expected::create(folder, features, vault)?;
    loop {
        let mut pages = Vec::new();
        let mut after = expected.after;
        while pages.len() < SLICE {
            let page = log::page_of_bytes(database, after, log::PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            pages.push(page);
        }
        if pages.is_empty() {
            break;
        }
        expected.fold(pages.into_iter().flatten())?;
    }
    // The events since, from the snapshot whose tables are compared.
    let found = ReadRows::begin(database, rebuilding)?;
    expected.fold(found.events(expected.after)?)?;
    let mut verified = expected.verified;
    let rows = ReadRows::of(expected.database.begin_read().map_err(fault)?, Arc::default());
    for feature in features {
        match found.check(feature) {
            Ok(()) => {
                for table in feature.tables {
                    compare(table, &found, &rows, &mut verified)?;
                }
            }
            Err(fault) => verified.fault(fault.to_string()),
        }
    }
    Ok(verified)
}

/// The tables that the log gives, in a file that is deleted when this is dropped.
struct Expected<'a> {
    database: Database,
    features: &'a [&'static Feature],
    vault: &'a KeyVault,
    after: u64,
    verified: Verified,
    _file: Scratch,
}

/// The file's path.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // If it fails, the next verification replaces it.
        let _ = fs::remove_file(&self.0);
    }
}

impl<'a> Expected<'a> {
    fn create(
        folder: &Path,
        features: &'a [&'static Feature],
        vault: &'a KeyVault,
    ) -> Result<Self, Fault> {
        let path = folder.join(SCRATCH);
        // Of a process that was killed.
        let _ = fs::remove_file(&path);
        let database = builder(CACHE_BYTES).create(&path).map_err(fault)?;
        let transaction = database.begin_write().map_err(fault)?;
        for table in features.iter().flat_map(|feature| feature.tables) {
            transaction.open_table(definition(table)).map_err(fault)?;
        }
        transaction.commit().map_err(fault)?;
        let verified = Verified { events: 0, rows: 0, faults: Vec::new() };
        Ok(Self { database, features, vault, after: 0, verified, _file: Scratch(path) })
    }

    /// Folds events that follow.
    fn fold(&mut self, events: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Result<(), Fault> {
        let mut transaction = self.database.begin_write().map_err(fault)?;
        transaction.set_durability(Durability::None).map_err(fault)?;
        let mut rows = BufferedRows::new(WriteRows::new(&transaction, Arc::default()));
        for (sequence, json) in events {
            if sequence != self.after + 1 {
                let missing = self.after + 1;
                self.verified.fault(format!("event {missing} is missing: {sequence} follows"));
            }
            self.after = sequence;
            self.verified.events += 1;
            let mut folding = Folding { rows: &mut rows, vault: self.vault };
            let parsed = log::parse(&json);
            let folded = parsed.and_then(|event| fold(self.features, &mut folding, &event));
            match folded {
                Err(fault @ Fault::Storage(_)) => return Err(fault),
                Err(fault) => self.verified.fault(format!("event {sequence}: {fault}")),
                Ok(()) => {}
            }
        }
        rows.finish()?;
        transaction.commit().map_err(fault)
    }
}

/// Compares one table, page by page.
fn compare(
    table: &'static str,
    found: &ReadRows,
    expected: &ReadRows,
    verified: &mut Verified,
) -> Result<(), Fault> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let begin = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let page = |rows: &ReadRows| rows.range(table, (begin, Bound::Unbounded), Order::Up, ROWS);
        let (found, expected) = (page(found)?, page(expected)?);
        if found != expected {
            verified.fault(format!("table {table} differs from the log: rebuild it"));
            return Ok(());
        }
        verified.rows += found.len() as u64;
        let Some((last, _)) = found.last() else { return Ok(()) };
        after = Some(last.clone());
    }
}

impl ReadRows {
    /// The events of the snapshot behind a sequence.
    fn events(&self, after: u64) -> Result<Vec<(u64, Vec<u8>)>, Fault> {
        let log = self.snapshot().open_table(log::LOG).map_err(fault)?;
        let events = log.range(after.saturating_add(1)..).map_err(fault)?.map(|event| {
            let (sequence, json) = event.map_err(fault)?;
            Ok((sequence.value(), json.value().to_vec()))
        });
        events.collect()
    }
}

impl Verified {
    fn fault(&mut self, fault: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }
}
