//! Heads of HTTP/1.1 messages: recognizes plain requests, and writes the heads of responses. Pure:
//! bytes in, bytes out.
//!
//! A plain request has one reading only: GET or HEAD of a path by HTTP/1.1, without a body and
//! without a field that changes the connection. `httparse` parses it. All other requests, and
//! errors, are left to hyper. RFC 9112 2 to 7.

use std::io::{self, Write as _};

use bytes::{Buf, Bytes, BytesMut};
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE},
};
use http_body_util::Empty;
use httparse::{EMPTY_HEADER, Status};

use crate::body::Body;

/// Limit of header lines in a plain request; players send about ten. A request with more is left to
/// hyper, which applies `Config::max_headers`.
const LINES: usize = 64;
/// Limit of the bytes of empty lines before a plain request: two lines with carriage returns.
const EMPTY_BYTES: usize = 4;

/// The beginning of a connection's bytes.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "made once for each request, and taken apart at once"
)]
pub(crate) enum Head {
    /// A plain request, removed from the input.
    Plain(Request<Empty<Bytes>>),
    /// Any other bytes; they are still in the input.
    Other,
}

/// The framing of a response's body (RFC 9112 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body, whatever length the head states.
    Bodiless,
    /// The body ends after this many more bytes.
    Length(u64),
    /// The body ends with its last chunk (RFC 9112 7.1).
    Chunked,
}

impl Framing {
    /// Counts body bytes that follow.
    ///
    /// # Errors
    /// There are more bytes than the head states: the peer would read them as the next response.
    pub(crate) fn count(&mut self, bytes: usize) -> io::Result<()> {
        if let Self::Length(left) = self {
            let rest = left.checked_sub(bytes as u64);
            *left =
                rest.ok_or_else(|| io::Error::other("a body is longer than its Content-Length"))?;
        }
        Ok(())
    }

    /// Ends the body.
    ///
    /// # Errors
    /// The body is shorter than the head states: the peer would read the next response as its rest.
    pub(crate) fn end(self) -> io::Result<()> {
        match self {
            Self::Length(1..) => Err(io::Error::other("a body is shorter than its Content-Length")),
            _ => Ok(()),
        }
    }
}

/// Removes a plain request's head from the front of `input`, if there is one. `None`: there is no
/// complete head yet.
///
/// The bytes before `from` were examined before and hold no complete head. A head longer than
/// `max_bytes`, or with more than `max_lines` lines, is not plain.
///
/// Source: RFC 9112 2.1 (message format), 2.2 (line terminators).
pub(crate) fn take(
    input: &mut BytesMut,
    from: usize,
    max_bytes: usize,
    max_lines: usize,
) -> Option<Head> {
    // Empty lines may precede the request line (RFC 9112 2.2); they do not end a head.
    let begin = input.iter().take(EMPTY_BYTES + 1);
    let begin = begin.take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    if begin > EMPTY_BYTES {
        return Some(Head::Other);
    }
    // The end of a head may lie across the bytes examined before and the new ones.
    let from = from.saturating_sub(3);
    let rest = &input[from..];
    let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") else {
        // Lines may end without a carriage return (RFC 9112 2.2). Such a head is complete here, but
        // not for a reader that insists on CRLF, so it is left to hyper.
        let rest = input.get(from.max(begin)..).unwrap_or_default();
        let bare = rest.windows(2).any(|window| window == b"\n\n")
            || rest.windows(3).any(|window| window == b"\n\r\n");
        let other = bare || input.len() > max_bytes || (from == 0 && is_none(input));
        return other.then_some(Head::Other);
    };
    let end = from + end + 4;
    let request = match end <= max_bytes {
        true => parse(&Bytes::copy_from_slice(&input[..end]), max_lines),
        false => None,
    };
    let Some(request) = request else {
        return Some(Head::Other);
    };
    input.advance(end);
    Some(Head::Plain(request))
}

/// Whether the bytes cannot begin a request, for example because they are TLS. hyper then refuses
/// them at once, without waiting for the end of a head.
fn is_none(input: &[u8]) -> bool {
    let mut lines = [EMPTY_HEADER; LINES];
    httparse::Request::new(&mut lines).parse(input).is_err()
}

