//! What of a request's head its answer depends on, beside its address. Read before the answer is waited for, and copied, so that a request
//! which waits for a part holds no more of its head than that.
//!
//! RFC 9110 12.5.3 (Accept-Encoding), 13.1.2 (If-None-Match), 13.1.5 (If-Range), 14.2 (Range).

use http::{
    HeaderMap, HeaderValue, Method,
    header::{IF_NONE_MATCH, IF_RANGE, RANGE},
};

use crate::encoding::accepts_gzip;

/// One request's.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    /// A text may come compressed.
    pub(crate) gzip: bool,
    /// Lists of what the client has.
    none_match: Vec<HeaderValue>,
    range: Option<Box<Ranged>>,
}

#[derive(Debug)]
struct Ranged {
    range: HeaderValue,
    only_of: Option<HeaderValue>,
}

impl Conditions {
    /// Of a request for what may come compressed.
    pub(crate) fn of_text(method: &Method, headers: &HeaderMap) -> Self {
        Self {
            gzip: accepts_gzip(headers),
            ..Self::of(method, headers)
        }
    }

    /// Of a request for what comes as it is.
    pub(crate) fn of(method: &Method, headers: &HeaderMap) -> Self {
        // A range means something to GET alone.
        let range = headers.get(RANGE).filter(|_| method == Method::GET).and_then(copy);
        Self {
            gzip: false,
            none_match: headers.get_all(IF_NONE_MATCH).iter().filter_map(copy).collect(),
            range: range.map(|range| {
                Box::new(Ranged {
                    range,
                    only_of: headers.get(IF_RANGE).and_then(copy),
                })
            }),
        }
    }

    /// Whether the client has what bears this entity tag.
    pub(crate) fn has(&self, etag: &HeaderValue) -> bool {
        self.none_match
            .iter()
            .any(|list| matches(list.as_bytes(), etag.as_bytes()))
    }

    /// The range that is asked for of what bears this entity tag; under If-Range only of what is still the same.
    pub(crate) fn range_of(&self, etag: &HeaderValue) -> Option<&HeaderValue> {
        let ranged = self.range.as_ref()?;
        let same = ranged.only_of.as_ref().is_none_or(|tag| tag == etag);
        same.then_some(&ranged.range)
    }
}

/// A clone would hold all that was read with it.
fn copy(value: &HeaderValue) -> Option<HeaderValue> {
    HeaderValue::from_bytes(value.as_bytes()).ok()
}

/// Whether a list of entity tags holds `etag` by the weak comparison. Our tags have no comma.
pub(crate) fn matches(list: &[u8], etag: &[u8]) -> bool {
    list.split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag)
}
