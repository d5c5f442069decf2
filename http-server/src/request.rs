//! Requests that no protocol implementation refuses but that must be refused: those whose target is
//! ambiguous, those with too many fields, and those that may be a replay. The same in all
//! protocols. Pure except for [`is_empty`] and [`discard`].
//!
//! RFC 9110 5.5, 7.2; RFC 9112 3.2; RFC 9113 8.2.1, 8.3.1; RFC 9114 4.3.1; RFC 8470 4, 5.1, 5.2.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Version, header};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::{authority, body::BoxError, service::Refusal};

/// Maximum number of bytes of a refused request's body that are read.
const MAX_DISCARDED: usize = 64 << 10;
/// Maximum number of frames without data that a request may have instead of a body; clients send at
/// most one.
const MAX_EMPTY: usize = 8;

/// The reason to refuse the request, if there is one. `early`: it arrived before the end of the
/// handshake.
///
/// - 400: its target or framing is ambiguous (RFC 9112 3.2, 6.1; RFC 9113 8.3.1; RFC 9114 4.3.1).
/// - 431: it has more than `max_headers` header fields (RFC 6585 5).
/// - 425: it may be a replay and is not safe (RFC 8470 5.2): early data here, or at the proxy that
///   sent `Early-Data` (5.1).
pub fn refusal<B>(request: &Request<B>, max_headers: usize, early: bool) -> Option<Refusal> {
    // Ambiguity is checked first, because after an ambiguous request the connection must close.
    let refusal = |status, reason| Some(Refusal { status, reason });
    if let Some(fault) = fault(request) {
        return refusal(StatusCode::BAD_REQUEST, fault);
    }
    if request.headers().len() > max_headers {
        let why = "the request has too many header fields";
        return refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, why);
    }
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    if !safe && (early || request.headers().contains_key("early-data")) {
        return refusal(StatusCode::TOO_EARLY, "repeat the request after the handshake");
    }
    None
}

/// The reason why a request is ambiguous, if it is, as a phrase for the client.
fn fault<B>(request: &Request<B>) -> Option<&'static str> {
    let version = request.version();
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Some("the request has more than one Host field");
    }
    if !host.into_iter().chain(authority).all(authority::is_valid) {
        return Some("the request's host is not a valid host and port");
    }
    // HTTP/1.1 takes the host from the target or from Host. HTTP/2 and HTTP/3 may carry it twice,
    // in `:authority` and in Host, and readers differ in which one they use.
    if version < Version::HTTP_2 {
        let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
        let once = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        // The end of a body that is coded twice depends on the reader (RFC 9112 6.1, 11.2).
        if !codings.next().is_none_or(once) || codings.next().is_some() {
            return Some("the transfer coding of the request is not chunked, once");
        }
        // If the target has a host, Host has no meaning (RFC 9112 3.2.2), but must be present.
        return (host.is_none() && version == Version::HTTP_11)
            .then_some("the request has no Host field");
    }
    match (authority, host) {
        (None, None) => return Some("the request has neither :authority nor Host"),
        (Some(authority), Some(host)) => {
            let scheme = request.uri().scheme_str().unwrap_or_default();
            // One of the two may carry the default port (RFC 9113 8.3.1 compares them after
            // normalization).
            let [authority, host] =
                [authority, host].map(|text| authority::without_default_port(text, scheme));
            if !authority.eq_ignore_ascii_case(host) {
                return Some(":authority and Host differ");
            }
        }
        _ => {}
    }
    let mut values = request.headers().values();
    values
        .any(|value| is_padded(value.as_bytes()))
        .then_some("a field value begins or ends with white space")
}

/// Whether the value begins or ends with white space (RFC 9113 8.2.1). HTTP/1.1 removes it when it
/// parses a line.
fn is_padded(value: &[u8]) -> bool {
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    space(value.first()) || space(value.last())
}

