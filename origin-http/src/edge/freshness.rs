//! The lifetime of a response (RFC 9111 for a shared cache; RFC 8246: immutable). Pure; `now` is an
//! argument.
//!
//! There is one difference: RFC 9111 4.2.3 adds the duration of a request to the response's age. An
//! origin of low-latency HLS holds a request until it can respond and makes the response then, so
//! that time is not part of the age, and players compute the live edge from ours. A response is as
//! old as its Age when its head arrives.

use std::time::Duration;

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{AGE, CACHE_CONTROL, ETAG, VARY},
};
use tokio::time::Instant;

use crate::{playback::Mark, response};

/// RFC 9111 1.2.2: larger values count as this one.
const MOST: u64 = 1 << 31;
/// Number of lifetimes for which stale texts are used when no origin responds.
const STALE_LIFETIMES: u32 = 6;

/// The longest lifetime of an error: a target duration by default; four of them if the request was
/// held (RFC 8216bis appendix B.1). A missing resource may exist soon.
const ERROR: Duration = Duration::from_secs(4);
const HELD_ERROR: Duration = Duration::from_secs(16);

/// The lifetime of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// The arrival of its head.
    received: Instant,
    /// Its age on arrival.
    age: Duration,
    /// The time for which it is fresh, from its creation at the origin.
    lifetime: Duration,
    /// Whether it may be stored.
    pub(crate) storable: bool,
    /// Whether it never needs to be revalidated.
    pub(crate) immutable: bool,
    /// Whether it must not be used after its lifetime in any case.
    strict: bool,
}

impl Freshness {
    /// Parses the headers of a response that arrived at `received`.
    ///
    /// Source: RFC 9111 3 (storing), 4.2.1 (lifetime), 5.2.2 (directives); RFC 8246 2 (immutable).
    /// Expires and heuristic lifetimes are not used: origins of live media set max-age.
    pub(crate) fn new(status: StatusCode, headers: &HeaderMap, received: Instant) -> Self {
        let control = Control::of(headers);
        let age = headers.get(AGE).and_then(|age| seconds(age.as_bytes())).unwrap_or_default();
        let seconds = control.s_maxage.or(control.max_age);
        let lifetime = if control.no_cache { 0 } else { seconds.unwrap_or(0) };
        // A response that depends on a field outside the key must not serve other requests.
        let varies = headers
            .get_all(VARY)
            .iter()
            .flat_map(|vary| vary.as_bytes().split(|&byte| byte == b','))
            .any(|name| !is_known(name.trim_ascii()));
        // An origin of ours makes responses private that are for viewers with a token, which this
        // edge checks itself (RFC 9111 3.5 concerns caches that do not).
        let private = control.private && Mark::of(headers).is_none();
        let shared = !status.is_server_error() && !is_of_one_request(status);
        // An object that is stale on arrival is kept only if an entity tag can revalidate it.
        let of_use = lifetime > age || (status == StatusCode::OK && headers.contains_key(ETAG));
        Self {
            received,
            age: Duration::from_secs(age),
            lifetime: Duration::from_secs(lifetime),
            storable: of_use && !control.no_store && !private && !varies && shared,
            immutable: control.immutable && lifetime > 0,
            strict: control.must_revalidate || control.no_cache || control.s_maxage.is_some(),
        }
    }

    /// Parses the headers of an error, to a request that was `held` or not. An error is used for at
    /// most its origin's lifetime, and only briefly.
    pub(crate) fn of_error(
        status: StatusCode,
        headers: &HeaderMap,
        received: Instant,
        held: bool,
    ) -> Self {
        let declared = Self::new(status, headers, received);
        let control = Control::of(headers);
        let private = control.private && Mark::of(headers).is_none();
        let kept = !control.no_store && !private && !is_of_one_request(status);
        // An error that must not be stored gets no lifetime, so that the viewer's own cache does
        // not keep it either.
        let lifetime = match kept {
            true => declared.lifetime.min(if held { HELD_ERROR } else { ERROR }),
            false => Duration::ZERO,
        };
        Self {
            lifetime,
            storable: declared.storable && lifetime > declared.age,
            immutable: false,
            strict: true,
            ..declared
        }
    }

    /// The Cache-Control field of an error with this lifetime.
    pub(crate) fn error_control(&self) -> HeaderValue {
        match self.lifetime.as_secs() {
            0 => HeaderValue::from_static("no-store"),
            seconds => response::value(format_args!("public, max-age={seconds}")),
        }
    }

