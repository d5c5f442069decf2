//! The open database file. After an error of the disk redb refuses everything until the file is
//! opened again, also reads of what is sound: the writer then opens it again.

use std::{
    fmt,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use control_domain::Fault;
use redb::{Database, DatabaseError};

use super::fault;

/// How long the readers of the broken file may take to end.
const READERS_END: Duration = Duration::from_secs(2);
/// Interval of attempts meanwhile.
const RETRY: Duration = Duration::from_millis(5);

/// Opens the file.
type Open = dyn Fn() -> Result<Database, DatabaseError> + Send + Sync;

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
