//! Metrics of the origin, for Prometheus. Labels are from closed sets.

use std::fmt;

use http::StatusCode;
use net_core::{Events, Limit};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

/// Counters of one origin, over all its listeners. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    /// The counters in `requests`, by kind and class, without a look-up for each request.
    by_kind: Vec<[Counter; 4]>,
    refused: Family<ReasonLabels, Counter>,
    evicted: Family<ReasonLabels, Counter>,
    pub(crate) sent: Counter,
    pub(crate) connections: Gauge,
    pub(crate) waiting: Gauge,
    /// Lines of the access log that were dropped for lack of room.
    pub(crate) unlogged: Counter,
}

/// The kind of the requested resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Playlist,
    Manifest,
    Init,
    Segment,
    Part,
    Poster,
    Page,
    Time,
    Api,
    /// No such resource.
    Unknown,
}

/// The reason why a connection was refused or closed, or a request was not processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
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
    /// A request for media had a body.
    Body,
}

const KINDS: [(Kind, &str); 10] = [
    (Kind::Playlist, "playlist"),
    (Kind::Manifest, "manifest"),
    (Kind::Init, "init"),
    (Kind::Segment, "segment"),
    (Kind::Part, "part"),
    (Kind::Poster, "poster"),
    (Kind::Page, "page"),
    (Kind::Time, "time"),
    (Kind::Api, "api"),
    (Kind::Unknown, "unknown"),
];
impl Kind {
    /// Its name in metrics and logs.
    pub(crate) fn name(self) -> &'static str {
        KINDS.get(self as usize).map_or("unknown", |&(_, name)| name)
    }
}

const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: Reason,
}

impl Default for Metrics {
    fn default() -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        let of = |kind| CLASSES.map(|status| requests.get_or_create_owned(&RequestLabels { kind, status }));
        Self {
            by_kind: KINDS.iter().map(|&(_, kind)| of(kind)).collect(),
            requests,
            refused: Family::default(),
            evicted: Family::default(),
            sent: Counter::default(),
            connections: Gauge::default(),
            waiting: Gauge::default(),
            unlogged: Counter::default(),
        }
    }
}

impl Metrics {
    /// Adds the metrics to a registry whose prefix is the product's name, such as `streamforge`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("http");
        registry.register(
            "requests",
            "HTTP requests answered, by kind and status",
            self.requests.clone(),
        );
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
        registry.register_with_unit("sent", "Bytes written to HTTP peers", Unit::Bytes, self.sent.clone());
        registry.register("connections", "HTTP connections open", self.connections.clone());
        registry.register(
            "waiting_requests",
            "HTTP requests held until media come",
            self.waiting.clone(),
        );
        registry.register(
            "access_log_dropped",
            "Lines of the access log that were not written, for want of speed or of space",
            self.unlogged.clone(),
        );
    }

    pub(crate) fn answered(&self, kind: Kind, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(2, 5) - 2;
        if let Some(counters) = self.by_kind.get(kind as usize) {
            counters[class].inc();
        }
    }

    pub(crate) fn refuse(&self, reason: Reason) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
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
    fn requests_are_counted_under_their_kind_and_class() {
        let metrics = Metrics::default();
        let mut registry = Registry::with_prefix("streamforge");
        metrics.register(&mut registry);
        metrics.answered(Kind::Unknown, StatusCode::NOT_FOUND);
        metrics.answered(Kind::Part, StatusCode::PARTIAL_CONTENT);
        metrics.refuse(Reason::Header);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "streamforge_http_requests_total{kind=\"unknown\",status=\"4xx\"} 1",
            "streamforge_http_requests_total{kind=\"part\",status=\"2xx\"} 1",
            "streamforge_http_refused_total{reason=\"header\"} 1",
            "streamforge_http_sent_bytes_total 0",
            "streamforge_http_connections 0",
            "streamforge_http_waiting_requests 0",
            "streamforge_http_access_log_dropped_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn the_names_stand_in_the_order_of_the_kinds() {
        assert!(
            KINDS
                .iter()
                .enumerate()
                .all(|(index, &(kind, _))| kind as usize == index)
        );
    }
}
