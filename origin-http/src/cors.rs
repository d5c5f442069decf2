//! The pages of other origins that may read a response (the Fetch standard's CORS protocol,
//! Resource Timing's Timing-Allow-Origin).
//!
//! Either every page may, without credentials, and the response is the same for all; or listed
//! origins may, with credentials, and a response names the origin of the request and declares that
//! in Vary.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN, VARY,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use http_server::authority;
use net_core::config::Error;

use crate::response::METHODS;

/// The pages that may read the timings of a response (W3C Resource Timing 4.5.1).
const TIMING_ALLOW_ORIGIN: HeaderName = HeaderName::from_static("timing-allow-origin");
/// All origins.
const ANY: HeaderValue = HeaderValue::from_static("*");
/// Headers of a response that a page of another origin may read, besides those that it always may.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Date, Age, ETag, Content-Length, Content-Range, Accept-Ranges, Server-Timing",
);
/// Headers that a page may send. The wildcard does not include `Authorization`, and is invalid with
/// credentials. Players send `cmcd-*` (CTA-5004) and conditional requests.
const ALLOWED: HeaderValue = HeaderValue::from_static(
    "*, authorization, range, if-match, if-none-match, if-range, if-modified-since, \
     if-unmodified-since, cache-control, content-type, priority, \
     cmcd-object, cmcd-request, cmcd-session, cmcd-status",
);
/// The key of the configuration, and the form of its entries.
const KEY: &str = "http.cors_origins";
const FORM: &str = "an origin as browsers send it, such as \"https://player.example\" or \
    \"http://localhost:3000\": scheme and host in lower case, no default port, no path; \"*\" must \
    be the only entry";
/// Maximum number of listed origins: each request is compared with all of them.
const MAX_ORIGINS: usize = 64;
/// Maximum size of a preflight's list of headers, more than any page sends.
const MAX_ASKED: usize = 1_024;

/// The origins whose pages may read responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cors {
    /// All origins, without credentials.
    Any,
    /// These origins, with credentials.
    Listed(Vec<HeaderValue>),
}

/// The grant for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Pages of all origins may read the response.
    Any,
    /// Those of the listed origin with this index.
    Listed(u8),
    /// No page of another origin.
    None,
}

impl Cors {
    /// Parses `http.cors_origins`: `*` alone, or origins as browsers send them.
    ///
    /// # Errors
    /// Too many entries, or the invalid one.
    pub(crate) fn new(origins: &[String]) -> Result<Self, Error> {
        if origins == ["*"] {
            return Ok(Self::Any);
        }
        if origins.len() > MAX_ORIGINS {
            return Err(Error::TooManyEntries { key: KEY, count: origins.len(), max: MAX_ORIGINS });
        }
        let listed = origins.iter().map(|origin| {
            let value = HeaderValue::from_str(origin).ok().filter(|_| is_origin(origin));
            value.ok_or_else(|| Error::MalformedEntry {
                key: KEY,
                entry: origin.clone(),
                form: FORM,
            })
        });
        listed.collect::<Result<_, _>>().map(Self::Listed)
    }

    /// The grant for a request with these headers.
    pub(crate) fn grant(&self, request: &HeaderMap) -> Grant {
        let Self::Listed(listed) = self else {
            return Grant::Any;
        };
        let origin = request.get(ORIGIN);
        // Origins are compared byte for byte, as browsers serialise them.
        let found = origin.and_then(|origin| listed.iter().position(|listed| listed == origin));
        found.and_then(|index| u8::try_from(index).ok()).map_or(Grant::None, Grant::Listed)
    }

    /// Sets the headers of a response for this grant.
    pub(crate) fn share(&self, grant: Grant, headers: &mut HeaderMap) {
        // With listed origins the response depends on the request's Origin, also if it permits
        // none: a cache must keep the two apart (Fetch, "CORS protocol and HTTP caches").
        match (self, grant) {
            (Self::Any, _) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
                headers.insert(TIMING_ALLOW_ORIGIN, ANY);
            }
            (Self::Listed(listed), grant) => {
                let origin = match grant {
                    Grant::Listed(index) => listed.get(usize::from(index)),
                    Grant::Any | Grant::None => None,
                };
                match origin {
                    Some(origin) => {
                        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                        // Credentials are only permitted for listed origins: `*` excludes them.
                        headers.insert(
                            ACCESS_CONTROL_ALLOW_CREDENTIALS,
                            HeaderValue::from_static("true"),
                        );
                        headers.insert(TIMING_ALLOW_ORIGIN, origin.clone());
                    }
                    None => {
                        headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
                        headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
                        headers.remove(TIMING_ALLOW_ORIGIN);
                    }
                }
                vary(headers, "origin");
            }
        }
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }

    /// Sets the headers of the response to a preflight, valid for a day: any header is permitted.
    /// [`Self::share`] sets the others.
    ///
    /// Source: Fetch, "CORS-preflight fetch".
    pub(crate) fn preflight(&self, request: &HeaderMap, headers: &mut HeaderMap) {
        // With credentials the wildcard is invalid, so the requested names are returned.
        let requested = match self {
            Self::Any => None,
            Self::Listed(_) => {
                vary(headers, "access-control-request-headers");
                request
                    .get(ACCESS_CONTROL_REQUEST_HEADERS)
                    .filter(|requested| is_list_of_names(requested.as_bytes()))
                    .cloned()
            }
        };
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, requested.unwrap_or(ALLOWED));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    }
}

