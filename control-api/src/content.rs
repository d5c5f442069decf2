//! Bodies of requests: JSON of a bounded size. Every fault is a problem.
//!
//! The size is limited by [`limit`], a layer of a router or of one route: the innermost applies.
//! All bodies of the API are also limited by `http.max_body_bytes`.

use std::{error::Error, io};

use axum::{
    Json,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request, rejection::BytesRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};

use crate::problem::{Fault, Kind, Problem};

/// The limit of routes that set no other: 1 MiB.
pub const DEFAULT_BYTES: usize = 1 << 20;
/// The media type of a merge patch (RFC 7396).
const MERGE_PATCH: &str = "application/merge-patch+json";

/// Limits the size of bodies to `bytes`. A body beyond it is a 413 when it is read.
pub fn limit(bytes: usize) -> DefaultBodyLimit {
    DefaultBodyLimit::max(bytes)
}

/// A body of JSON.
///
/// As an extractor it fails with 415 for another media type than `application/json` or
/// `application/merge-patch+json`, 413 or 408 for a body that is too large or too slow, 400 for
/// malformed JSON, and 422 with the fault for JSON of another form.
#[derive(Debug, Clone, Copy)]
pub struct Content<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Content<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        // Before the body is read, because it may be large.
        check_type(request.headers())?;
        let body = bytes(request, state).await?;
        parse(&body).map(Self)
    }
}

/// Reads a body within its limit.
///
/// # Errors
/// 413 beyond the limit of size, 408 beyond the limit of time, 400 if the connection fails.
pub(crate) async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection| refused(&rejection))
}

/// Checks that the body is JSON (RFC 8259 11; parameters of the media type are ignored).
///
/// # Errors
/// 415 otherwise.
fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|given| given.to_str().ok());
    let essence = given.and_then(|given| given.split(';').next()).map(str::trim_ascii);
    match essence {
        Some(essence)
            if essence.eq_ignore_ascii_case("application/json")
                || essence.eq_ignore_ascii_case(MERGE_PATCH) =>
        {
            Ok(())
        }
        _ => {
            let words = "the body must be JSON: send Content-Type: application/json";
            Err(Problem::new(Kind::UnsupportedMediaType, words))
        }
    }
}

/// Parses JSON.
///
/// # Errors
/// 400 for malformed JSON, 422 for JSON of another form.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|err| match err.classify() {
        serde_json::error::Category::Data => {
            let fault = Fault { pointer: "".into(), detail: err.to_string().into() };
            let words = format!("the body has an invalid member: {err}");
            Problem::new(Kind::InvalidContent, words).with_errors([fault])
        }
        _ => Problem::new(Kind::InvalidRequest, format!("the body is not JSON: {err}")),
    })
}

/// The problem of a body that cannot be read.
fn refused(rejection: &BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let words = "the body is larger than this route permits";
        return Problem::new(Kind::BodyTooLarge, words);
    }
    // The listener's limits are errors of the body.
    let mut cause: Option<&dyn Error> = Some(rejection);
    while let Some(err) = cause {
        if err.is::<http_body_util::LengthLimitError>() {
            let words = "the body is larger than http.max_body_bytes permits";
            return Problem::new(Kind::BodyTooLarge, words);
        }
        let late = err.downcast_ref::<io::Error>().map(io::Error::kind);
        if late == Some(io::ErrorKind::TimedOut) {
            let words = "no byte of the body arrived for too long";
            return Problem::new(Kind::BodyTooSlow, words);
        }
        cause = err.source();
    }
    Problem::new(Kind::InvalidRequest, "the body ended early, or its framing is invalid")
}

