//! Compares the tables with the log.

use std::ops::Bound;

use control_domain::{
    Fault, Feature, Rows as _,
    feature::{Folding, fold},
    rows::{MemoryRows, Order},
};
use redb::Database;

use super::{log, rows::ReadRows, vault::KeyVault};

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

/// Faults that are listed. More of them say nothing more.
const MAX_FAULTS: usize = 20;

/// Folds the log into memory, and compares the result with the tables. No commands may be carried
/// out meanwhile, otherwise the tables may be ahead.
pub(super) fn verify(
    database: &Database,
    vault: &KeyVault,
    features: &[&'static Feature],
) -> Result<Verified, Fault> {
    let mut found = Verified { events: 0, rows: 0, faults: Vec::new() };
    let mut rows = MemoryRows::default();
    let mut after = 0;
    loop {
        let page = log::page_of_bytes(database, after, log::PAGE)?;
        let Some((last, _)) = page.last() else { break };
        let last = *last;
        for (sequence, json) in &page {
            after += 1;
            if *sequence != after {
                found.fault(format!("event {after} is missing: {sequence} follows"));
                after = *sequence;
            }
            let envelope = match log::parse(json) {
                Ok(envelope) => envelope,
                Err(fault) => {
                    found.fault(format!("event {sequence}: {fault}"));
                    continue;
                }
            };
            let mut folding = Folding { rows: &mut rows, vault };
            if let Err(fault) = fold(features, &mut folding, &envelope) {
                found.fault(format!("event {sequence}: {fault}"));
            }
            found.events += 1;
        }
        after = last;
    }
    for table in features.iter().flat_map(|feature| feature.tables) {
        compare(database, table, &rows, &mut found)?;
    }
    Ok(found)
}

/// Compares one table, page by page.
fn compare(
    database: &Database,
    table: &'static str,
    expected: &MemoryRows,
    found: &mut Verified,
) -> Result<(), Fault> {
    let mut expected = expected.rows(table);
    let mut after: Option<Vec<u8>> = None;
    loop {
        let begin = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let rows = ReadRows::begin(database)?;
        let page = rows.range(table, (begin, Bound::Unbounded), Order::Up, log::PAGE)?;
        drop(rows);
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        for (key, value) in &page {
            found.rows += 1;
            match expected.next() {
                Some(row) if row == (key, value) => {}
                _ => {
                    found.fault(format!("table {table} differs from the log: rebuild it"));
                    return Ok(());
                }
            }
        }
    }
    if expected.next().is_some() {
        found.fault(format!("table {table} lacks rows of the log: rebuild it"));
    }
    Ok(())
}

impl Verified {
    fn fault(&mut self, fault: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }
}
