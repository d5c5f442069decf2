//! The token of a request: in the path `/t/{token}/...`, in `Authorization: Bearer`, or in a
//! cookie, in this order. Pure.
//!
//! The prefix stays in force for relative addresses in playlists and manifests (RFC 3986 5.2). The
//! query `?token=` does not, so a first request with it is redirected to the prefix.
//!
//! RFC 6750 2.1 (the header), RFC 6265 4.2 (the cookie), RFC 9110 15.4.8 (307).

use http::{
    HeaderMap, Uri,
    header::{AUTHORIZATION, COOKIE},
    request::Parts,
};

use super::Refused;

/// The cookie that may hold a token.
const COOKIE_NAME: &str = "streamforge_playback";
/// The prefix of paths under a token.
const PREFIX: &str = "/t/";
/// Largest token in bytes: five times a usual one.
const MAX_TOKEN_BYTES: usize = 2_048;

/// The token of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carried<'a> {
    /// Of any form.
    pub(crate) token: &'a str,
    /// Whether it was in the path, and so belongs to the address of the response.
    pub(crate) in_path: bool,
}

/// The token of the path, which is removed there, among the extensions of a request's head.
#[derive(Clone)]
struct InPath(Box<str>);

impl<'a> Carried<'a> {
    /// The token of a request, if it has one.
    pub(crate) fn of(head: &'a Parts) -> Option<Self> {
        if let Some(InPath(token)) = head.extensions.get() {
            return Some(Self { token, in_path: true });
        }
        let token = bearer(&head.headers).or_else(|| cookie(&head.headers))?;
        Some(Self { token, in_path: false })
    }
}

/// Removes the prefix of a token from the path of a request, where [`Carried::of`] finds it from
/// then on. Returns whether there was one.
pub(crate) fn take_from_path(head: &mut Parts) -> bool {
    let Some((token, rest)) = head.uri.path_and_query().and_then(|target| strip(target.as_str()))
    else {
        return false;
    };
    let (token, Ok(rest)) = (InPath(token.into()), rest.parse()) else { return false };
    let mut uri = std::mem::take(&mut head.uri).into_parts();
    uri.path_and_query = Some(rest);
    // The other components are those of a valid address.
    head.uri = Uri::from_parts(uri).unwrap_or_default();
    head.extensions.insert(token);
    true
}

/// Splits `/t/{token}/{rest}` into the token and `/{rest}`.
pub(crate) fn strip(target: &str) -> Option<(&str, &str)> {
    let rest = target.strip_prefix(PREFIX)?;
    // A slash in a query belongs to no prefix.
    let end = rest.find(['/', '?']).filter(|&end| end > 0 && rest.as_bytes()[end] == b'/')?;
    Some(rest.split_at(end))
}

/// The address of the prefix, if this is a first request: with `?token=`, and no other token.
/// Relative, because a proxy may add to our paths.
pub(crate) fn first_request(head: &Parts) -> Option<String> {
    let query = head.uri.query()?;
    let path = head.uri.path();
    if Carried::of(head).is_some() {
        return None;
    }
    let token = query.split('&').find_map(|pair| pair.strip_prefix("token="))?;
    check_form(token).ok()?;
    // As many levels up as the path has directories.
    let up = "../".repeat(path.matches('/').count().saturating_sub(1));
    let mut address = format!("{up}t/{token}{path}");
    let rest = query.split('&').filter(|pair| !pair.starts_with("token="));
    for (index, pair) in rest.enumerate() {
        address.push(if index == 0 { '?' } else { '&' });
        address.push_str(pair);
    }
    Some(address)
}

/// Checks that it has the characters and the size of a token, before any work is done on it.
///
/// # Errors
/// [`Refused::Malformed`].
pub(crate) fn check_form(token: &str) -> Result<(), Refused> {
    // RFC 7515 3.1: three parts of base64url.
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let dots = token.bytes().filter(|&byte| byte == b'.').count();
    match token.len() <= MAX_TOKEN_BYTES && dots == 2 && token.bytes().all(allowed) {
        true => Ok(()),
        false => Err(Refused::Malformed),
    }
}

/// The token of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
}

