//! Entity tags and the preconditions If-Match and If-None-Match (RFC 9110 8.8.3, 13.1), so that two
//! clients do not overwrite each other's edits: a read returns the ETag, an edit sends it back.

use std::fmt;

use axum::{
    extract::{FromRequestParts, Request},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::problem::{Kind, Problem};

/// Separates the state in a tag from the rest of the representation.
const REST: char = ';';
/// Maximum number of tags that are compared.
const MAX_TAGS: usize = 32;

/// A strong entity tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ETag(String);

impl ETag {
    /// The tag of a resource whose version increases with each change.
    pub fn of_version(version: u64) -> Self {
        Self(format!("\"v{version}\""))
    }

    /// The tag of a representation.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        Self(format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest[..12])))
    }

    /// The tag of a resource, computed from its JSON.
    pub fn of(content: &impl Serialize) -> Self {
        // Only a type that JSON cannot express has none, and no resource is of such a type.
        Self::of_bytes(&serde_json::to_vec(content).unwrap_or_default())
    }

    /// The tag of a representation of a resource in this state. The representation may differ while
    /// the state is the same, because of values that no edit changes, such as counts.
    fn of_state(state: &Self, bytes: &[u8]) -> Self {
        let (state, Self(rest)) = (state.state(), Self::of_bytes(bytes));
        Self(format!("\"{state}{REST}{}\"", rest.trim_matches('"')))
    }

    /// The state in the tag.
    fn state(&self) -> &str {
        state(&self.0)
    }

    /// The tag with its quotes, as in the header.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The header of a response with this tag. `None` is impossible, because the text is ASCII.
    pub fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        HeaderValue::from_str(&self.0).ok().map(|value| (header::ETAG, value))
    }
}

/// The response with a resource and its entity tag.
///
/// # Errors
/// 500 if the resource is not expressible in JSON, which is a fault of the route.
pub fn tagged(content: &impl Serialize) -> Result<Response, Problem> {
    let json = written(content)?;
    let tag = ETag::of_bytes(&json);
    Ok(response(json, &tag))
}

/// The response with a resource in this state, whose entity tag names both: a reader learns of a
/// changed count, and an edit depends on the state alone.
///
/// # Errors
/// 500 if the resource is not expressible in JSON, which is a fault of the route.
pub(crate) fn tagged_state(content: &impl Serialize, state: &ETag) -> Result<Response, Problem> {
    let json = written(content)?;
    let tag = ETag::of_state(state, &json);
    Ok(response(json, &tag))
}

fn written(content: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(content)
        .map_err(|err| Problem::new(Kind::Internal, format!("the resource is no JSON: {err}")))
}

fn response(json: Vec<u8>, tag: &ETag) -> Response {
    let media_type = HeaderValue::from_static("application/json");
    let mut response = ([(header::CONTENT_TYPE, media_type)], json).into_response();
    response.headers_mut().extend(tag.header());
    response
}

/// The state in a tag with or without quotes.
fn state(tag: &str) -> &str {
    let tag = tag.trim_matches('"');
    tag.split_once(REST).map_or(tag, |(state, _)| state)
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A list of entity tags, of If-Match or If-None-Match.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    /// The header is absent.
    Absent,
    /// `*`: any tag.
    Any,
    /// These tags with their quotes, and `W/` if they are weak.
    Listed(Vec<String>),
}

impl Tags {
    fn of(headers: &HeaderMap, name: HeaderName) -> Self {
        // Every line counts, because a list may be spread over several of them (RFC 9110 5.3).
        let mut lines = headers.get_all(name).iter().peekable();
        if lines.peek().is_none() {
            return Self::Absent;
        }
        let mut tags = Vec::new();
        for line in lines {
            let line = line.to_str().unwrap_or_default().trim_ascii();
            if line == "*" {
                return Self::Any;
            }
            let room = MAX_TAGS.saturating_sub(tags.len());
            tags.extend(tags_of(line).take(room).map(str::to_owned));
        }
        Self::Listed(tags)
    }

    /// Whether one of them is this tag. A weak one never is, in a strong comparison (RFC 9110
    /// 8.8.3.2).
    fn contain(&self, tag: Option<&str>, weakly: bool) -> bool {
        match self {
            Self::Absent => false,
            Self::Any => true,
            Self::Listed(tags) => tags.iter().any(|listed| {
                let listed = if weakly { listed.trim_start_matches("W/") } else { listed };
                Some(listed) == tag
            }),
        }
    }
}

/// The tags of a line. A comma may be inside of a tag.
fn tags_of(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let opened = rest.find('"')?;
        let closed = opened + 1 + rest[opened + 1..].find('"')?;
        let (tag, after) = rest.split_at(closed + 1);
        rest = after;
        Some(tag)
    })
}

/// If-Match of a request that changes a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfMatch(Tags);

impl IfMatch {
    /// If-Match of these headers.
    pub fn of(headers: &HeaderMap) -> Self {
        Self(Tags::of(headers, header::IF_MATCH))
    }

    /// Requires that the request has If-Match, because others may edit the resource too.
    ///
    /// # Errors
    /// 428 without the header (RFC 6585 3).
    pub fn required(self) -> Result<Self, Problem> {
        match self.0 {
            Tags::Absent => {
                let words = "send the resource's ETag as If-Match, so that no other edit is lost";
                Err(Problem::new(Kind::PreconditionRequired, words))
            }
            _ => Ok(self),
        }
    }

    /// Evaluates it against the present tag of the resource; `None`: the resource has no tags, so
    /// that only `*` matches. Must be called where the resource cannot change before the edit.
    ///
    /// # Errors
    /// 412 if the header is present and does not match.
    pub fn check(&self, present: Option<&ETag>) -> Result<(), Problem> {
        self.check_text(present.map(ETag::as_str))
    }

