//! Copies of the database: backups, and exports as text.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use control_domain::Fault;
use redb::{Database, Durability};

use super::{
    database::{DATABASE, builder, fault},
    erased::{self, ERASED_LIST, ErasedList},
    log::{self, LOG},
    open_error::OpenError,
    vault::{KEYS_FILE, KeyVault},
};

/// Memory for pages of a copy.
pub(super) const CACHE_BYTES: usize = 16 << 20;
/// Pages of the log that one transaction copies.
const SLICE: usize = 64;

/// Why a copy cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file or folder cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// There is a database or backup already.
    #[error("{path} exists: choose another folder")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is no backup in the folder.
    #[error("{path} does not exist: this folder holds no backup")]
    NoBackup {
        /// The file.
        path: PathBuf,
    },
    /// The master key is not there, without which a backup cannot be read.
    #[error("{path} does not exist: put the master key of the lost database there first")]
    NoMasterKey {
        /// The file.
        path: PathBuf,
    },
    /// The backup's log is not complete.
    #[error("event {missing} is missing in the backup")]
    Incomplete {
        /// The sequence.
        missing: u64,
    },
    /// The backup cannot be opened, or the keys not be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The output cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    /// The database cannot be read, or the copy not be written.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The error of an operation on a file.
pub(super) fn of_file(path: &Path, error: io::Error) -> ArchiveError {
    ArchiveError::File { path: path.to_owned(), error }
}

/// Refuses a file that exists.
pub(super) fn refuse_existing(path: &Path) -> Result<(), ArchiveError> {
    match path.exists() {
        true => Err(ArchiveError::Exists { path: path.to_owned() }),
        false => Ok(()),
    }
}

/// Copies the log, page by page, and the keys. The tables are built from the log when the copy is
/// opened. Returns the sequence of the copy's last event.
///
/// The master key is not copied: with it in the same place, the copy would protect nothing.
pub(super) fn backup(
    database: &Database,
    vault: &KeyVault,
    from: &Path,
    folder: &Path,
) -> Result<u64, ArchiveError> {
    fs::create_dir_all(folder).map_err(|error| of_file(folder, error))?;
    let (to, keys) = (folder.join(DATABASE), folder.join(KEYS_FILE));
    refuse_existing(&to)?;
    refuse_existing(&keys)?;
    let end = log::last(database)?;
    // Both files get their names when they are complete.
    let (new, new_keys) = (to.with_extension("partial"), keys.with_extension("partial"));
    let _ = fs::remove_file(&new);
    let copy = builder(CACHE_BYTES).create(&new).map_err(fault)?;
    copy_log(&copy, end, |after| log::page_of_bytes(database, after, log::PAGE), |_| Ok(()))?;
    // After the log, so that it has the key of each person in it, and without those that are still
    // to be deleted.
    let erased = log::erasures(database)?.into_iter().collect();
    drop(copy);
    vault.copy(&new_keys, &erased)?;
    let list = erased::read(&from.join(ERASED_LIST)).map_err(|error| of_file(from, error))?;
    let list = list.into_iter().collect::<Vec<_>>();
    ErasedList::new(folder).add(&list).map_err(|error| of_file(folder, error))?;
    name_both([(&new_keys, &keys), (&new, &to)], folder)?;
    Ok(end)
}

/// Gives complete files their names, the log last.
pub(super) fn name_both(files: [(&Path, &Path); 2], folder: &Path) -> Result<(), ArchiveError> {
    let rename = || {
        for (from, to) in files {
            fs::rename(from, to)?;
        }
        fs::File::open(folder)?.sync_all()
    };
    rename().map_err(|error| of_file(folder, error))
}

/// Copies events up to a sequence into a new database, and shows each to `look`.
pub(super) fn copy_log(
    copy: &Database,
    end: u64,
    mut page: impl FnMut(u64) -> Result<Vec<(u64, Vec<u8>)>, Fault>,
    mut look: impl FnMut(&[u8]) -> Result<(), Fault>,
) -> Result<(), ArchiveError> {
    let mut after = 0;
    loop {
        let mut transaction = copy.begin_write().map_err(fault)?;
        let mut table = transaction.open_table(LOG).map_err(fault)?;
        // Several pages a commit, each of a short read transaction.
        for _ in 0..SLICE {
            if after >= end {
                break;
            }
            let events = page(after)?;
            if events.is_empty() {
                return Err(ArchiveError::Incomplete { missing: after + 1 });
            }
            for (sequence, json) in events.into_iter().take_while(|(sequence, _)| *sequence <= end)
            {
                if sequence != after + 1 {
                    return Err(ArchiveError::Incomplete { missing: after + 1 });
                }
                look(&json)?;
                table.insert(sequence, json.as_slice()).map_err(fault)?;
                after = sequence;
            }
        }
        drop(table);
        let is_last = after >= end;
        // The last is durable, and all before with it.
        let durability = if is_last { Durability::Immediate } else { Durability::None };
        transaction.set_durability(durability).map_err(fault)?;
        transaction.commit().map_err(fault)?;
        if is_last {
            return Ok(());
        }
    }
}

/// Writes all events as lines of JSON, each with its sequence. Returns their number.
pub(super) fn export(database: &Database, out: &mut dyn io::Write) -> Result<u64, ArchiveError> {
    let (mut after, mut count) = (0, 0);
    loop {
        let page = log::page_of_bytes(database, after, log::PAGE)?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        for (sequence, json) in &page {
            write!(out, "{{\"sequence\":{sequence},\"event\":")?;
            out.write_all(json)?;
            out.write_all(b"}\n")?;
            count += 1;
        }
    }
    out.flush()?;
    Ok(count)
}
