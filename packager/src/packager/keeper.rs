//! Keeps a broadcast listed while its task runs and for a while after, and ends it if the task fails.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use media_core::{Broadcast, Hub};
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::{Live, Presentation, Presentations, metrics::Metrics, program::Full};

/// How long a broadcast stays that took too much memory: for players to read its end.
pub(super) const FULL_STAY: Duration = Duration::from_secs(10);
/// What a publisher is told whose broadcast ended by our fault.
pub(super) const FAILED: &str = "a fault of the server has ended this broadcast: connect again";

/// A presentation, and where it can be found.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) presentations: Presentations,
    pub(super) live: Arc<Live>,
}

impl Listed {
    /// Swaps in a snapshot; the first gives the broadcast its channel's name.
    pub(super) fn publish(&self, presentation: Presentation, changed: &[usize]) {
        if self.live.publish(presentation, changed) {
            self.presentations.name(&self.live);
        }
    }
}

/// A broadcast's task has panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failed;

/// Keeps a broadcast to be found while it is packaged, and for a while after. When it is dropped, however
/// its task ends, those who wait are told that no more follows, and it is found no more.
pub(super) struct Keeper {
    pub(super) hub: Hub,
    pub(super) metrics: Metrics,
    pub(super) window: Duration,
    pub(super) shutdown: CancellationToken,
    pub(super) broadcast: Arc<Broadcast>,
    pub(super) listed: Listed,
}

impl Keeper {
    /// Runs `package`; what that returns beside its result is what is held of the broadcast.
    pub(super) async fn run<T>(self, package: impl Future<Output = (T, Result<(), Full>)>) {
        let Ok((held, packaged)) = self.serve(package).await else {
            self.metrics.failures.inc();
            tracing::error!("the broadcast is ended by a fault of this program; report it");
            let (hub, broadcast) = (self.hub.clone(), Arc::clone(&self.broadcast));
            drop(self);
            hub.fail(&broadcast, FAILED.into());
            return;
        };
        let stay = match packaged {
            Ok(()) => self.window,
            Err(full) => {
                tracing::warn!(%full, "the broadcast is ended");
                self.hub.fail(&self.broadcast, full.to_string());
                FULL_STAY.min(self.window)
            }
        };
        let over = async {
            tokio::select! {
                () = time::sleep(stay) => {}
                () = self.shutdown.cancelled() => {}
            }
        };
        // Nothing in it can fail.
        let _ = self.serve(over).await;
        drop(held);
    }

    /// Runs `work`, and wakes the crowd that it leaves to be woken.
    ///
    /// # Errors
    /// [`Failed`]: it has panicked. What it was working on is not to be used any more.
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
