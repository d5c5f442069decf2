//! The cookie mode of sessions, for browsers: scripts see neither token.
//!
//! Both cookies are `HttpOnly` and `SameSite=Lax`. On TLS they are `Secure` and have the prefix
//! `__Host-` (RFC 6265bis 4.1.3.2), so that no other host of the domain can set them. Without TLS,
//! on a test machine, browsers would refuse this prefix.
//!
//! Requests that change something must come from this site's own pages: the browser says so in
//! `Sec-Fetch-Site`, or in `Origin` if it is older or the page has no TLS. This needs no state, no
//! script that copies a token and no extra request, and every browser of the last years sends one
//! of them. A request with neither is refused: programs use the header `Authorization`.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, header,
    uri::{Authority, Scheme},
};

use super::{access_token, refresh_token::RefreshToken};
use crate::{
    problem::{Kind, Problem},
    store::IDLE,
};

/// The header in which a browser names the relation of a page to the address it requests.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The names of the cookies without their prefix.
const ACCESS: &str = "sf_access";
const REFRESH: &str = "sf_refresh";

/// Whether a request arrived on TLS: an extension of the request, which the listener's adapter
/// adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tls(pub bool);

/// The cookies that sign a browser in.
pub fn set(tls: Tls, access: &str, refresh: &RefreshToken) -> [(HeaderName, HeaderValue); 2] {
    [
        cookie(tls, ACCESS, access, access_token::LIFE.as_secs()),
        cookie(tls, REFRESH, refresh.expose(), IDLE.as_secs()),
    ]
}

/// The cookies that sign a browser out.
pub fn clear(tls: Tls) -> [(HeaderName, HeaderValue); 2] {
    [cookie(tls, ACCESS, "", 0), cookie(tls, REFRESH, "", 0)]
}

fn cookie(tls: Tls, name: &str, value: &str, max_age: u64) -> (HeaderName, HeaderValue) {
    let (prefix, secure) = marks(tls);
    let text = format!(
        "{prefix}{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}"
    );
    // Tokens have letters, digits and `.-_`, so the text is a valid header.
    let value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
    (header::SET_COOKIE, value)
}

fn marks(Tls(tls): Tls) -> (&'static str, &'static str) {
    match tls {
        true => ("__Host-", "; Secure"),
        false => ("", ""),
    }
}

/// The access token in the cookies of a request.
pub fn access(headers: &HeaderMap, tls: Tls) -> Option<&str> {
    find(headers, tls, ACCESS)
}

/// The refresh token in the cookies of a request.
pub fn refresh(headers: &HeaderMap, tls: Tls) -> Option<&str> {
    find(headers, tls, REFRESH)
}

/// The value of a cookie (RFC 6265 4.2.1). On TLS only one with the prefix, which no other host and
/// no connection without TLS can have set.
fn find<'a>(headers: &'a HeaderMap, tls: Tls, wanted: &str) -> Option<&'a str> {
    let (prefix, _) = marks(tls);
    // HTTP/2 permits several lines (RFC 9113 8.2.3).
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    let is_it = |name: &str| name.trim().strip_prefix(prefix) == Some(wanted);
    let (_, value) = pairs.find(|(name, _)| is_it(name))?;
    Some(value.trim()).filter(|value| !value.is_empty())
}

/// Checks that a request with cookies comes from a page of this site, unless it changes nothing.
///
/// # Errors
/// 403 if it does not, or if nothing says so.
pub fn check_site(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    tls: Tls,
) -> Result<(), Problem> {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    match is_own_site(uri, headers, tls) {
        true => Ok(()),
        false => {
            let words = "a request with cookies must come from a page of this site: programs send \
                         Authorization: Bearer TOKEN";
            Err(Problem::new(Kind::Forbidden, words))
        }
    }
}

