//! A response's status, headers and body, by kind: its lifetime in caches, its validator and its
//! ranges (RFC 9110, RFC 9111).

use std::{
    fmt::{self, Write},
    hash::{DefaultHasher, Hash, Hasher},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG,
        VARY,
    },
};
use http_server::Body;
use net_core::Rope;
use packager::Text;

use crate::{conditions::Conditions, range::Range};

/// Media type of playlists (RFC 8216bis 4).
pub(crate) const HLS: HeaderValue = HeaderValue::from_static("application/vnd.apple.mpegurl");
/// Media type of manifests (ISO/IEC 23009-1, annex C).
pub(crate) const DASH: HeaderValue = HeaderValue::from_static("application/dash+xml");
/// Media type of refusals and of the clock.
pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Media type of video's CMAF headers (RFC 4337).
pub(crate) const VIDEO_HEADER: HeaderValue = HeaderValue::from_static("video/mp4");
/// Media type of video's segments and parts.
pub(crate) const VIDEO_SEGMENT: HeaderValue = HeaderValue::from_static("video/iso.segment");
/// Media type of pictures.
pub(crate) const JPEG: HeaderValue = HeaderValue::from_static("image/jpeg");
/// Media type of audio's headers, segments and parts (RFC 4337).
pub(crate) const AUDIO: HeaderValue = HeaderValue::from_static("audio/mp4");

/// Media type of problem details (RFC 9457 6.1).
pub(crate) const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Methods of all resources except the API.
pub(crate) const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// Number of headers for which a response's map has room, including the Date that the server adds.
/// A compressed playlist that was awaited needs all of them, and over TLS the map grows once for
/// Alt-Svc; the next larger capacity would be twice as large for every response.
const HEADERS: usize = 12;

/// The lifetime of a response about a resource that does not exist yet but may soon.
pub(crate) const SOON: Lifetime = Lifetime::Seconds(1);

/// The lifetime of a response in a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Must not be stored.
    NoStore,
    /// Stored, but revalidated each time.
    Validate,
    /// This many seconds.
    Seconds(u64),
    /// This many seconds, without revalidation.
    Unchanging(u64),
    /// Unlimited.
    Immutable,
}

impl Lifetime {
    /// Its Cache-Control value (RFC 9111 5.2.2; RFC 8246 2 for `immutable`).
    fn value(self) -> HeaderValue {
        match self {
            Self::NoStore => HeaderValue::from_static("no-store"),
            Self::Validate => HeaderValue::from_static("no-cache"),
            Self::Seconds(1) => HeaderValue::from_static("public, max-age=1"),
            Self::Seconds(seconds) => value(format_args!("public, max-age={seconds}")),
            Self::Unchanging(seconds) => {
                value(format_args!("public, max-age={seconds}, immutable"))
            }
            Self::Immutable => HeaderValue::from_static("public, max-age=31536000, immutable"),
        }
    }
}

/// A short text with the reason of a refusal, for people: it ends with a line break.
pub(crate) fn refuse(
    status: StatusCode,
    why: impl Into<Bytes>,
    lifetime: Lifetime,
) -> Response<Body> {
    let mut response = fresh(Body::from(why.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, TEXT);
    headers.insert(CACHE_CONTROL, lifetime.value());
    response
}

/// The same for a request to the API: a problem detail (RFC 9457). `detail` must not contain
/// characters that JSON escapes.
pub(crate) fn problem(status: StatusCode, detail: &str) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or("Error");
    let code = status.as_u16();
    let json = format!(
        r#"{{"type":"about:blank","title":"{title}","status":{code},"detail":"{detail}"}}"#
    );
    let mut response = refuse(status, json, Lifetime::NoStore);
    response.headers_mut().insert(CONTENT_TYPE, PROBLEM);
    response
}

/// The response to a method other than GET and HEAD: one that HTTP has is not allowed here, any
/// other is not implemented (RFC 9110 9.1, 15.5.6, 15.6.2).
pub(crate) fn other_method(method: &Method) -> Response<Body> {
    // `http` accepts any token as a method, so that the known ones are listed here.
    let known = matches!(
        *method,
        Method::POST
            | Method::PUT
            | Method::DELETE
            | Method::PATCH
            | Method::TRACE
            | Method::CONNECT
    );
    let status = match known {
        true => StatusCode::METHOD_NOT_ALLOWED,
        false => StatusCode::NOT_IMPLEMENTED,
    };
    let mut response = refuse(status, "only GET, HEAD and OPTIONS\n", Lifetime::NoStore);
    response.headers_mut().insert(ALLOW, METHODS);
    response
}

/// The response to OPTIONS (RFC 9110 9.3.7).
pub(crate) fn options() -> Response<Body> {
    let mut response = fresh(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, METHODS);
    response
}

/// If-Match or If-Unmodified-Since is false (RFC 9110 15.5.13).
pub(crate) fn precondition_failed() -> Response<Body> {
    let why = "the precondition of the request is false\n";
    refuse(StatusCode::PRECONDITION_FAILED, why, Lifetime::NoStore)
}

