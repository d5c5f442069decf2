//! The address under which clients reach the daemon, which a manifest needs as an absolute address
//! (UTCTiming), although its other addresses are relative. Pure.
//!
//! It is `http.public_url`, or the scheme and authority of the request (RFC 9110 4.2). In the
//! latter case the response lists the fields in Vary, because a proxy may use only the path as its
//! cache key and forward any Host.

use http::{HeaderMap, Uri, header, request::Parts};
use packager::Site;
use serde::Deserialize;

/// A proxy's statement of its client's scheme. It can only change `http` to `https`.
const FORWARDED_PROTO: &str = "x-forwarded-proto";
/// The request headers that determine a manifest if `http.public_url` is not set: whether it lists
/// the clock with a relative or an absolute address, and which one.
pub(crate) const VARIES: &str = "accept-encoding, host, x-forwarded-proto, cdn-loop";
/// RFC 8586: the intermediaries of a request.
const CDN_LOOP: &str = "cdn-loop";
/// Prefix of our edges' names.
const EDGE: &[u8] = b"streamforge-";

/// Longest authority in bytes that is written into a manifest.
const MAX_AUTHORITY_BYTES: usize = 255;
/// Longest `http.public_url` in bytes.
const MAX_URL_BYTES: usize = 1_024;

/// `http.public_url`: scheme, authority and possibly a path, or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublicUrl(Site);

/// A text that is not a valid [`PublicUrl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it must be empty or an address such as \"https://live.example.org\", \
     without user, query and fragment"
)]
pub struct NotPublicUrl;

impl PublicUrl {
    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// The address without a trailing slash; `None` if it is not set.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The site; `None` if it is not set.
    pub(crate) fn site(&self) -> Site {
        self.0.clone()
    }
}

impl TryFrom<String> for PublicUrl {
    type Error = NotPublicUrl;

    fn try_from(text: String) -> Result<Self, NotPublicUrl> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        // No character that would have to be escaped in XML.
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"&<>\"'#?".contains(&byte);
        let uri: Uri = text.parse().map_err(|_| NotPublicUrl)?;
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority().is_some_and(|authority| is_authority(authority.as_str()));
        if !scheme || !authority || !text.bytes().all(plain) || text.len() > MAX_URL_BYTES {
            return Err(NotPublicUrl);
        }
        Ok(Self(Some(text.trim_end_matches('/').into())))
    }
}

/// The site of a request; `secure`: it used TLS. `None` if it has none that can be written into a
/// manifest, or if an edge sent it, because its viewers cannot reach us under that name.
///
/// The authority is that of the target, or Host (RFC 9112 3.3).
pub(crate) fn of(head: &Parts, secure: bool) -> Site {
    if is_of_edge(&head.headers) {
        return None;
    }
    let host = || head.headers.get(header::HOST)?.to_str().ok();
    let authority = head.uri.authority().map(|authority| authority.as_str());
    let authority = authority.or_else(host).filter(|text| is_authority(text))?;
    // A client that forges the field affects its own manifest only: Vary lists the field.
    let forwarded = head.headers.get(FORWARDED_PROTO);
    let secure =
        secure || forwarded.is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"));
    let scheme = if secure { "https" } else { "http" };
    Some(format!("{scheme}://{authority}").into())
}

/// Whether it has only the characters of a host and port (RFC 3986 3.2.2), without user
/// information.
fn is_authority(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !text.is_empty() && text.len() <= MAX_AUTHORITY_BYTES && text.bytes().all(allowed)
}

/// Whether one of our edges is among the intermediaries (RFC 8586 2).
pub(crate) fn is_of_edge(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(CDN_LOOP).into_iter();
    lists
        .flat_map(|list| list.as_bytes().split(|&byte| byte == b','))
        .any(|name| name.trim_ascii().starts_with(EDGE))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn site(target: &str, headers: &[(&str, &str)], secure: bool) -> Option<String> {
        let mut request = Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        of(&head, secure).map(|site| site.to_string())
    }

    #[test]
    fn the_site_is_the_scheme_and_authority_of_the_request() {
        let plain = |host| site("/live/demo/manifest.mpd", &[("host", host)], false);
        assert_eq!(plain("example.org").as_deref(), Some("http://example.org"));
        assert_eq!(plain("[2001:db8::1]:8080").as_deref(), Some("http://[2001:db8::1]:8080"));
        let secure = |target| site(target, &[("host", "b.example")], true);
        assert_eq!(secure("/x").as_deref(), Some("https://b.example"));
        // HTTP/2, HTTP/3 and the absolute form.
        assert_eq!(secure("https://a.example:8443/x").as_deref(), Some("https://a.example:8443"));
        let behind =
            |proto| site("/x", &[("host", "a.example"), ("x-forwarded-proto", proto)], false);
        assert_eq!(behind("https").as_deref(), Some("https://a.example"));
        assert_eq!(behind("http\"").as_deref(), Some("http://a.example"));
    }

    #[test]
    fn invalid_hosts_and_requests_through_an_edge_have_no_site() {
        let long = "a".repeat(256);
        for host in ["", "a\"b", "user@a.example", "a.example/x", "a<b", "a&b", "a b", &long] {
            assert_eq!(site("/x", &[("host", host)], false), None, "{host}");
        }
        assert_eq!(site("/x", &[], true), None);
        let through = |names| site("/x", &[("host", "a.example"), ("cdn-loop", names)], false);
        assert_eq!(through("other, streamforge-0123"), None);
        assert_eq!(through("other").as_deref(), Some("http://a.example"));
    }

    #[test]
    fn a_public_url_needs_a_scheme_and_host_and_loses_its_trailing_slash() {
        let read = |text: &str| {
            PublicUrl::try_from(text.to_owned()).map(|url| url.site().map(|site| site.to_string()))
        };
        assert_eq!(read(""), Ok(None));
        let good = [
            ("https://live.example.org", "https://live.example.org"),
            ("http://a.example:8080/", "http://a.example:8080"),
            ("https://cdn.example/a/b/", "https://cdn.example/a/b"),
        ];
        for (text, site) in good {
            assert_eq!(read(text), Ok(Some(site.to_owned())));
        }
        let bad = [
            "live.example.org",
            "/live",
            "ftp://a.example",
            "https://",
            "https://u:p@a.example",
            "https://a.example/?x",
            "https://a.example/#x",
            "https://a.example/\"",
            "https://a.example/a&b",
        ];
        for text in bad {
            assert_eq!(read(text), Err(NotPublicUrl), "{text}");
        }
    }
}
