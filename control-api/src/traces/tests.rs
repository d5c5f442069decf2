use std::sync::{Arc, Mutex};

use axum::{Router, body::Body, middleware::from_fn_with_state, routing::get};
use tower::ServiceExt as _;
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
};

use super::*;
use crate::request_id::identify;

/// A span that was seen: its name and fields as text.
#[derive(Debug, Default, Clone)]
struct Seen(Vec<(String, String)>);

impl Seen {
    fn get(&self, name: &str) -> Option<&str> {
        // The last one counts.
        self.0.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}").trim_matches('"').to_owned();
        self.0.push((field.name().to_owned(), text));
    }
}

/// Keeps the exported spans that have closed.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<Seen>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keeper {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut seen = Seen::default();
        attributes.record(&mut seen);
        context.span(id).expect("a span").extensions_mut().insert(seen);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).expect("a span");
        if let Some(seen) = span.extensions_mut().get_mut::<Seen>() {
            values.record(seen);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).expect("a span");
        if span.metadata().target() == TRACES
            && let Some(seen) = span.extensions().get::<Seen>()
        {
            self.0.lock().expect("no panic").push(seen.clone());
        }
    }
}

async fn requested(uri: &str, status: StatusCode) -> Seen {
    let keeper = Keeper::default();
    let subscriber = tracing_subscriber::registry().with(keeper.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let router = Router::new()
        .route("/api/v1/channels/{channel}", get(move || async move { status }))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(from_fn_with_state(Networks::default(), identify));
    let request = Request::get(uri)
        .header("x-request-id", "request-7")
        .header("authorization", "Bearer s3cret")
        .body(Body::empty());
    router.oneshot(request.expect("a request")).await.expect("infallible");
    let seen = keeper.0.lock().expect("no panic").pop();
    seen.expect("an exported span")
}

#[tokio::test]
async fn the_span_of_a_request_names_its_route_and_has_no_query_and_no_header() {
    let seen = requested("/api/v1/channels/demo?token=s3cret", StatusCode::OK).await;
    for (name, value) in [
        ("otel.name", "GET /api/v1/channels/{channel}"),
        ("otel.kind", "server"),
        ("http.request.method", "GET"),
        ("http.route", "/api/v1/channels/{channel}"),
        ("url.path", "/api/v1/channels/demo"),
        ("http.response.status_code", "200"),
        ("request.id", "request-7"),
    ] {
        assert_eq!(seen.get(name), Some(value), "{name}");
    }
    assert_eq!((seen.get("error.type"), seen.get("otel.status_code")), (None, None));
    assert!(!format!("{seen:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_request_without_a_route_has_no_path_and_a_fault_of_the_server_is_an_error() {
    let seen = requested("/t/s3cret/live/demo/master.m3u8", StatusCode::OK).await;
    assert_eq!((seen.get("otel.name"), seen.get("url.path")), (Some("GET"), None));
    // A fault of the client is none of the server (semantic conventions, HTTP server spans).
    assert_eq!(seen.get("http.response.status_code"), Some("404"));
    assert_eq!(seen.get("otel.status_code"), None);
    assert!(!format!("{seen:?}").contains("s3cret"));
    let seen = requested("/api/v1/channels/demo", StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(
        (seen.get("otel.status_code"), seen.get("error.type")),
        (Some("ERROR"), Some("503"))
    );
}

#[test]
fn a_query_is_named_by_the_function_in_which_it_is_written() {
    let query = |_: u8| ();
    fn name<Q>(_: &Q) -> &'static str {
        function::<Q>()
    }
    let found = name(&query);
    assert!(found.ends_with("a_query_is_named_by_the_function_in_which_it_is_written"), "{found}");
    assert!(!found.contains("control_api"), "{found}");
}
