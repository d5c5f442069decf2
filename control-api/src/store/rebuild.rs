//! Builds tables again from the log: at the start, for features whose tables have another version.

use control_domain::{Fault, Feature, feature::Folding};
use redb::{Database, Durability, ReadableDatabase as _, TableDefinition};
use tracing::info;

use super::{
    database::fault,
    log,
    rows::{WriteRows, definition},
    vault::KeyVault,
};

/// The version of each feature's tables, by the feature's name.
const VERSIONS: TableDefinition<&str, u32> = TableDefinition::new("versions");

/// Events that one transaction folds. They are not durable before the last, so that a crash begins
/// anew.
const SLICE: usize = 50_000;

/// Tables that were built again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The features.
    pub features: Vec<&'static str>,
    /// The events that were read.
    pub events: u64,
}

/// Makes all tables, so that queries find empty ones.
pub(super) fn create_tables(database: &Database, features: &[&Feature]) -> Result<(), Fault> {
    let transaction = database.begin_write().map_err(fault)?;
    transaction.open_table(VERSIONS).map_err(fault)?;
    for table in features.iter().flat_map(|feature| feature.tables) {
        transaction.open_table(definition(table)).map_err(fault)?;
    }
    transaction.commit().map_err(fault)
}

/// Builds the tables of all features that have another version than the database.
pub(super) fn outdated(
    database: &Database,
    vault: &KeyVault,
    features: &[&'static Feature],
) -> Result<Rebuilt, Fault> {
    let transaction = database.begin_read().map_err(fault)?;
    let versions = transaction.open_table(VERSIONS).map_err(fault)?;
    let mut outdated = Vec::new();
    for feature in features {
        let version = versions.get(feature.name).map_err(fault)?;
        if version.map(|version| version.value()) != Some(feature.version) {
            outdated.push(*feature);
        }
    }
    drop(versions);
    transaction.close().map_err(fault)?;
    rebuild(database, vault, &outdated)
}

/// Drops the tables of these features, and folds the log into them.
pub(super) fn rebuild(
    database: &Database,
    vault: &KeyVault,
    features: &[&'static Feature],
) -> Result<Rebuilt, Fault> {
    let names = features.iter().map(|feature| feature.name).collect::<Vec<_>>();
    if features.is_empty() {
        return Ok(Rebuilt { features: names, events: 0 });
    }
    let transaction = begin(database, Durability::Immediate)?;
    for feature in features {
        // Without its version a feature is built again, if the process ends before the last slice.
        transaction.open_table(VERSIONS).map_err(fault)?.remove(feature.name).map_err(fault)?;
        for table in feature.tables {
            transaction.delete_table(definition(table)).map_err(fault)?;
            transaction.open_table(definition(table)).map_err(fault)?;
        }
    }
    transaction.commit().map_err(fault)?;

    let (mut after, mut events) = (0, 0);
    loop {
        let transaction = begin(database, Durability::None)?;
        let (last, count) = fold_slice(database, vault, features, &transaction, after)?;
        transaction.commit().map_err(fault)?;
        if count == 0 {
            break;
        }
        (after, events) = (last, events + count);
    }

    let transaction = begin(database, Durability::Immediate)?;
    let mut versions = transaction.open_table(VERSIONS).map_err(fault)?;
    for feature in features {
        versions.insert(feature.name, feature.version).map_err(fault)?;
    }
    drop(versions);
    transaction.commit().map_err(fault)?;
    if events > 0 {
        info!(?names, events, "tables built again from the log");
    }
    Ok(Rebuilt { features: names, events })
}

/// Folds the next events. Returns the sequence of the last one, and their number.
fn fold_slice(
    database: &Database,
    vault: &KeyVault,
    features: &[&'static Feature],
    transaction: &redb::WriteTransaction,
    mut after: u64,
) -> Result<(u64, u64), Fault> {
    let mut rows = WriteRows::new(transaction);
    let mut count = 0;
    while count < SLICE {
        let page = log::page(database, after, log::PAGE)?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        for (_, envelope) in &page {
            let mut folding = Folding { rows: &mut rows, vault };
            control_domain::feature::fold(features, &mut folding, envelope)?;
        }
        count += page.len();
    }
    Ok((after, count as u64))
}

fn begin(database: &Database, durability: Durability) -> Result<redb::WriteTransaction, Fault> {
    let mut transaction = database.begin_write().map_err(fault)?;
    transaction.set_durability(durability).map_err(fault)?;
    Ok(transaction)
}
