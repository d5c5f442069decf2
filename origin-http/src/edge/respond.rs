//! A viewer's response made of an object: conditional requests and ranges are evaluated here,
//! independent of the request to the origin (RFC 9110 13, 14).

use std::sync::Arc;

use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT_RANGES, AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG,
        IF_NONE_MATCH, IF_RANGE, RANGE, RETRY_AFTER,
    },
    request::Parts,
};
use http_server::Body;
use tokio::time::Instant;

use super::{content::Reader, object::Object};
use crate::{
    conditions,
    range::Range,
    response::{self, TEXT},
};

/// The response to `head` with `object`, complete or in progress. Conditions are evaluated in the
/// order of RFC 9110 13.2.2; If-Unmodified-Since is ignored, because a cache does not know the time
/// of the last modification.
pub(super) fn respond(object: &Arc<Object>, head: &Parts, now: Instant) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = object.status;
    // A 304 has the fields that a 200 would have (RFC 9110 15.4.5), except for those that describe
    // content.
    *response.headers_mut() = object.headers.clone();
    response.headers_mut().insert(AGE, object.freshness.age(now).as_secs().into());
    // Conditions and ranges apply to a successful response only (RFC 9110 13.2.1, 14.2).
    if object.status != StatusCode::OK {
        *response.body_mut() = all(object);
        return response;
    }
    let tag = object.headers.get(ETAG);
    if conditions::is_excluded(&head.headers, tag) {
        return response::precondition_failed();
    }
    if tag.is_some_and(|tag| is_held(&head.headers, tag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        for name in [CONTENT_TYPE, CONTENT_ENCODING, ACCEPT_RANGES, RETRY_AFTER] {
            response.headers_mut().remove(name);
        }
        return response;
    }
    // A range of an object in progress is sent as its bytes arrive: its length is known.
    match range(object, head, tag) {
        None => *response.body_mut() = all(object),
        Some((Range::Slice { start, len }, size)) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let last = start + len - 1;
            let range = response::value(format_args!("bytes {start}-{last}/{size}"));
            response.headers_mut().insert(CONTENT_RANGE, range);
            *response.body_mut() = match object.content.rope() {
                Some(rope) => rope.slice(start, len).into(),
                None => Body::boxed(Reader::of_range(
                    Arc::clone(&object.content),
                    start as u64,
                    len as u64,
                )),
            };
        }
        Some((_, size)) => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            let headers = response.headers_mut();
            // It concerns the range, not the address: see `response`.
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert(CONTENT_RANGE, response::value(format_args!("bytes */{size}")));
            headers.insert(CONTENT_TYPE, TEXT);
            *response.body_mut() = "the range begins after the end\n".into();
        }
    }
    response
}

/// The whole body. Without a copy if the object is complete.
fn all(object: &Object) -> Body {
    match object.content.rope() {
        Some(rope) => rope.into(),
        None => Body::boxed(Reader::new(Arc::clone(&object.content))),
    }
}

/// The requested range and the total size; `None` for everything: texts, and objects of unknown
/// length, are always sent whole.
fn range(object: &Object, head: &Parts, tag: Option<&HeaderValue>) -> Option<(Range, usize)> {
    let range = head.headers.get(RANGE).filter(|_| head.method == Method::GET)?;
    if !has_ranges(object) {
        return None;
    }
    // Another representation is sent whole: the client's part belongs to the old one.
    if head.headers.get(IF_RANGE).is_some_and(|held| Some(held) != tag) {
        return None;
    }
    let size = usize::try_from(object.content.length()?).ok()?;
    match Range::parse(range.as_bytes(), size) {
        Range::Whole => None,
        range => Some((range, size)),
    }
}

/// Objects whose origin supports ranges, and media that were followed while they were made and are
/// complete now.
fn has_ranges(object: &Object) -> bool {
    let declared = object.headers.get(ACCEPT_RANGES).is_some_and(|units| units == "bytes");
    let media = |kind: &HeaderValue| {
        kind.as_bytes().starts_with(b"video/") || kind.as_bytes().starts_with(b"audio/")
    };
    declared
        || (object.headers.get(CONTENT_TYPE).is_some_and(media) && object.content.rope().is_some())
}

/// Whether If-None-Match lists the entity tag, by the weak comparison (RFC 9110 13.1.2).
fn is_held(request: &HeaderMap, tag: &HeaderValue) -> bool {
    let tag = tag.as_bytes();
    let tag = tag.strip_prefix(b"W/").unwrap_or(tag);
    let lists = request.get_all(IF_NONE_MATCH).iter();
    lists.into_iter().any(|list| conditions::matches(list.as_bytes(), tag))
}
