//! The role of a database: that of the writer, or a replica that takes its events from the writer's
//! log. A file in the folder marks a replica, so that its database is never written by commands by
//! accident: two logs with the same beginning cannot be joined again.

use std::{fs, io, path::Path};

use super::{open_error::OpenError, vault::MASTER_KEY};

/// The file that marks a replica.
const MARK: &str = "replica";
/// Its content.
const WORDS: &str = "This folder is a replica. To make it the writer: stop the old writer for \
                     good, wait until this replica has all events, stop it, delete this file, and \
                     start it without --role replica.\n";

/// The role of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRole {
    /// It carries out commands.
    Writer,
    /// It takes the events of the writer's log.
    Replica,
}

impl NodeRole {
    /// The role of the database in a folder.
    pub fn of(folder: &Path) -> Self {
        match folder.join(MARK).exists() {
            true => Self::Replica,
            false => Self::Writer,
        }
    }

    /// Checks the folder of a database before it is opened in this role. Marks that of a replica.
    pub(super) fn prepare(self, folder: &Path) -> Result<(), OpenError> {
        let mark = folder.join(MARK);
        match self {
            Self::Writer if mark.exists() => Err(OpenError::Replica { mark }),
            Self::Writer => Ok(()),
            Self::Replica => {
                // A new key would open nothing that the writer has sealed.
                let master = folder.join(MASTER_KEY);
                if !master.exists() {
                    return Err(OpenError::NoMasterKey { path: master });
                }
                match fs::OpenOptions::new().write(true).create_new(true).open(&mark) {
                    Ok(mut file) => io::Write::write_all(&mut file, WORDS.as_bytes())
                        .and_then(|()| file.sync_all())
                        .map_err(|error| OpenError::of_file(&mark, error)),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                    Err(error) => Err(OpenError::of_file(&mark, error)),
                }
            }
        }
    }
}
