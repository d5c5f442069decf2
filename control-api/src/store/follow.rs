//! Followers: side effects of events, such as mail, webhooks and the bus. Each reads the log at its
//! own pace behind its own cursor, which is moved after the effect: an effect happens at least
//! once, with the identifier of its event as its idempotency key.
//!
//! A follower holds no transaction while it waits or acts. If an effect fails, it is tried again
//! after delays that grow; events behind it wait, other followers do not.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use control_domain::{Envelope, Fault};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    database::Handle,
    job::{CursorMove, SendError},
    log,
    writer::Message,
};

/// The delay after the first failure. It doubles with each.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The greatest delay.
const MAX_DELAY: Duration = Duration::from_secs(300);
/// Time that an effect may take.
const EFFECT: Duration = Duration::from_secs(120);
/// Events of other types after which a cursor is moved. They would be read again after a crash.
const SKIPPED: u64 = 4096;

/// Where a follower begins that has no cursor yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With the first event of the log: it copies the log.
    First,
    /// With the next event: what happened before it existed has no effect.
    Next,
}

/// Why an effect did not happen.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It is tried again later.
    #[error("{0}")]
    Again(Box<dyn std::error::Error + Send + Sync>),
    /// It can never happen: the event is passed over, and the error logged.
    #[error("{0}")]
    Never(Box<dyn std::error::Error + Send + Sync>),
}

/// A side effect of events.
pub trait Follower: Send + Sync {
    /// The name of its cursor, which never changes.
    fn name(&self) -> &str;

    /// Where it begins the first time.
    fn begin(&self) -> Begin;

    /// Whether events of this type have an effect.
    fn follows(&self, kind: &str) -> bool;

    /// Effects after which the cursor is moved. After a crash so many may happen again, with the
    /// same event identifiers; each move is a commit. It is also moved when no event is left.
    fn moved_after(&self) -> u64 {
        1
    }

    /// Makes the effect happen. It must end within two minutes.
    fn handle(
        &self,
        sequence: u64,
        envelope: &Envelope,
    ) -> impl Future<Output = Result<(), FollowError>> + Send;
}

/// Why a follower cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum FollowFault {
    /// Another one has its name.
    #[error("a follower named {name} is running already")]
    Running {
        /// The name.
        name: String,
    },
    /// Its cursor cannot be read.
    #[error(transparent)]
    Cursor(#[from] Fault),
    /// Its cursor cannot be written.
    #[error("the cursor of a follower cannot be written: {0}")]
    Move(#[from] SendError),
}

/// How far a follower is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Its name.
    pub name: String,
    /// The last event that it has handled or passed over.
    pub sequence: u64,
    /// The number of events behind that one.
    pub lag: u64,
    /// Effects that have failed since the start.
    pub failures: u64,
    /// Failures of the effect that is tried now; 0 if it succeeds.
    pub failing: u64,
}

/// The numbers of a follower that runs.
#[derive(Debug, Default)]
struct Progress {
    sequence: AtomicU64,
    failures: AtomicU64,
    failing: AtomicU64,
}

/// The followers that run, by name.
#[derive(Debug, Default)]
pub(super) struct Followers(Mutex<BTreeMap<String, Arc<Progress>>>);

impl Followers {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Progress>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far each is.
    pub(super) fn list(&self, last: u64) -> Vec<Followed> {
        let running = self.lock();
        let list = running.iter().map(|(name, progress)| {
            let sequence = progress.sequence.load(Ordering::Relaxed);
            let failures = progress.failures.load(Ordering::Relaxed);
            let lag = last.saturating_sub(sequence);
            let failing = progress.failing.load(Ordering::Relaxed);
            Followed { name: name.clone(), sequence, lag, failures, failing }
        });
        list.collect()
    }
}

/// A follower in the list while it runs.
struct Entry<'a> {
    followers: &'a Followers,
    name: &'a str,
    progress: Arc<Progress>,
}

impl<'a> Entry<'a> {
    fn new(followers: &'a Followers, name: &'a str) -> Result<Self, FollowFault> {
        let mut running = followers.lock();
        if running.contains_key(name) {
            return Err(FollowFault::Running { name: name.to_owned() });
        }
        let progress = Arc::<Progress>::default();
        running.insert(name.to_owned(), Arc::clone(&progress));
        Ok(Self { followers, name, progress })
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.followers.lock().remove(self.name);
    }
}

/// The parts of the store that followers use.
pub(super) struct Source<'a> {
    pub(super) database: &'a Handle,
    pub(super) jobs: &'a mpsc::Sender<Message>,
    pub(super) sequence: watch::Receiver<u64>,
    pub(super) followers: &'a Followers,
}

