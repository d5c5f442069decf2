//! The platform's database: a log of events and the tables folded from it, in one redb file, and
//! the keys of personal data in another. What happens too often for events is in a third, and the
//! deliveries of webhooks in a fourth. Nothing else names redb.
//!
//! One thread writes. It takes the commands that wait, decides them one after the other within one
//! transaction, folds their events, and commits them together: the slower the disk, the larger the
//! groups. A command is acknowledged after the commit is durable.
//!
//! Queries read a snapshot and are short. Nothing holds a read transaction for long, because the
//! file grows meanwhile: long reads go page by page.
//!
//! Tables of a feature whose version has changed are built again while everything else works
//! ([`Store::ready`]). Side effects follow the log ([`Follower`]).

use std::{fmt, fs, io, path::Path, sync::Arc, time::Duration};

use control_domain::{Actor, Command, Envelope, Fault, Feature, Rows, Time};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

mod analytics;
mod analytics_tables;
mod archive;
mod buffer;
mod condition;
mod database;
mod deliveries;
mod erased;
mod follow;
mod job;
mod log;
mod metrics;
mod open_error;
mod overlay;
mod rebuild;
mod renewal;
mod restore;
mod role;
mod rows;
#[cfg(test)]
pub(crate) mod tests;
mod traffic;
mod vault;
mod verify;
mod writer;

pub use analytics::Kept;
pub use analytics_tables::Step;
pub use archive::ArchiveError;
pub use condition::Condition;
pub use deliveries::{
    Deliveries, Delivery, DeliveryState, KEPT as KEPT_DELIVERIES, Progress, Rows as DeliveryRows,
};
pub use follow::{Begin, FollowError, FollowFault, Followed, Follower};
pub use job::{CopiedEvent, Receipt, SendError};
#[cfg(feature = "nats")]
pub(crate) use log::erased as erased_person;
pub use metrics::Metrics;
pub use open_error::OpenError;
pub use restore::Restored;
pub use role::NodeRole;
pub use traffic::{IDLE, Presented, Rotation, Traffic};
pub use vault::{KeyVault, StoredKey};
pub use verify::Verified;

use database::{DATABASE, Handle};
use erased::ErasedList;
use follow::{Followers, Source};
use job::{Copy, Pending};
use rebuild::Rebuild;
use renewal::Renewal;
use rows::{ReadRows, Rebuilding};
use writer::{Message, Writer};

/// The files of the database.
const FILES: [&str; 3] = [DATABASE, vault::KEYS_FILE, traffic::TRAFFIC];
/// Commands that may wait for the writer. A sender waits for room.
const WAITING: usize = 1024;
/// Time that [`Store::open`] takes to build tables again. Small databases are ready then; in larger
/// ones the rest is done in the background.
const REBUILD_AT_OPEN: Duration = Duration::from_millis(500);

/// The database. Clones share it; it closes when the last one is dropped.
///
/// After an error of the disk, for example because it is full, commands fail with the reason and
/// nothing of them happens. Reads go on. Commands are carried out again as soon as the disk permits
/// it, which is tried once a second.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    database: Arc<Handle>,
    vault: Arc<KeyVault>,
    traffic: Traffic,
    features: &'static [&'static Feature],
    folder: Box<Path>,
    role: NodeRole,
    jobs: Option<mpsc::Sender<Message>>,
    sequence: watch::Receiver<u64>,
    rebuilding: watch::Receiver<Arc<Rebuilding>>,
    followers: Followers,
    writer: Option<std::thread::JoinHandle<()>>,
    renewal: Renewal,
    metrics: Metrics,
    /// Locked until the store closes, so that no other process opens the database while its file is
    /// open for reads alone.
    _lock: Option<FolderLock>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("sequence", &self.sequence()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer ends when no sender is left, after the commands that wait, and the thread of
        // the keys ends with it.
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // A panic of the writer has been logged by the thread.
            let _ = writer.join();
        }
        self.renewal.join();
    }
}

/// Why tables cannot be built again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the tables cannot be built again: {0}")]
pub struct RebuildError(Arc<Fault>);