fn is_own_site(uri: &Uri, headers: &HeaderMap, Tls(tls): Tls) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    // A page cannot set either header. `none` is a request without a page, such as a bookmark, and
    // is never one that changes something by a hostile page's will.
    if let Some(site) = text(SEC_FETCH_SITE) {
        return matches!(site, "same-origin" | "none");
    }
    let Some(origin) = text(header::ORIGIN).and_then(|origin| origin.parse::<Uri>().ok()) else {
        return false;
    };
    // A page without TLS may be anybody's on the way.
    if tls && origin.scheme() != Some(&Scheme::HTTPS) {
        return false;
    }
    let host = text(header::HOST).and_then(|host| host.parse::<Authority>().ok());
    let host = uri.authority().cloned().or(host);
    match (origin.authority(), host) {
        (Some(origin), Some(host)) => origin.as_str().eq_ignore_ascii_case(host.as_str()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use control_domain::id::SessionId;

    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::try_from(*name).unwrap();
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    fn token() -> RefreshToken {
        let vault = control_domain::vault::MemoryVault::default();
        let session = SessionId::new(uuid::Uuid::nil());
        RefreshToken::random(session, 0, &vault).expect("random numbers")
    }

    #[test]
    fn cookies_are_bound_to_the_host_on_tls_and_are_never_for_scripts() {
        let text = |(name, value): &(HeaderName, HeaderValue)| {
            assert_eq!(name, header::SET_COOKIE);
            value.to_str().unwrap().to_owned()
        };
        let secure = set(Tls(true), "a.b.c", &token()).each_ref().map(text);
        let expected =
            "__Host-sf_access=a.b.c; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure";
        assert_eq!(secure[0], expected);
        assert!(secure[1].starts_with("__Host-sf_refresh=sfr_"), "{secure:?}");
        assert!(secure[1].ends_with("Max-Age=2592000; HttpOnly; SameSite=Lax; Secure"));
        let plain = set(Tls(false), "a.b.c", &token()).each_ref().map(text);
        assert_eq!(plain[0], "sf_access=a.b.c; Path=/; Max-Age=600; HttpOnly; SameSite=Lax");
        for cleared in clear(Tls(true)).each_ref().map(text) {
            assert!(cleared.contains("=; ") && cleared.contains("Max-Age=0;"), "{cleared}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others_and_on_tls_only_with_its_prefix() {
        let sent = headers(&[
            ("cookie", "theme=dark; sf_access=plain; __Host-sf_access=a.b.c"),
            ("cookie", "__Host-sf_refresh=sfr_x; empty="),
        ]);
        assert_eq!(access(&sent, Tls(true)), Some("a.b.c"));
        assert_eq!(refresh(&sent, Tls(true)), Some("sfr_x"));
        assert_eq!((access(&sent, Tls(false)), refresh(&sent, Tls(false))), (Some("plain"), None));
        let none = headers(&[("cookie", "sf_access=plain; __Host-sf_access=; =; ;;")]);
        assert_eq!(access(&none, Tls(true)), None);
    }

    #[test]
    fn a_change_must_come_from_a_page_of_this_site() {
        let own: Uri = "/api/v1/sessions".parse().unwrap();
        let host = ("host", "example.org:8443");
        for (fields, expected) in [
            (&[host][..], false),
            (&[host, ("sec-fetch-site", "same-origin")], true),
            (&[host, ("sec-fetch-site", "none")], true),
            (&[host, ("sec-fetch-site", "same-site")], false),
            (&[host, ("sec-fetch-site", "cross-site")], false),
            (&[host, ("origin", "https://example.org:8443")], true),
            (&[host, ("origin", "https://EXAMPLE.org:8443")], true),
            (&[host, ("origin", "https://example.org")], false),
            (&[host, ("origin", "https://example.org.evil.example:8443")], false),
            (&[host, ("origin", "null")], false),
            (&[("origin", "https://example.org")], false),
            // The newer header decides.
            (
                &[host, ("sec-fetch-site", "cross-site"), ("origin", "https://example.org:8443")],
                false,
            ),
        ] {
            let headers = headers(fields);
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                let checked = check_site(&method, &own, &headers, Tls(true));
                assert_eq!(checked.is_ok(), expected, "{method} {fields:?}");
            }
            assert!(check_site(&Method::GET, &own, &headers, Tls(true)).is_ok());
        }
        // HTTP/2 names the host in the target.
        let absolute: Uri = "https://example.org/api/v1/sessions".parse().unwrap();
        let origin = headers(&[("origin", "https://example.org")]);
        let plain = headers(&[("host", "example.org"), ("origin", "http://example.org")]);
        assert!(check_site(&Method::POST, &own, &plain, Tls(false)).is_ok());
        assert!(check_site(&Method::POST, &own, &plain, Tls(true)).is_err());
        assert!(check_site(&Method::POST, &absolute, &origin, Tls(true)).is_ok());
    }
}
