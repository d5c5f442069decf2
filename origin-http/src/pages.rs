//! The files of the watch page, as the daemon hands them in: made once, held for its life.

use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderValue;

use crate::answer;

/// The watch page and what it needs.
#[derive(Debug, Clone)]
pub struct Pages {
    /// `/watch/{channel}`, the same for every channel: the page reads the channel from its address.
    pub watch: Page,
    /// `/watch/{name}`, by name; a name has a dot, and is of letters, digits, `.`, `-`, `_`.
    pub assets: Vec<(&'static str, Page)>,
}

/// A file as it is served.
#[derive(Debug, Clone)]
pub struct Page {
    pub(crate) content_type: HeaderValue,
    pub(crate) etag: HeaderValue,
    pub(crate) bytes: Bytes,
    pub(crate) gzip: Option<(Bytes, HeaderValue)>,
    /// When it came into this process: another may have served another.
    pub(crate) since: SystemTime,
}

impl Page {
    /// A file of this media type; `gzip` is the same compressed, if that is worth it.
    pub fn new(content_type: &'static str, bytes: Bytes, gzip: Option<Bytes>) -> Self {
        let etag = answer::digest(&bytes);
        let gzip = gzip.map(|gzip| {
            let etag = answer::digest(&gzip);
            (gzip, etag)
        });
        Self {
            content_type: HeaderValue::from_static(content_type),
            etag,
            bytes,
            gzip,
            since: SystemTime::now(),
        }
    }
}
