//! The connections to a server of the operator, which are kept for further requests, and responses
//! of bounded size.

use std::{error::Error as _, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header, request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::RootCertStore;

use crate::https;

/// Largest body of a response in bytes. Back ends respond with some words, and a key set has some
/// keys; a larger body is that of another server.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Largest head of a response in bytes.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// Maximum number of headers of a response.
const MAX_HEADERS: usize = 100;
/// Time for which an unused connection is kept: less than that of most servers.
const IDLE: Duration = Duration::from_secs(15);
/// Maximum number of unused connections.
const MAX_IDLE: usize = 8;
/// Largest number of causes of an error in the log.
const MAX_CAUSES: usize = 4;

/// Why there is no response. The texts have no part of the request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0}")]
    Http(String),
    #[error("its response is longer than {} KiB, or breaks off", MAX_BODY_BYTES >> 10)]
    Body,
    #[error("its head is longer than {} KiB", MAX_HEAD_BYTES >> 10)]
    Head,
}

/// A response whose body was received.
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Sends requests to the addresses of a server.
pub(super) struct Client(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// A client that trusts these authorities, and waits so long for a connection.
    ///
    /// # Errors
    /// The TLS settings are not supported.
    pub(super) fn new(roots: RootCertStore, wait: Duration) -> Result<Self, rustls::Error> {
        let connector = https::connector(roots, wait)?;
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .http1_max_headers(MAX_HEADERS)
            .build(connector);
        Ok(Self(client))
    }

    /// Posts `body`, and receives the whole response. The caller limits the time.
    ///
    /// # Errors
    /// There is no valid response.
    pub(super) async fn post(
        &self,
        uri: &Uri,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Response, Fault> {
        let content_type = HeaderValue::from_static(content_type);
        let post = Request::post(uri).header(header::CONTENT_TYPE, content_type);
        self.exchange(post, body).await
    }

    /// Gets a resource. The caller limits the time.
    ///
    /// # Errors
    /// There is no valid response.
    pub(super) async fn get(&self, uri: &Uri) -> Result<Response, Fault> {
        self.exchange(Request::get(uri), Bytes::new()).await
    }

    async fn exchange(&self, head: request::Builder, body: Bytes) -> Result<Response, Fault> {
        let agent = concat!("streamforge/", env!("CARGO_PKG_VERSION"));
        let request = head.header(header::USER_AGENT, agent).body(Full::new(body));
        let request = request.map_err(|err| Fault::Http(err.to_string()))?;
        // Neither the head nor the body is copied.
        let request = || Ok::<_, Fault>(request.clone());
        let response = match self.0.request(request()?).await {
            // The back end has closed a connection that was kept, at the moment of this request.
            // Questions may be repeated, and notices are rather received twice than never.
            Err(err) if broke_off(&err) => self.0.request(request()?).await,
            response => response,
        };
        let response = response.map_err(|err| match is_too_large(&err) {
            true => Fault::Head,
            false => Fault::Http(causes(&err)),
        })?;
        let (parts, body) = response.into_parts();
        // The whole body, because a connection is used again only after it.
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
        let body = body.map_err(|_| Fault::Body)?.to_bytes();
        Ok(Response { status: parts.status, headers: parts.headers, body })
    }
}

/// hyper's own error, among the causes of the client's.
fn of_hyper(err: &legacy::Error) -> Option<&hyper::Error> {
    let mut cause = err.source();
    while let Some(err) = cause {
        if let Some(found) = err.downcast_ref() {
            return Some(found);
        }
        cause = err.source();
    }
    None
}

/// Whether a connection ended before its response.
fn broke_off(err: &legacy::Error) -> bool {
    of_hyper(err).is_some_and(|err| err.is_incomplete_message() || err.is_canceled())
}

/// Whether the head of the response is too large.
fn is_too_large(err: &legacy::Error) -> bool {
    of_hyper(err).is_some_and(hyper::Error::is_parse_too_large)
}

/// An error with its causes, the innermost last.
fn causes(err: &legacy::Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    for _ in 0..MAX_CAUSES {
        let Some(err) = cause else { break };
        text.push_str(": ");
        text.push_str(&err.to_string());
        cause = err.source();
    }
    text
}
