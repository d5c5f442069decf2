//! Metrics of the export.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Why a span is not exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Drop {
    /// The queue was full.
    QueueFull,
    /// The collector was not reached, or was overloaded, for all attempts.
    Unreachable,
    /// The collector has refused the batch.
    Refused,
    /// The daemon ended before.
    Shutdown,
}

impl Drop {
    const ALL: [Self; 4] = [Self::QueueFull, Self::Unreachable, Self::Refused, Self::Shutdown];

    fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Shutdown => "shutdown",
        }
    }
}

/// The numbers of spans. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    pub(super) exported: Counter,
    dropped: Family<OfReason, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self { exported: Counter::default(), dropped: Family::default() };
        // These series exist from the start, because a rate needs the value before the first event.
        for reason in Drop::ALL {
            metrics.drop(reason, 0);
        }
        metrics
    }
}

impl Metrics {
    /// Counts spans that are lost.
    pub(super) fn drop(&self, reason: Drop, spans: usize) {
        let reason = OfReason { reason: reason.label() };
        self.dropped.get_or_create(&reason).inc_by(spans as u64);
    }

    /// The number of spans that are lost for a reason.
    #[cfg(test)]
    pub(super) fn dropped(&self, reason: Drop) -> u64 {
        self.dropped.get_or_create(&OfReason { reason: reason.label() }).get()
    }

    /// Adds the metrics to a registry whose prefix is the product's name.
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Spans that the collector of traces has accepted";
        registry.register("trace_spans_exported", help, self.exported.clone());
        let help = "Spans that were not exported, by reason";
        registry.register("trace_spans_dropped", help, self.dropped.clone());
    }
}
