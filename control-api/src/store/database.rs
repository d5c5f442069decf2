//! The open database file. After an error of the disk redb refuses everything until the file is
//! opened again, also reads of what is sound: the writer then opens it again. If the disk cannot be
//! written, it is opened for reads alone.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use control_domain::Fault;
use redb::{Database, DatabaseError};
use tracing::{error, info};

use super::{open_error::OpenError, overlay::Overlay};

/// The file of the log and the tables, in the platform's folder.
pub(super) const DATABASE: &str = "platform.redb";
/// Memory for pages of that file.
pub(super) const CACHE_BYTES: usize = 64 << 20;

/// How long the readers of the broken file may take to end.
const READERS_END: Duration = Duration::from_secs(2);
/// Interval of attempts meanwhile.
const RETRY: Duration = Duration::from_millis(5);
/// Interval of attempts to write to a disk that could not be written.
const RETRY_DISK: Duration = Duration::from_secs(1);

/// Opens the file.
type Open = dyn Fn() -> Result<Database, DatabaseError> + Send + Sync;

/// The database, replaced as a whole when it is opened again.
pub(super) struct Handle {
    /// `None` while it is opened again, and if that failed.
    current: ArcSwapOption<Database>,
    open: Box<Open>,
    open_for_reads: Box<Open>,
    /// Why the database is not open for writes.
    not_writable: Mutex<Option<NotWritable>>,
    /// How often it was opened again: what was not durable before is gone.
    opened_again: AtomicU64,
}

/// The state of a database that cannot be written.
struct NotWritable {
    since: Instant,
    cause: Arc<str>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// The database is not open, because the disk fails.
#[derive(Debug, thiserror::Error)]
enum Unavailable {
    #[error("the database is closed after an error of the disk")]
    Closed,
    #[error("the database is open for reads alone, because the disk cannot be written: {0}")]
    ReadOnly(Arc<str>),
}

impl From<Unavailable> for Fault {
    fn from(error: Unavailable) -> Self {
        Self::Storage(Box::new(error))
    }
}

impl Handle {
    /// A database that is open, the way to open it again, and the way to open it for reads alone.
    pub(super) fn new(
        database: Database,
        open: impl Fn() -> Result<Database, DatabaseError> + Send + Sync + 'static,
        open_for_reads: impl Fn() -> Result<Database, DatabaseError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            current: ArcSwapOption::from_pointee(database),
            open: Box::new(open),
            open_for_reads: Box::new(open_for_reads),
            not_writable: Mutex::new(None),
            opened_again: AtomicU64::new(0),
        }
    }

    /// The handle of a file, which is opened.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let database = open(path, CACHE_BYTES)?;
        let (path, reads) = (path.to_owned(), path.to_owned());
        Ok(Self::new(
            database,
            move || builder(CACHE_BYTES).open(&path),
            move || {
                let file = Overlay::open(&reads).map_err(redb::StorageError::Io)?;
                builder(CACHE_BYTES).create_with_backend(file)
            },
        ))
    }

    /// The open database, for reads. It must not be kept.
    pub(super) fn get(&self) -> Result<Arc<Database>, Fault> {
        self.current.load_full().ok_or_else(|| Unavailable::Closed.into())
    }

    /// The open database, for writes. If the disk could not be written, it is tried again, once in
    /// a while. Only the writer calls it.
    pub(super) fn writable(&self) -> Result<Arc<Database>, Fault> {
        let state = self.state().as_ref().map(|state| (state.since, Arc::clone(&state.cause)));
        match state {
            None => {}
            Some((since, cause)) if since.elapsed() < RETRY_DISK => {
                return Err(Unavailable::ReadOnly(cause).into());
            }
            Some(_) => self.reopen()?,
        }
        self.get()
    }

    /// Why the database cannot be written; `None` if it can, as far as is known.
    pub(super) fn not_writable(&self) -> Option<String> {
        self.state().as_ref().map(|state| state.cause.to_string())
    }

    /// How often the database was opened again.
    pub(super) fn opened_again(&self) -> u64 {
        self.opened_again.load(Ordering::Relaxed)
    }

    /// Opens the file again, when the readers of the broken file have ended. Only the writer calls
    /// it.
    pub(super) fn reopen(&self) -> Result<(), Fault> {
        let was_writable = self.state().is_none();
        if was_writable {
            // Readers of the file for reads alone need not end: it locks nothing.
            self.current.store(None);
        }
        let begun = Instant::now();
        loop {
            match (self.open)() {
                // A reader of the broken file has not ended yet.
                Err(DatabaseError::DatabaseAlreadyOpen) if begun.elapsed() < READERS_END => {
                    sleep(RETRY);
                }
                Err(cause) => return Err(self.read_only(was_writable, cause)),
                Ok(database) => {
                    self.current.store(Some(Arc::new(database)));
                    self.opened_again.fetch_add(1, Ordering::Relaxed);
                    if self.state().take().is_some() {
                        info!("the database can be written again");
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Opens the file for reads, because it cannot be opened for writes.
    fn read_only(&self, was_writable: bool, cause: DatabaseError) -> Fault {
        let text = Arc::<str>::from(cause.to_string());
        *self.state() = Some(NotWritable { since: Instant::now(), cause: Arc::clone(&text) });
        if was_writable || self.current.load().is_none() {
            error!(error = %text, "the database cannot be written: reads alone go on");
            match (self.open_for_reads)() {
                Ok(database) => self.current.store(Some(Arc::new(database))),
                Err(error) => error!(%error, "the database cannot be read either"),
            }
        }
        Unavailable::ReadOnly(text).into()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Option<NotWritable>> {
        self.not_writable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the database must be opened again after this fault.
pub(super) fn is_of_disk(fault: &Fault) -> bool {
    let Fault::Storage(error) = fault else { return false };
    matches!(error.downcast_ref(), Some(redb::Error::Io(_) | redb::Error::PreviousIo))
}

/// Whether no command can be committed because of this fault.
pub(super) fn is_of_all(fault: &Fault) -> bool {
    let Fault::Storage(error) = fault else { return false };
    is_of_disk(fault) || error.is::<Unavailable>()
}

/// The way to open a file whose pages take this much memory.
pub(super) fn builder(cache_bytes: usize) -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    builder
}

/// Opens a database that no other process has opened, or makes it.
pub(super) fn open(path: &Path, cache_bytes: usize) -> Result<Database, OpenError> {
    let opened = builder(cache_bytes).create(path);
    opened.map_err(|error| OpenError::of_database(path, error))
}

/// The fault of an operation of the database.
pub(super) fn fault(error: impl Into<redb::Error>) -> Fault {
    Fault::Storage(Box::new(error.into()))
}
