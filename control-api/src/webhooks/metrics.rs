//! Counts of the deliveries, for the operator.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// The counts.
#[derive(Debug)]
pub(super) struct Metrics {
    attempts: Family<OfResult, Counter>,
    duration: Histogram,
    /// Webhooks that were taken out of use.
    pub(super) disabled: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

/// The results of attempts: accepted with 2xx, another status, no response.
const RESULTS: [&str; 3] = ["accepted", "refused", "no_response"];

impl Default for Metrics {
    fn default() -> Self {
        let attempts = Family::default();
        for result in RESULTS {
            drop(attempts.get_or_create(&OfResult { result }));
        }
        // 5 ms to 20 s.
        let duration = Histogram::new(exponential_buckets(0.005, 4.0, 7));
        Self { attempts, duration, disabled: Counter::default() }
    }
}

impl Metrics {
    /// Counts an attempt by the status of its response, if there was one.
    pub(super) fn count(&self, status: Option<u16>, duration_ms: u64) {
        let result = match status {
            Some(200..=299) => "accepted",
            Some(_) => "refused",
            None => "no_response",
        };
        self.attempts.get_or_create(&OfResult { result }).inc();
        self.duration.observe(duration_ms as f64 / 1e3);
    }

    /// Adds them to a registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Attempts to deliver an event to a webhook, by result";
        registry.register("platform_webhook_attempts", help, self.attempts.clone());
        let help = "Time of an attempt until the response, or until it was given up";
        let name = "platform_webhook_attempt_duration";
        registry.register_with_unit(name, help, Unit::Seconds, self.duration.clone());
        let help = "Webhooks that were disabled, because they failed for days or were gone";
        registry.register("platform_webhooks_disabled", help, self.disabled.clone());
    }
}
