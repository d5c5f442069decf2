//! Metrics of an edge, for Prometheus. Labels come from closed sets: outcomes, and the origins of
//! the configuration.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

/// Counters of one edge. Cheap to clone; all clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Viewers' requests, by outcome.
    requests: Family<OutcomeLabels, Counter>,
    /// Bytes of bodies received from origins.
    pub(super) fetched: Counter,
    /// Bytes charged to the budget.
    pub(super) cached: Gauge,
    /// Bytes of the disk cache.
    pub(super) on_disk: Gauge,
    /// Requests that wait for the start of an origin's response.
    pub(super) waiting: Gauge,
    /// 1 or 0 for each origin.
    up: Family<OriginLabels, Gauge>,
}

/// The outcome of a viewer's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    /// The object was cached, complete.
    Hit,
    /// It was requested from an origin.
    Miss,
    /// Another viewer's request to an origin was in progress.
    Shared,
    /// The cached object has expired, and no origin responds.
    Stale,
    /// No origin responds.
    Error,
}

impl Outcome {
    /// Its name in metrics and in `Server-Timing`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Shared => "shared",
            Self::Stale => "stale",
            Self::Error => "error",
        }
    }
}

/// The labels of requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// The labels of an origin.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OriginLabels {
    origin: String,
}

impl Metrics {
    /// Adds the metrics to a registry whose prefix is the product's name, for example
    /// `streamforge`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("edge");
        registry.register(
            "requests",
            "Requests for media of other processes, by outcome",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "fetched",
            "Bytes of bodies that origins sent",
            Unit::Bytes,
            self.fetched.clone(),
        );
        registry.register_with_unit(
            "cache",
            "Memory of cached objects, transfers and objects still being read",
            Unit::Bytes,
            self.cached.clone(),
        );
        registry.register_with_unit(
            "disk",
            "Bytes of files in the disk cache",
            Unit::Bytes,
            self.on_disk.clone(),
        );
        registry.register(
            "waiting_requests",
            "Requests that wait for the start of an origin's response",
            self.waiting.clone(),
        );
        registry.register(
            "origin_up",
            "Whether an origin responded to its last request",
            self.up.clone(),
        );
    }

    /// Counts a viewer's request.
    pub(super) fn count(&self, outcome: Outcome) {
        let outcome = outcome.as_str();
        self.requests.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// The gauge of an origin, which counts as reachable until a request fails.
    pub(super) fn origin(&self, name: String) -> Gauge {
        // The series exists from the start, so that an alert can use it before the first request.
        let up = self.up.get_or_create_owned(&OriginLabels { origin: name });
        up.set(1);
        up
    }

    #[cfg(test)]
    pub(super) fn origin_is_up(&self, name: &str) -> i64 {
        self.up.get_or_create(&OriginLabels { origin: name.into() }).get()
    }
}
