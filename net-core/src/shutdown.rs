//! A flag that is set once and observed by thousands of connections. A check costs one load, so
//! that it can be made for each response; a task registers for the wake-up once, not at each of its
//! polls.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use tokio_util::sync::CancellationToken;

/// One stage of a shutdown. Cheap to clone; all clones are the same flag.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_triggered: AtomicBool,
    token: CancellationToken,
}

/// Triggers a [`Shutdown`] when it is dropped.
#[derive(Debug)]
pub struct TriggerOnDrop(Shutdown);

impl Shutdown {
    /// Sets the flag and wakes all tasks that wait for it.
    pub fn trigger(&self) {
        // The flag is set first: a task that is woken finds it set.
        self.0.is_triggered.store(true, Ordering::Release);
        self.0.token.cancel();
    }

    /// Whether the flag is set.
    pub fn is_triggered(&self) -> bool {
        self.0.is_triggered.load(Ordering::Acquire)
    }

    /// Waits until the flag is set. Cancel-safe.
    pub async fn triggered(&self) {
        self.0.token.cancelled().await;
    }

    /// Runs `future` until it ends or the flag is set.
    pub async fn run_until_triggered(&self, future: impl Future<Output = ()>) {
        // The future is polled before the flag, so that it completes if it can.
        let (mut future, mut triggered) = (pin!(future), pin!(self.triggered()));
        let mut is_registered = false;
        poll_fn(|cx| {
            if future.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if !is_registered {
                is_registered = true;
                // Wakes this task when the flag is set.
                return triggered.as_mut().poll(cx);
            }
            match self.is_triggered() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Sets the flag when the result is dropped.
    pub fn trigger_on_drop(&self) -> TriggerOnDrop {
        TriggerOnDrop(self.clone())
    }
}

impl Drop for TriggerOnDrop {
    fn drop(&mut self) {
        self.0.trigger();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_future_runs_until_it_ends_or_shutdown_is_triggered() {
        let (shutdown, second) = (Shutdown::default(), Duration::from_secs(1));
        shutdown.run_until_triggered(sleep(second)).await;
        assert!(!shutdown.is_triggered());
        let triggering = tokio::spawn({
            let shutdown = shutdown.clone();
            async move {
                sleep(second).await;
                drop(shutdown.trigger_on_drop());
            }
        });
        let woken_often = async {
            for _ in 0..1_000 {
                sleep(second / 2).await;
            }
            panic!("not stopped");
        };
        shutdown.run_until_triggered(woken_often).await;
        assert!(shutdown.is_triggered());
        shutdown.triggered().await;
        shutdown.run_until_triggered(std::future::pending()).await;
        triggering.await.unwrap();
    }
}
