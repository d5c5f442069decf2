//! The fields of a request's head, besides its address, on which its response depends. They are
//! copied before a wait, so that a waiting request holds no more of its head.
//!
//! RFC 9110 12.5.3 (Accept-Encoding), 13.1.1 (If-Match), 13.1.2 (If-None-Match), 13.1.4
//! (If-Unmodified-Since), 13.1.5 (If-Range), 13.2.2 (their order), 14.2 (Range).

use std::time::SystemTime;

use http::{
    HeaderMap, HeaderValue, Method,
    header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE},
};

use crate::encoding::accepts_gzip;

/// The conditions of one request. Its fields are copies, so that they do not keep the connection's
/// read buffer alive.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    /// Whether the client accepts a compressed text.
    pub(crate) gzip: bool,
    /// Lists of the client's entity tags.
    none_match: Vec<HeaderValue>,
    /// A requested range. Boxed, because most requests have none.
    range: Option<Box<Ranged>>,
    /// A precondition that the client sets.
    required: Option<Box<Required>>,
}

/// Range, and the entity tag of If-Range.
#[derive(Debug)]
struct Ranged {
    range: HeaderValue,
    only_of: Option<HeaderValue>,
}

/// A precondition, evaluated before all others. Players send none.
#[derive(Debug)]
enum Required {
    /// If-Match: lists of entity tags, one of which the representation must have.
    Match(Vec<HeaderValue>),
    /// If-Unmodified-Since, which If-Match overrides: a time after which it must not have changed.
    Unmodified(SystemTime),
}

impl Conditions {
    /// For a resource that may be compressed.
    pub(crate) fn of_text(method: &Method, headers: &HeaderMap) -> Self {
        Self { gzip: accepts_gzip(headers), ..Self::of(method, headers) }
    }

    /// For a resource that is never compressed.
    pub(crate) fn of(method: &Method, headers: &HeaderMap) -> Self {
        // A range is defined only for GET.
        let range = headers.get(RANGE).filter(|_| method == Method::GET).and_then(copy);
        Self {
            gzip: false,
            none_match: headers.get_all(IF_NONE_MATCH).iter().filter_map(copy).collect(),
            range: range.map(|range| {
                Box::new(Ranged { range, only_of: headers.get(IF_RANGE).and_then(copy) })
            }),
            required: Required::of(headers).map(Box::new),
        }
    }

    /// Whether If-Match excludes a representation with this entity tag, or one without a tag.
    pub(crate) fn excludes(&self, etag: Option<&HeaderValue>) -> bool {
        self.required.as_ref().is_some_and(|required| required.fails(etag, || None))
    }

    /// Whether If-Unmodified-Since excludes a representation that was last modified at `modified`,
    /// which is called only for this.
    pub(crate) fn is_modified(&self, modified: impl FnOnce() -> SystemTime) -> bool {
        match self.required.as_deref() {
            Some(required @ Required::Unmodified(_)) => required.fails(None, || Some(modified())),
            _ => false,
        }
    }

    /// Whether the client has the representation with this entity tag.
    pub(crate) fn has(&self, etag: &HeaderValue) -> bool {
        self.none_match.iter().any(|list| matches(list.as_bytes(), etag.as_bytes()))
    }

    /// The requested range of the representation with this entity tag. With If-Range only if the
    /// tag is unchanged: the client holds a part of the representation and wants the rest, or all
    /// of a new one. A date in If-Range never matches (RFC 9110 13.1.5).
    pub(crate) fn range_of(&self, etag: &HeaderValue) -> Option<&HeaderValue> {
        let ranged = self.range.as_ref()?;
        let same = ranged.only_of.as_ref().is_none_or(|tag| tag == etag);
        same.then_some(&ranged.range)
    }
}

impl Required {
    /// The precondition of a request; If-Match comes first (RFC 9110 13.2.2).
    fn of(headers: &HeaderMap) -> Option<Self> {
        // If-Unmodified-Since is ignored beside If-Match (RFC 9110 13.1.4).
        if headers.contains_key(IF_MATCH) {
            return Some(Self::Match(headers.get_all(IF_MATCH).iter().filter_map(copy).collect()));
        }
        // An invalid date is ignored (13.1.4).
        let date = headers.get(IF_UNMODIFIED_SINCE)?.to_str().ok()?;
        httpdate::parse_http_date(date).ok().map(Self::Unmodified)
    }