/// A playlist or manifest: always whole, compressed for clients that accept it.
pub(crate) fn text(
    request: &Conditions,
    text: &Text,
    content_type: HeaderValue,
    lifetime: Lifetime,
) -> Response<Body> {
    let gzip = request.gzip;
    let form = if gzip { "-gz" } else { "" };
    let etag = quoted(format_args!("{:016x}{form}", text.digest()));
    negotiated(request, etag, lifetime, content_type, gzip, || {
        if gzip { text.gzip() } else { text.plain() }.clone()
    })
}

/// A picture.
pub(crate) fn picture(request: &Conditions, jpeg: &Bytes, lifetime: Lifetime) -> Response<Body> {
    validated(request, digest(jpeg), lifetime, |headers| {
        headers.insert(CONTENT_TYPE, JPEG);
        jpeg.clone().into()
    })
}

/// The present time, not stored.
pub(crate) fn time(now: String) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from(now)));
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response.headers_mut().insert(CACHE_CONTROL, Lifetime::NoStore.value());
    response
}

/// Complete media, or the requested range of them (RFC 9110 14.2).
pub(crate) fn media(
    request: &Conditions,
    rope: &Rope,
    etag: HeaderValue,
    content_type: HeaderValue,
    lifetime: Lifetime,
) -> Response<Body> {
    let size = rope.len();
    let range =
        request.range_of(&etag).map_or(Range::Whole, |range| Range::parse(range.as_bytes(), size));
    let mut status = StatusCode::OK;
    // `validated` decides first: a client that has the representation needs no range of it (RFC
    // 9110 13.2.2).
    let mut response = validated(request, etag, lifetime, |headers| {
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(CONTENT_TYPE, content_type);
        // A range replaces the content, its length and the status; the validator stays that of the
        // whole.
        match range {
            Range::Whole => rope.clone().into(),
            Range::Slice { start, len } => {
                status = StatusCode::PARTIAL_CONTENT;
                let last = start + len - 1;
                headers.insert(CONTENT_RANGE, value(format_args!("bytes {start}-{last}/{size}")));
                rope.slice(start, len).into()
            }
            Range::Unsatisfiable => {
                status = StatusCode::RANGE_NOT_SATISFIABLE;
                // It concerns the range: a cache with only the address as key must not store it
                // (RFC 9111 4).
                headers.insert(CACHE_CONTROL, Lifetime::NoStore.value());
                headers.insert(CONTENT_RANGE, value(format_args!("bytes */{size}")));
                headers.insert(CONTENT_TYPE, TEXT);
                "the range begins after the end\n".into()
            }
        }
    });
    if response.status() == StatusCode::OK {
        *response.status_mut() = status;
    }
    response
}

/// Media whose end is not known yet: without length and ranges.
pub(crate) fn growing(body: Body, content_type: HeaderValue, lifetime: Lifetime) -> Response<Body> {
    let mut response = fresh(body);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE_CONTROL, lifetime.value());
    response
}

/// A response with capacity for its headers.
fn fresh(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.headers_mut() = HeaderMap::with_capacity(HEADERS);
    response
}

/// 412 if the client requires another representation (RFC 9110 13.1.1), 304 if it has this one
/// (13.1.2), otherwise the result of `fill`, which sets the content's own headers.
fn validated(
    request: &Conditions,
    etag: HeaderValue,
    lifetime: Lifetime,
    fill: impl FnOnce(&mut HeaderMap) -> Body,
) -> Response<Body> {
    if request.excludes(Some(&etag)) {
        return precondition_failed();
    }
    let held = request.has(&etag);
    let mut response = fresh(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, lifetime.value());
    headers.insert(ETAG, etag);
    if held {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = fill(headers);
    }
    response
}

/// Like [`validated`], for a text in plain or compressed form; a cache stores both (RFC 9110
/// 12.5.5).
pub(crate) fn negotiated(
    request: &Conditions,
    etag: HeaderValue,
    lifetime: Lifetime,
    content_type: HeaderValue,
    gzip: bool,
    bytes: impl FnOnce() -> Bytes,
) -> Response<Body> {
    let mut response = validated(request, etag, lifetime, |headers| {
        headers.insert(CONTENT_TYPE, content_type);
        // The two forms are different representations, each with an entity tag of its own (RFC 9110
        // 8.8.3.3).
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        bytes().into()
    });
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
    response
}

/// A strong validator of some bytes, equal for equal bytes in any process of this build.
pub(crate) fn digest(bytes: &[u8]) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    quoted(format_args!("{:016x}", hasher.finish()))
}

/// `"text"`.
pub(crate) fn quoted(text: fmt::Arguments<'_>) -> HeaderValue {
    value(format_args!("\"{text}\""))
}

/// An ASCII text of ours as a header's value.
pub(crate) fn value(text: fmt::Arguments<'_>) -> HeaderValue {
    let mut line = Line::default();
    // A text of more than 64 bytes is formatted again on the heap.
    let written = match line.write_fmt(text) {
        Ok(()) => HeaderValue::from_bytes(&line.bytes[..line.len]),
        Err(fmt::Error) => HeaderValue::try_from(text.to_string()),
    };
    written.unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// A text on the stack, so that a header value needs one allocation of its exact length.
struct Line {
    bytes: [u8; 64],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; 64], len: 0 }
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
