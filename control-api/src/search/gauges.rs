//! The metrics of the search: the counts of its queries, and the state of its index.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
    registry::{Registry, Unit},
};

use super::service::Search;

impl Search {
    /// Adds the metrics of the search to a registry whose prefix is the product's name.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
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
    use std::time::Duration;

    use prometheus_client::encoding::text;

    use super::{super::metrics::QueryResult, *};
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