/// Parses a head as a plain request, if it is one. The path and the values share the bytes of
/// `head`.
///
/// Refuses all that two readers could understand differently, because a cache in front of this
/// server may be the other reader (RFC 9112 11.2, request smuggling).
fn parse(head: &Bytes, max_lines: usize) -> Option<Request<Empty<Bytes>>> {
    let mut lines = [EMPTY_HEADER; LINES];
    let mut found = httparse::Request::new(&mut lines[..LINES.min(max_lines)]);
    match found.parse(head) {
        Ok(Status::Complete(len)) if len == head.len() => {}
        _ => return None,
    }
    let method = match found.method? {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        _ => return None,
    };
    // Only the origin form (RFC 9112 3.2.1): the absolute form replaces Host, and `*` belongs to
    // OPTIONS.
    let path = found.path.filter(|path| path.starts_with('/'))?;
    // HTTP/1.0 closes connections by default and has no chunks: hyper handles it.
    if found.version != Some(1) {
        return None;
    }
    let mut request = Request::new(Empty::new());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_maybe_shared(head.slice_ref(path.as_bytes())).ok()?;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    headers.reserve(found.headers.len());
    for line in found.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(line.value)).ok()?;
        let plain = match name {
            // These fields announce a body or change the connection.
            CONTENT_LENGTH | TRANSFER_ENCODING | EXPECT | UPGRADE => false,
            CONNECTION => value.as_bytes().eq_ignore_ascii_case(b"keep-alive"),
            _ => true,
        };
        if !plain {
            return None;
        }
        headers.append(name, value);
    }
    Some(request)
}

