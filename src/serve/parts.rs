//! The parts of the daemon that run at the same time: each with its own stop, so that they can be stopped one after the other.

use std::{fmt, future::Future, mem};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

/// A part of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Pushes the test picture.
    Demo,
    /// Takes publishers and RTMP players.
    Rtmp,
    /// Makes renditions.
    Ladder,
    /// Makes what is served.
    Packager,
    /// Serves it.
    Http,
    /// Lets time act on the hub.
    Clock,
    /// Answers the operator's tools.
    Admin,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Demo => "the demonstration",
            Self::Rtmp => "the RTMP listener",
            Self::Ladder => "the ladder",
            Self::Packager => "the packager",
            Self::Http => "the HTTP listener",
            Self::Clock => "the hub's clock",
            Self::Admin => "the admin listener",
        })
    }
}

/// Those that run.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    running: Vec<Running>,
    /// Cancelled when one ends, for whatever reason.
    ended: CancellationToken,
    panicked: Option<Part>,
}

#[derive(Debug)]
struct Running {
    part: Part,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Parts {
    /// Starts a part: `serve` makes what runs from the token that stops it.
    pub(crate) fn start<F>(&mut self, part: Part, serve: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let serving = serve(stop.clone());
        // Dropped by a panic, too.
        let ended = self.ended.clone().drop_guard();
        let task = tokio::spawn(async move {
            let _ended = ended;
            serving.await;
        });
        self.running.push(Running { part, stop, task });
    }

    /// Waits until a part ends that was not told to. Cancel-safe.
    pub(crate) async fn any_ended(&self) {
        self.ended.cancelled().await;
    }

    /// Tells a part to stop and waits until it has; nothing if it has already. Cancel-safe: a part that was told may be waited for again.
    pub(crate) async fn stop(&mut self, part: Part) {
        for running in self.running.iter_mut().filter(|running| running.part == part) {
            running.stop.cancel();
            if (&mut running.task).await.is_err_and(|err| err.is_panic()) {
                error!(%part, "a part has failed");
                self.panicked = Some(part);
            }
        }
        let running = mem::take(&mut self.running);
        self.running = running.into_iter().filter(|running| running.part != part).collect();
    }

    /// A part that has failed, if one was found to have when it was stopped.
    pub(crate) fn panicked(&self) -> Option<Part> {
        self.panicked
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_part_that_was_told_may_be_waited_for_again() {
        let mut parts = Parts::default();
        let gate = CancellationToken::new();
        let opened = gate.clone();
        parts.start(Part::Rtmp, |stop| async move {
            stop.cancelled().await;
            opened.cancelled().await;
        });
        assert!(
            timeout(Duration::from_millis(20), parts.stop(Part::Rtmp))
                .await
                .is_err()
        );
        gate.cancel();
        parts.stop(Part::Rtmp).await;
        parts.stop(Part::Rtmp).await;
        assert_eq!(parts.panicked(), None);
    }

    #[tokio::test]
    async fn a_part_that_panics_is_noticed_and_named() {
        let mut parts = Parts::default();
        parts.start(Part::Http, |stop| stop.cancelled_owned());
        parts.start(Part::Clock, |_| async { panic!("on purpose") });
        parts.any_ended().await;
        parts.stop(Part::Http).await;
        parts.stop(Part::Clock).await;
        assert_eq!(parts.panicked(), Some(Part::Clock));
    }
}
