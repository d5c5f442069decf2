//! A word that is said once and heard by thousands of connections. Whether it has been said costs one load, so that it may be asked for each
//! answer; a connection waits for it once, not at each thing that happens to it.

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

/// Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Signal(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_said: AtomicBool,
    said: CancellationToken,
}

/// Says it when dropped.
#[derive(Debug)]
pub struct SayOnDrop(Signal);

impl Signal {
    /// From now on it is said.
    pub fn say(&self) {
        self.0.is_said.store(true, Ordering::Release);
        self.0.said.cancel();
    }

    /// Whether it is said.
    pub fn is_said(&self) -> bool {
        self.0.is_said.load(Ordering::Acquire)
    }

    /// Waits until it is said. Cancel-safe.
    pub async fn said(&self) {
        self.0.said.cancelled().await;
    }

    /// Does `what`, unless it is said before that has ended.
    pub async fn unless_said(&self, what: impl Future<Output = ()>) {
        let (mut what, mut said) = (pin!(what), pin!(self.said()));
        let mut is_heard = false;
        poll_fn(|cx| {
            if what.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if !is_heard {
                is_heard = true;
                // Wakes this task when it is said.
                return said.as_mut().poll(cx);
            }
            match self.is_said() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Says it when the result is dropped.
    pub fn say_on_drop(&self) -> SayOnDrop {
        SayOnDrop(self.clone())
    }
}

impl Drop for SayOnDrop {
    fn drop(&mut self) {
        self.0.say();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_ends_by_itself_or_when_it_is_said() {
        let (signal, second) = (Signal::default(), Duration::from_secs(1));
        signal.unless_said(sleep(second)).await;
        assert!(!signal.is_said());
        let saying = tokio::spawn({
            let signal = signal.clone();
            async move {
                sleep(second).await;
                drop(signal.say_on_drop());
            }
        });
        let woken_often = async {
            for _ in 0..1_000 {
                sleep(second / 2).await;
            }
            panic!("not told");
        };
        signal.unless_said(woken_often).await;
        assert!(signal.is_said());
        signal.said().await;
        signal.unless_said(std::future::pending()).await;
        saying.await.unwrap();
    }
}
