//! Metrics of the search.

use std::{fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use super::Search;

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

impl Search {
    /// Adds the metrics of the search to a registry whose prefix is the product's name.
    pub fn register(&self, registry: &mut Registry) {
        let metrics = &self.0.metrics;
        let help = "Queries of the search by result";
        registry.register("search_queries", help, metrics.queries.clone());
        let help = "Time until a query of the search was answered";
        let duration = metrics.duration.clone();
        registry.register_with_unit("search_query_duration", help, Unit::Seconds, duration);
        registry.register_collector(Box::new(State(self.clone())));
    }
}

/// The state of the index, which is read at each scrape.
#[derive(Debug)]
struct State(Search);

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: u64| {
            let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
        };
        let documents = self.0.documents();
        let help = "Whether queries of the search are answered (1) or not (0)";
        gauge("search_ready", help, None, u64::from(documents.is_some()))?;
        let help = "Videos and channels in the index of the search";
        gauge("search_documents", help, None, documents.unwrap_or_default())?;
        let help = "Events whose effect is not in the index of the search yet";
        gauge("search_lag_events", help, None, self.0.lag())?;
        let help = "Size of the index of the search";
        gauge("search_index", help, Some(&Unit::Bytes), self.0.index_bytes())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;
    use crate::Platform;

    #[test]
    fn the_metrics_of_a_search_without_a_database_show_that_it_is_not_ready() {
        let mut registry = Registry::with_prefix("streamforge");
        let search = Search::new(Platform::default());
        search.register(&mut registry);
        search.0.metrics.count(QueryResult::Unavailable, Duration::from_millis(1));
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("text can be written");
        for line in [
            "search_ready 0",
            "search_documents 0",
            "search_lag_events 0",
            "search_index_bytes 0",
            "search_queries_total{result=\"unavailable\"} 1",
            "search_queries_total{result=\"done\"} 0",
            "search_query_duration_seconds_count 1",
        ] {
            assert!(text.contains(&format!("\nstreamforge_{line}\n")), "{line} in {text}");
        }
    }
}
