//! Metrics of the origin, for Prometheus. Labels are from closed sets.

use http::StatusCode;
use http_server::mount;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::resource::{Kind, NAMES};

/// Counters of one origin, over all its listeners. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Requests, by kind of resource and class of status.
    requests: Family<RequestLabels, Counter>,
    /// The counters in `requests`, by [`Kind::index`] and class, without a look-up for each
    /// request. Those of mounted services follow those of resources, in the router's clone alone.
    by_name: Vec<[Counter; 4]>,
    /// Those of the connections, for the server.
    pub server: http_server::Metrics,
    /// Requests that are held until media exist.
    pub(crate) waiting: Gauge,
    /// Lines of the access log that were dropped for lack of room.
    pub(crate) unlogged: Counter,
}

/// Classes of status codes, from 200 on. Informational responses are not counted.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// The labels of requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: &'static str,
    status: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        Self {
            by_name: NAMES.into_iter().map(|kind| counters(&requests, kind)).collect(),
            requests,
            server: http_server::Metrics::default(),
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
            "HTTP requests, by kind of resource and class of status",
            self.requests.clone(),
        );
        self.server.register(registry);
        registry.register(
            "waiting_requests",
            "HTTP requests held until media exist",
            self.waiting.clone(),
        );
        registry.register(
            "access_log_dropped",
            "Lines of the access log dropped because the disk was slow or full",
            self.unlogged.clone(),
        );
    }

    /// The kind of the requests of a mounted service, which are counted under its name.
    pub(crate) fn add_mount(&mut self, mount: &mount::Settings) -> Kind {
        self.by_name.push(counters(&self.requests, mount.name));
        let index = self.by_name.len() - 1;
        Kind { index, name: mount.name, urgency: mount.urgency, edge: None }
    }

    /// Counts a response.
    pub(crate) fn responded(&self, kind: &Kind, status: StatusCode) {
        // A status outside the four classes counts in the nearest one.
        let class = usize::from(status.as_u16() / 100).clamp(2, 5) - 2;
        if let Some(counters) = self.by_name.get(kind.index) {
            counters[class].inc();
        }
    }
}

/// The counters of one kind, by class.
fn counters(requests: &Family<RequestLabels, Counter>, kind: &'static str) -> [Counter; 4] {
    CLASSES.map(|status| requests.get_or_create_owned(&RequestLabels { kind, status }))
}

#[cfg(test)]
mod tests {
    use http_server::Reason;

    use super::*;
    use crate::resource::{Resource, UNKNOWN};

    #[test]
    fn requests_are_counted_by_kind_and_status_class() {
        let metrics = Metrics::default();
        let mut registry = Registry::with_prefix("streamforge");
        metrics.register(&mut registry);
        for (path, status) in [
            ("/live/demo/master.m3u8", StatusCode::OK),
            ("/live/demo/v0.m3u8", StatusCode::OK),
            ("/time", StatusCode::NOT_MODIFIED),
            ("/none", StatusCode::NOT_FOUND),
        ] {
            let kind = Resource::parse(path).map_or(UNKNOWN, |resource| resource.kind());
            metrics.responded(kind, status);
        }
        metrics.server.refuse(Reason::Header);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "streamforge_http_requests_total{kind=\"unknown\",status=\"4xx\"} 1",
            "streamforge_http_requests_total{kind=\"playlist\",status=\"2xx\"} 2",
            "streamforge_http_requests_total{kind=\"time\",status=\"3xx\"} 1",
            "streamforge_http_refused_total{reason=\"header\"} 1",
            "streamforge_http_sent_bytes_total 0",
            "streamforge_http_connections 0",
            "streamforge_http_waiting_requests 0",
            "streamforge_http_access_log_dropped_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
