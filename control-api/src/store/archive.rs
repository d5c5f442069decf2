//! Copies of the database: backups, and exports as text.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use control_domain::Fault;
use redb::{Database, TableDefinition};

use super::{
    database::{DATABASE, fault},
    log,
    vault::{KEYS_FILE, KeyVault},
};

/// The log in a backup, as in the database.
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");

/// Why a copy cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file or folder cannot be written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// There is a backup already.
    #[error("{path} exists: choose another folder")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The output cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    /// The database cannot be read, or the copy not be written.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Copies the log, page by page, and the keys. The tables are built from the log when the copy is
/// opened. Returns the sequence of the copy's last event.
///
/// The master key is not copied: with it in the same place, the copy would protect nothing.
pub(super) fn backup(
    database: &Database,
    vault: &KeyVault,
    folder: &Path,
) -> Result<u64, ArchiveError> {
    let file = |path: &Path, error| ArchiveError::File { path: path.to_owned(), error };
    fs::create_dir_all(folder).map_err(|error| file(folder, error))?;
    let (to, keys) = (folder.join(DATABASE), folder.join(KEYS_FILE));
    for path in [&to, &keys] {
        if path.exists() {
            return Err(ArchiveError::Exists { path: path.clone() });
        }
    }
    let end = log::last(database)?;
    let copy = Database::create(&to).map_err(fault)?;
    let mut after = 0;
    while after < end {
        let transaction = copy.begin_write().map_err(fault)?;
        let mut table = transaction.open_table(LOG).map_err(fault)?;
        // Several pages a commit, each of a short read transaction.
        for _ in 0..64 {
            for (sequence, json) in log::page_of_bytes(database, after, log::PAGE)? {
                if sequence <= end {
                    table.insert(sequence, json.as_slice()).map_err(fault)?;
                }
                after = sequence;
            }
            if after >= end {
                break;
            }
        }
        drop(table);
        transaction.commit().map_err(fault)?;
    }
    // After the log, so that it has the key of each person in it.
    vault.copy(&keys)?;
    Ok(end)
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
