//! The task that posts spans in batches.

use std::{fmt, ops::ControlFlow, panic::AssertUnwindSafe, pin::pin, time::Duration};

use futures_util::FutureExt as _;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use prometheus_client::registry::Registry;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    client::Status,
    metrics::{Drop, Metrics},
};

/// Spans of one request.
const BATCH: usize = 512;
/// Time after the first span of a batch until it is posted.
const LINGER: Duration = Duration::from_secs(1);
/// Attempts to post one batch. Later ones wait in the queue meanwhile.
const ATTEMPTS: u32 = 5;
/// Delay after the first attempt; each further one is twice as long.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Time for all spans that are left when the daemon stops.
const FLUSH: Duration = Duration::from_secs(3);

/// The result of a request.
enum Sent {
    Accepted,
    Failed,
    /// The daemon stops.
    Ended {
        is_accepted: bool,
    },
}

/// Posts spans.
pub(crate) struct Export {
    exporter: opentelemetry_otlp::SpanExporter,
    status: Status,
    waiting: mpsc::Receiver<SpanData>,
    metrics: Metrics,
    /// Whether the last batch was lost, which is logged once.
    is_failing: bool,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Export {
    pub(super) fn new(
        exporter: opentelemetry_otlp::SpanExporter,
        status: Status,
        waiting: mpsc::Receiver<SpanData>,
        metrics: Metrics,
    ) -> Self {
        Self { exporter, status, waiting, metrics, is_failing: false }
    }

    /// Adds the metrics to a registry whose prefix is the product's name.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// The numbers of spans.
    #[cfg(test)]
    pub(super) fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Posts spans until `stop`, and then those that are left, within some seconds.
    pub(crate) async fn serve(self, stop: CancellationToken) {
        // Traces are not worth an end of the daemon.
        if AssertUnwindSafe(self.run(stop.clone())).catch_unwind().await.is_err() {
            error!("the export of traces panicked: there are none until the next start");
            stop.cancelled().await;
        }
    }

    async fn run(mut self, stop: CancellationToken) {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                () = self.fill(&mut batch) => {}
                () = stop.cancelled() => {
                    self.flush(batch).await;
                    return;
                }
            }
            if self.post(batch, &stop).await.is_break() {
                self.flush(Vec::new()).await;
                return;
            }
        }
    }

    /// Collects a batch. Cancel-safe: the spans are in `batch`.
    async fn fill(&mut self, batch: &mut Vec<SpanData>) {
        if self.waiting.recv_many(batch, BATCH).await == 0 {
            // The last span has been made.
            std::future::pending::<()>().await;
        }
        let rest = async {
            while batch.len() < BATCH {
                let room = BATCH - batch.len();
                if self.waiting.recv_many(batch, room).await == 0 {
                    return;
                }
            }
        };
        let _ = timeout(LINGER, rest).await;
    }

    /// Posts a batch, and tries again while the collector cannot be reached. Breaks at `stop`.
    async fn post(&mut self, batch: Vec<SpanData>, stop: &CancellationToken) -> ControlFlow<()> {
        let mut delay = FIRST_DELAY;
        for attempt in 1..=ATTEMPTS {
            match self.send(&batch, stop).await {
                Sent::Accepted => {
                    self.accepted(batch.len());
                    return ControlFlow::Continue(());
                }
                Sent::Ended { is_accepted: true } => {
                    self.accepted(batch.len());
                    return ControlFlow::Break(());
                }
                Sent::Ended { is_accepted: false } => {
                    self.metrics.drop(Drop::Shutdown, batch.len());
                    return ControlFlow::Break(());
                }
                Sent::Failed => {}
            }
            if !self.status.is_temporary() {
                self.lost(Drop::Refused, batch.len());
                return ControlFlow::Continue(());
            }
            if attempt == ATTEMPTS {
                break;
            }
            tokio::select! {
                () = sleep(delay) => delay *= 2,
                () = stop.cancelled() => {
                    self.flush(batch).await;
                    return ControlFlow::Break(());
                }
            }
        }
        self.lost(Drop::Unreachable, batch.len());
        ControlFlow::Continue(())
    }

    /// Posts a batch once. At `stop` it waits some seconds for the response: the batch may have
    /// arrived, so that it is not posted twice.
    async fn send(&self, batch: &[SpanData], stop: &CancellationToken) -> Sent {
        let mut exporting = pin!(self.exporter.export(batch.to_vec()));
        let result = tokio::select! {
            result = &mut exporting => result,
            () = stop.cancelled() => {
                let is_accepted = matches!(timeout(FLUSH, exporting).await, Ok(Ok(())));
                return Sent::Ended { is_accepted };
            }
        };
        if result.is_ok() { Sent::Accepted } else { Sent::Failed }
    }

    /// Posts the spans that are left, once each.
    async fn flush(&mut self, mut batch: Vec<SpanData>) {
        self.waiting.close();
        let mut left = batch.len() + self.waiting.len();
        let all = async {
            loop {
                while batch.len() < BATCH
                    && let Ok(span) = self.waiting.try_recv()
                {
                    batch.push(span);
                }
                let count = batch.len();
                if count == 0 {
                    return;
                }
                match self.exporter.export(std::mem::take(&mut batch)).await {
                    Ok(()) => {
                        self.metrics.exported.inc_by(count as u64);
                    }
                    // The others would not arrive either.
                    Err(_) => return,
                }
                left -= count.min(left);
            }
        };
        let _ = timeout(FLUSH, all).await;
        if left > 0 {
            self.metrics.drop(Drop::Shutdown, left);
            warn!(spans = left, "traces lost at the end: the collector did not take them in time");
        }
    }

    fn accepted(&mut self, spans: usize) {
        self.metrics.exported.inc_by(spans as u64);
        if std::mem::take(&mut self.is_failing) {
            info!("the collector of traces takes spans again");
        }
    }

    fn lost(&mut self, reason: Drop, spans: usize) {
        self.metrics.drop(reason, spans);
        // Once for each outage: the metric has the numbers.
        if !std::mem::replace(&mut self.is_failing, true) {
            let response = self.status.words();
            warn!(spans, response, "traces lost: check traces.url and the collector");
        }
    }
}
