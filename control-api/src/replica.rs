//! Changes that are sent to a replica: it has no decisions of its own, so they belong to the
//! writer.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, Method, StatusCode, header};

use crate::{
    Platform,
    problem::{Kind, Problem},
};

/// A layer of a replica's routes: a request that may change something is redirected to the writer,
/// with its method and body (RFC 9110 15.4.8), or refused if the writer's address is unknown.
pub(crate) async fn send_elsewhere(
    State(platform): State<Platform>,
    request: Request,
    next: Next,
) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if is_read && !is_of_writer(request.uri().path()) {
        return next.run(request).await;
    }
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    match platform.writer() {
        Some(writer) => redirect(&format!("{}{target}", writer.trim_end_matches('/'))),
        None => refused(),
    }
}

/// Whether a read is about the writer's own state, which is not in the log: the deliveries of
/// webhooks, the numbers of minutes, the files of pictures, and signing in at a provider, which
/// begins a session.
fn is_of_writer(path: &str) -> bool {
    let is_delivery = path.starts_with("/api/v1/webhooks/") && path.ends_with("/deliveries");
    let is_analytics = path.starts_with("/api/v1/channels/") && path.ends_with("/analytics");
    let begins = |start: &str| path.starts_with(start);
    is_delivery || is_analytics || begins("/api/v1/avatars/") || begins("/api/v1/oidc/")
}

fn redirect(address: &str) -> Response {
    match HeaderValue::from_str(address) {
        Ok(address) => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, address)]).into_response()
        }
        // A request's target has no characters that a header cannot have.
        Err(_) => refused(),
    }
}

fn refused() -> Response {
    let words = "this node is a replica: send changes to the writer, whose address its operator \
                 knows and can set as bus.writer here";
    Problem::new(Kind::Replica, words).into_response()
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware::from_fn_with_state, routing::get};
    use tower::ServiceExt as _;

    use super::*;

    async fn send(writer: Option<&str>, method: Method) -> Response {
        let platform = Platform::replica(writer.map(str::to_owned));
        let routes = get(|| async { "read" }).post(|| async { "changed" });
        let router = Router::new().route("/api/v1/channels", routes);
        let router = router.layer(from_fn_with_state(platform, send_elsewhere));
        let request = Request::builder().method(method).uri("/api/v1/channels?a=b");
        let request = request.body(Body::empty()).expect("a request");
        router.oneshot(request).await.expect("a response")
    }

    #[test]
    fn reads_of_the_writers_own_state_belong_to_it() {
        for path in [
            "/api/v1/webhooks/1/deliveries",
            "/api/v1/oidc/example/callback",
            "/api/v1/channels/1/analytics",
            "/api/v1/avatars/1/48",
        ] {
            assert!(is_of_writer(path), "{path}");
        }
        for path in ["/api/v1/webhooks", "/api/v1/webhooks/1", "/api/v1/oidc"] {
            assert!(!is_of_writer(path), "{path}");
        }
    }

    #[tokio::test]
    async fn a_replica_answers_reads_and_sends_changes_to_the_writer() {
        for writer in [None, Some("https://live.example.org/")] {
            assert_eq!(send(writer, Method::GET).await.status(), StatusCode::OK);
        }
        let refused = send(None, Method::POST).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        let redirected = send(Some("https://live.example.org/"), Method::POST).await;
        assert_eq!(redirected.status(), StatusCode::TEMPORARY_REDIRECT);
        let location = &redirected.headers()[header::LOCATION];
        assert_eq!(location, "https://live.example.org/api/v1/channels?a=b");
    }
}
