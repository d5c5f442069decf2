//! The state that all parts of the deliveries share.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwapOption;
use control_domain::{Fault, id::WebhookId};
use tokio::{
    sync::{Notify, Semaphore},
    task::spawn_blocking,
};

use super::{client::Client, clock::Clock, lines::Lines, metrics::Metrics};
use crate::{
    Platform,
    store::{Deliveries, DeliveryRows},
};

/// The state of deliveries.
pub(super) struct Shared {
    pub(super) platform: Platform,
    pub(super) client: Client,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) lines: Mutex<Lines>,
    /// `None` before it is open in this process.
    pub(super) file: ArcSwapOption<Deliveries>,
    /// Notified when there may be something to deliver.
    pub(super) wake: Notify,
    /// Limits the deliveries that somebody waits for.
    pub(super) by_hand: Semaphore,
    pub(super) metrics: Metrics,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Shared {
    /// The lines of all webhooks. The lock is never held during a wait.
    pub(super) fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps how far these webhooks are. Their state at the moment of the write is written, so that
    /// the last write is right, whatever the order of the writers.
    pub(super) async fn keep(
        self: &Arc<Self>,
        file: &Arc<Deliveries>,
        is_durable: bool,
        webhooks: Vec<WebhookId>,
    ) -> Result<(), Fault> {
        let keep = move |rows: &mut DeliveryRows<'_>, shared: &Self| keep(rows, shared, &webhooks);
        self.write(file, is_durable, keep).await
    }

    /// Changes the file in a thread for the disk.
    pub(super) async fn write(
        self: &Arc<Self>,
        file: &Arc<Deliveries>,
        is_durable: bool,
        change: impl FnOnce(&mut DeliveryRows<'_>, &Self) -> Result<(), Fault> + Send + 'static,
    ) -> Result<(), Fault> {
        let (file, shared) = (Arc::clone(file), Arc::clone(self));
        let writing = spawn_blocking(move || file.write(is_durable, |rows| change(rows, &shared)));
        writing.await.unwrap_or_else(|err| Err(Fault::Storage(err.into())))
    }
}

/// Writes how far webhooks are.
pub(super) fn keep(
    rows: &mut DeliveryRows<'_>,
    shared: &Shared,
    webhooks: &[WebhookId],
) -> Result<(), Fault> {
    webhooks.iter().try_for_each(|id| {
        let progress = shared.lines().progress(*id);
        rows.set_progress(*id, progress)
    })
}
