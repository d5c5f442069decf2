//! The search of a platform: opens its index, keeps it while the platform's database is open, and
//! answers queries.

use std::{
    fmt,
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

use control_domain::Fault;
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{
    error::Error,
    find::{self, Hits, Wanted},
    index::{self, Disk, Files, View},
    indexer::{Indexer, Step},
    metrics::{Metrics, QueryResult},
};
use crate::{
    Platform, Store,
    problem::{Kind, Problem},
};

/// Searches at the same time, each on a thread of its own.
pub(super) const AT_ONCE: usize = 4;
/// Time that a search waits for another to end.
const PATIENCE: Duration = Duration::from_secs(2);
/// Retry-After of a search that is not answered.
const RETRY_AFTER_S: u64 = 2;
/// Interval of attempts after a fault of the index.
const RETRY: Duration = Duration::from_secs(1);
/// Interval of attempts while another process has the database open.
const HELD: Duration = Duration::from_millis(50);
/// Least time between two times that the index is read as a whole because a search failed.
const SUSPICION: Duration = Duration::from_secs(60);
/// How long a search waits for an event.
const REACH: Duration = Duration::from_secs(5);

/// The search. Clones share it.
#[derive(Clone)]
pub struct Search(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) platform: Platform,
    disk: Box<Disk>,
    pub(super) state: watch::Sender<State>,
    /// The last event whose effect searches see.
    pub(super) seen: watch::Sender<u64>,
    /// Notified when a search fails as it would with a damaged index.
    suspicion: Notify,
    pub(super) permits: Semaphore,
    folder: OnceLock<PathBuf>,
    pub(super) metrics: Metrics,
}

/// The state of the index.
#[derive(Clone)]
pub(super) enum State {
    /// It is being opened, or brought up to date for the first time, since this instant.
    Opening(Instant),
    /// Searches are answered.
    Open(View),
    /// It cannot be written, for this reason.
    Failing(Arc<str>),
}

impl State {
    /// The index is to be opened again. Returns whether that is new.
    fn open_again(&mut self) -> bool {
        let is_new = !matches!(self, Self::Opening(_));
        if is_new {
            *self = Self::Opening(Instant::now());
        }
        is_new
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.0.state.borrow() {
            State::Opening(_) => "Search(Opening)",
            State::Open(_) => "Search(Open)",
            State::Failing(_) => "Search(Failing)",
        })
    }
}

/// Why a search is not answered.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// For its sender to know.
    Problem(Problem),
    /// The index failed.
    Index(Error),
}

impl<E> From<E> for NoAnswer
where
    Problem: From<E>,
{
    fn from(problem: E) -> Self {
        Self::Problem(problem.into())
    }
}

/// What a search reads.
pub(crate) struct Reading<'a> {
    view: View,
    /// The tables.
    pub(crate) store: &'a Store,
}

impl Reading<'_> {
    /// Carries out a search. Whether its sender may know of a hit is for the tables to decide.
    ///
    /// # Errors
    /// [`NoAnswer::Index`].
    pub(crate) fn find(&self, wanted: &Wanted) -> Result<Hits, NoAnswer> {
        find::find(&self.view, wanted, SystemTime::now().into()).map_err(NoAnswer::Index)
    }
}

impl Search {
    /// The search of a platform. Nothing happens until [`Search::serve`].
    pub fn new(platform: Platform) -> Self {
        Self::on(platform, Box::new(index::real_disk))
    }

    pub(super) fn on(platform: Platform, disk: Box<Disk>) -> Self {
        Self(Arc::new(Shared {
            platform,
            disk,
            state: watch::Sender::new(State::Opening(Instant::now())),
            seen: watch::Sender::new(0),
            suspicion: Notify::new(),
            permits: Semaphore::new(AT_ONCE),
            folder: OnceLock::new(),
            metrics: Metrics::default(),
        }))
    }

