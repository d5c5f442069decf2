//! The time limit of a request: until its response begins. A response that has begun (a stream of
//! events) is not limited.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::timeout;
use tracing::warn;

use crate::problem::{Kind, Problem};

/// The time limit of all routes.
pub const DEFAULT: Duration = Duration::from_secs(30);
/// Seconds after which a client may try again.
const RETRY_AFTER_S: u64 = 5;

/// Middleware: responds with 503 when the route has no response within the limit. The route's
/// future is then dropped.
///
/// 503 and not 504: this server is no gateway, and the client may repeat the request (RFC 9110
/// 15.6.4).
pub async fn limit(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            warn!(limit_s = limit.as_secs(), "request exceeded its time limit");
            let words = format!("there was no response within {} s", limit.as_secs());
            Problem::new(Kind::TimedOut, words).retry_after(RETRY_AFTER_S).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware::from_fn_with_state, routing::get};
    use http::header;
    use tokio::time::{Instant, sleep};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_route_without_a_response_for_30_s_is_ended_with_503() {
        let slow = |seconds| move || sleep(Duration::from_secs(seconds));
        let router = Router::new()
            .route("/29", get(slow(29)))
            .route("/31", get(slow(31)))
            .layer(from_fn_with_state(DEFAULT, limit));
        for (path, expected, seconds) in [("/29", 200, 29), ("/31", 503, 30)] {
            let start = Instant::now();
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), expected, "{path}");
            assert_eq!(start.elapsed().as_secs(), seconds);
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), expected == 503);
        }
    }
}
