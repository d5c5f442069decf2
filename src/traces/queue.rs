//! The queue of spans that have ended. Adding one never waits: a full queue drops it.

use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use tokio::sync::mpsc;

use super::metrics::{Drop, Metrics};

/// Spans that may wait: about 2 MB.
pub(super) const WAITING: usize = 2_048;

/// Puts spans into the queue.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    metrics: Metrics,
}

impl Queue {
    /// A queue, and its other end.
    pub(super) fn new(metrics: Metrics) -> (Self, mpsc::Receiver<SpanData>) {
        let (spans, waiting) = mpsc::channel(WAITING);
        (Self { spans, metrics }, waiting)
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        match self.spans.try_send(span) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => self.metrics.drop(Drop::QueueFull, 1),
            Err(mpsc::error::TrySendError::Closed(_)) => self.metrics.drop(Drop::Shutdown, 1),
        }
    }

    // The task that exports does these when the daemon stops.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
