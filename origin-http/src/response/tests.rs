use http::{
    HeaderName, Method,
    header::{ACCEPT_ENCODING, IF_NONE_MATCH},
};
use http_body_util::BodyExt;

use super::*;

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

fn conditions(headers: &HeaderMap) -> Conditions {
    Conditions::of_text(&Method::GET, headers)
}

fn media_of(method: Method, request: &[(&'static str, &'static str)]) -> Response<Body> {
    let rope = Rope::new([Bytes::from_static(b"01234"), Bytes::from_static(b"56789")]);
    let etag = quoted(format_args!("7"));
    media(
        &Conditions::of(&method, &headers(request)),
        &rope,
        etag,
        VIDEO_SEGMENT,
        Lifetime::Immutable,
    )
}

async fn body(response: Response<Body>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn media_are_sent_whole_or_in_the_requested_range() {
    for (request, status, range, expected) in [
        (&[][..], 200, None, &b"0123456789"[..]),
        (&[("range", "bytes=0-")], 206, Some("bytes 0-9/10"), b"0123456789"),
        (&[("range", "bytes=3-6")], 206, Some("bytes 3-6/10"), b"3456"),
        (&[("range", "bytes=-1")], 206, Some("bytes 9-9/10"), b"9"),
        (&[("range", "bytes=10-")], 416, Some("bytes */10"), b"the range begins after the end\n"),
        (&[("range", "bytes=1-2,4-5")], 200, None, b"0123456789"),
        (&[("range", "bytes=3-6"), ("if-range", "\"7\"")], 206, Some("bytes 3-6/10"), b"3456"),
        (&[("range", "bytes=3-6"), ("if-range", "\"8\"")], 200, None, b"0123456789"),
        (&[("range", "bytes=3-6"), ("if-range", "W/\"7\"")], 200, None, b"0123456789"),
        (
            &[("range", "bytes=3-6"), ("if-range", "Sat, 01 May 2027 00:00:00 GMT")],
            200,
            None,
            b"0123456789",
        ),
        (&[("range", "bytes=3-6"), ("if-none-match", "\"7\"")], 304, None, b""),
        (&[("range", "bytes=99-"), ("if-none-match", "\"7\"")], 304, None, b""),
    ] {
        let response = media_of(Method::GET, request);
        assert_eq!(response.status(), status, "{request:?}");
        assert_eq!(
            response.headers().get(CONTENT_RANGE).map(|range| range.to_str().unwrap()),
            range,
            "{request:?}"
        );
        assert_eq!(response.headers()[ETAG], "\"7\"");
        let lifetime =
            if status == 416 { "no-store" } else { "public, max-age=31536000, immutable" };
        assert_eq!(response.headers()[CACHE_CONTROL], lifetime, "{request:?}");
        assert_eq!(body(response).await, expected, "{request:?}");
    }
}

#[test]
fn a_matching_if_none_match_gets_304() {
    for held in ["\"7\"", "W/\"7\"", "\"6\", \"7\"", "\"6\",W/\"7\" ", "*"] {
        let response = media_of(Method::GET, &[("if-none-match", held)]);
        assert_eq!(response.status(), 304, "{held}");
        assert!(
            response.headers().contains_key(ETAG) && !response.headers().contains_key(CONTENT_TYPE)
        );
    }
    for other in ["", "7", "\"77\"", "\"6\""] {
        assert_eq!(media_of(Method::GET, &[("if-none-match", other)]).status(), 200, "{other}");
    }
    let mut twice = headers(&[("if-none-match", "\"6\"")]);
    twice.append(IF_NONE_MATCH, HeaderValue::from_static("\"7\""));
    let etag = quoted(format_args!("7"));
    let response = media(&conditions(&twice), &Rope::default(), etag, AUDIO, Lifetime::Immutable);
    assert_eq!(response.status(), 304);
}

#[tokio::test]
async fn a_text_is_compressed_if_accepted_and_each_encoding_has_its_own_etag() {
    let list = Text::from("#EXTM3U\n".repeat(100));
    let fetch = |request: &[(&'static str, &'static str)]| {
        text(&conditions(&headers(request)), &list, HLS, Lifetime::Seconds(2))
    };
    let plain = fetch(&[("range", "bytes=0-")]);
    let gzip = fetch(&[("range", "bytes=0-"), ("accept-encoding", "gzip")]);
    assert_eq!((plain.status(), gzip.status()), (StatusCode::OK, StatusCode::OK));
    let tag = |response: &Response<Body>| response.headers()[ETAG].to_str().unwrap().to_owned();
    let (plain_tag, gzip_tag) = (tag(&plain), tag(&gzip));
    assert_ne!(plain_tag, gzip_tag);
    for response in [&plain, &gzip] {
        assert_eq!(response.headers()[VARY], "accept-encoding");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/vnd.apple.mpegurl");
        assert_eq!(response.headers()[CACHE_CONTROL], "public, max-age=2");
    }
    assert_eq!(gzip.headers()[CONTENT_ENCODING], "gzip");
    assert_eq!(body(plain).await, list.plain());
    assert_eq!(body(gzip).await, list.gzip());
    let mut request = headers(&[("accept-encoding", "gzip")]);
    request.insert(IF_NONE_MATCH, gzip_tag.parse().unwrap());
    let unchanged = text(&conditions(&request), &list, HLS, Lifetime::Seconds(2));
    assert_eq!(
        (unchanged.status(), &unchanged.headers()[VARY]),
        (StatusCode::NOT_MODIFIED, &HeaderValue::from_static("accept-encoding"))
    );
    request.remove(ACCEPT_ENCODING);
    assert_eq!(text(&conditions(&request), &list, HLS, Lifetime::Seconds(2)).status(), 200);
    assert_eq!(tag(&fetch(&[])), plain_tag);
}

#[test]
fn header_values_of_any_length_are_written_completely() {
    for len in [0, 1, 63, 64, 65, 1_000] {
        let text = "x".repeat(len);
        assert_eq!(value(format_args!("{text}")), text);
        assert_eq!(quoted(format_args!("{text}")), format!("\"{text}\""));
    }
}
