//! Delivers events to webhooks, as Standard Webhooks 1.0.0 describes it
//! (<https://github.com/standard-webhooks/standard-webhooks>): signed, in order for each webhook,
//! at least once, with `webhook-id` as the idempotency key.
//!
//! - `shared`: the state. `lines`: how far each webhook is. `follower`: offers events to them.
//!   `attempt`: delivers one.
//! - `client`, `address`, `signature`, `schedule`: the request, the addresses to which it may go,
//!   its signature, and the time of the next one.
//! - `record`: the deliveries of a webhook, a test, and a delivery again, for the API. `metrics`,
//!   `collector`: for the operator.
//!
//! An event that fails is tried again after delays that grow; the webhook's later events wait
//! behind it in the log. Other webhooks do not wait.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use control_domain::{
    Fault,
    features::webhooks::{queries, url::WebhookUrl},
};
use prometheus_client::registry::Registry;
use rustls::RootCertStore;
use tokio::{
    sync::{Notify, Semaphore},
    task::{JoinError, JoinSet, spawn_blocking},
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    Platform,
    store::{Deliveries, FollowFault, OpenError, Store},
};

mod address;
mod attempt;
mod client;
mod clock;
mod collector;
mod follower;
mod lines;
mod metrics;
mod record;
mod schedule;
mod shared;
mod signature;
#[cfg(test)]
mod tests;

pub use clock::{Clock, SystemClock};

use attempt::Worker;
use client::Client;
use collector::Failing;
use follower::Offers;
use metrics::Metrics;
use shared::Shared;

/// Deliveries at the same time.
const MAX_AT_ONCE: usize = 64;
/// Tests and deliveries again at the same time.
const MAX_BY_HAND: usize = 16;
/// Webhooks that are read at once.
const PAGE: usize = 256;
/// Interval of attempts after a fault.
const RETRY: Duration = Duration::from_secs(1);
/// Interval of attempts while another process has the file open.
const HELD: Duration = Duration::from_millis(50);
/// Interval at which the record of deliveries is made durable.
const FLUSH: Duration = Duration::from_secs(1);

/// Rules for deliveries.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether deliveries may go to internal addresses, and without TLS.
    pub allow_internal: bool,
    /// The certificate authorities that are trusted.
    pub roots: RootCertStore,
}

/// The deliveries of all webhooks. Clones share them.
#[derive(Debug, Clone)]
pub struct Webhooks(Arc<Shared>);

/// Why deliveries stop for a moment.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Follow(#[from] FollowFault),
    #[error("a task failed: {0}")]
    Task(#[from] JoinError),
}

