//! The files of the watch page, provided by the daemon: made once, held for its life.

use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderValue;

use crate::answer;

/// The watch page and its files.
#[derive(Debug, Clone)]
pub struct Pages {
    /// `/watch/{channel}`, the same for every channel, because the page reads the channel from its
    /// address.
    pub watch: Page,
    /// `/watch/{name}`, by name; a name has a dot, and consists of letters, digits, `.`, `-`, `_`.
    pub assets: Vec<(&'static str, Page)>,
}

/// A file to serve.
#[derive(Debug, Clone)]
pub struct Page {
    pub(crate) content_type: HeaderValue,
    pub(crate) etag: HeaderValue,
    pub(crate) bytes: Bytes,
    pub(crate) gzip: Option<(Bytes, HeaderValue)>,
    /// Its creation in this process, because another process may have served another file.
    pub(crate) since: SystemTime,
}

impl Page {
    /// A file of this media type; `gzip` is its compressed form, if that is smaller.
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