    /// Whether the request has no such precondition.
    pub fn is_absent(&self) -> bool {
        self.0 == Tags::Absent
    }

    /// Whether the precondition of an edit holds for a resource in the state of this tag.
    pub fn matches(&self, present: &ETag) -> bool {
        match &self.0 {
            Tags::Absent | Tags::Any => true,
            // A weak tag keeps its `W/`, so that its state is another.
            Tags::Listed(tags) => tags.iter().any(|listed| state(listed) == present.state()),
        }
    }

    fn check_text(&self, present: Option<&str>) -> Result<(), Problem> {
        if self.0 == Tags::Absent || self.0.contain(present, false) {
            return Ok(());
        }
        Err(match present {
            Some(present) => {
                let words = format!("the resource has changed, its ETag is now {present}");
                Problem::new(Kind::PreconditionFailed, words)
            }
            None => Problem::new(
                Kind::PreconditionFailed,
                "this resource has no entity tags: send If-Match: *, or none",
            ),
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.headers))
    }
}

/// Middleware: evaluates the preconditions of GET and HEAD against the ETag of the response, if the
/// response is a success (RFC 9110 13.2.1): 412, or 304 for a client that has the representation.
pub async fn conditional(request: Request, next: Next) -> Response {
    // Read beforehand, because the request is consumed. Other methods evaluate them before they
    // act.
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    let if_match = IfMatch::of(request.headers());
    let if_none_match = Tags::of(request.headers(), header::IF_NONE_MATCH);
    let mut response = next.run(request).await;
    if !read || !response.status().is_success() {
        return response;
    }
    let tag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
    if let Err(problem) = if_match.check_text(tag) {
        return problem.into_response();
    }
    // A representation without a tag cannot be the one that the client has.
    if tag.is_some() && if_none_match.contain(tag, true) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = axum::body::Body::empty();
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware::from_fn, routing::get};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    fn if_match(lines: &[&str]) -> IfMatch {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::IF_MATCH, line.parse().unwrap());
        }
        IfMatch::of(&headers)
    }

    #[test]
    fn if_match_is_compared_strongly_with_all_tags_of_all_lines() {
        let present = ETag::of_version(7);
        for (lines, expected) in [
            (&[][..], true),
            (&["*"], true),
            (&["\"v7\""], true),
            (&["\"v6\", \"v7\""], true),
            (&["\"v6\"", "\"v7\""], true),
            (&["\"a,b\",\"v7\""], true),
            (&["\"v6\""], false),
            (&["W/\"v7\""], false),
            (&["v7"], false),
            (&[""], false),
        ] {
            assert_eq!(if_match(lines).check(Some(&present)).is_ok(), expected, "{lines:?}");
        }
        let refused = if_match(&["\"v6\""]).check(Some(&present)).unwrap_err();
        assert_eq!(refused.kind(), Kind::PreconditionFailed);
        assert!(if_match(&["\"v6\""]).check(None).is_err() && if_match(&["*"]).check(None).is_ok());
    }

    #[test]
    fn an_edit_depends_on_the_state_and_a_read_on_the_whole_representation() {
        let state = ETag::of_version(7);
        let tags = [1, 2].map(|count| {
            let response = tagged_state(&count, &state).unwrap();
            response.headers()[header::ETAG].to_str().unwrap().to_owned()
        });
        assert_ne!(tags[0], tags[1]);
        for tag in &tags {
            assert!(if_match(&[tag]).matches(&state), "{tag}");
            assert!(!if_match(&[tag]).matches(&ETag::of_version(8)), "{tag}");
            assert!(!if_match(&[&format!("W/{tag}")]).matches(&state), "{tag}");
            let read = Tags::Listed(vec![tag.clone()]);
            assert!(read.contain(Some(tag), false) && !read.contain(Some("\"v7\""), false));
        }
        assert!(if_match(&[]).matches(&state) && if_match(&["*"]).matches(&state));
    }

    #[test]
    fn an_edit_may_require_if_match() {
        let refused = if_match(&[]).required().unwrap_err();
        assert_eq!(refused.status(), StatusCode::PRECONDITION_REQUIRED);
        assert!(if_match(&["\"v1\""]).required().is_ok());
    }

    #[tokio::test]
    async fn reads_are_412_or_304_by_the_tag_of_the_response() {
        let tag = ETag::of_bytes(b"text");
        let fields = [tag.header().unwrap()];
        let tagged = move || async move { (fields, "text") };
        let router = Router::new()
            .route("/tagged", get(tagged))
            .route("/plain", get(|| async { "text" }))
            .layer(from_fn(conditional));
        let (none, other) = (header::IF_NONE_MATCH, "\"other\"");
        let weak = format!("W/{tag}");
        for (path, name, value, expected) in [
            ("/tagged", header::IF_MATCH, tag.as_str(), 200),
            ("/tagged", header::IF_MATCH, other, 412),
            ("/plain", header::IF_MATCH, other, 412),
            ("/plain", header::IF_MATCH, "*", 200),
            ("/tagged", none.clone(), tag.as_str(), 304),
            ("/tagged", none.clone(), weak.as_str(), 304),
            ("/tagged", none.clone(), "*", 304),
            ("/tagged", none.clone(), other, 200),
            ("/plain", none.clone(), "*", 200),
            ("/missing", none, "*", 404),
        ] {
            let request = Request::get(path).header(name, value).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), expected, "{path} {value}");
            let has_tag = response.headers().contains_key(header::ETAG);
            assert_eq!(has_tag, path == "/tagged" && expected != 412, "{path} {value}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body.is_empty(), expected == 304 || expected == 404, "{path} {value}");
        }
    }
}
