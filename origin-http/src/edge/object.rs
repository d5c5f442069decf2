//! An origin's response in the cache: status, forwarded fields, lifetime and content.

use std::sync::{Arc, atomic::AtomicBool};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, DATE, ETAG, RETRY_AFTER,
        VARY, VIA,
    },
};

use super::{
    budget::Charge,
    content::Content,
    freshness::{self, Freshness},
};
use crate::playback::{MARK, Mark};

/// Measured memory of an object besides its bytes and its fields: the object, its field table, and
/// its entries in the tables of the cache.
pub(super) const OVERHEAD: u64 = 2_560;
/// Fields of an origin that are forwarded; the others concern only the origin and the edge.
const KEPT: [HeaderName; 11] = [
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CACHE_CONTROL,
    ETAG,
    VARY,
    ACCEPT_RANGES,
    DATE,
    RETRY_AFTER,
    VIA,
    HeaderName::from_static("priority"),
    MARK,
];
/// Entries of a field table included in [`OVERHEAD`], and the memory of each further one.
const FIELDS: usize = 12;
const FIELD: usize = 128;

/// A response and its lifetime.
#[derive(Debug)]
pub(super) struct Object {
    /// 200, or an error.
    pub(super) status: StatusCode,
    /// The forwarded fields.
    pub(super) headers: HeaderMap,
    /// Its age and lifetime.
    pub(super) freshness: Freshness,
    /// Its bytes, shared with an object that revalidation has renewed.
    pub(super) content: Arc<Content>,
    /// Whether it was requested since the cache's last pass.
    pub(super) used: AtomicBool,
    _charge: Charge,
}

impl Object {
    /// A response whose bytes are, or will be, in `content`. It is charged to the budget of
    /// `content`.
    pub(super) fn new(
        status: StatusCode,
        headers: &HeaderMap,
        freshness: Freshness,
        content: Arc<Content>,
    ) -> Self {
        let mut kept = HeaderMap::with_capacity(FIELDS);
        for (name, value) in fields(headers) {
            kept.append(name, own(value));
        }
        Self {
            status,
            headers: kept,
            freshness,
            used: AtomicBool::new(false),
            _charge: content.budget().charge(Self::cost(headers)),
            content,
        }
    }

    /// Memory in bytes of an object with these fields besides its content.
    pub(super) fn cost(headers: &HeaderMap) -> u64 {
        // Only the kept fields count, because the others are not stored.
        let (count, bytes) = fields(headers)
            .fold((0_usize, 0), |(count, bytes), (_, value)| (count + 1, bytes + value.len()));
        OVERHEAD + (bytes + FIELD * count.saturating_sub(FIELDS)) as u64
    }

    /// See [`freshness::is_of_one_request`].
    pub(super) fn is_of_one_request(&self) -> bool {
        freshness::is_of_one_request(self.status)
    }

    /// The private presentation that it belongs to, if any. Removed before it reaches a viewer.
    pub(super) fn mark(&self) -> Option<Mark> {
        Mark::of(&self.headers)
    }

    /// The same bytes, which the origin has confirmed (RFC 9111 4.3.4).
    pub(super) fn renewed(&self, headers: &HeaderMap, freshness: Freshness) -> Self {
        // A 304 has only the fields that it updates; the others are those of the stored response.
        // An origin marks each of its responses, also a 304, as long as the channel is private.
        let mut both = headers.clone();
        let kept = |name: &&HeaderName| !headers.contains_key(*name) && **name != MARK;
        for name in self.headers.keys().filter(kept) {
            for value in self.headers.get_all(name) {
                both.append(name, value.clone());
            }
        }
        Self::new(self.status, &both, freshness, Arc::clone(&self.content))
    }
}

/// The forwarded fields of a response.
fn fields(headers: &HeaderMap) -> impl Iterator<Item = (HeaderName, &HeaderValue)> {
    KEPT.into_iter()
        .flat_map(|name| headers.get_all(&name).iter().map(move |value| (name.clone(), value)))
}

/// A copy in separate memory, because a received value is a slice of its connection's read buffer
/// and would keep all of it.
fn own(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prometheus_client::metrics::gauge::Gauge;
    use tokio::time::Instant;

    use super::{super::budget::Budget, *};

    #[test]
    fn header_fields_are_copied_from_the_receive_buffer_and_charged() {
        let buffer = Bytes::from(vec![b'x'; 400 << 10]);
        let value = HeaderValue::from_maybe_shared(buffer.slice(..1_000)).unwrap();
        let headers =
            HeaderMap::from_iter([(ETAG, value.clone()), (VARY, value.clone()), (DATE, value)]);
        let gauge = Gauge::<i64>::default();
        let budget = Budget::new(1 << 30, gauge.clone());
        let freshness = Freshness::new(StatusCode::OK, &headers, Instant::now());
        let content = Content::whole(Bytes::new(), &budget);
        let before = gauge.get();
        let object = Object::new(StatusCode::OK, &headers, freshness, content);
        drop(headers);
        assert!(buffer.is_unique(), "nothing refers to the buffer any more");
        let overhead = i64::try_from(OVERHEAD).unwrap();
        assert_eq!(gauge.get() - before, overhead + 3_000);
        let renewed =
            object.renewed(&HeaderMap::from_iter([(DATE, HeaderValue::from(1))]), freshness);
        assert_eq!(gauge.get() - before, 2 * overhead + 3_000 + 2_001);
        drop((object, renewed));
        assert_eq!(gauge.get(), 0);
    }
}
