//! The platform as the API and the daemon use it: the database, which another process of the daemon
//! may still hold, and the problems of commands and queries.
//!
//! During an upgrade the old process closes the database after the new one has taken over, because
//! a database has one writer. Requests of the new process wait meanwhile.

mod matching;
mod metrics;
mod problem;
mod provided;

use std::{
    fmt,
    future::Future,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use control_domain::{Actor, Command, Rows, features};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{sync::watch, task::spawn_blocking, time::timeout};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

pub(crate) use self::{matching::Matching, provided::Provided};
use crate::{
    problem::{Kind, Problem},
    store::{NodeRole, OpenError, Receipt, Store},
    traces,
};

/// How long a request waits for the database to open.
const OPENING: Duration = Duration::from_secs(5);
/// Retry-After of a request that has waited in vain.
const RETRY_AFTER_S: u64 = 1;

/// The platform. Clones share it.
#[derive(Clone)]
pub struct Platform(Arc<Shared>);

struct Shared {
    stage: watch::Sender<Stage>,
    /// Cancelled when responses that do not end by themselves must end.
    ending: CancellationToken,
    /// Counts the users of the open database, so that closing waits for them.
    users: TaskTracker,
    /// When opening began.
    since: Instant,
    role: NodeRole,
    /// The address of the writer, if this is a replica and it is configured.
    writer: Option<Box<str>>,
    /// Open streams of events.
    event_streams: Gauge,
}

/// The life of the database in this process.
#[derive(Clone)]
enum Stage {
    /// Another process may hold it.
    Opening,
    /// It is in use here.
    Open(Store),
    /// This process stops, or has handed over.
    Closed,
}

/// The open database, for as long as one request or task uses it.
pub struct InUse {
    store: Store,
    _user: TaskTrackerToken,
}

/// An open stream of events, which is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl std::ops::Deref for InUse {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match *self.0.stage.borrow() {
            Stage::Opening => "Opening",
            Stage::Open(_) => "Open",
            Stage::Closed => "Closed",
        };
        write!(f, "Platform({stage})")
    }
}

impl Default for Platform {
    /// A platform whose database is not open yet.
    fn default() -> Self {
        Self::new(NodeRole::Writer, None)
    }
}

impl Platform {
    /// A platform whose database is a replica, and not open yet. `writer` is the address of the
    /// writer's API, for example `https://live.example.org`.
    pub fn replica(writer: Option<String>) -> Self {
        Self::new(NodeRole::Replica, writer)
    }

    fn new(role: NodeRole, writer: Option<String>) -> Self {
        let writer = writer.map(String::into_boxed_str);
        let (stage, _) = watch::channel(Stage::Opening);
        let (ending, users) = (CancellationToken::new(), TaskTracker::new());
        let (since, event_streams) = (Instant::now(), Gauge::default());
        Self(Arc::new(Shared { stage, ending, users, since, role, writer, event_streams }))
    }

    /// The role of the database.
    pub fn role(&self) -> NodeRole {
        self.0.role
    }

    /// The address of the writer, if this is a replica and it is configured.
    pub fn writer(&self) -> Option<&str> {
        self.0.writer.as_deref()
    }

    /// A platform whose database is open.
    #[cfg(test)]
    pub(crate) fn of(store: Store) -> Self {
        let platform = Self::default();
        platform.0.stage.send_replace(Stage::Open(store));
        platform
    }

    /// Opens the database in a folder. Requests that wait for it go on.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::InUse`] while another process holds it.
    pub async fn open(&self, folder: &Path) -> Result<(), OpenError> {
        let (path, role) = (folder.to_owned(), self.0.role);
        let opened = spawn_blocking(move || Store::open_as(role, &path, features::ALL)).await;
        let store = opened.map_err(|error| OpenError::File {
            path: folder.to_owned(),
            error: std::io::Error::other(error),
        })??;
        self.0.stage.send_if_modified(|stage| {
            let is_awaited = matches!(stage, Stage::Opening);
            if is_awaited {
                *stage = Stage::Open(store);
            }
            is_awaited
        });
        Ok(())
    }

    /// Ends responses that do not end by themselves, because the process stops or hands over.
    pub fn end_streams(&self) {
        self.0.ending.cancel();
    }

    /// Cancelled when responses that do not end by themselves must end.
    pub fn ending(&self) -> CancellationToken {
        self.0.ending.clone()
    }

    /// Closes the database, when all requests that use it have ended, and all commands that wait
    /// are durable.
    pub async fn close(&self) {
        self.end_streams();
        let before = self.0.stage.send_replace(Stage::Closed);
        self.0.users.close();
        self.0.users.wait().await;
        // Waits for the thread that writes.
        let _ = spawn_blocking(move || drop(before)).await;
    }

    /// The database. Waits a while for it to open.
    ///
    /// # Errors
    /// 503 if it is closed, or does not open in time.
    pub async fn store(&self) -> Result<InUse, Problem> {
        if let Some(store) = self.ready() {
            return Ok(store);
        }
        let mut stages = self.0.stage.subscribe();
        let opened = stages.wait_for(|stage| !matches!(stage, Stage::Opening));
        let _ = timeout(OPENING, opened).await;
        self.ready().ok_or_else(|| {
            let words = "the database is not open in this process: repeat the request";
            Problem::new(Kind::Unavailable, words).retry_after(RETRY_AFTER_S)
        })
    }

    /// The database, if it is open.
    pub fn ready(&self) -> Option<InUse> {
        let stage = self.0.stage.borrow();
        match &*stage {
            // The token is taken under the lock, so that `close` waits for it.
            Stage::Open(store) => Some(InUse { store: store.clone(), _user: self.0.users.token() }),
            Stage::Opening | Stage::Closed => None,
        }
    }

    /// Counts a stream of events until the result is dropped.
    pub(crate) fn count_event_stream(&self) -> OpenStream {
        self.0.event_streams.inc();
        OpenStream(self.0.event_streams.clone())
    }

    /// How long this process has waited for its database. `None` if the database is closed for
    /// good.
    pub(crate) fn opening(&self) -> Option<Duration> {
        let is_closed = matches!(*self.0.stage.borrow(), Stage::Closed);
        (!is_closed).then(|| self.0.since.elapsed())
    }

    /// Lets the database try whether the disk can be written again, if the last commit failed.
    pub fn probe(&self) {
        if let Some(store) = self.ready() {
            store.probe();
        }
    }

    /// Completes when the database is closed.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stages = self.0.stage.subscribe();
        async move {
            // The sender may be gone, too.
            let _ = stages.wait_for(|stage| matches!(stage, Stage::Closed)).await;
        }
    }

    /// Carries out a command.
    ///
    /// # Errors
    /// The problem of its refusal.
    pub async fn send<C>(&self, actor: Actor, command: C) -> Result<Receipt<C::Done>, Problem>
    where
        C: Command + 'static,
        C::Done: 'static,
    {
        Ok(self.store().await?.send(actor, command).await?)
    }

    /// Reads the tables. The query must be short.
    ///
    /// # Errors
    /// The problem of its refusal, or of a database that cannot be read.
    pub async fn read<T, E>(
        &self,
        query: impl FnOnce(&dyn Rows) -> Result<T, E>,
    ) -> Result<T, Problem>
    where
        Problem: From<E>,
    {
        let store = self.store().await?;
        let span = traces::query(&query);
        Ok(span.in_scope(|| store.read(query))??)
    }
}

#[cfg(test)]
mod tests;
