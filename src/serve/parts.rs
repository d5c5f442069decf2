//! The concurrent parts of the daemon, each with a separate stop, so that they can be stopped in
//! order.

use std::{fmt, future::Future, mem, pin::pin, sync::Arc};

use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::error;

/// A part of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Publishes the test picture.
    Demo,
    /// Serves publishers and RTMP players.
    Rtmp,
    /// Makes renditions.
    Ladder,
    /// Makes parts, segments and snapshots.
    Packager,
    /// Serves them.
    Http,
    /// Advances the hub's clock.
    Clock,
    /// Serves the operator's tools.
    Admin,
    /// Serves the process that takes over.
    Local,
    /// Serves the operator's commands.
    Control,
    /// Follows the platform's events.
    Platform,
    /// Sends the platform's mails.
    Mail,
    /// Samples the state that health checks show.
    Health,
    /// Delivers the platform's events.
    Webhooks,
    /// Publishes the platform's events, or takes them.
    Bus,
    /// Counts views.
    Views,
    /// Keeps the index of the platform's search.
    #[cfg(feature = "search")]
    Search,
    /// Removes files of pictures that are not in use.
    Pictures,
    /// Keeps the keys of publishers' tokens fresh.
    TokenKeys,
    /// Reloads the certificate.
    Certificates,
    /// Exports traces.
    Traces,
    /// Notifies the service manager.
    Notify,
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
            Self::Local => "the listener for the next process",
            Self::Control => "the control socket",
            Self::Platform => "the platform's directory",
            Self::Mail => "the mails",
            Self::Health => "the health checks",
            Self::Webhooks => "the platform's webhooks",
            Self::Bus => "the bus",
            Self::Views => "the count of views",
            #[cfg(feature = "search")]
            Self::Search => "the platform's search",
            Self::Pictures => "the platform's pictures",
            Self::TokenKeys => "the keys of publishers' tokens",
            Self::Certificates => "the certificate's watch",
            Self::Traces => "the export of traces",
            Self::Notify => "the service manager's messenger",
        })
    }
}

/// The running parts.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// In the order of their start.
    running: Vec<Running>,
    /// Notified when a part ends, for any reason.
    ended: Arc<Notify>,
    /// The last part that panicked; the exit status depends on it.
    panicked: Option<Part>,
}

/// A part and its task.
#[derive(Debug)]
struct Running {
    /// Its name, in logs and errors.
    part: Part,
    /// Cancelled to stop it.
    stop: CancellationToken,
    /// Cancelled when it has ended.
    ended: CancellationToken,
    /// Whether it may end by itself, because this process drains.
    may_end: bool,
    /// The result shows a panic.
    task: JoinHandle<()>,
}

/// Marks a part as ended when dropped, also by a panic.
struct End {
    /// Cancelled to wake waits for this part.
    own: CancellationToken,
    /// Notified to wake waits for any part.
    all: Arc<Notify>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.own.cancel();
        self.all.notify_waiters();
    }
}

impl Parts {
    /// Starts a part: `serve` creates its future from the token that stops it.
    pub(crate) fn start<F>(&mut self, part: Part, serve: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let serving = serve(stop.clone());
        let end = End { own: ended.clone(), all: Arc::clone(&self.ended) };
        let task = tokio::spawn(async move {
            // Dropped at the end of the task, also by a panic or if the task is cancelled.
            let _end = end;
            serving.await;
        });
        self.running.push(Running { part, stop, ended, may_end: false, task });
    }

    /// Permits these parts to end by themselves from now on.
    pub(crate) fn may_end(&mut self, parts: &[Part]) {
        for running in self.running.iter_mut().filter(|running| parts.contains(&running.part)) {
            running.may_end = true;
        }
    }

    /// Waits until a part ends unexpectedly. Returns it. Cancel-safe.
    pub(crate) async fn any_ended(&self) -> Part {
        loop {
            let mut next = pin!(self.ended.notified());
            // Enabled before the check: a part that ends between the check and the wait is not
            // missed.
            next.as_mut().enable();
            let missing = |running: &Running| running.ended.is_cancelled() && !running.may_end;
            if let Some(running) = self.running.iter().find(|running| missing(running)) {
                return running.part;
            }
            next.await;
        }
    }

    /// Waits until a part has ended by itself. Cancel-safe.
    pub(crate) async fn ended(&self, part: Part) {
        for running in self.running.iter().filter(|running| running.part == part) {
            running.ended.cancelled().await;
        }
    }

    /// Stops a part and waits for its end; does nothing if it has ended. Cancel-safe: the wait can
    /// be repeated.
    pub(crate) async fn stop(&mut self, part: Part) {
        for running in self.running.iter_mut().filter(|running| running.part == part) {
            running.stop.cancel();
            if (&mut running.task).await.is_err_and(|err| err.is_panic()) {
                error!(%part, "part failed");
                self.panicked = Some(part);
            }
        }
        // Removed only after all of them have ended, so that a cancelled call can be repeated.
        let running = mem::take(&mut self.running);
        self.running = running.into_iter().filter(|running| running.part != part).collect();
    }

    /// A part that was found to have panicked when it was stopped.
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
    async fn waiting_for_a_stopped_part_can_be_repeated() {
        let mut parts = Parts::default();
        let gate = CancellationToken::new();
        let opened = gate.clone();
        parts.start(Part::Rtmp, |stop| async move {
            stop.cancelled().await;
            opened.cancelled().await;
        });
        assert!(timeout(Duration::from_millis(20), parts.stop(Part::Rtmp)).await.is_err());
        gate.cancel();
        parts.stop(Part::Rtmp).await;
        parts.stop(Part::Rtmp).await;
        assert_eq!(parts.panicked(), None);
    }

    #[tokio::test]
    async fn a_part_that_panics_is_detected_and_named() {
        let mut parts = Parts::default();
        parts.start(Part::Http, |stop| stop.cancelled_owned());
        parts.start(Part::Clock, |_| async { panic!("on purpose") });
        assert_eq!(parts.any_ended().await, Part::Clock);
        parts.stop(Part::Http).await;
        parts.stop(Part::Clock).await;
        assert_eq!(parts.panicked(), Some(Part::Clock));
    }

    #[tokio::test]
    async fn a_part_that_may_end_is_not_reported_as_ended() {
        let mut parts = Parts::default();
        parts.start(Part::Clock, |stop| stop.cancelled_owned());
        parts.start(Part::Rtmp, |_| async {});
        parts.may_end(&[Part::Rtmp]);
        parts.ended(Part::Rtmp).await;
        let missed = timeout(Duration::from_millis(20), parts.any_ended());
        assert!(missed.await.is_err());
    }
}