/// Appends the head of a response to `output`, and returns how its body is framed.
///
/// `to_head`: it responds to HEAD, so that it states the body's length and has none. `last`: the
/// connection ends after it. Fields that describe the connection or the framing are set here,
/// whatever `response` has (RFC 9110 7.6.1, RFC 9112 6).
pub(crate) fn write(
    output: &mut Vec<u8>,
    response: &Response<Body>,
    to_head: bool,
    last: bool,
) -> Framing {
    let status = response.status();
    let mut put =
        |pieces: &[&[u8]]| pieces.iter().for_each(|piece| output.extend_from_slice(piece));
    match status {
        StatusCode::OK => put(&[b"HTTP/1.1 200 OK\r\n"]),
        status => {
            let reason = status.canonical_reason().unwrap_or("Unknown");
            put(&[b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason.as_bytes(), b"\r\n"]);
        }
    }
    for (name, value) in response.headers() {
        // The service's own framing fields are dropped: two different lengths would make the
        // response ambiguous.
        let ours = match *name {
            // The length of the body that a response to HEAD does not have here.
            CONTENT_LENGTH => !to_head,
            TRANSFER_ENCODING | CONNECTION => true,
            _ => false,
        };
        if !ours {
            put(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    if last {
        put(&[b"connection: close\r\n"]);
    }
    // A body of unknown length is chunked, because the end of the connection does not distinguish a
    // complete body from a lost one (RFC 9112 8).
    let bodiless = to_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = match response.body().len() {
        _ if bodiless => Framing::Bodiless,
        Some(len) => {
            let _ = write!(output, "content-length: {len}\r\n"); // into memory: it does not fail
            Framing::Length(len)
        }
        None => {
            output.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Framing::Chunked
        }
    };
    output.extend_from_slice(b"\r\n");
    framing
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(text: &str) -> (Option<Head>, usize) {
        let mut input = BytesMut::from(text);
        let head = take(&mut input, 0, 1_000, 64);
        (head, input.len())
    }

    fn is_other(text: &str) -> bool {
        let (head, left) = taken(text);
        matches!(head, Some(Head::Other)) && left == text.len()
    }

    #[test]
    fn a_plain_request_head_is_parsed_and_the_bytes_after_it_remain() {
        let text = "GET /live/x/v0.m3u8?_HLS_msn=1 HTTP/1.1\r\nHost: h\r\nX-A:  1 \r\nx-a: 2\r\n\
                    Connection: Keep-Alive\r\n\r\nGET";
        let (Some(Head::Plain(request)), 3) = taken(text) else {
            panic!("not taken");
        };
        assert_eq!((request.method(), request.version()), (&Method::GET, Version::HTTP_11));
        assert_eq!(request.uri(), "/live/x/v0.m3u8?_HLS_msn=1");
        assert_eq!(request.headers()["host"], "h");
        let all: Vec<_> = request.headers().get_all("x-a").iter().collect();
        assert_eq!(all, ["1", "2"]);
        assert!(matches!(taken("HEAD / HTTP/1.1\r\n\r\n"), (Some(Head::Plain(_)), 0)));
    }

    #[test]
    fn ambiguous_or_unusual_request_heads_are_left_to_hyper() {
        for line in [
            "POST /x HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "get /x HTTP/1.1",
            "GET http://other/x HTTP/1.1",
            "GET x HTTP/1.1",
            "GET /x HTTP/1.0",
            "GET  /x HTTP/1.1",
            "GET /x HTTP/2.0",
            " GET /x HTTP/1.1",
            "GET /\u{1}x HTTP/1.1",
            "GET /x",
            "",
        ] {
            assert!(is_other(&format!("{line}\r\nHost: h\r\n\r\n")), "{line}");
        }
        for header in [
            "Content-Length: 0",
            "content-length: 5",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding : chunked",
            "Expect: 100-continue",
            "Upgrade: h2c",
            "Connection: close",
            "Connection: keep-alive, upgrade",
            " folded: 1",
            "A: 1\r\n folded",
            "no colon",
            "A\u{0}: 1",
            "A: \u{0}",
            "A: 1\rContent-Length: 5",
        ] {
            assert!(
                is_other(&format!("GET /x HTTP/1.1\r\nHost: h\r\n{header}\r\n\r\n")),
                "{header}"
            );
        }
        for mixed in ["\nHost: h\n\n", "\r\nHost: h\n\r\n", "\nHost: h\n\r\n"] {
            assert!(is_other(&format!("GET /x HTTP/1.1{mixed}")), "{mixed:?}");
        }
        assert!(is_other(&format!("GET /x HTTP/1.1\r\n{}\r\n", "A: 1\r\n".repeat(65))));
        assert!(is_other(&format!("GET /x HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(1_000))));
        assert!(is_other(&"x".repeat(1_001)));
        assert!(is_other("\u{16}\u{3}\u{1}\u{2}\0\u{1}"), "TLS");
    }

    #[test]
    fn a_request_head_in_single_bytes_is_parsed_when_it_is_complete() {
        for empty in ["", "\r\n", "\n\r\n"] {
            let text = format!("{empty}GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
            let mut input = BytesMut::new();
            for (index, byte) in text.bytes().enumerate() {
                let before = input.len();
                input.extend_from_slice(&[byte]);
                let head = take(&mut input, before, 1_000, 64);
                assert_eq!(matches!(head, Some(Head::Plain(_))), index + 1 == text.len());
                assert!(!matches!(head, Some(Head::Other)), "{text:?} at {index}");
            }
        }
    }

    fn head(response: &Response<Body>, to_head: bool, last: bool) -> (String, Framing) {
        let mut output = Vec::new();
        let framing = write(&mut output, response, to_head, last);
        (String::from_utf8(output).unwrap(), framing)
    }

    #[test]
    fn response_heads_have_the_expected_bytes_and_framing() {
        let mut response = Response::new(Body::from("text"));
        response.headers_mut().insert("etag", HeaderValue::from_static("\"1\""));
        // The service's value is not used:
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(9));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        assert_eq!(
            head(&response, false, true),
            (
                "HTTP/1.1 200 OK\r\netag: \"1\"\r\nconnection: close\r\ncontent-length: 4\r\n\r\n"
                    .into(),
                Framing::Length(4)
            )
        );
        *response.body_mut() = Body::empty();
        assert_eq!(
            head(&response, true, false),
            (
                "HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: 9\r\n\r\n".into(),
                Framing::Bodiless
            )
        );
        for (status, line) in [(204, "204 No Content"), (304, "304 Not Modified")] {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            let expected = format!("HTTP/1.1 {line}\r\n\r\n");
            assert_eq!(head(&response, false, false), (expected, Framing::Bodiless));
        }
        let (_sender, unknown) = http_body_util::channel::Channel::<Bytes>::new(1);
        let response = Response::new(Body::boxed(unknown));
        assert_eq!(
            head(&response, false, false),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".into(), Framing::Chunked)
        );
    }

    #[test]
    fn a_body_that_differs_from_its_content_length_is_an_error() {
        let mut framing = Framing::Length(5);
        assert!(framing.count(3).is_ok() && framing.end().is_err());
        assert!(framing.count(3).is_err());
        assert!(framing.count(2).is_ok() && framing.end().is_ok());
        assert!(framing.count(1).is_err());
        let mut chunked = Framing::Chunked;
        assert!(chunked.count(1 << 30).is_ok() && chunked.end().is_ok());
    }

    proptest! {
        #[test]
        fn arbitrary_input_is_parsed_or_left_unchanged(bytes: Vec<u8>, prefix in 0..3_usize) {
            let whole = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
            let prefix = [&b""[..], b"GET / HTTP/1.1\r\n", whole][prefix];
            let text = [prefix, &bytes].concat();
            let mut input = BytesMut::from(&text[..]);
            match take(&mut input, 0, 1_000, 64) {
                Some(Head::Plain(_)) => {
                    prop_assert!(text.ends_with(&input));
                    prop_assert!(text[..text.len() - input.len()].ends_with(b"\r\n\r\n"));
                }
                Some(Head::Other) | None => prop_assert_eq!(&input[..], &text[..]),
            }
        }
    }
}
