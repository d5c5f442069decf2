//! The intermediaries of a message, for the detection of loops: CDN-Loop (RFC 8586) and Via (RFC
//! 9110 7.6.3). Pure.

use http::{HeaderMap, HeaderName, HeaderValue, Version, header::VIA, request::Parts};

use crate::response;

/// Names the intermediaries of a request.
const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
/// Maximum number of names in one list, and of its bytes, because the origin refuses heads that are
/// too large.
const MAX_NAMES: usize = 8;
const MAX_BYTES: usize = 512;

/// The intermediaries of one request, as its head lists them.
#[derive(Debug, Clone)]
pub(super) struct Hops {
    /// Field lines of CDN-Loop.
    cdn_loop: Vec<HeaderValue>,
    /// Field lines of Via.
    via: Vec<HeaderValue>,
    /// The version of HTTP by which the request arrived.
    received: Version,
}

impl Hops {
    /// Those of a received request.
    pub(super) fn of(head: &Parts) -> Self {
        let list = |name: &HeaderName| head.headers.get_all(name).iter().cloned().collect();
        Self { cdn_loop: list(&CDN_LOOP), via: list(&VIA), received: head.version }
    }

    /// Whether `name` is among them: the request has looped.
    ///
    /// A CDN-Loop entry begins with the name (RFC 8586 2); in a Via entry it follows the protocol.
    pub(super) fn include(&self, name: &HeaderValue) -> bool {
        // Parameters and comments follow the name after white space or a semicolon.
        let words = |entry: &[u8], index: usize| {
            let mut words = entry
                .split(|byte| matches!(byte, b' ' | b'\t' | b';'))
                .filter(|word| !word.is_empty());
            words.nth(index) == Some(name.as_bytes())
        };
        entries(&self.cdn_loop).any(|entry| words(entry, 0))
            || entries(&self.via).any(|entry| words(entry, 1))
    }

    /// Whether the request has passed too many intermediaries to be forwarded.
    pub(super) fn are_too_many(&self) -> bool {
        is_too_long(&self.cdn_loop)
    }

    /// Adds the fields of the request that `name` forwards.
    ///
    /// A Via list that is too long is omitted: proxies between a viewer and this edge may write
    /// anything there, which is no reason to refuse the viewer. CDN-Loop finds loops without it.
    pub(super) fn forward(&self, name: &HeaderValue, headers: &mut HeaderMap) {
        // RFC 8586 2: existing entries are kept, and this edge's is added at the end.
        for list in &self.cdn_loop {
            headers.append(CDN_LOOP, list.clone());
        }
        headers.append(CDN_LOOP, name.clone());
        for list in self.via.iter().filter(|_| !is_too_long(&self.via)) {
            headers.append(VIA, list.clone());
        }
        headers.append(VIA, via(self.received, name));
    }
}

/// The Via entry of `name` for a message received with this version of HTTP.
pub(super) fn via(received: Version, name: &HeaderValue) -> HeaderValue {
    let version = match received {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2.0",
        Version::HTTP_3 => "3.0",
        _ => "1.1",
    };
    response::value(format_args!("{version} {}", name.to_str().unwrap_or_default()))
}

/// The entries of a list over all its field lines.
fn entries(list: &[HeaderValue]) -> impl Iterator<Item = &[u8]> {
    list.iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
}

/// Whether a list has too many entries or bytes.
fn is_too_long(list: &[HeaderValue]) -> bool {
    entries(list).count() > MAX_NAMES
        || list.iter().map(HeaderValue::len).sum::<usize>() > MAX_BYTES
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn hops(fields: &[(&str, &str)]) -> Hops {
        let request = fields
            .iter()
            .fold(Request::get("/"), |request, (name, value)| request.header(*name, *value));
        Hops::of(&request.body(()).unwrap().into_parts().0)
    }

    fn forwarded(hops: &Hops, name: &str) -> Vec<String> {
        let mut headers = HeaderMap::new();
        hops.forward(&HeaderValue::from_static("me"), &mut headers);
        let values = headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_name_is_found_in_cdn_loop_or_via_only_as_a_whole_token() {
        let me = HeaderValue::from_static("me");
        for (name, list, found) in [
            ("cdn-loop", "other; x=y, me", true),
            ("cdn-loop", "me;v=1", true),
            ("cdn-loop", "me too", true),
            ("cdn-loop", "other me", false),
            ("cdn-loop", "me2, other; me", false),
            ("via", "1.0 fred, 1.1 me", true),
            ("via", "HTTP/2.0  me (streamforge)", true),
            ("via", "1.1 other (me)", false),
            ("via", "me other, 1.1", false),
        ] {
            assert_eq!(hops(&[(name, list)]).include(&me), found, "{name}: {list}");
        }
        assert!(hops(&[("via", "1.1 a"), ("via", "1.1 me")]).include(&me));
    }

    #[test]
    fn a_forwarded_request_has_cdn_loop_and_via_with_the_own_name_last() {
        let two = hops(&[("cdn-loop", "a; x=y"), ("via", "1.0 fred"), ("via", "1.1 p")]);
        assert_eq!(forwarded(&two, "cdn-loop"), ["a; x=y", "me"]);
        assert_eq!(forwarded(&two, "via"), ["1.0 fred", "1.1 p", "1.1 me"]);
        let none = Hops { received: Version::HTTP_2, ..hops(&[]) };
        assert_eq!(forwarded(&none, "cdn-loop"), ["me"]);
        assert_eq!(forwarded(&none, "via"), ["2.0 me"]);
    }

    #[test]
    fn too_long_a_cdn_loop_is_refused_and_too_long_a_via_is_dropped() {
        for list in ["x".repeat(513), "a,".repeat(8) + "a"] {
            assert!(hops(&[("cdn-loop", &list)]).are_too_many());
            let long = hops(&[("via", &list)]);
            assert!(!long.are_too_many());
            assert_eq!(forwarded(&long, "via"), ["1.1 me"]);
        }
        assert!(!hops(&[("cdn-loop", &"x".repeat(512))]).are_too_many());
    }
}
