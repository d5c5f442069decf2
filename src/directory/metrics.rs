//! Metrics and health of the directory.

use std::{fmt, sync::atomic::Ordering};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
    registry::Registry,
};

use super::Directory;

/// Faults in a row from which the directory fails. One may be a moment's.
const FAULTS: u64 = 3;

impl Directory {
    /// Adds the metrics to a registry whose prefix is the product's name.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Rights to publish that were withdrawn from publishers, which then end";
        registry.register("publish_rights_withdrawn", help, self.0.withdrawn.clone());
        registry.register_collector(Box::new(self.clone()));
    }

    /// The number of events that it has not seen yet; 0 while the database is not open.
    pub(crate) fn lag(&self) -> u64 {
        let last = self.0.platform.ready().map_or(0, |store| store.sequence());
        last.saturating_sub(self.0.seen.load(Ordering::Relaxed))
    }

    /// Whether it cannot follow the events.
    pub(crate) fn is_failing(&self) -> bool {
        self.0.faults.load(Ordering::Relaxed) >= FAULTS
    }
}

impl Collector for Directory {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let values = [
            (
                "platform_directory_lag_events",
                "Events that ingest and playback have not seen yet",
                self.lag(),
            ),
            ("publish_rights_in_use", "Publishers with a stored key", self.0.rights.len() as u64),
        ];
        for (name, help, value) in values {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
