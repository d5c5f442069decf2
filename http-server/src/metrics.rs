//! Metrics of the connections, for Prometheus. Labels are from closed sets.

use std::fmt;

use net_core::{Events, Limit};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

/// Counters of one server, over all its listeners. Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Connections and requests that were not served.
    refused: Family<ReasonLabels, Counter>,
    /// Idle connections that were closed for others.
    evicted: Family<ReasonLabels, Counter>,
    /// Bytes written to peers.
    pub sent: Counter,
    /// Open connections.
    pub connections: Gauge,
    /// Those of them that have changed to another protocol.
    pub upgraded: Gauge,
}

/// The reason why a connection was refused or closed, or a request was not processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Too many connections in total.
    Connections,
    /// Too many connections from its address.
    Address,
    /// No file descriptors.
    Descriptors,
    /// No first byte in time, or no end of the TLS handshake.
    FirstByte,
    /// A failed TLS handshake.
    Handshake,
    /// A request's head took too long.
    Header,
    /// The peer accepted too little of the written bytes.
    Write,
    /// The bytes are not HTTP, or exceed a limit.
    Malformed,
    /// A request had a body although its resource permits none.
    Body,
}

/// The labels of a counter by reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: Reason,
}

impl Metrics {
    /// Adds the metrics to a registry whose prefix is the product's name and `http`, for example
    /// `streamforge_http`. To be called once: a second registration is a second series.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "refused",
            "HTTP connections and requests turned away, by reason",
            self.refused.clone(),
        );
        registry.register(
            "evicted",
            "Idle HTTP connections closed to make room for others, by the limit that was reached",
            self.evicted.clone(),
        );
        registry.register_with_unit(
            "sent",
            "Bytes written to HTTP peers",
            Unit::Bytes,
            self.sent.clone(),
        );
        registry.register("connections", "HTTP connections open", self.connections.clone());
        registry.register(
            "upgraded_connections",
            "HTTP connections open that have changed to another protocol, such as WebSocket",
            self.upgraded.clone(),
        );
    }

    /// Counts a connection or a request that is not served.
    pub fn refuse(&self, reason: Reason) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Number of connections and requests that were refused for this reason.
    #[cfg(test)]
    pub(crate) fn refusals(&self, reason: Reason) -> u64 {
        self.refused.get_or_create(&ReasonLabels { reason }).get()
    }

    /// Counts an idle connection that is closed because this limit was reached.
    fn evict(&self, reason: Reason) {
        self.evicted.get_or_create(&ReasonLabels { reason }).inc();
    }
}

impl Events for Metrics {
    fn refused(&self, limit: Limit) {
        self.refuse(limit.into());
    }

    fn evicted(&self, limit: Limit) {
        self.evict(limit.into());
    }
}

impl From<Limit> for Reason {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::Total => Self::Connections,
            Limit::Address => Self::Address,
            Limit::Descriptors => Self::Descriptors,
        }
    }
}

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), fmt::Error> {
        // These texts are part of the monitoring interface (docs/operate.md): dashboards use them.
        let text = match self {
            Self::Connections => "connections",
            Self::Address => "connections_per_address",
            Self::Descriptors => "descriptors",
            Self::FirstByte => "first_byte",
            Self::Handshake => "handshake",
            Self::Header => "header",
            Self::Write => "write",
            Self::Malformed => "malformed",
            Self::Body => "body",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_under_their_reason() {
        let metrics = Metrics::default();
        let mut registry = Registry::with_prefix("streamforge");
        metrics.register(registry.sub_registry_with_prefix("http"));
        metrics.refuse(Reason::Header);
        metrics.evict(Reason::Address);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "streamforge_http_refused_total{reason=\"header\"} 1",
            "streamforge_http_evicted_total{reason=\"connections_per_address\"} 1",
            "streamforge_http_sent_bytes_total 0",
            "streamforge_http_connections 0",
            "streamforge_http_upgraded_connections 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