impl Webhooks {
    /// Deliveries of the platform's events. Nothing happens until [`Webhooks::serve`].
    ///
    /// # Errors
    /// The TLS settings are not supported.
    pub fn new(
        platform: Platform,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self(Arc::new(Shared {
            platform,
            client: Client::new(settings.roots, settings.allow_internal)?,
            clock,
            lines: Mutex::default(),
            file: ArcSwapOption::empty(),
            wake: Notify::new(),
            by_hand: Semaphore::new(MAX_BY_HAND),
            metrics: Metrics::default(),
        })))
    }

    /// Delivers until `stop`, or until the platform's database closes. `folder` is that of the
    /// database.
    pub async fn serve(self, folder: PathBuf, stop: CancellationToken) {
        let over = self.0.platform.ending().child_token();
        let mut delivering = pin!(self.deliver(&folder, &over));
        tokio::select! {
            () = &mut delivering => return,
            () = stop.cancelled() => over.cancel(),
        }
        delivering.await;
    }

    /// Adds their metrics to a registry whose prefix is the product's name.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
        registry.register_collector(Box::new(Failing(Arc::clone(&self.0))));
    }

    /// Whether deliveries may go to an address, as far as it is known without a look-up.
    pub fn accepts(&self, url: &WebhookUrl) -> bool {
        self.0.client.accepts(url)
    }

    /// Delivers, and begins again after a fault.
    async fn deliver(&self, folder: &Path, over: &CancellationToken) {
        while !over.is_cancelled() {
            let pause = match self.run(folder, over).await {
                Ok(()) => HELD,
                Err(Interrupted::Open(OpenError::InUse { .. })) => HELD,
                Err(err) => {
                    error!(%err, "webhooks are not delivered: trying again");
                    RETRY
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = over.cancelled() => {}
            }
        }
    }

    /// Opens the file, and delivers until the platform's database closes.
    async fn run(&self, folder: &Path, over: &CancellationToken) -> Result<(), Interrupted> {
        let shared = &self.0;
        let store = tokio::select! {
            store = shared.platform.store() => store,
            () = over.cancelled() => return Ok(()),
        };
        // Otherwise another process has it still, or this one has closed it.
        let Ok(store) = store else { return Ok(()) };
        tokio::select! {
            // A rebuild that fails is reported by the store.
            _ = store.ready() => {}
            () = over.cancelled() => return Ok(()),
        }
        let path = folder.to_owned();
        let file = Arc::new(spawn_blocking(move || Deliveries::open(&path)).await??);
        shared.load(&store, &file).await?;
        shared.file.store(Some(Arc::clone(&file)));
        let offers = Offers { shared, store: &store, file: &file };
        let mut tasks = JoinSet::new();
        let done = tokio::select! {
            followed = store.follow(&offers, over) => followed.map_err(Interrupted::from),
            worked = shared.work(&store, &file, &mut tasks) => worked.map_err(Interrupted::from),
        };
        // So that the next process, or the next attempt here, can open it.
        shared.file.store(None);
        tasks.shutdown().await;
        done.and(shared.write(&file, true, |_, _| Ok(())).await.map_err(Interrupted::from))
    }
}

impl Shared {
    /// Reads all webhooks, and how far they are.
    async fn load(
        self: &Arc<Self>,
        store: &Store,
        file: &Arc<Deliveries>,
    ) -> Result<(), Interrupted> {
        // Before the rows, so that no event is missed.
        let seen = store.sequence();
        self.lines().begin(seen);
        let mut after = None;
        loop {
            let page = store.read(|rows| queries::page(rows, after, PAGE))??;
            for (id, webhook) in &page {
                // The follower may be behind: it offers the rest.
                self.lines().set(*id, Some(webhook), 0, self.clock.now());
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after = Some(*last),
                _ => break,
            }
        }
        let reading = Arc::clone(file);
        let progress = spawn_blocking(move || reading.progress()).await??;
        let ids = progress.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        for (id, progress) in progress {
            self.lines().resume(id, progress);
        }
        // How far a webhook is that is not in use any more is forgotten.
        Ok(self.keep(file, true, ids).await?)
    }

    /// Delivers what is due, until a fault of the file.
    async fn work(
        self: &Arc<Self>,
        store: &Store,
        file: &Arc<Deliveries>,
        tasks: &mut JoinSet<Result<(), Fault>>,
    ) -> Result<(), Fault> {
        let mut flush = interval(FLUSH);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_dirty = false;
        loop {
            let now = self.clock.now();
            let room = MAX_AT_ONCE - tasks.len();
            let due = self.lines().take_due(now, room);
            for id in due {
                let worker = Worker {
                    shared: Arc::clone(self),
                    store: store.clone(),
                    file: Arc::clone(file),
                    webhook: id,
                };
                tasks.spawn(worker.step());
            }
            let next = self.lines().next_at().filter(|_| tasks.len() < MAX_AT_ONCE);
            tokio::select! {
                Some(done) = tasks.join_next() => match done {
                    Ok(result) => {
                        result?;
                        is_dirty = true;
                    }
                    Err(err) => error!(%err, "a delivery failed by a fault of the daemon"),
                },
                () = self.wake.notified() => {}
                () = self.clock.wait_until(next.unwrap_or_default()), if next.is_some() => {}
                _ = flush.tick(), if is_dirty => {
                    self.write(file, true, |_, _| Ok(())).await?;
                    is_dirty = false;
                }
            }
        }
    }
}
