//! Headers with which every response of the API defends its users in browsers.

use axum::response::Response;
use http::{HeaderName, HeaderValue, header};

/// The headers. Responses must not be stored, because they show the present state and may be for
/// one account only. Browsers must neither render them as a document, nor expose them to another
/// site, nor send their address to one.
const GUARDS: [(HeaderName, HeaderValue); 5] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Middleware: adds the headers that the route has not set itself.
pub async fn guard(mut response: Response) -> Response {
    for (name, value) in GUARDS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

/// Panics if a response lacks one of the headers.
#[cfg(test)]
#[track_caller]
pub(crate) fn assert_guarded(headers: &http::HeaderMap) {
    assert!(headers.contains_key(header::CACHE_CONTROL), "{headers:?}");
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
    assert_eq!(headers["cross-origin-resource-policy"], "same-origin");
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    for part in ["default-src 'none'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware::map_response, routing::get};
    use http::Request;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_route_may_replace_a_header_and_gets_the_others() {
        let cached = [(header::CACHE_CONTROL, "max-age=60")];
        let router = Router::new()
            .route("/", get(|| async {}))
            .route("/cached", get(move || async move { cached }))
            .layer(map_response(guard));
        for (path, expected) in [("/", "no-store"), ("/cached", "max-age=60"), ("/no", "no-store")]
        {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_guarded(response.headers());
            let values: Vec<_> = response.headers().get_all(header::CACHE_CONTROL).iter().collect();
            assert_eq!(values, [expected], "{path}");
        }
    }
}