/// Waits until it is known whether an open body has any bytes: an HTTP/2 or HTTP/3 request may end
/// with an empty frame after its head (RFC 9113 8.1), one of HTTP/1.1 with an empty last chunk.
///
/// Returns false if the body has bytes, if it fails, if it has [`MAX_EMPTY`] empty frames without
/// an end, or if it does not end within `limit`.
pub async fn is_empty<B>(mut body: Pin<&mut B>, limit: Duration) -> bool
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    // A peer could send empty frames for ever, so their number is limited.
    let ends_empty = async {
        for _ in 0..MAX_EMPTY {
            match body.frame().await {
                None => return true,
                Some(Ok(frame)) if frame.data_ref().is_none_or(Bytes::is_empty) => {}
                Some(_) => return false,
            }
        }
        false
    };
    timeout(limit, ends_empty).await.unwrap_or(false)
}

/// Reads the rest of a body for nothing, so that a fault in it is found before the request is
/// refused (RFC 9113 8.1.1): to its end, 64 KiB, or `limit`.
pub async fn discard<B>(mut body: Pin<&mut B>, limit: Duration)
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    // A frame counts as a byte at least, so that empty ones and trailers end the loop too.
    let read = async {
        let mut len = 0;
        while len < MAX_DISCARDED {
            match body.frame().await {
                Some(Ok(frame)) => len += frame.data_ref().map_or(0, Bytes::len).max(1),
                Some(Err(_)) | None => return,
            }
        }
    };
    // After the limit the request is refused with the rest of its body unread.
    let _ = timeout(limit, read).await;
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use http_body_util::{Channel, Empty, Full};

    use super::*;

    fn asked(version: Version, uri: &str, fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().version(version).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn status(request: &Request<()>) -> Option<u16> {
        refusal(request, 4, false).map(|refusal| refusal.status.as_u16())
    }

    const HOST: (&str, &str) = ("host", "origin:80");
    const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");

    #[test]
    fn http_1_requests_with_an_invalid_host_or_transfer_encoding_are_refused() {
        let ask = |version, uri, fields| status(&asked(version, uri, fields));
        for (version, uri, fields, expected) in [
            (Version::HTTP_11, "/x", &[HOST][..], None),
            (Version::HTTP_11, "/x", &[], Some(400)),
            (Version::HTTP_11, "/x", &[HOST, HOST], Some(400)),
            (Version::HTTP_11, "/x", &[("host", "")], Some(400)),
            (Version::HTTP_11, "/x", &[("host", "u@a")], Some(400)),
            (Version::HTTP_11, "http://other/x", &[HOST], None),
            (Version::HTTP_11, "http://other/x", &[], Some(400)),
            (Version::HTTP_11, "http://u@other/x", &[HOST], Some(400)),
            (Version::HTTP_11, "/x", &[HOST, ("transfer-encoding", "Chunked")], None),
            (Version::HTTP_11, "/x", &[HOST, ("transfer-encoding", "chunked, chunked")], Some(400)),
            (Version::HTTP_11, "/x", &[HOST, CHUNKED, CHUNKED], Some(400)),
            (Version::HTTP_11, "/x", &[HOST, ("transfer-encoding", "gzip, chunked")], Some(400)),
            (Version::HTTP_10, "/x", &[], None),
            (Version::HTTP_10, "/x", &[("host", "a/b")], Some(400)),
        ] {
            assert_eq!(ask(version, uri, fields), expected, "{version:?} {uri} {fields:?}");
        }
    }

    #[test]
    fn http_2_and_3_requests_need_one_authority_and_unpadded_field_values() {
        for version in [Version::HTTP_2, Version::HTTP_3] {
            let ask = |uri, fields| status(&asked(version, uri, fields));
            for (uri, fields, expected) in [
                ("https://origin:80/x", &[][..], None),
                ("https://origin:80/x", &[HOST], None),
                ("https://ORIGIN:80/x", &[HOST], None),
                ("/x", &[HOST], None),
                ("/x", &[], Some(400)),
                ("https://other/x", &[HOST], Some(400)),
                ("https://origin/x", &[HOST], Some(400)),
                ("http://origin/x", &[HOST], None),
                ("https://origin:443/x", &[("host", "origin")], None),
                ("https://origin/x", &[("host", "Origin:443")], None),
                ("https://[::443]/x", &[("host", "[::443]:443")], None),
                ("https://[::443]/x", &[("host", "[::]")], Some(400)),
                ("https://u@origin:80/x", &[], Some(400)),
                ("https://origin/x", &[("x", "a b")], None),
                ("https://origin/x", &[("x", "")], None),
                ("https://origin/x", &[("x", " a")], Some(400)),
                ("https://origin/x", &[("x", "a\t")], Some(400)),
                ("https://origin/x", &[("x", "\t")], Some(400)),
            ] {
                assert_eq!(ask(uri, fields), expected, "{version:?} {uri} {fields:?}");
            }
        }
    }

    #[test]
    fn too_many_fields_are_refused_in_all_protocols() {
        let fields = [("a", "1"), ("b", "1"), ("b", "2"), ("c", "1"), ("d", "1")];
        for version in [Version::HTTP_10, Version::HTTP_2, Version::HTTP_3] {
            assert_eq!(status(&asked(version, "https://origin/x", &fields[..4])), None);
            assert_eq!(status(&asked(version, "https://origin/x", &fields)), Some(431));
        }
    }

    #[test]
    fn early_requests_with_unsafe_methods_are_refused() {
        for (method, fields, early, expected) in [
            ("GET", &[][..], true, None),
            ("HEAD", &[("early-data", "1")], true, None),
            ("DELETE", &[], true, Some(425)),
            ("DELETE", &[("early-data", "1")], false, Some(425)),
            ("DELETE", &[], false, None),
        ] {
            for version in [Version::HTTP_2, Version::HTTP_3] {
                let mut request = asked(version, "https://origin/x", fields);
                *request.method_mut() = method.parse().unwrap();
                let found = refusal(&request, 4, early).map(|refusal| refusal.status.as_u16());
                assert_eq!(found, expected, "{method} {fields:?} {early}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_a_few_empty_frames_is_empty() {
        let limit = Duration::from_secs(1);
        assert!(is_empty(pin!(Empty::<Bytes>::new()), limit).await);
        assert!(!is_empty(pin!(Full::new(Bytes::from_static(b"x"))), limit).await);
        for (frames, expected) in [
            (&[][..], true),
            (&[""], true),
            (&["", ""], true),
            (&["", "x"], false),
            (&["x"], false),
            (&[""; MAX_EMPTY], false),
        ] {
            let (mut sender, body) = Channel::<Bytes>::new(MAX_EMPTY);
            for frame in frames {
                sender.send_data(Bytes::from_static(frame.as_bytes())).await.unwrap();
            }
            drop(sender);
            assert_eq!(is_empty(pin!(body), limit).await, expected, "{frames:?}");
        }
        let (_sender, silent) = Channel::<Bytes>::new(1);
        assert!(!is_empty(pin!(silent), limit).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_body_of_a_refused_request_is_discarded_within_limits() {
        let limit = Duration::from_secs(1);
        let begun = tokio::time::Instant::now();
        let (mut sender, body) = Channel::<Bytes>::new(4);
        sender.send_data(Bytes::from_static(b"x")).await.unwrap();
        drop(sender);
        discard(pin!(body), limit).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        // One that is long is not read to its end, and one that stalls is not waited for.
        let piece = Bytes::from(vec![0; MAX_DISCARDED / 2]);
        let (mut sender, mut body) = Channel::<Bytes>::new(4);
        for _ in 0..3 {
            sender.send_data(piece.clone()).await.unwrap();
        }
        discard(pin!(&mut body), limit).await;
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), piece);
        discard(pin!(body), limit).await;
        assert_eq!(begun.elapsed(), limit);
    }
}