impl Source<'_> {
    /// A page of events behind a sequence. Of types that are not wanted there is the sequence
    /// alone.
    fn page(
        &self,
        after: u64,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<(u64, Option<Envelope>)>, Fault> {
        let page = log::page_of_bytes(&*self.database.get()?, after, log::PAGE)?;
        let events =
            page.iter().map(|(sequence, json)| Ok((*sequence, log::parse_if(json, &is_wanted)?)));
        events.collect()
    }

    /// Moves the cursor of a follower, durable.
    async fn move_cursor(&self, name: &Arc<str>, sequence: u64) -> Result<(), SendError> {
        let (job, moved) = CursorMove::new(Arc::clone(name), sequence);
        let message = Message::Job(Box::new(job));
        self.jobs.send(message).await.map_err(|_| SendError::Closed)?;
        moved.await.unwrap_or(Err(SendError::Closed))
    }
}

/// The position of a follower in the log.
struct Position {
    name: Arc<str>,
    /// The last event that it has handled or passed over.
    now: u64,
    /// The cursor.
    moved: u64,
    /// Effects since the cursor was moved.
    effects: u64,
}

/// Follows the log until shutdown.
pub(super) async fn follow(
    source: &Source<'_>,
    follower: &impl Follower,
    shutdown: &CancellationToken,
) -> Result<(), FollowFault> {
    let entry = Entry::new(source.followers, follower.name())?;
    let name = Arc::<str>::from(follower.name());
    let begin = match (log::cursor(&*source.database.get()?, &name)?, follower.begin()) {
        (Some(sequence), _) => sequence,
        (None, Begin::First) => 0,
        (None, Begin::Next) => {
            let now = *source.sequence.borrow();
            // Otherwise events before the first effect would be lost at a crash.
            source.move_cursor(&name, now).await?;
            now
        }
    };
    let mut position = Position { name, now: begin, moved: begin, effects: 0 };
    entry.progress.sequence.store(begin, Ordering::Relaxed);
    let running = run(source, follower, &entry.progress, &mut position);
    tokio::select! {
        () = running => {}
        () = shutdown.cancelled() => {}
    }
    if position.effects > 0 {
        source.move_cursor(&position.name, position.now).await?;
    }
    Ok(())
}

async fn run(
    source: &Source<'_>,
    follower: &impl Follower,
    progress: &Progress,
    position: &mut Position,
) {
    let mut committed = source.sequence.clone();
    let mut delay = FIRST_DELAY;
    loop {
        committed.mark_unchanged();
        let page = match source.page(position.now, |kind| follower.follows(kind)) {
            Ok(page) => page,
            Err(fault) => {
                warn!(follower = follower.name(), %fault, "the log cannot be read yet");
                wait(&mut delay).await;
                continue;
            }
        };
        delay = FIRST_DELAY;
        if page.is_empty() {
            if position.effects > 0 {
                move_cursor(source, position).await;
            }
            // The sender lives as long as the store.
            if committed.changed().await.is_err() {
                return;
            }
            continue;
        }
        for (sequence, envelope) in page {
            if let Some(envelope) = envelope {
                effect(follower, progress, sequence, &envelope).await;
                position.effects += 1;
            }
            position.now = sequence;
            progress.sequence.store(sequence, Ordering::Relaxed);
            let skipped = position.now - position.moved;
            if position.effects >= follower.moved_after().max(1) || skipped >= SKIPPED {
                move_cursor(source, position).await;
            }
        }
    }
}

/// Moves the cursor, and tries until it succeeds: with effects that are not recorded it must not go
/// on.
async fn move_cursor(source: &Source<'_>, position: &mut Position) {
    let mut delay = FIRST_DELAY;
    while let Err(error) = source.move_cursor(&position.name, position.now).await {
        warn!(follower = &*position.name, %error, "the cursor of a follower cannot be moved yet");
        wait(&mut delay).await;
    }
    position.moved = position.now;
    position.effects = 0;
}

/// Makes an effect happen, and tries until it succeeds or never can.
async fn effect(follower: &impl Follower, progress: &Progress, sequence: u64, envelope: &Envelope) {
    let (name, kind) = (follower.name(), envelope.kind.as_str());
    let mut delay = FIRST_DELAY;
    loop {
        let error: Box<dyn std::error::Error + Send + Sync> =
            match timeout(EFFECT, unpanicked(follower.handle(sequence, envelope))).await {
                Ok(Some(Ok(()))) => {
                    progress.failing.store(0, Ordering::Relaxed);
                    return;
                }
                Ok(Some(Err(FollowError::Never(error)))) => {
                    progress.failures.fetch_add(1, Ordering::Relaxed);
                    progress.failing.store(0, Ordering::Relaxed);
                    error!(follower = name, sequence, kind, %error, "an effect is given up");
                    return;
                }
                Ok(Some(Err(FollowError::Again(error)))) => error,
                Ok(None) => "it panicked".into(),
                Err(elapsed) => elapsed.into(),
            };
        progress.failures.fetch_add(1, Ordering::Relaxed);
        progress.failing.fetch_add(1, Ordering::Relaxed);
        warn!(follower = name, sequence, kind, %error, ?delay, "an effect is tried again");
        wait(&mut delay).await;
    }
}

/// Waits, and doubles the delay.
async fn wait(delay: &mut Duration) {
    sleep(*delay).await;
    *delay = (*delay * 2).min(MAX_DELAY);
}

/// The output of a future, or `None` if it panics.
async fn unpanicked<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        // After a panic it is not polled again.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}
