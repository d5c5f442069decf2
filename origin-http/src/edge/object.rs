//! An origin's response as the edge keeps it: status, the fields that are passed on, its lifetime and its content.

use std::sync::{Arc, atomic::AtomicBool};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, DATE, ETAG, RETRY_AFTER, VARY, VIA},
};

use super::{budget::Charge, content::Content, freshness::Freshness};

/// Memory of an object beside its bytes and its fields, as measured: the object, its field table, and
/// its places in the tables of the cache.
pub(super) const OVERHEAD: u64 = 2_560;
/// Fields of an origin that are passed on; the others are between it and the edge.
const KEPT: [HeaderName; 10] = [
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
];
/// Entries of a field table that [`OVERHEAD`] has room for, and the memory of each one more.
const FIELDS: usize = 12;
const FIELD: usize = 128;

/// A response and how long it may be used.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) status: StatusCode,
    /// The fields that are passed on.
    pub(super) headers: HeaderMap,
    pub(super) freshness: Freshness,
    pub(super) content: Arc<Content>,
    /// Asked for since the cache last looked.
    pub(super) used: AtomicBool,
    _charge: Charge,
}

impl Object {
    /// A response whose bytes are in `content`, or will be. It is charged to the budget of `content`.
    pub(super) fn new(status: StatusCode, headers: &HeaderMap, freshness: Freshness, content: Arc<Content>) -> Self {
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

    /// Bytes of memory that an object with these fields takes beside its content.
    pub(super) fn cost(headers: &HeaderMap) -> u64 {
        let (count, bytes) = fields(headers).fold((0_usize, 0), |(count, bytes), (_, value)| {
            (count + 1, bytes + value.len())
        });
        OVERHEAD + (bytes + FIELD * count.saturating_sub(FIELDS)) as u64
    }

    /// Whether it may be about the request rather than about the resource, so that it is given to no
    /// other request. Origins know of a request its target and by whom it was passed on.
    pub(super) fn is_of_one_request(&self) -> bool {
        is_of_one_request(self.status)
    }

    /// The same bytes, which the origin has said are still right (RFC 9111 4.3.4).
    pub(super) fn renewed(&self, headers: &HeaderMap, freshness: Freshness) -> Self {
        let mut both = headers.clone();
        for name in self.headers.keys().filter(|name| !headers.contains_key(*name)) {
            for value in self.headers.get_all(name) {
                both.append(name, value.clone());
            }
        }
        Self::new(self.status, &both, freshness, Arc::clone(&self.content))
    }
}

/// See [`Object::is_of_one_request`].
pub(super) fn is_of_one_request(status: StatusCode) -> bool {
    let of_what = matches!(status.as_u16(), 400 | 404 | 410 | 416);
    (status.is_client_error() && !of_what) || status == StatusCode::LOOP_DETECTED
}

/// The fields of a response that are passed on.
fn fields(headers: &HeaderMap) -> impl Iterator<Item = (HeaderName, &HeaderValue)> {
    KEPT.into_iter()
        .flat_map(|name| headers.get_all(&name).iter().map(move |value| (name.clone(), value)))
}

/// A copy in memory of its own: as it comes, a value is a slice of its connection's read buffer and
/// would keep all of that.
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
    fn fields_are_copied_out_of_the_buffer_that_they_came_in_and_charged() {
        let buffer = Bytes::from(vec![b'x'; 400 << 10]);
        let value = HeaderValue::from_maybe_shared(buffer.slice(..1_000)).unwrap();
        let headers = HeaderMap::from_iter([(ETAG, value.clone()), (VARY, value.clone()), (DATE, value)]);
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
        let renewed = object.renewed(&HeaderMap::from_iter([(DATE, HeaderValue::from(1))]), freshness);
        assert_eq!(gauge.get() - before, 2 * overhead + 3_000 + 2_001);
        drop((object, renewed));
        assert_eq!(gauge.get(), 0);
    }
}