    /// A stored response: `age` old, fresh for `lifetime` in total, immutable.
    pub(crate) fn kept(age: Duration, lifetime: Duration, now: Instant) -> Self {
        Self { received: now, age, lifetime, storable: true, immutable: true, strict: false }
    }

    /// Its age (RFC 9111 4.2.3).
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.age + now.saturating_duration_since(self.received)
    }

    /// The time for which it is fresh, including its age on arrival.
    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Whether it may be used without revalidation (4.2).
    pub(crate) fn is_fresh(&self, now: Instant) -> bool {
        self.age(now) < self.lifetime
    }

    /// Whether it may be used after its lifetime, when no origin responds (4.2.4).
    ///
    /// The lifetime of a live text is half a target duration, so this is three of them: players
    /// treat an unchanged playlist as a pause and request it again, while an error ends some of
    /// them after the second attempt. It has its true age, so that no cache treats it as fresh.
    pub(crate) fn may_be_stale(&self, now: Instant) -> bool {
        !self.strict && !self.left(now).is_zero()
    }

    /// Time for which it may still be useful, stale or for revalidation.
    pub(crate) fn left(&self, now: Instant) -> Duration {
        (self.lifetime * (1 + STALE_LIFETIMES)).saturating_sub(self.age(now))
    }
}

/// The directives of Cache-Control that matter to a shared cache. Durations are seconds.
#[derive(Debug, Default)]
struct Control {
    max_age: Option<u64>,
    s_maxage: Option<u64>,
    no_store: bool,
    no_cache: bool,
    private: bool,
    must_revalidate: bool,
    immutable: bool,
}

impl Control {
    /// Parses all field lines.
    fn of(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        for value in headers.get_all(CACHE_CONTROL) {
            control.read(value.as_bytes());
        }
        control
    }

    /// Parses the directives of one field line (5.2). Of two lifetimes the shorter one applies; an
    /// invalid one is none (4.2.1).
    fn read(&mut self, value: &[u8]) {
        let shorter = |known: &mut Option<u64>, argument: &[u8]| {
            let new = seconds(argument).unwrap_or(0);
            *known = Some(known.map_or(new, |known| known.min(new)));
        };
        for directive in value.split(|&byte| byte == b',') {
            let mut halves = directive.splitn(2, |&byte| byte == b'=');
            let name = halves.next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
            let argument = halves.next().unwrap_or_default().trim_ascii();
            // Unknown directives are ignored (RFC 9111 5.2.3).
            match name.as_slice() {
                b"max-age" => shorter(&mut self.max_age, argument),
                b"s-maxage" => shorter(&mut self.s_maxage, argument),
                b"no-store" => self.no_store = true,
                b"no-cache" => self.no_cache = true,
                b"private" => self.private = true,
                b"must-revalidate" | b"proxy-revalidate" => self.must_revalidate = true,
                b"immutable" => self.immutable = true,
                _ => {}
            }
        }
    }
}

/// Whether a response of this status may concern the request rather than the resource, so that no
/// other request gets it. An origin knows the target of a request and its intermediaries.
pub(super) fn is_of_one_request(status: StatusCode) -> bool {
    let of_what = matches!(status.as_u16(), 400 | 404 | 410 | 416);
    (status.is_client_error() && !of_what) || status == StatusCode::LOOP_DETECTED
}

/// Whether responses that vary by this header may be stored: our key includes whether a text is
/// compressed, and requests to an origin have no `Origin`, so its response is for `*`, as ours is.
fn is_known(vary: &[u8]) -> bool {
    let known: [&[u8]; 5] =
        [b"accept-encoding", b"origin", b"host", b"x-forwarded-proto", b"cdn-loop"];
    vary.is_empty() || known.iter().any(|name| vary.eq_ignore_ascii_case(name))
}

