//! Counts of queries of the search.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// The result of a query for its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueryResult {
    /// It was answered.
    Done,
    /// It was not valid, or about a thing that does not exist for the sender.
    Refused,
    /// The index is being built, cannot be written, or is too busy.
    Unavailable,
    /// A fault of the index or of the tables.
    Failed,
}

impl QueryResult {
    const ALL: [Self; 4] = [Self::Done, Self::Refused, Self::Unavailable, Self::Failed];

    fn label(self) -> OfResult {
        let result = match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
        };
        OfResult { result }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

/// The counts of queries.
#[derive(Debug)]
pub(super) struct Metrics {
    queries: Family<OfResult, Counter>,
    duration: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let queries = Family::<OfResult, Counter>::default();
        // All series exist from the start, because a rate needs the value before the first event.
        for result in QueryResult::ALL {
            drop(queries.get_or_create(&result.label()));
        }
        // 0.5 ms to 8 s.
        Self { queries, duration: Histogram::new(exponential_buckets(0.000_5, 2.0, 15)) }
    }
}

impl Metrics {
    /// Adds them to a registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Queries of the search by result";
        registry.register("search_queries", help, self.queries.clone());
        let help = "Time until a query of the search was answered";
        let duration = self.duration.clone();
        registry.register_with_unit("search_query_duration", help, Unit::Seconds, duration);
    }

    /// Counts a query.
    pub(super) fn count(&self, result: QueryResult, duration: Duration) {
        self.queries.get_or_create(&result.label()).inc();
        self.duration.observe(duration.as_secs_f64());
    }

    /// The queries with this result.
    #[cfg(test)]
    pub(super) fn with(&self, result: QueryResult) -> u64 {
        self.queries.get_or_create(&result.label()).get()
    }
}