/// The token of the cookie. HTTP/2 and HTTP/3 may split the field (RFC 9113 8.2.3).
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| {
        let (name, value) = pair.trim_matches([' ', '\t']).split_once('=')?;
        (name == COOKIE_NAME).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(target: &str, fields: &[(&str, &str)]) -> Parts {
        let request = fields
            .iter()
            .fold(Request::get(target), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_prefix_is_removed_and_its_token_found() {
        for (target, expected) in [
            ("/t/a.b.c/live/demo/v0.m3u8?x=/y", Some(("a.b.c", "/live/demo/v0.m3u8?x=/y"))),
            ("/t/x/time", Some(("x", "/time"))),
            ("/t/x/", Some(("x", "/"))),
            ("/t//live/demo/v0.m3u8", None),
            ("/t/x", None),
            ("/t/x?y=/z", None),
            ("/tt/x/y", None),
            ("/time", None),
        ] {
            assert_eq!(strip(target), expected, "{target}");
            let mut head = head(target, &[]);
            assert_eq!(take_from_path(&mut head), expected.is_some(), "{target}");
            let (token, rest) = expected.unwrap_or(("", target));
            assert_eq!(head.uri, *rest);
            let carried = (!token.is_empty()).then_some(Carried { token, in_path: true });
            assert_eq!(Carried::of(&head), carried);
        }
        let mut absolute = head("https://live.example/t/x/time?y", &[]);
        assert!(take_from_path(&mut absolute));
        assert_eq!(absolute.uri, "https://live.example/time?y");
    }

    #[test]
    fn a_token_in_the_path_precedes_the_header_which_precedes_the_cookie() {
        let bearer = ("authorization", "bearer  one ");
        let cookie = ("cookie", "a=b; streamforge_playback=two;c=d");
        let outside = |token| Some(Carried { token, in_path: false });
        assert_eq!(Carried::of(&head("/", &[bearer, cookie])), outside("one"));
        assert_eq!(Carried::of(&head("/", &[cookie])), outside("two"));
        let split = [("cookie", "a=b"), ("cookie", "streamforge_playback=three")];
        assert_eq!(Carried::of(&head("/", &split)), outside("three"));
        for other in [
            ("authorization", "Basic one"),
            ("authorization", "Bearer"),
            ("cookie", "x-streamforge_playback=two"),
            ("cookie", "streamforge_playback"),
        ] {
            assert_eq!(Carried::of(&head("/", &[other])), None, "{other:?}");
        }
        let mut all = head("/t/zero/time", &[bearer, cookie]);
        take_from_path(&mut all);
        assert_eq!(Carried::of(&all).unwrap().token, "zero");
    }

    #[test]
    fn the_query_form_leads_to_the_same_resource_under_the_prefix() {
        for (target, address) in [
            ("/live/demo/v0.m3u8?token=a.b.c", Some("../../t/a.b.c/live/demo/v0.m3u8")),
            ("/live/demo/v0.m3u8?x=1&token=a.b.c&y", Some("../../t/a.b.c/live/demo/v0.m3u8?x=1&y")),
            ("/watch/demo?token=a.b.c", Some("../t/a.b.c/watch/demo")),
            ("/live/demo/v0.m3u8?token=", None),
            ("/live/demo/v0.m3u8?token=a.b", None),
            ("/live/demo/v0.m3u8?token=a.b.%2f", None),
            ("/live/demo/v0.m3u8?mytoken=a.b.c", None),
            ("/live/demo/v0.m3u8", None),
        ] {
            assert_eq!(first_request(&head(target, &[])).as_deref(), address, "{target}");
        }
        let with_header = head("/watch/demo?token=a.b.c", &[("authorization", "Bearer x")]);
        assert_eq!(first_request(&with_header), None);
    }

    #[test]
    fn texts_that_cannot_be_tokens_are_refused_before_any_work() {
        assert_eq!(check_form("e30.e30.AA-_"), Ok(()));
        assert_eq!(check_form(&format!("a.b.{}", "c".repeat(MAX_TOKEN_BYTES - 4))), Ok(()));
        let long = format!("a.b.{}", "c".repeat(MAX_TOKEN_BYTES - 3));
        for text in ["", "a", "a.b", "a.b.c.d", "a.b.c=", "a.b.c/", "a.b.ä", &long] {
            assert_eq!(check_form(text), Err(Refused::Malformed), "{text}");
        }
    }
}
