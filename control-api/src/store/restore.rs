//! The restoration of a backup.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use control_domain::{
    Actor, Fault, NewEvent, Time,
    features::accounts::events::Erased,
    id::{AccountId, EventId},
};
use redb::{Database, ReadOnlyDatabase, ReadOnlyTable, ReadableDatabase as _};
use uuid::Uuid;

use super::{
    archive::{ArchiveError, CACHE_BYTES, copy_log, name_both, of_file, refuse_existing},
    database::{DATABASE, builder, fault},
    erased::{self, ERASED_LIST, ErasedList},
    log,
    open_error::OpenError,
    vault::{KEYS_FILE, KeyVault, MASTER_KEY},
};

/// A backup that was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The sequence of the last event, with those below.
    pub sequence: u64,
    /// Number of persons that were erased after the backup was made, and are erased again.
    pub erased_again: u64,
}

/// Makes a database of a backup, in a folder without one that holds the master key. Persons in the
/// backup's log or in one of these lists are erased in it, even if the backup is older.
pub(super) fn restore(
    backup: &Path,
    folder: &Path,
    lists: &[&Path],
) -> Result<Restored, ArchiveError> {
    let (to, to_keys) = (folder.join(DATABASE), folder.join(KEYS_FILE));
    refuse_existing(&to)?;
    refuse_existing(&to_keys)?;
    let master = folder.join(MASTER_KEY);
    if !master.exists() {
        return Err(ArchiveError::NoMasterKey { path: master });
    }
    let (old, old_keys) = (open(&backup.join(DATABASE))?, open(&backup.join(KEYS_FILE))?);
    let listed = listed(backup, folder, lists)?;

    // Both files get their names when they are complete.
    let (new, new_keys) = (to.with_extension("restoring"), to_keys.with_extension("restoring"));
    let _ = fs::remove_file(&new);
    let snapshot = old.begin_read().map_err(fault)?;
    let end = log::last_in(&snapshot)?;
    let events = snapshot.open_table(log::LOG).map_err(fault)?;
    let mut erased = BTreeSet::new();
    let look = |json: &[u8]| {
        let erasure = log::parse_if(json, log::is_erasure)?;
        erased.extend(erasure.as_ref().map(log::erased).transpose()?.flatten());
        Ok(())
    };
    let copy = builder(CACHE_BYTES).create(&new).map_err(fault)?;
    copy_log(&copy, end, |after| page(&events, after), look)?;

    let without = listed.union(&erased).copied().collect::<BTreeSet<_>>();
    let known = KeyVault::restore(&old_keys, &master, &new_keys, &without)?;
    // Their events were lost with the disk. Those whose erasure is in the log need none.
    let again = known.into_iter().filter(|person| !erased.contains(person)).collect::<Vec<_>>();
    append_erasures(&copy, &again)?;
    drop(copy);
    let all = without.into_iter().collect::<Vec<_>>();
    ErasedList::new(folder).add(&all).map_err(|error| of_file(folder, error))?;
    name_both([(&new_keys, &to_keys), (&new, &to)], folder)?;
    let erased_again = again.len() as u64;
    Ok(Restored { sequence: end + erased_again, erased_again })
}

/// Opens a file of a backup, which is not changed.
fn open(path: &Path) -> Result<ReadOnlyDatabase, ArchiveError> {
    if !path.exists() {
        return Err(ArchiveError::NoBackup { path: path.to_owned() });
    }
    let opened = builder(CACHE_BYTES).open_read_only(path);
    Ok(opened.map_err(|error| OpenError::of_database(path, error))?)
}

/// The persons in the lists of the backup and of the folder, and in those that were named.
fn listed(
    backup: &Path,
    folder: &Path,
    lists: &[&Path],
) -> Result<BTreeSet<AccountId>, ArchiveError> {
    let mut paths = vec![backup.join(ERASED_LIST), folder.join(ERASED_LIST)];
    for list in lists {
        // A list that was named must be there.
        fs::metadata(list).map_err(|error| of_file(list, error))?;
        paths.push(PathBuf::from(list));
    }
    let mut persons = BTreeSet::new();
    for path in paths {
        persons.extend(erased::read(&path).map_err(|error| of_file(&path, error))?);
    }
    Ok(persons)
}

/// A page of the backup's events.
fn page(
    events: &ReadOnlyTable<u64, &'static [u8]>,
    after: u64,
) -> Result<Vec<(u64, Vec<u8>)>, Fault> {
    let events = events.range(after.saturating_add(1)..).map_err(fault)?.take(log::PAGE);
    let events = events.map(|event| {
        let (sequence, json) = event.map_err(fault)?;
        Ok((sequence.value(), json.value().to_vec()))
    });
    events.collect()
}

/// Appends the erasure of persons to a log.
fn append_erasures(database: &Database, persons: &[AccountId]) -> Result<(), Fault> {
    let transaction = database.begin_write().map_err(fault)?;
    log::create(&transaction)?;
    let mut log = log::Appender::new(&transaction)?;
    for person in persons {
        let event = NewEvent::try_from(Erased { account: *person })?;
        let id = EventId::new(Uuid::now_v7());
        let now = Time::from(SystemTime::now());
        let envelope = event.sealed_in(id, now, Actor::System.id());
        log.append(&envelope)?;
    }
    drop(log);
    transaction.commit().map_err(fault)
}
