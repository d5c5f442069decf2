//! The open database file. After an error of the disk redb refuses everything until the file is
//! opened again, also reads of what is sound: the writer then opens it again.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use control_domain::Fault;
use redb::{Database, DatabaseError};

/// The file of the log and the tables, in the platform's folder.
pub(super) const DATABASE: &str = "platform.redb";

/// How long the readers of the broken file may take to end.
const READERS_END: Duration = Duration::from_secs(2);
/// Interval of attempts meanwhile.
const RETRY: Duration = Duration::from_millis(5);

/// Opens the file.
type Open = dyn Fn() -> Result<Database, DatabaseError> + Send + Sync;

/// Why the database cannot be used.
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
    /// The tables cannot be built from the log.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The database, replaced as a whole when it is opened again.
pub(super) struct Handle {
    /// `None` while it is opened again, and if that failed.
    current: ArcSwapOption<Database>,
    open: Box<Open>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// The database is not open, because the disk fails.
#[derive(Debug, thiserror::Error)]
#[error("the database is closed after an error of the disk")]
struct Closed;

impl Handle {
    /// A database that is open, and the way to open it again.
    pub(super) fn new(
        database: Database,
        open: impl Fn() -> Result<Database, DatabaseError> + Send + Sync + 'static,
    ) -> Self {
        Self { current: ArcSwapOption::from_pointee(database), open: Box::new(open) }
    }

    /// The open database. It must not be kept.
    pub(super) fn get(&self) -> Result<Arc<Database>, Fault> {
        self.current.load_full().ok_or_else(|| Fault::Storage(Box::new(Closed)))
    }

    /// Opens the file again if the last attempt has failed.
    pub(super) fn ensure_open(&self) -> Result<(), Fault> {
        match self.current.load().is_some() {
            true => Ok(()),
            false => self.reopen(),
        }
    }

    /// Closes the file when its readers have ended, and opens it. Only the writer calls it.
    pub(super) fn reopen(&self) -> Result<(), Fault> {
        self.current.store(None);
        let begun = Instant::now();
        loop {
            match (self.open)() {
                // A reader of the broken file has not ended yet.
                Err(DatabaseError::DatabaseAlreadyOpen) if begun.elapsed() < READERS_END => {
                    sleep(RETRY);
                }
                Err(error) => return Err(fault(error)),
                Ok(database) => {
                    self.current.store(Some(Arc::new(database)));
                    return Ok(());
                }
            }
        }
    }
}

/// Whether the database must be opened again after this fault.
pub(super) fn is_of_disk(fault: &Fault) -> bool {
    let Fault::Storage(error) = fault else { return false };
    matches!(error.downcast_ref(), Some(redb::Error::Io(_) | redb::Error::PreviousIo))
}

/// Opens a database that no other process has opened.
pub(super) fn open(path: &Path) -> Result<Database, OpenError> {
    Database::create(path).map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: path.to_owned() },
        error => OpenError::Database { path: path.to_owned(), error: Box::new(error.into()) },
    })
}

/// The fault of an operation of the database.
pub(super) fn fault(error: impl Into<redb::Error>) -> Fault {
    Fault::Storage(Box::new(error.into()))
}
