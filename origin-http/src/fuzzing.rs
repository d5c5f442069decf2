//! Entry points of the fuzz targets: properties that hold for any bytes. `cargo test` runs them on
//! the corpus in `fuzz/corpus`.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode,
    header::{AGE, CACHE_CONTROL, CONTENT_LENGTH, ETAG, TRANSFER_ENCODING, VARY},
};
use http_body_util::Empty;
use http_server::priority::{PRIORITY, Priority};
use tokio::time::Instant;

use crate::{
    directives::{self, Directives},
    edge::freshness::Freshness,
    h1::head::{self, Head},
    quic::{
        field_section,
        frames::{Frames, Refusal},
        unidirectional::{Fault, Peer, Stream},
    },
};

/// The limit of a head in `http1_head`.
const HEAD_BYTES: usize = 4 << 10;
const HEAD_LINES: usize = 64;
/// The limit of a field section in `quic_frames`.
const SECTION_BYTES: u64 = 1 << 10;

/// Heads of HTTP/1.1: a plain request is the same whatever the pieces in which it arrives, and has
/// only one reading. The first byte is the size of the pieces.
pub fn http1_head(bytes: &[u8]) {
    let Some((&size, bytes)) = bytes.split_first() else {
        return;
    };
    let whole = plain(bytes, bytes.len().max(1));
    let pieces = plain(bytes, usize::from(size) + 1);
    assert_eq!(whole.as_ref().map(described), pieces.as_ref().map(described));
    let Some((request, used)) = whole else { return };
    assert!(bytes[..used].ends_with(b"\r\n\r\n") && used <= HEAD_BYTES);
    assert!(request.headers().len() <= HEAD_LINES && request.uri().path().starts_with('/'));
    assert!(matches!(*request.method(), Method::GET | Method::HEAD));
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
        assert!(!request.headers().contains_key(name), "a body may follow");
    }
    let breaks = |value: &HeaderValue| value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    assert!(!request.headers().values().any(breaks));
}

/// The plain request at the start of `bytes`, if there is one, and the bytes that it occupies.
fn plain(bytes: &[u8], size: usize) -> Option<(Request<Empty<Bytes>>, usize)> {
    let mut input = BytesMut::new();
    let mut examined = 0;
    for piece in bytes.chunks(size) {
        input.extend_from_slice(piece);
        let arrived = input.len();
        match head::take(&mut input, examined, HEAD_BYTES, HEAD_LINES) {
            Some(Head::Plain(request)) => return Some((request, arrived - input.len())),
            Some(Head::Other) => return None,
            None => examined = arrived,
        }
    }
    None
}

fn described((request, used): &(Request<Empty<Bytes>>, usize)) -> String {
    format!("{} {} {:?} {used}", request.method(), request.uri(), request.headers())
}

/// Frames of a request over HTTP/3: the result does not depend on the pieces, and passes a second
/// filter unchanged. The first byte is the size of the pieces.
pub fn quic_frames(bytes: &[u8]) {
    let Some((&size, bytes)) = bytes.split_first() else {
        return;
    };
    let whole = filtered(bytes, bytes.len().max(1));
    assert_eq!(whole, filtered(bytes, usize::from(size) + 1));
    if let Ok(passed) = whole {
        assert!(passed.len() <= bytes.len());
        assert_eq!(filtered(&passed, passed.len().max(1)), Ok(passed));
    }
}

fn filtered(bytes: &[u8], size: usize) -> Result<Vec<u8>, Refusal> {
    pass(&mut Frames::new(SECTION_BYTES), bytes, size)
}

/// The bytes that `frames` hands on of a request that arrives in pieces of `size` bytes.
pub(crate) fn pass(frames: &mut Frames, bytes: &[u8], size: usize) -> Result<Vec<u8>, Refusal> {
    let mut passed = Vec::new();
    for piece in bytes.chunks(size) {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(some) = frames.next(&mut input)? {
            assert!(!some.is_empty());
            passed.extend_from_slice(&some);
        }
    }
    frames.end().map(|()| passed)
}

/// Field sections of HTTP/3: a section without pseudo-header fields is not refused as a request for
/// their order.
pub fn quic_field_section(bytes: &[u8]) {
    let (request, trailer) = (field_section::is_request(bytes), field_section::is_trailer(bytes));
    assert!(request || !trailer);
}

