//! The platform's database: a log of events and the tables folded from it, in one redb file, and
//! the keys of personal data in another. Nothing else names redb.
//!
//! One thread writes. It takes the commands that wait, decides them one after the other within one
//! transaction, folds their events, and commits them together: the slower the disk, the larger the
//! groups. A command is acknowledged after the commit is durable.
//!
//! Queries read a snapshot and are short. Nothing holds a read transaction for long, because the
//! file grows meanwhile: long reads go page by page.

use std::{fmt, io, path::Path, sync::Arc};

use control_domain::{Actor, Command, Envelope, Fault, Feature, Rows};
use redb::Database;
use tokio::sync::{mpsc, watch};

mod archive;
mod database;
mod log;
mod rebuild;
mod rows;
#[cfg(test)]
pub(crate) mod tests;
mod vault;
mod verify;
mod writer;

pub use archive::ArchiveError;
pub use database::OpenError;
pub use rebuild::Rebuilt;
pub use vault::KeyVault;
pub use verify::Verified;
pub use writer::{Receipt, SendError};

use database::{DATABASE, Handle};
use rows::ReadRows;
use vault::{KEYS_FILE, MASTER_KEY};
use writer::{Job, Pending, Writer};

/// Commands that may wait for the writer. A sender waits for room.
const WAITING: usize = 1024;

/// The database. Clones share it; it closes when the last one is dropped.
///
/// After an error of the disk, for example because it is full, commands fail with the reason and
/// nothing of them happens. The file is opened again at once, so that reads go on, and commands are
/// carried out again as soon as the disk permits it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    database: Arc<Handle>,
    vault: Arc<KeyVault>,
    features: &'static [&'static Feature],
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    sequence: watch::Receiver<u64>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("sequence", &self.sequence()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer ends when no sender is left, after the commands that wait.
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // A panic of the writer has been logged by the thread.
            let _ = writer.join();
        }
    }
}

impl Store {
    /// Opens the database in a folder, or makes it, and starts the thread that writes. Tables of
    /// features with another version are built again first.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(folder: &Path, features: &'static [&'static Feature]) -> Result<Self, OpenError> {
        let file = |error| OpenError::File { path: folder.to_owned(), error };
        std::fs::create_dir_all(folder).map_err(file)?;
        let vault = KeyVault::open(&folder.join(KEYS_FILE), &folder.join(MASTER_KEY))?;
        let path = folder.join(DATABASE);
        let database = database::open(&path)?;
        let handle = Handle::new(database, move || Database::create(&path));
        Self::with(handle, vault, features)?.map_err(file)
    }

    /// Prepares an open database, and starts the thread that writes.
    fn with(
        handle: Handle,
        vault: KeyVault,
        features: &'static [&'static Feature],
    ) -> Result<io::Result<Self>, Fault> {
        let database = handle.get()?;
        log::create(&database)?;
        rebuild::create_tables(&database, features)?;
        rebuild::outdated(&database, &vault, features)?;
        log::erase_keys(&database, &vault)?;
        let last = log::last(&database)?;
        drop(database);
        let (database, vault) = (Arc::new(handle), Arc::new(vault));
        let (announced, sequence) = watch::channel(last);
        let (jobs, waiting) = mpsc::channel(WAITING);
        let writer = Writer {
            database: Arc::clone(&database),
            vault: Arc::clone(&vault),
            features,
            sequence: announced,
        };
        let writer = std::thread::Builder::new()
            .name("platform-writer".to_owned())
            .spawn(move || writer.run(waiting));
        Ok(writer.map(|writer| {
            let (jobs, writer) = (Some(jobs), Some(writer));
            Self(Arc::new(Inner { database, vault, features, jobs, sequence, writer }))
        }))
    }

    /// Sends a command to the writer, and waits until its events are durable.
    ///
    /// If the caller does not wait to the end, the command is carried out nevertheless.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send<C>(&self, actor: Actor, command: C) -> Result<Receipt<C::Done>, SendError>
    where
        C: Command + 'static,
        C::Done: 'static,
    {
        let (job, receipt) = Pending::new(actor, command);
        let jobs = self.0.jobs.as_ref().ok_or(SendError::Closed)?;
        jobs.send(Box::new(job)).await.map_err(|_| SendError::Closed)?;
        receipt.await.unwrap_or(Err(SendError::Closed))
    }

    /// Reads the tables as they are now. The query must be short.
    ///
    /// # Errors
    /// [`Fault::Storage`] if the database cannot be read.
    pub fn read<T>(&self, query: impl FnOnce(&dyn Rows) -> T) -> Result<T, Fault> {
        Ok(query(&ReadRows::begin(&*self.0.database.get()?)?))
    }

    /// At most `limit` events behind a sequence, in order, each with its own sequence.
    ///
    /// # Errors
    /// [`Fault::Storage`], [`Fault::Event`].
    pub fn events(&self, after: u64, limit: usize) -> Result<Vec<(u64, Envelope)>, Fault> {
        log::page(&*self.0.database.get()?, after, limit)
    }

    /// The sequence of the last event: 0 if there is none.
    pub fn sequence(&self) -> u64 {
        *self.0.sequence.borrow()
    }

    /// Wakes its holder at each commit with the sequence of the last event.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.sequence.clone()
    }

    /// The keys of personal data.
    pub fn vault(&self) -> &KeyVault {
        &self.0.vault
    }

    /// Compares the tables with the log: whether each event can be read, its sequence follows the
    /// one before, and the tables are those that the log gives.
    ///
    /// # Errors
    /// A [`Fault`] if the database cannot be read.
    pub fn verify(&self) -> Result<Verified, Fault> {
        verify::verify(&*self.0.database.get()?, &self.0.vault, self.0.features)
    }

    /// Writes a consistent copy of the log and of the keys into a folder, while commands go on.
    /// Returns the sequence of its last event.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn backup(&self, folder: &Path) -> Result<u64, ArchiveError> {
        archive::backup(&*self.0.database.get()?, &self.0.vault, folder)
    }

    /// Writes all events as lines of JSON, each with its sequence.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn export(&self, out: &mut dyn io::Write) -> Result<u64, ArchiveError> {
        archive::export(&*self.0.database.get()?, out)
    }
}