/// Adds a field to Vary, unless it is listed.
fn vary(headers: &mut HeaderMap, field: &'static str) {
    // The field may be listed already by an edge's origin; a repetition would only cost bytes.
    let names = headers.get_all(VARY).iter();
    let known = names
        .flat_map(|vary| vary.as_bytes().split(|&byte| byte == b','))
        .any(|name| name.trim_ascii().eq_ignore_ascii_case(field.as_bytes()));
    if !known {
        headers.append(VARY, HeaderValue::from_static(field));
    }
}

/// Whether it is an origin as browsers serialise it (RFC 6454 6.2), because any other text would
/// never match: lower case, and no port that is the scheme's default.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let mut letters = scheme.bytes();
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    letters.next().is_some_and(|first| first.is_ascii_lowercase())
        && letters.all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte)
        })
        && authority::is_valid(authority.as_bytes())
        && !authority.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'*')
        && !authority.ends_with(':')
        && (default_port.is_empty() || !authority.ends_with(default_port))
}

/// Whether it is a list of header names of acceptable length: it is copied into the response.
fn is_list_of_names(text: &[u8]) -> bool {
    let name = |name: &[u8]| HeaderName::from_bytes(name.trim_ascii()).is_ok();
    text.len() <= MAX_ASKED && text.split(|&byte| byte == b',').all(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str]) -> Result<Cors, Error> {
        let origins: Vec<_> = origins.iter().map(|&origin| origin.to_owned()).collect();
        Cors::new(&origins)
    }

    fn requested(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter();
        fields
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn only_origins_in_the_serialized_form_of_browsers_are_accepted() {
        assert_eq!(cors(&["*"]), Ok(Cors::Any));
        assert_eq!(cors(&[]), Ok(Cors::Listed(vec![])));
        for good in [
            "https://player.example",
            "http://localhost:3000",
            "https://[2001:db8::1]:8443",
            "capacitor://localhost",
            "https://a.example:8443",
        ] {
            assert!(matches!(cors(&[good]), Ok(Cors::Listed(_))), "{good}");
        }
        for bad in [
            "",
            "null",
            "player.example",
            "https://",
            "https://player.example/",
            "https://player.example/x",
            "https://Player.example",
            "HTTPS://player.example",
            "https://player.example:443",
            "http://player.example:80",
            "https://player.example:",
            "https://*.example",
            "https://a@player.example",
            "https://player.example\n",
        ] {
            assert!(cors(&[bad]).unwrap_err().to_string().contains("cors_origins"), "{bad}");
        }
        assert!(cors(&["*", "https://player.example"]).is_err());
        assert!(
            cors(&["https://a"; MAX_ORIGINS]).is_ok()
                && cors(&["https://a"; MAX_ORIGINS + 1]).is_err()
        );
    }

    #[test]
    fn only_listed_origins_get_cors_header_fields() {
        let cors = cors(&["https://a", "https://b"]).unwrap();
        for (fields, origin) in [
            (&[("origin", "https://b")][..], Some("https://b")),
            (&[("origin", "https://c")], None),
            (&[("origin", "https://b.c")], None),
            (&[("origin", "null")], None),
            (&[], None),
        ] {
            // Headers that the origin of an edge may have set.
            let mut headers =
                requested(&[("access-control-allow-origin", "*"), ("timing-allow-origin", "*")]);
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
            cors.share(cors.grant(&requested(fields)), &mut headers);
            let told = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
            assert_eq!(told("access-control-allow-origin"), origin, "{fields:?}");
            assert_eq!(told("timing-allow-origin"), origin);
            assert_eq!(told("access-control-allow-credentials"), origin.map(|_| "true"));
            let vary: Vec<_> = headers.get_all(VARY).iter().collect();
            assert_eq!(vary, ["accept-encoding", "origin"]);
            cors.share(Grant::None, &mut headers);
            assert_eq!(headers.get_all(VARY).iter().count(), 2, "it is listed once");
        }
    }

    #[test]
    fn a_preflight_with_credentials_is_allowed_the_requested_header_fields() {
        let listed = cors(&["https://a"]).unwrap();
        let response = |cors: &Cors, names: &'static str| {
            let mut headers = HeaderMap::new();
            cors.preflight(&requested(&[("access-control-request-headers", names)]), &mut headers);
            (headers[ACCESS_CONTROL_ALLOW_HEADERS].clone(), headers.contains_key(VARY))
        };
        let (allowed, varies) = response(&listed, "authorization,x-playback-session-id");
        assert_eq!(
            (allowed.as_bytes(), varies),
            (&b"authorization,x-playback-session-id"[..], true)
        );
        for not_names in ["a b", "a,,b", "x: y", ""] {
            assert_eq!(response(&listed, not_names).0, ALLOWED, "{not_names}");
        }
        let (allowed, varies) = response(&Cors::Any, "x-anything");
        let names: Vec<_> = allowed.to_str().unwrap().split(", ").collect();
        assert!(
            names.contains(&"*") && names.contains(&"authorization") && names.contains(&"range")
        );
        assert!(!varies);
    }
}
