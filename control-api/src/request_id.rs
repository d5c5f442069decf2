//! The id of a request: it is in the header X-Request-Id of the response, in the span of the log,
//! and in the member `request_id` of a problem, so that the three can be found from each other.

use std::{fmt, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::{Instrument, info_span};
use uuid::Uuid;

use crate::traces::{self, Networks};

/// The header of requests and responses.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Maximum length of a client's id in bytes.
const MAX_BYTES: usize = 64;

tokio::task_local! {
    /// The id of the request that this task serves.
    static CURRENT: RequestId;
}

/// The id of one request: 1 to 64 bytes of `[A-Za-z0-9._-]`. Clones share the text.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The id that the client or a proxy has given, if it is valid; otherwise a new UUIDv7.
    pub fn of(headers: &HeaderMap) -> Self {
        // An id of another form could forge lines of a log, or fill it.
        let given = headers.get(HEADER).and_then(|id| id.to_str().ok()).filter(|id| is_valid(id));
        Self(given.map_or_else(|| Uuid::now_v7().to_string().into(), Into::into))
    }

    /// The id of the request that the calling task serves; `None` outside of a request.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Runs `future` as a part of this request, also in another task.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// The value of the header. `None` is impossible, because the text is ASCII.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a client's id has the form of an id.
fn is_valid(id: &str) -> bool {
    (1..=MAX_BYTES).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Middleware: gives the request its id and its spans, and returns the id.
pub async fn identify(
    State(trusted): State<Networks>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = RequestId::of(request.headers());
    let exported = traces::request(&request, id.as_str(), &trusted);
    let span = info_span!("api", %id, method = %request.method(), path = request.uri().path());
    request.extensions_mut().insert(id.clone());
    let served = next.run(request).instrument(span).instrument(exported.clone());
    let mut response = id.clone().scope(served).await;
    let status = response.status();
    traces::respond(&exported, status, status.is_server_error());
    if let Some(header) = id.header() {
        response.headers_mut().insert(HEADER, header);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware::from_fn_with_state, routing::get};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn seen(given: Option<&str>) -> (String, String) {
        let current = || async { RequestId::current().map(|id| id.to_string()).unwrap() };
        let router = Router::new()
            .route("/", get(current))
            .layer(from_fn_with_state(Networks::default(), identify));
        let mut request = Request::get("/");
        if let Some(given) = given {
            request = request.header(HEADER, given);
        }
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let header = response.headers()[HEADER].to_str().unwrap().to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (header, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_valid_id_is_kept_and_another_is_replaced_by_a_uuid_v7() {
        for id in ["a", "0f-A_9.x", &"x".repeat(64)] {
            assert_eq!(seen(Some(id)).await, (id.to_owned(), id.to_owned()));
        }
        for id in [None, Some(""), Some("a b"), Some("a/b"), Some("ä"), Some(&*"x".repeat(65))] {
            let (header, body) = seen(id).await;
            assert_eq!(header, body);
            assert_eq!(Uuid::parse_str(&header).unwrap().get_version_num(), 7, "{id:?}");
        }
        assert_ne!(seen(None).await, seen(None).await);
    }

    #[test]
    fn there_is_no_id_outside_of_a_request() {
        assert_eq!(RequestId::current(), None);
    }
}