impl Store {
    /// Opens the database in a folder, or makes it, and starts the threads that write. Tables of
    /// features with another version are built again in the background: see [`Store::ready`].
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(folder: &Path, features: &'static [&'static Feature]) -> Result<Self, OpenError> {
        Self::open_with(folder, features, REBUILD_AT_OPEN)
    }

    /// Opens the database in a folder in this role.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::Replica`] for the writer's role in a replica's folder.
    pub fn open_as(
        role: NodeRole,
        folder: &Path,
        features: &'static [&'static Feature],
    ) -> Result<Self, OpenError> {
        Self::open_in(role, folder, features, REBUILD_AT_OPEN)
    }

    /// Opens the database, and builds tables again for this time at most.
    fn open_with(
        folder: &Path,
        features: &'static [&'static Feature],
        time: Duration,
    ) -> Result<Self, OpenError> {
        Self::open_in(NodeRole::Writer, folder, features, time)
    }

    fn open_in(
        role: NodeRole,
        folder: &Path,
        features: &'static [&'static Feature],
        time: Duration,
    ) -> Result<Self, OpenError> {
        fs::create_dir_all(folder).map_err(|error| OpenError::of_file(folder, error))?;
        let lock = lock(folder)?;
        role.prepare(folder)?;
        let vault = KeyVault::open(folder)?;
        let handle = Handle::open(&folder.join(DATABASE))?;
        Self::with(handle, vault, features, folder, Some(lock), time, role)
    }

    /// Prepares an open database, and starts the threads that write.
    fn with(
        handle: Handle,
        vault: KeyVault,
        features: &'static [&'static Feature],
        folder: &Path,
        lock: Option<FolderLock>,
        time: Duration,
        role: NodeRole,
    ) -> Result<Self, OpenError> {
        let file = |error| OpenError::of_file(folder, error);
        let traffic = Traffic::open(folder)?;
        let outdated = rebuild::prepare(&*handle.get()?, features)?;
        let erasures = log::erasures(&*handle.get()?)?;
        let last = log::last(&*handle.get()?)?;
        let (database, vault) = (Arc::new(handle), Arc::new(vault));
        let (announced, sequence) = watch::channel(last);
        let (jobs, waiting) = mpsc::channel(WAITING);
        let (rebuild, rebuilding) = Rebuild::new(features, outdated);
        let (renewal, waker) = Renewal::start(Arc::clone(&vault)).map_err(file)?;
        let metrics = Metrics::default();
        let mut writer = Writer {
            database: Arc::clone(&database),
            vault: Arc::clone(&vault),
            sequence: announced,
            rebuild,
            erased: ErasedList::new(folder),
            gone: Vec::new(),
            renewal: waker,
            metrics: metrics.clone(),
        };
        // Of erasures whose keys the process did not delete before it ended.
        writer.erase_keys(erasures);
        writer.rebuild_for(time);
        let writer = std::thread::Builder::new()
            .name("platform-writer".to_owned())
            .spawn(move || writer.run(waiting))
            .map_err(file)?;
        Ok(Self(Arc::new(Inner {
            database,
            vault,
            traffic,
            features,
            folder: folder.into(),
            role,
            jobs: Some(jobs),
            sequence,
            rebuilding,
            followers: Followers::default(),
            writer: Some(writer),
            renewal,
            metrics,
            _lock: lock,
        })))
    }

    /// Sends a command to the writer, and waits until its events are durable.
    ///
    /// If the caller does not wait to the end, the command is carried out nevertheless.
    ///
    /// # Errors
    /// [`SendError`]; [`Fault::Rebuilding`] within it if the command needs tables that are being
    /// built again.
    pub async fn send<C>(&self, actor: Actor, command: C) -> Result<Receipt<C::Done>, SendError>
    where
        C: Command + 'static,
        C::Done: 'static,
    {
        self.send_at(actor, command, None).await
    }

    /// Sends a command as [`Store::send`] does, about something that happened at another time: it
    /// is decided as if that were now, and its events have that time. For fixtures, which have a
    /// past.
    ///
    /// # Errors
    /// As [`Store::send`].
    pub async fn send_at<C>(
        &self,
        actor: Actor,
        command: C,
        time: Option<Time>,
    ) -> Result<Receipt<C::Done>, SendError>
    where
        C: Command + 'static,
        C::Done: 'static,
    {
        if self.0.role == NodeRole::Replica {
            return Err(SendError::Replica);
        }
        let (job, receipt) = Pending::new(actor, command);
        let span = job.span();
        let sent = async {
            self.give(Message::Job(Box::new(job.at(time)))).await?;
            receipt.await.unwrap_or(Err(SendError::Closed))
        };
        sent.instrument(span).await
    }

    async fn give(&self, message: Message) -> Result<(), SendError> {
        let jobs = self.0.jobs.as_ref().ok_or(SendError::Closed)?;
        jobs.send(message).await.map_err(|_| SendError::Closed)
    }

    /// Reads the tables as they are now. The query must be short. Reads of tables that are being
    /// built again fail with [`Fault::Rebuilding`].
    ///
    /// # Errors
    /// [`Fault::Storage`] if the database cannot be read.
    pub fn read<T>(&self, query: impl FnOnce(&dyn Rows) -> T) -> Result<T, Fault> {
        Ok(query(&ReadRows::begin(&*self.0.database.get()?, &self.0.rebuilding)?))
    }

    /// At most `limit` events behind a sequence, and at most 256, in order, each with its own
    /// sequence.
    ///
    /// # Errors
    /// [`Fault::Storage`], [`Fault::Event`].
    pub fn events(&self, after: u64, limit: usize) -> Result<Vec<(u64, Envelope)>, Fault> {
        log::page(&*self.0.database.get()?, after, limit)
    }

    /// At most `limit` events behind a sequence, and at most 256, in order, as the log holds them.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    pub fn stored_events(&self, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, Fault> {
        log::page_of_bytes(&*self.0.database.get()?, after, limit)
    }

    /// Appends events of the writer's log behind the event `after`, which must be the last here,
    /// and waits until they are durable. The keys of their personal data must be in the vault.
    ///
    /// # Errors
    /// [`SendError::NotCommitted`]: nothing was appended.
    pub async fn copy(&self, after: u64, events: Vec<CopiedEvent>) -> Result<(), SendError> {
        let (job, copied) = Copy::new(after, events);
        self.give(Message::Job(Box::new(job))).await?;
        copied.await.unwrap_or(Err(SendError::Closed))
    }

    /// The role of the database.
    pub fn role(&self) -> NodeRole {
        self.0.role
    }

    /// The sequence of the last event: 0 if there is none.
    pub fn sequence(&self) -> u64 {
        *self.0.sequence.borrow()
    }

    /// Wakes its holder at each commit with the sequence of the last event.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.sequence.clone()
    }

    /// The metrics of the database.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The files of the database and their sizes in bytes. Missing ones are left out.
    pub fn file_sizes(&self) -> Vec<(&'static str, u64)> {
        let size = |name| Some((name, fs::metadata(self.0.folder.join(name)).ok()?.len()));
        FILES.into_iter().filter_map(size).collect()
    }

    /// All features of the database.
    pub fn features(&self) -> &'static [&'static Feature] {
        self.0.features
    }

    /// Whether tables cannot be built again, because the log cannot be folded.
    pub fn has_failed_to_rebuild(&self) -> bool {
        self.0.rebuilding.borrow().failed.is_some()
    }

    /// The state of the database.
    pub fn condition(&self) -> Condition {
        if self.0.database.get().is_err() {
            return Condition::Closed;
        }
        let cause = self.0.database.not_writable().or_else(|| self.0.metrics.last_commit_error());
        match cause {
            Some(cause) => Condition::NotWritable { cause },
            None => Condition::Sound,
        }
    }

    /// Lets the thread that writes try whether the disk can be written again, if the last commit
    /// failed. Otherwise [`Store::condition`] would show the error until the next command. Does not
    /// wait for the result.
    pub fn probe(&self) {
        if self.condition() == Condition::Sound {
            return;
        }
        if let Some(jobs) = &self.0.jobs {
            // A full queue has commands that show the same.
            let _ = jobs.try_send(Message::Probe);
        }
    }

    /// The keys of personal data.
    pub fn vault(&self) -> &KeyVault {
        &self.0.vault
    }

    /// The present refresh tokens of sessions.
    pub fn traffic(&self) -> &Traffic {
        &self.0.traffic
    }

    /// The names of the features whose tables are being built again.
    pub fn rebuilding(&self) -> Vec<&'static str> {
        self.0.rebuilding.borrow().features.iter().map(|feature| feature.name).collect()
    }

    /// Waits until no tables are being built again.
    ///
    /// # Errors
    /// [`RebuildError`] if the log cannot be folded: these features stay out of service.
    pub async fn ready(&self) -> Result<(), RebuildError> {
        let mut rebuilding = self.0.rebuilding.clone();
        let is_over = |state: &Arc<Rebuilding>| state.features.is_empty() || state.failed.is_some();
        // The writer lives as long as the store.
        match rebuilding.wait_for(is_over).await {
            Ok(state) => state.failed.clone().map_or(Ok(()), |fault| Err(RebuildError(fault))),
            Err(_) => Ok(()),
        }
    }

    /// Builds the tables of features again, in the background: see [`Store::ready`]. No names mean
    /// all features; unknown names are passed over. Returns the names of the features.
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub async fn rebuild(&self, names: &[&str]) -> Result<Vec<&'static str>, SendError> {
        let features = self.0.features.iter().copied();
        let features = features.filter(|feature| names.is_empty() || names.contains(&feature.name));
        let features = features.collect::<Vec<_>>();
        let found = features.iter().map(|feature| feature.name).collect::<Vec<_>>();
        if !features.is_empty() {
            let (begun, has_begun) = oneshot::channel();
            self.give(Message::Rebuild { features, begun }).await?;
            has_begun.await.map_err(|_| SendError::Closed)?;
        }
        Ok(found)
    }

    /// Follows the log with a side effect, from its cursor on, until shutdown.
    ///
    /// # Errors
    /// [`FollowFault`].
    pub async fn follow(
        &self,
        follower: &impl Follower,
        shutdown: &CancellationToken,
    ) -> Result<(), FollowFault> {
        let inner = &*self.0;
        let source = Source {
            database: &inner.database,
            jobs: inner.jobs.as_ref().ok_or(SendError::Closed)?,
            sequence: inner.sequence.clone(),
            followers: &inner.followers,
        };
        follow::follow(&source, follower, shutdown).await
    }

    /// How far each follower is that runs.
    pub fn followers(&self) -> Vec<Followed> {
        self.0.followers.list(self.sequence())
    }

    /// Compares the tables with the log: whether each event can be read, its sequence follows the
    /// one before, and the tables are those that the log gives. Commands go on meanwhile. It takes
    /// seconds for a million events, bounded memory, and as much of the disk as the tables do.
    ///
    /// # Errors
    /// A [`Fault`] if the database cannot be read.
    pub fn verify(&self) -> Result<Verified, Fault> {
        let inner = &*self.0;
        let database = inner.database.get()?;
        verify::verify(&database, &inner.vault, inner.features, &inner.rebuilding, &inner.folder)
    }

    /// Writes a consistent copy of the log and of the keys into a folder, while commands go on.
    /// Returns the sequence of its last event.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn backup(&self, folder: &Path) -> Result<u64, ArchiveError> {
        archive::backup(&*self.0.database.get()?, &self.0.vault, &self.0.folder, folder)
    }

    /// Makes a database of a backup, in a folder that has none and that holds the master key. Its
    /// tables are built when it is opened.
    ///
    /// `erased` are lists of persons (`erased.txt`) that are newer than the backup: these persons
    /// stay erased.
    ///
    /// # Errors
    /// [`ArchiveError`]; then the folder has no database.
    pub fn restore(
        backup: &Path,
        folder: &Path,
        erased: &[&Path],
    ) -> Result<Restored, ArchiveError> {
        fs::create_dir_all(folder).map_err(|error| OpenError::of_file(folder, error))?;
        let _lock = lock(folder)?;
        restore::restore(backup, folder, erased)
    }

    /// Writes all events as lines of JSON, each with its sequence.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn export(&self, out: &mut dyn io::Write) -> Result<u64, ArchiveError> {
        archive::export(&*self.0.database.get()?, out)
    }
}

/// A folder that is locked against other processes.
#[derive(Debug)]
struct FolderLock(fs::File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        // A process that this one is about to start has the file, too, until it runs its program,
        // so closing it would not be enough.
        let _ = self.0.unlock();
    }
}

/// Locks a folder against other processes.
fn lock(folder: &Path) -> Result<FolderLock, OpenError> {
    let file = fs::File::open(folder).map_err(|error| OpenError::of_file(folder, error))?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock(file)),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::InUse { path: folder.to_owned() }),
        Err(fs::TryLockError::Error(error)) => Err(OpenError::of_file(folder, error)),
    }
}