/// Delta seconds (1.2.2), in quotes or not.
fn seconds(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(text);
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = |text: &[u8]| {
        text.iter()
            .fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    };
    digits.then(|| number(text).min(MOST))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(status: u16, fields: &[(&'static str, &str)]) -> Freshness {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Freshness::new(StatusCode::from_u16(status).unwrap(), &headers, Instant::now())
    }

    fn lifetime(control: &str) -> u64 {
        read(200, &[("cache-control", control)]).lifetime.as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_is_fresh_for_its_lifetime_less_its_age() {
        let response =
            read(200, &[("cache-control", "public, max-age=10, immutable"), ("age", "4")]);
        let at = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert!(response.storable && response.immutable);
        assert!(response.is_fresh(at(5)) && !response.is_fresh(at(6)));
        assert_eq!(response.age(at(5)).as_secs(), 9);
        assert!(response.may_be_stale(at(65)) && !response.may_be_stale(at(66)));
    }

    #[tokio::test(start_paused = true)]
    async fn cache_control_and_vary_are_interpreted_as_by_a_shared_cache() {
        for (control, seconds) in [
            ("max-age=10", 10),
            ("MAX-AGE=\"10\"", 10),
            ("max-age=10, s-maxage=3", 3),
            ("max-age=10, max-age=4", 4),
            ("max-age=99999999999999999999", MOST),
            ("max-age=-1", 0),
            ("max-age=x", 0),
            ("max-age", 0),
            ("max-age=10, no-cache", 0),
            ("", 0),
        ] {
            assert_eq!(lifetime(control), seconds, "{control}");
        }
        for control in ["no-store, max-age=10", "private, max-age=10", "no-cache", "max-age=0"] {
            assert!(!read(200, &[("cache-control", control)]).storable, "{control}");
        }
        // Stored for revalidation:
        assert!(read(200, &[("cache-control", "no-cache"), ("etag", "\"1\"")]).storable);
        // Errors by their lifetime; server errors and responses that vary by other fields are not
        // stored:
        assert!(read(404, &[("cache-control", "max-age=1")]).storable);
        assert!(!read(503, &[("cache-control", "max-age=8")]).storable);
        assert!(read(400, &[("cache-control", "max-age=1")]).storable);
        assert!(!read(431, &[("cache-control", "max-age=1")]).storable);
        assert!(!read(404, &[]).storable);
        assert!(read(200, &[("cache-control", "max-age=1"), ("vary", "Accept-Encoding")]).storable);
        assert!(!read(200, &[("cache-control", "max-age=1"), ("vary", "cookie")]).storable);
        for (vary, storable) in [
            (&["Accept-Encoding, Origin"][..], true),
            (&["origin", "ACCEPT-ENCODING,"], true),
            (&[crate::site::VARIES], true),
            (&["Accept-Encoding", "Cookie"], false),
            (&["Accept-Encoding,User-Agent"], false),
            (&["*"], false),
        ] {
            let vary = vary.iter().map(|&value| ("vary", value));
            let fields: Vec<_> = vary.chain([("cache-control", "max-age=1")]).collect();
            assert_eq!(read(200, &fields).storable, storable, "{fields:?}");
        }
        // After its lifetime it is not used if the origin forbids it:
        assert!(
            !read(200, &[("cache-control", "max-age=9, must-revalidate")])
                .may_be_stale(Instant::now())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_lifetime_of_an_error_response_is_limited() {
        for (status, control, held, field, storable) in [
            (404, "max-age=3600, immutable", false, "public, max-age=4", true),
            (410, "public, s-maxage=86400, max-age=1", false, "public, max-age=4", true),
            (404, "max-age=3600, immutable", true, "public, max-age=16", true),
            (404, "public, max-age=1", true, "public, max-age=1", true),
            (400, "max-age=9, no-cache", false, "no-store", false),
            (404, "no-store, max-age=9", false, "no-store", false),
            (404, "private, max-age=9", false, "no-store", false),
            (404, "", false, "no-store", false),
            // Not stored here, but others may store it:
            (503, "max-age=3600, immutable", false, "public, max-age=4", false),
            // About one request:
            (403, "max-age=3600", false, "no-store", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_str(control).unwrap());
            let status = StatusCode::from_u16(status).unwrap();
            let read = Freshness::of_error(status, &headers, Instant::now(), held);
            assert_eq!(
                (read.error_control(), read.storable),
                (HeaderValue::from_static(field), storable),
                "{status}: {control}"
            );
            assert!(!read.immutable && !read.may_be_stale(Instant::now()));
        }
        let old = [("cache-control", "max-age=3600"), ("age", "4")];
        let headers = HeaderMap::from_iter(old.map(|(name, value)| {
            (http::HeaderName::from_static(name), HeaderValue::from_static(value))
        }));
        assert!(
            !Freshness::of_error(StatusCode::NOT_FOUND, &headers, Instant::now(), false).storable
        );
    }

    proptest! {
        #[test]
        fn arbitrary_field_values_never_panic(control in "[ -~]*", tail in "[a-z0-9,=\" -]{0,40}") {
            let mut read = Control::default();
            read.read(control.as_bytes());
            read.read(tail.as_bytes());
        }
    }
}