/// A client's unidirectional stream of HTTP/3: the result does not depend on the pieces. The first
/// byte is the size of the pieces.
pub fn quic_unidirectional(bytes: &[u8]) {
    if let Some((&size, bytes)) = bytes.split_first() {
        assert_eq!(read(bytes, bytes.len().max(1)), read(bytes, usize::from(size) + 1));
    }
}

fn read(bytes: &[u8], size: usize) -> Result<bool, Fault> {
    let (mut stream, mut peer) = (Stream::default(), Peer::default());
    for piece in bytes.chunks(size) {
        if !stream.read(piece, &mut peer)? {
            return Ok(false);
        }
    }
    stream.end().map(|()| true)
}

/// The Priority field, each line a separate field: its members are in range, and serialised again
/// they parse to the same values.
pub fn priority(bytes: &[u8]) {
    let priority = Priority::of(&fields(bytes, |_| PRIORITY));
    assert!(priority.urgency.is_none_or(|urgency| urgency <= 7));
    for ours in 0..8 {
        assert!(priority.rank(ours).level < 64);
    }
    let incremental = if priority.incremental { "i" } else { "i=?0" };
    let written = match priority.urgency {
        Some(urgency) => format!("u={urgency}, {incremental}"),
        None => incremental.into(),
    };
    assert_eq!(Priority::of(&fields(written.as_bytes(), |_| PRIORITY)), priority);
}

/// Headers that determine a response's lifetime in the edge; the first byte of a line selects the
/// field. No value overflows, and an error is used only briefly.
pub fn freshness(bytes: &[u8]) {
    let headers = fields(bytes, |first| match first % 4 {
        0 => AGE,
        1 => ETAG,
        2 => VARY,
        _ => CACHE_CONTROL,
    });
    let now = Instant::now();
    for status in [
        StatusCode::OK,
        StatusCode::PARTIAL_CONTENT,
        StatusCode::NOT_FOUND,
        StatusCode::BAD_GATEWAY,
    ] {
        let fresh = Freshness::new(status, &headers, now);
        let error = Freshness::of_error(status, &headers, now, true);
        assert!(error.lifetime() <= Duration::from_secs(16) && !error.immutable);
        for later in [0, 1, 1 << 33].map(Duration::from_secs) {
            let at = now + later;
            assert!(fresh.age(at) >= later && (!fresh.is_fresh(at) || fresh.left(at) > Duration::ZERO));
            assert!(!error.may_be_stale(at));
        }
        let _ = error.error_control();
    }
}

/// Delivery directives: valid directives, serialised again, parse to the same values.
pub fn directives(bytes: &[u8]) {
    let Ok(query) = std::str::from_utf8(bytes) else { return };
    let Ok(parsed) = Directives::parse(Some(query)) else {
        return;
    };
    let mut pairs = Vec::new();
    pairs.extend(parsed.msn.map(|msn| format!("_HLS_msn={msn}")));
    pairs.extend(parsed.part.map(|part| format!("_HLS_part={part}")));
    pairs.extend(match parsed.skip {
        packager::Skip::No => None,
        packager::Skip::Yes => Some("_HLS_skip=YES".into()),
        packager::Skip::V2 => Some("_HLS_skip=v2".into()),
    });
    assert_eq!(Directives::parse(Some(&pairs.join("&"))), Ok(parsed));
    assert_eq!(directives::is_blocking(Some(query)), parsed.msn.is_some());
}

/// A header map with a field of each line that is a valid value; `name` gets a line's first byte.
fn fields(bytes: &[u8], name: impl Fn(u8) -> HeaderName) -> HeaderMap {
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let fields = lines.filter_map(|line| Some((name(line[0]), HeaderValue::from_bytes(line).ok()?)));
    // Heads have limits of their own.
    fields
        .take(HEAD_LINES)
        .fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        })
}

#[cfg(test)]
#[path = "../../fuzz/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::corpus;

    #[test]
    fn the_corpora_pass() {
        corpus::run("http1_head", super::http1_head);
        corpus::run("quic_frames", super::quic_frames);
        corpus::run("quic_field_section", super::quic_field_section);
        corpus::run("quic_unidirectional", super::quic_unidirectional);
        corpus::run("http_priority", super::priority);
        corpus::run("edge_freshness", super::freshness);
        corpus::run("hls_directives", super::directives);
    }
}
