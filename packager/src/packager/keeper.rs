//! Keeps a broadcast listed while its task runs and for a while after, and ends it if the task
//! fails.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use media_core::{Broadcast, Hub, TrackIndex};
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::{
    Live, Presentation, Presentations,
    metrics::Metrics,
    program::{Full, Program, Settings},
};

/// How long a broadcast that took too much memory stays listed, so that players read its end.
pub(super) const FULL_STAY: Duration = Duration::from_secs(10);
/// The message to a publisher whose broadcast ended because of a fault of this program.
pub(super) const FAILED: &str = "a fault of the server has ended this broadcast: connect again";

/// A presentation, and the index that lists it.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) presentations: Presentations,
    pub(super) live: Arc<Live>,
}

impl Listed {
    /// Swaps in a snapshot. With the first, the broadcast takes the name of its channel. `changed`:
    /// indices of the tracks that have changed.
    pub(super) fn publish(&self, presentation: Presentation, changed: &[TrackIndex]) {
        if self.live.publish(presentation, changed) {
            self.presentations.name(&self.live);
        }
    }
}

/// The task of a broadcast has panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failed;

/// Keeps a broadcast listed while it is packaged, and for a while after. When it is dropped,
/// however its task ends, requests that wait are woken because no snapshot follows, and the
/// broadcast leaves the index.
pub(super) struct Keeper {
    pub(super) hub: Hub,
    pub(super) metrics: Metrics,
    pub(super) settings: Settings,
    pub(super) shutdown: CancellationToken,
    pub(super) broadcast: Arc<Broadcast>,
    pub(super) listed: Listed,
}

impl Keeper {
    /// Runs `package`. The program that it returns beside its result is held while the broadcast
    /// stays listed: for the window's length, or until newer broadcasts of the channel that have
    /// ended need the memory.
    pub(super) async fn run(self, package: impl Future<Output = (Program, Result<(), Full>)>) {
        let Ok((held, packaged)) = self.serve(package).await else {
            self.metrics.failures.inc();
            tracing::error!("broadcast ended because of a fault of this program: report it");
            // The listing ends before the broadcast does, so that no viewer waits for the rest of
            // it.
            let (hub, broadcast) = (self.hub.clone(), Arc::clone(&self.broadcast));
            drop(self);
            hub.fail(&broadcast, FAILED.into());
            return;
        };
        let stay = match packaged {
            Ok(()) => self.settings.window,
            Err(full) => {
                tracing::warn!(%full, "broadcast ended, because it takes too much memory");
                self.hub.fail(&self.broadcast, full.to_string());
                FULL_STAY.min(self.settings.window)
            }
        };
        let (listed, limit) = (&self.listed, self.settings.window_bytes);
        // The program holds the segments. Newer broadcasts of the channel may need its memory
        // earlier.
        let displaced = listed.presentations.stay(&listed.live, held.bytes(), limit);
        let over = async {
            tokio::select! {
                () = time::sleep(stay) => {}
                () = displaced.cancelled() => {}
                () = self.shutdown.cancelled() => {}
            }
        };
        // A timer does not panic.
        let _ = self.serve(over).await;
        drop(held);
    }

    /// Runs `work`, and meanwhile wakes the waiters that its snapshots make ready.
    ///
    /// # Errors
    /// [`Failed`]: it has panicked. The values that it worked on must not be used any more.
    async fn serve<T>(&self, work: impl Future<Output = T>) -> Result<T, Failed> {
        let mut work = pin!(work);
        let caught = poll_fn(|cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
            match polled {
                Ok(polled) => polled.map(Ok),
                Err(_) => Poll::Ready(Err(Failed)),
            }
        });
        tokio::select! {
            biased;
            result = caught => result,
            never = self.listed.live.wake_rest() => match never {},
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let live = &self.listed.live;
        live.close();
        live.wake_now();
        self.listed.presentations.remove(live);
    }
}