    /// Keeps the index until `stop`, or until the platform's database closes. `folder` is that of
    /// the database.
    pub async fn serve(self, folder: PathBuf, stop: CancellationToken) {
        let folder = self.0.folder.get_or_init(|| folder).clone();
        let over = self.0.platform.ending().child_token();
        let mut keeping = pin!(self.keep(&folder, &over));
        tokio::select! {
            () = &mut keeping => return,
            () = stop.cancelled() => over.cancel(),
        }
        keeping.await;
    }

    /// Keeps the index, and opens it again after a fault.
    async fn keep(&self, folder: &Path, over: &CancellationToken) {
        let mut suspected = None;
        while !over.is_cancelled() {
            let pause = match self.run(folder, over, &mut suspected).await {
                Ok(()) | Err(Error::Stopped) => HELD,
                // The tables are not there either, and the store reports it.
                Err(Error::Fault(Fault::Rebuilding { .. })) => {
                    self.0.state.send_if_modified(State::open_again);
                    RETRY
                }
                Err(err) => {
                    let cause = Arc::<str>::from(err.to_string());
                    let before = self.0.state.send_replace(State::Failing(cause));
                    // Once, because it is tried each second.
                    if !matches!(before, State::Failing(_)) {
                        error!(%err, "the search is out of service: trying again");
                    }
                    RETRY
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = over.cancelled() => {}
            }
        }
        self.0.state.send_if_modified(State::open_again);
    }

    /// Opens the index, and keeps it until the platform's database closes.
    /// `suspected`: when a search has failed as it would with a damaged index.
    async fn run(
        &self,
        folder: &Path,
        over: &CancellationToken,
        suspected: &mut Option<Instant>,
    ) -> Result<(), Error> {
        let shared = &self.0;
        let store = tokio::select! {
            store = shared.platform.store() => store,
            () = over.cancelled() => return Ok(()),
        };
        // Otherwise another process has it still, or this one has closed it. While it is in use
        // here, no other process has the index open.
        let Ok(store) = store else { return Ok(()) };
        tokio::select! {
            // A rebuild that fails is reported by the store.
            _ = store.ready() => {}
            () = over.cancelled() => return Ok(()),
        }
        let mut sequences = store.watch();
        let (search, path, tables, stop) =
            (self.clone(), folder.to_owned(), store.clone(), over.clone());
        let open = move || {
            let (files, progress) = Files::open(&path, &*search.0.disk, &tables)?;
            Ok::<_, Error>(Indexer::new(files, progress, stop))
        };
        let mut indexer = spawn_blocking(open).await??;
        while !over.is_cancelled() {
            // Before the log is read, so that no event is missed.
            sequences.mark_unchanged();
            let tables = store.clone();
            let step = move || {
                let done = indexer.step(&tables)?;
                Ok::<_, Error>((indexer, done))
            };
            let done;
            (indexer, done) = spawn_blocking(step).await??;
            shared.seen.send_replace(indexer.seen());
            match done {
                Step::More => {}
                Step::Changed(wait) => tokio::select! {
                    () = sleep(wait) => {}
                    () = over.cancelled() => {}
                },
                Step::Done => {
                    self.opened(&indexer);
                    tokio::select! {
                        changed = sequences.changed() => if changed.is_err() { break },
                        () = shared.suspicion.notified() => if let Err(err) = suspect(suspected) {
                            spawn_blocking(move || drop(indexer)).await?;
                            return Err(err);
                        },
                        () = over.cancelled() => {}
                    }
                }
            }
        }
        // It waits for its threads.
        Ok(spawn_blocking(move || drop(indexer)).await?)
    }

    /// The index is up to date: searches are answered.
    fn opened(&self, indexer: &Indexer) {
        let is_open = matches!(*self.0.state.borrow(), State::Open(_));
        if !is_open {
            let before = self.0.state.send_replace(State::Open(indexer.view()));
            if matches!(before, State::Failing(_)) {
                info!("the search is in service again");
            }
        }
    }

    /// Waits until searches see the effect of the event with this sequence.
    ///
    /// # Errors
    /// 503 if that takes too long.
    pub(crate) async fn reached(&self, sequence: u64) -> Result<(), Problem> {
        let mut seen = self.0.seen.subscribe();
        let reached = seen.wait_for(|seen| *seen >= sequence);
        match timeout(REACH, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                let words = "the search does not know of this event yet: repeat the request";
                Err(Problem::new(Kind::Unavailable, words).retry_after(RETRY_AFTER_S))
            }
        }
    }