/// The response to a request that created a resource, with its address (RFC 9110 15.3.2).
///
/// # Errors
/// 500 if the address is not a valid header, which is a fault of the route.
pub fn created(location: &str, content: impl Serialize) -> Result<Response, Problem> {
    let location = HeaderValue::from_str(location)
        .map_err(|_| Problem::new(Kind::Internal, "the address of the new resource is invalid"))?;
    let fields = [(header::LOCATION, location)];
    Ok((StatusCode::CREATED, fields, Json(content)).into_response())
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, routing::post};
    use http_body_util::BodyExt;
    use serde::Deserialize;
    use tower::ServiceExt;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Title {
        title: String,
    }

    fn router() -> Router {
        let echo = |Content(Title { title }): Content<Title>| async move { title };
        Router::new()
            .route("/", post(echo))
            .route("/large", post(echo).layer(limit(100)))
            .layer(limit(40))
    }

    async fn send(path: &str, kind: Option<&str>, body: Body) -> (u16, String) {
        let mut request = Request::post(path);
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let response: Response = router().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn only_json_is_accepted() {
        for (kind, expected) in [
            (Some("application/json"), 200),
            (Some("application/json; charset=utf-8"), 200),
            (Some("Application/JSON"), 200),
            (Some("application/merge-patch+json"), 200),
            (Some("text/plain"), 415),
            (Some("application/jsonx"), 415),
            (Some(""), 415),
            (None, 415),
        ] {
            let (status, body) = send("/", kind, "{\"title\":\"a\"}".into()).await;
            assert_eq!(status, expected, "{kind:?} {body}");
        }
    }

    #[tokio::test]
    async fn malformed_json_is_400_and_invalid_members_are_422_with_the_fault() {
        let json = Some("application/json");
        for (body, expected) in [
            ("{\"title\":\"a\"}", 200),
            ("{\"title\":", 400),
            ("", 400),
            ("{\"title\":1}", 422),
            ("{}", 422),
            ("{\"title\":\"a\",\"b\":1}", 422),
        ] {
            let (status, response) = send("/", json, body.into()).await;
            assert_eq!(status, expected, "{body} {response}");
            assert_eq!(response.contains("\"errors\""), expected == 422, "{response}");
        }
    }

    #[tokio::test]
    async fn the_innermost_limit_of_size_applies_to_a_body_of_any_framing() {
        let json = Some("application/json");
        let body = |bytes: usize| format!("{{\"title\":\"{}\"}}", "a".repeat(bytes - 12));
        for (path, bytes, expected) in
            [("/", 40, 200), ("/", 41, 413), ("/large", 100, 200), ("/large", 101, 413)]
        {
            assert_eq!(send(path, json, body(bytes).into()).await.0, expected, "{path} {bytes}");
            // Chunked: without Content-Length.
            let pieces = body(bytes).into_bytes();
            let frames = pieces.chunks(7).map(|piece| Ok::<_, io::Error>(piece.to_vec()));
            let stream = body_of(frames.collect());
            assert_eq!(send(path, json, stream).await.0, expected, "{path} {bytes} chunked");
        }
    }

    #[tokio::test]
    async fn the_listeners_limits_are_problems_of_their_own() {
        let json = Some("application/json");
        let late = io::Error::new(io::ErrorKind::TimedOut, "late");
        assert_eq!(send("/", json, body_of(vec![Err(late)])).await.0, 408);
        let broken = io::Error::new(io::ErrorKind::UnexpectedEof, "gone");
        assert_eq!(send("/", json, body_of(vec![Err(broken)])).await.0, 400);
        let limited = http_body_util::Limited::new(Body::from("{\"title\":\"a\"}"), 3);
        assert_eq!(send("/", json, Body::new(limited)).await.0, 413);
    }

    #[tokio::test]
    async fn a_created_resource_has_an_address() {
        let response = created("/api/v1/things/1", [1]).unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(response.headers()[header::LOCATION], "/api/v1/things/1");
        assert_eq!(created("/a\nb", [1]).unwrap_err().kind(), Kind::Internal);
    }

    /// A body of these frames, without a known length.
    fn body_of(frames: Vec<io::Result<Vec<u8>>>) -> Body {
        let (mut sender, body) = http_body_util::Channel::<Bytes, io::Error>::new(64);
        for frame in frames {
            match frame {
                Ok(bytes) => sender.try_send(http_body::Frame::data(bytes.into())).unwrap(),
                // It is the last one.
                Err(err) => {
                    sender.abort(err);
                    break;
                }
            }
        }
        Body::new(body)
    }
}
