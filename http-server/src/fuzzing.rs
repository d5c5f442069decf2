//! Entry points of the fuzz targets: properties that hold for any bytes. `cargo test` runs them on
//! the corpus in `fuzz/corpus`.

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method, Request,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use http_body_util::Empty;

use crate::{
    h1::head::{self, Head},
    priority::{PRIORITY, Priority},
    quic::{
        field_section,
        frames::{Frames, Refusal},
        unidirectional::{Fault, Peer, Stream},
    },
};

/// The limits of a head in `http1_head`: bytes and lines.
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
    // The properties that make a plain request safe to serve: within the limits, without a body,
    // and without bytes that a cache in front could read as another field.
    assert!(bytes[..used].ends_with(b"\r\n\r\n") && used <= HEAD_BYTES);
    assert!(request.headers().len() <= HEAD_LINES && request.uri().path().starts_with('/'));
    assert!(matches!(*request.method(), Method::GET | Method::HEAD));
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
        assert!(!request.headers().contains_key(name), "a body may follow");
    }
    let breaks =
        |value: &HeaderValue| value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
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

/// A text by which two results are compared: `Request` has no equality.
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

/// The bytes that a new filter hands on.
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

/// Reads a unidirectional stream that arrives in pieces of `size` bytes. `false`: its further bytes
/// are not read.
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
    let priority = Priority::of(&fields(bytes));
    assert!(priority.urgency.is_none_or(|urgency| urgency <= 7));
    for ours in 0..8 {
        assert!(priority.rank(ours).level < 64);
    }
    let incremental = if priority.incremental { "i" } else { "i=?0" };
    let written = match priority.urgency {
        Some(urgency) => format!("u={urgency}, {incremental}"),
        None => incremental.into(),
    };
    assert_eq!(Priority::of(&fields(written.as_bytes())), priority);
}

/// A header map with a Priority field of each line that is a valid value.
fn fields(bytes: &[u8]) -> HeaderMap {
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let values = lines.filter_map(|line| HeaderValue::from_bytes(line).ok());
    // Heads have limits of their own.
    values.take(HEAD_LINES).fold(HeaderMap::new(), |mut headers, value| {
        headers.append(PRIORITY, value);
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
    }
}