    /// Answers a query on a thread that may block.
    ///
    /// # Errors
    /// The problem of `answer`; 503 if the index is not in service, or too many others are
    /// answered.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&Reading<'_>) -> Result<T, NoAnswer> + Send + 'static,
    ) -> Result<T, Problem> {
        let begun = Instant::now();
        let answered = self.answer(answer).await;
        let result = match &answered {
            Ok(_) => QueryResult::Done,
            Err(problem) => match problem.kind() {
                Kind::Unavailable => QueryResult::Unavailable,
                Kind::Internal => QueryResult::Failed,
                _ => QueryResult::Refused,
            },
        };
        self.0.metrics.count(result, begun.elapsed());
        answered
    }

    async fn answer<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&Reading<'_>) -> Result<T, NoAnswer> + Send + 'static,
    ) -> Result<T, Problem> {
        let unavailable =
            |words: &'static str| Problem::new(Kind::Unavailable, words).retry_after(RETRY_AFTER_S);
        let permit = timeout(PATIENCE, self.0.permits.acquire()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(unavailable("too many searches are being answered: repeat the request"));
        };
        let store = self.0.platform.store().await?;
        let view = match &*self.0.state.borrow() {
            State::Open(view) => Ok(view.clone()),
            State::Opening(_) => Err("the index of the search is being built: repeat the request"),
            // The cause may name a file, which is for the operator.
            State::Failing(_) => {
                Err("the index of the search cannot be written; the daemon's log has the reason")
            }
        };
        let view = view.map_err(unavailable)?;
        let answered = spawn_blocking(move || answer(&Reading { view, store: &store }));
        let answered = answered.await;
        drop(permit);
        let error = match answered {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(NoAnswer::Problem(problem))) => return Err(problem),
            Ok(Err(NoAnswer::Index(error))) => error,
            Err(error) => Error::Task(error),
        };
        error!(%error, "a search failed");
        if error.is_damage() || matches!(error, Error::Task(_)) {
            self.0.suspicion.notify_one();
        }
        let words = "the index of the search cannot be read; the daemon's log has the reason";
        Err(Problem::new(Kind::Internal, words))
    }

    /// The number of videos and channels in the index; `None` if searches are not answered.
    pub(super) fn documents(&self) -> Option<u64> {
        match &*self.0.state.borrow() {
            State::Open(view) => Some(view.searcher().num_docs()),
            State::Opening(_) | State::Failing(_) => None,
        }
    }

    /// The number of events whose effect searches do not see yet.
    pub(super) fn lag(&self) -> u64 {
        let store = self.0.platform.ready();
        store.map_or(0, |store| store.sequence().saturating_sub(*self.0.seen.borrow()))
    }

    /// The size of the index on the disk.
    pub(super) fn index_bytes(&self) -> u64 {
        self.0.folder.get().map_or(0, |folder| index::size(folder))
    }
}

/// Lets the index be opened again, which reads the whole of it, but not too often.
///
/// # Errors
/// [`Error::Damaged`], which may not be true.
fn suspect(last: &mut Option<Instant>) -> Result<(), Error> {
    if last.is_some_and(|last| last.elapsed() < SUSPICION) {
        return Ok(());
    }
    *last = Some(Instant::now());
    Err(Error::Damaged("a search failed".to_owned()))
}
