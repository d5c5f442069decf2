//! The state of the webhooks as metrics, read at each scrape.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::gauge::ConstGauge,
};

use super::shared::Shared;

/// The number of webhooks in use, and of those that fail.
#[derive(Debug)]
pub(super) struct Failing(pub(super) Arc<Shared>);

impl Collector for Failing {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (used, failing) = self.0.lines().counts();
        let help = "Webhooks in use whose last attempt failed, and which are tried again later";
        for (name, help, count) in [
            ("platform_webhooks", "Webhooks in use", used),
            ("platform_webhooks_failing", help, failing),
        ] {
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
