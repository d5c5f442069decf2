//! Metrics of the API's requests, in a layer around all routes: by route, method and status, with
//! their duration, and refused credentials.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use http::{Method, StatusCode};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::problem::Kind;

/// The route of a request that has none.
const NO_ROUTE: &str = "none";

/// The metrics; clones share the counts. The labels are from closed sets: the routes of the router,
/// the methods of HTTP, the classes of status codes, and the kinds of problems.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<OfRequest, Counter>,
    duration: Family<OfRoute, Histogram, fn() -> Histogram>,
    problems: Family<OfKind, Counter>,
    authentication_failures: Family<OfReason, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRequest {
    route: String,
    method: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRoute {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        // 0.5 ms to 16 s; a request has at most 30 s.
        let duration = || Histogram::new(exponential_buckets(0.000_5, 2.0, 16));
        let metrics = Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(duration),
            problems: Family::default(),
            authentication_failures: Family::default(),
        };
        // These series exist from the start, because a rate needs the value before the first event.
        for kind in Kind::ALL {
            let row = kind.row();
            drop(metrics.problems.get_or_create(&OfKind { kind: row.name }));
            if row.status == StatusCode::UNAUTHORIZED {
                let reason = OfReason { reason: row.name };
                drop(metrics.authentication_failures.get_or_create(&reason));
            }
        }
        metrics
    }
}

impl Metrics {
    /// Adds the metrics to a registry whose prefix is the product's name.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Requests of the API by route, method and class of status";
        registry.register("api_requests", help, self.requests.clone());
        let help = "From a request of the API until its response begins";
        registry.register_with_unit(
            "api_request_duration",
            help,
            Unit::Seconds,
            self.duration.clone(),
        );
        let help = "Responses of the API that are problems, by the last part of their type";
        registry.register("api_problems", help, self.problems.clone());
        let help = "Requests without credentials where they are needed, or with refused ones";
        registry.register(
            "api_authentication_failures",
            help,
            self.authentication_failures.clone(),
        );
    }

    fn count(&self, route: String, method: &'static str, response: &Response, seconds: f64) {
        let status = class(response.status());
        self.duration.get_or_create(&OfRoute { route: route.clone() }).observe(seconds);
        self.requests.get_or_create(&OfRequest { route, method, status }).inc();
        let Some(row) = response.extensions().get::<Kind>().map(|kind| kind.row()) else { return };
        self.problems.get_or_create(&OfKind { kind: row.name }).inc();
        if row.status == StatusCode::UNAUTHORIZED {
            self.authentication_failures.get_or_create(&OfReason { reason: row.name }).inc();
        }
    }
}

/// Middleware: counts the request.
pub(crate) async fn count(
    State(metrics): State<Metrics>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let route = route.map_or(NO_ROUTE.to_owned(), |route| route.as_str().to_owned());
    let method = method(request.method());
    let begun = Instant::now();
    let response = next.run(request).await;
    metrics.count(route, method, &response, begun.elapsed().as_secs_f64());
    response
}

/// A method of RFC 9110 or RFC 5789, or `other`: clients may invent names.
fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// The class of a status.
fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware::from_fn_with_state, routing::get};
    use prometheus_client::encoding::text;
    use tower::ServiceExt;

    use super::*;
    use crate::problem::Problem;

    #[tokio::test]
    async fn requests_are_counted_by_their_route_and_never_by_their_path() {
        let metrics = Metrics::default();
        let mut registry = Registry::with_prefix("streamforge");
        metrics.register(&mut registry);
        let refused = || async { Problem::new(Kind::InvalidToken, "another token") };
        let router = Router::new()
            .route("/channels/{channel}", get(|| async { "ok" }))
            .route("/refused", get(refused))
            .fallback(|| async { Problem::new(Kind::NotFound, "nothing here") })
            .layer(from_fn_with_state(metrics, count));
        for (method, path) in [
            ("GET", "/channels/a"),
            ("GET", "/channels/b?token=secret"),
            ("BREW", "/channels/c"),
            ("GET", "/refused"),
            ("GET", "/wp-login.php"),
            ("GET", "/secret"),
        ] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap();
        }
        let mut written = String::new();
        text::encode(&mut written, &registry).unwrap();
        for line in [
            "requests_total{route=\"/channels/{channel}\",method=\"GET\",status=\"2xx\"} 2",
            "requests_total{route=\"/channels/{channel}\",method=\"other\",status=\"4xx\"} 1",
            "requests_total{route=\"none\",method=\"GET\",status=\"4xx\"} 2",
            "request_duration_seconds_count{route=\"/channels/{channel}\"} 3",
            "problems_total{kind=\"not-found\"} 2",
            "problems_total{kind=\"internal\"} 0",
            "authentication_failures_total{reason=\"invalid-token\"} 1",
            "authentication_failures_total{reason=\"unauthenticated\"} 0",
        ] {
            assert!(written.contains(&format!("\nstreamforge_api_{line}\n")), "{line}\n{written}");
        }
        assert!(!written.contains("secret") && !written.contains("wp-login"), "{written}");
    }
}
