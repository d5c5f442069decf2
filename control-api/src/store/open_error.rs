//! Why the database cannot be opened.

use std::{
    io,
    path::{Path, PathBuf},
};

use control_domain::Fault;

/// Why the database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or folder cannot be read or made.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// A file or folder cannot be read and written by this process.
    #[error(
        "{path}: {error}: the user of this process must be able to write it, and its file system \
         must not be mounted read-only"
    )]
    Denied {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// Another process has opened the database.
    #[error("{path} is open in another process: stop it, or use its API")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The database cannot be opened.
    #[error("{path}: {error}")]
    Database {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: Box<redb::Error>,
    },
    /// The master key has another length.
    #[error("{path} does not hold a key of {expected} bytes")]
    MasterKey {
        /// The file.
        path: PathBuf,
        /// Its right length.
        expected: usize,
    },
    /// The keys of personal data were encrypted under another master key.
    #[error("{path} is not the master key of this database: put the right one there")]
    WrongMasterKey {
        /// The file of the master key.
        path: PathBuf,
    },
    /// A replica has no master key.
    #[error("{path} is missing: a replica needs the writer's master key, so copy it there")]
    NoMasterKey {
        /// The file of the master key.
        path: PathBuf,
    },
    /// The database is a replica's.
    #[error(
        "{mark} marks this database as a replica's: start with --role replica, or delete that \
         file to make this the writer after the old writer was stopped for good"
    )]
    Replica {
        /// The file that marks it.
        mark: PathBuf,
    },
    /// The tables cannot be made.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl OpenError {
    /// The error of an operation on a file.
    pub(super) fn of_file(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { path, error }
            }
            _ => Self::File { path, error },
        }
    }

    /// The error of opening a database.
    pub(super) fn of_database(path: &Path, error: redb::DatabaseError) -> Self {
        match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Self::InUse { path: path.to_owned() },
            redb::DatabaseError::Storage(redb::StorageError::Io(error)) => {
                Self::of_file(path, error)
            }
            error => Self::Database { path: path.to_owned(), error: Box::new(error.into()) },
        }
    }
}
