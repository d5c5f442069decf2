//! The files of the watch page, provided by the daemon: made once, held for its life.

use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderValue;

use crate::response;

/// The watch page and its files.
#[derive(Debug, Clone)]
pub struct StaticFiles {
    /// `/watch/{channel}`, the same for every channel, because the page reads the channel from its
    /// address.
    pub watch: StaticFile,
    /// `/watch/{name}`, by name; a name has a dot, and consists of letters, digits, `.`, `-`, `_`.
    pub assets: Vec<(&'static str, StaticFile)>,
}

/// A file to serve.
#[derive(Debug, Clone)]
pub struct StaticFile {
    pub(crate) content_type: HeaderValue,
    pub(crate) etag: HeaderValue,
    pub(crate) bytes: Bytes,
    pub(crate) gzip: Option<(Bytes, HeaderValue)>,
    /// Its creation in this process, because another process may have served another file.
    pub(crate) since: SystemTime,
}

impl StaticFile {
    /// A file of this media type; `gzip` is its compressed form, if that is smaller.
    pub fn new(content_type: &'static str, bytes: Bytes, gzip: Option<Bytes>) -> Self {
        let etag = response::digest(&bytes);
        let gzip = gzip.map(|gzip| {
            let etag = response::digest(&gzip);
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
