//! A pause until the other ready tasks have run. tokio runs the task that was woken last first.
//! Without the pause, an HTTP/2 connection would write each of a hundred responses on its own, as
//! soon as it is made.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::task::yield_now;

/// The pauses of one task.
#[derive(Debug, Default)]
pub(crate) struct YieldOnce(Option<Arc<Pause>>);

/// One pause: its own waker, which the runtime wakes after the other ready tasks.
#[derive(Debug)]
struct Pause {
    /// The other tasks have run.
    is_over: AtomicBool,
    /// The waker of the task that pauses.
    task: Waker,
}

impl YieldOnce {
    /// Pending until the tasks that were ready have run, even if this task is woken meanwhile; then
    /// ready once.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        // A wake-up of the task itself does not end the pause: only the runtime's wake-up of
        // `Pause` does.
        match &self.0 {
            Some(pause) if pause.is_over.load(Ordering::Acquire) => {
                self.0 = None;
                Poll::Ready(())
            }
            Some(_) => Poll::Pending,
            None => {
                let pause =
                    Arc::new(Pause { is_over: AtomicBool::new(false), task: cx.waker().clone() });
                // The runtime keeps this waker until all other ready tasks have run.
                let _ =
                    pin!(yield_now()).poll(&mut Context::from_waker(&Arc::clone(&pause).into()));
                self.0 = Some(pause);
                Poll::Pending
            }
        }
    }
}

impl Wake for Pause {
    fn wake(self: Arc<Self>) {
        self.is_over.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::{Mutex, atomic::AtomicUsize},
    };

    use super::*;

    #[tokio::test]
    async fn a_task_that_yields_runs_after_the_others() {
        let (ran, waker) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Waker::noop().clone())));
        let mut yielding = YieldOnce::default();
        for round in 1..=3 {
            for _ in 0..10 {
                let (ran, waker) = (Arc::clone(&ran), Arc::clone(&waker));
                tokio::spawn(async move {
                    ran.fetch_add(1, Ordering::Relaxed);
                    waker.lock().unwrap().wake_by_ref();
                });
            }
            poll_fn(|cx| {
                waker.lock().unwrap().clone_from(cx.waker());
                yielding.poll(cx)
            })
            .await;
            assert_eq!(ran.load(Ordering::Relaxed), 10 * round);
        }
    }
}
