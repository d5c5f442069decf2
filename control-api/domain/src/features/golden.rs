//! Golden files: `golden/<type>.json` holds the events of a short history whose last one has this
//! type, as a log has them. The log is kept for ever, so that a file that was released must be read
//! and folded by all later versions.
//!
//! `STREAMFORGE_WRITE_GOLDEN=1 cargo test -p control-domain` writes files that are missing, from
//! the scenarios of the tests.

use std::{
    collections::BTreeSet,
    fs,
    ops::Bound,
    path::{Path, PathBuf},
};

use super::ALL;
use crate::{
    event::Envelope,
    feature::{Feature, Folding},
    rows::{Fault, MemoryRows, Order, Row, Rows, RowsMut},
    vault::{MemoryVault, Sealed, Vault as _},
};

/// Events of a history that is short enough for a file.
const MAX_EVENTS: usize = 24;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Writes the file of the last event's type if it is missing and is to be written.
pub(crate) fn offer(history: &[Envelope]) {
    let Some(last) = history.last().filter(|_| history.len() <= MAX_EVENTS) else { return };
    let file = folder().join(format!("{}.json", last.kind));
    if std::env::var_os("STREAMFORGE_WRITE_GOLDEN").is_none() || file.exists() {
        return;
    }
    let text = serde_json::to_string_pretty(history).expect("events are JSON") + "\n";
    // Complete or not there: other tests write at the same time.
    let new = file.with_extension(format!("{:?}", std::thread::current().id()));
    fs::write(&new, text).expect("the folder can be written");
    fs::rename(&new, &file).expect("the folder can be written");
}

/// The histories of all files, by event type.
fn histories() -> Vec<(String, Vec<Envelope>)> {
    let files = fs::read_dir(folder()).expect("the folder exists");
    let mut histories = Vec::new();
    for file in files {
        let file = file.expect("a file").path();
        let kind = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).expect("a file");
        let history = serde_json::from_str(&text);
        histories.push((kind, history.unwrap_or_else(|err| panic!("{}: {err}", file.display()))));
    }
    histories
}

/// Gives a key to each person whose sealed data are in an event.
fn give_keys(vault: &MemoryVault, data: &serde_json::Value) {
    if let Ok(sealed) = serde_json::from_value::<Sealed>(data.clone()) {
        vault.seal(sealed.person, "").expect("memory");
    }
    match data {
        serde_json::Value::Object(fields) => fields.values().for_each(|v| give_keys(vault, v)),
        serde_json::Value::Array(items) => items.iter().for_each(|item| give_keys(vault, item)),
        _ => {}
    }
}

/// The tables of one feature. Features are built again one by one, so that a fold must not depend
/// on tables of another, which may be ahead.
struct Own<'a> {
    feature: &'a Feature,
    rows: &'a mut MemoryRows,
}

impl Own<'_> {
    fn check(&self, table: &str) {
        let name = self.feature.name;
        assert!(self.feature.tables.contains(&table), "the fold of {name} uses {table}");
    }
}

impl Rows for Own<'_> {
    fn get(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.check(table);
        self.rows.get(table, key)
    }

    fn range(
        &self,
        table: &'static str,
        keys: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, Fault> {
        self.check(table);
        self.rows.range(table, keys, order, limit)
    }
}

impl RowsMut for Own<'_> {
    fn put(&mut self, table: &'static str, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.check(table);
        self.rows.put(table, key, value)
    }

    fn remove(&mut self, table: &'static str, key: &[u8]) -> Result<(), Fault> {
        self.check(table);
        self.rows.remove(table, key)
    }
}

/// Folds a history. Returns the tables before and after its last event.
fn fold_all(history: &[Envelope], vault: &MemoryVault) -> (MemoryRows, MemoryRows) {
    let (mut before, mut rows) = (MemoryRows::default(), MemoryRows::default());
    for envelope in history {
        before = rows.clone();
        for feature in ALL.iter().filter(|feature| feature.folds(&envelope.kind)) {
            let mut own = Own { feature, rows: &mut rows };
            (feature.fold)(&mut Folding { rows: &mut own, vault }, envelope)
                .unwrap_or_else(|fault| panic!("{} of a released version: {fault}", envelope.kind));
        }
    }
    (before, rows)
}

#[test]
fn each_event_type_has_a_golden_file() {
    let files = histories().into_iter().map(|(kind, _)| kind).collect::<BTreeSet<_>>();
    let types = ALL.iter().flat_map(|feature| feature.events);
    let types = types.map(|event| event.name.to_owned()).collect::<BTreeSet<_>>();
    let missing = types.difference(&files).collect::<Vec<_>>();
    assert!(
        missing.is_empty(),
        "no golden file of {missing:?}: STREAMFORGE_WRITE_GOLDEN=1 writes it, if a scenario of the \
         tests has the event among its first {MAX_EVENTS}"
    );
    let unknown = files.difference(&types).collect::<Vec<_>>();
    assert!(unknown.is_empty(), "logs hold events of {unknown:?}, which nothing reads any more");
}

#[test]
fn events_of_all_released_versions_are_read_and_folded_into_tables_of_their_features() {
    for (kind, history) in histories() {
        let last = history.last().unwrap_or_else(|| panic!("the file of {kind} is empty"));
        assert_eq!(last.kind, kind);
        let vault = MemoryVault::default();
        for envelope in &history {
            let data = serde_json::from_str(envelope.data.get()).expect("an event's data are JSON");
            give_keys(&vault, &data);
        }
        let (before, after) = fold_all(&history, &vault);
        assert_ne!(before, after, "no table changes by {kind}");
        // All persons are erased.
        fold_all(&history, &MemoryVault::default());
    }
}

#[test]
fn a_written_event_is_the_event_that_was_read() {
    for (kind, history) in histories() {
        for envelope in history {
            let text = serde_json::to_string(&envelope).expect("an event is JSON");
            let again = serde_json::from_str::<Envelope>(&text).expect("it was just written");
            assert_eq!(format!("{again:?}"), format!("{envelope:?}"), "{kind}");
        }
    }
}
