//! The files of the watch page, provided by the daemon: made once, held for its life.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderValue, Response, header::VARY};
use http_server::Body;

use crate::{
    conditions::Conditions,
    response::{self, Lifetime, negotiated, precondition_failed},
};

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
    /// Its media type.
    content_type: HeaderValue,
    /// The entity tag of `bytes`.
    etag: HeaderValue,
    bytes: Bytes,
    /// The compressed form and its entity tag.
    gzip: Option<(Bytes, HeaderValue)>,
    /// Its creation in this process, because another process may have served another file.
    since: SystemTime,
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

    /// The response with this file, which a cache revalidates each time.
    pub(crate) fn respond(&self, request: &Conditions) -> Response<Body> {
        if request.is_modified(|| self.since) {
            return precondition_failed();
        }
        let gzip = self.gzip.as_ref().filter(|_| request.gzip);
        let (bytes, etag) = gzip.map_or((&self.bytes, &self.etag), |(bytes, etag)| (bytes, etag));
        let content_type = self.content_type.clone();
        let mut response = negotiated(
            request,
            etag.clone(),
            Lifetime::Validate,
            content_type,
            gzip.is_some(),
            || bytes.clone(),
        );
        // There is one form only, so that nothing was negotiated.
        if self.gzip.is_none() {
            response.headers_mut().remove(VARY);
        }
        response
    }
}