    /// Whether the precondition is false for a representation with this entity tag and time of
    /// modification.
    fn fails(
        &self,
        etag: Option<&HeaderValue>,
        modified: impl FnOnce() -> Option<SystemTime>,
    ) -> bool {
        match self {
            // Strong comparison, because the request must not act on another representation (RFC
            // 9110 13.1.1).
            Self::Match(lists) => !lists
                .iter()
                .any(|list| is_listed(list.as_bytes(), etag.map(HeaderValue::as_bytes))),
            // Dates have whole seconds.
            Self::Unmodified(date) => {
                modified().is_some_and(|modified| second(modified) > second(*date))
            }
        }
    }
}

/// Whether If-Match of a request excludes the representation with this entity tag, or without one.
/// A cache does not know the time of the last modification, so it ignores If-Unmodified-Since
/// (13.1.4).
pub(crate) fn is_excluded(request: &HeaderMap, etag: Option<&HeaderValue>) -> bool {
    Required::of(request).is_some_and(|required| required.fails(etag, || None))
}

/// The Unix time in whole seconds.
fn second(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A copy, because a clone would hold everything that was read with it.
fn copy(value: &HeaderValue) -> Option<HeaderValue> {
    HeaderValue::from_bytes(value.as_bytes()).ok()
}

/// Whether a list of entity tags contains `etag` by the weak comparison. Our tags contain no comma.
pub(crate) fn matches(list: &[u8], etag: &[u8]) -> bool {
    tags(list).any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag)
}

/// The same by the strong comparison: a weak tag equals none (8.8.3.2).
fn is_listed(list: &[u8], etag: Option<&[u8]>) -> bool {
    tags(list).any(|tag| tag == b"*" || (Some(tag) == etag && !tag.starts_with(b"W/")))
}

/// The members of a list of entity tags (RFC 9110 5.6.1), without white space.
fn tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn conditions(fields: &[(&'static str, &'static str)]) -> Conditions {
        let mut headers = HeaderMap::new();
        for &(name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
        Conditions::of(&Method::GET, &headers)
    }

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const DATE: u64 = 784_111_777;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn if_match_uses_the_strong_comparison() {
        let etag = HeaderValue::from_static("\"7\"");
        for (lists, excluded) in [
            (&["\"7\""][..], false),
            (&["*"], false),
            (&["\"6\" , \"7\""], false),
            (&["\"6\"", "\"7\""], false),
            (&["W/\"7\""], true),
            (&["\"6\""], true),
            (&["7"], true),
            (&[""], true),
        ] {
            let fields: Vec<_> = lists.iter().map(|&list| ("if-match", list)).collect();
            assert_eq!(conditions(&fields).excludes(Some(&etag)), excluded, "{lists:?}");
        }
        assert!(!conditions(&[]).excludes(Some(&etag)));
        assert!(conditions(&[("if-match", "\"7\"")]).excludes(None));
        assert!(!conditions(&[("if-match", "*")]).excludes(None));
        let weak = HeaderValue::from_static("W/\"7\"");
        assert!(conditions(&[("if-match", "W/\"7\"")]).excludes(Some(&weak)));
    }

    #[test]
    fn if_unmodified_since_is_evaluated_in_whole_seconds_and_only_without_if_match() {
        let since = ("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT");
        let half = Duration::from_millis(500);
        assert!(!conditions(&[since]).is_modified(|| at(DATE) + half));
        assert!(conditions(&[since]).is_modified(|| at(DATE + 1)));
        assert!(!conditions(&[since]).excludes(None), "the tag does not matter");
        let both = conditions(&[since, ("if-match", "*")]);
        assert!(!both.is_modified(|| at(DATE + 1)));
        for ignored in ["yesterday", "", "1994-11-06"] {
            let conditions = conditions(&[("if-unmodified-since", ignored)]);
            assert!(!conditions.is_modified(|| at(DATE + 1)), "{ignored}");
        }
    }

    #[test]
    fn a_cache_evaluates_if_match_but_not_if_unmodified_since() {
        let mut headers = HeaderMap::new();
        headers
            .insert(IF_UNMODIFIED_SINCE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert!(!is_excluded(&headers, None));
        headers.insert(IF_MATCH, HeaderValue::from_static("\"7\""));
        assert!(is_excluded(&headers, None));
        assert!(!is_excluded(&headers, Some(&HeaderValue::from_static("\"7\""))));
    }
}
