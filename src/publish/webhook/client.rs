//! The connections to a back end, which are kept for further requests, and responses of bounded
//! size.

use std::{error::Error as _, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore};

use crate::{authorities, config::Webhook};

/// Largest body of a response in bytes. Back ends respond with some words; a larger body is that
/// of another server.
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

/// Why a back end cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// `publish.webhook.ca` has no certificate authorities.
    #[error("publish.webhook.ca: {0}")]
    Authorities(#[from] authorities::Error),
    /// The TLS settings are not supported.
    #[error("publish.webhook: {0}")]
    Tls(rustls::Error),
}

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
}

/// Sends requests to the addresses of a back end.
pub(super) struct Client(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Client {
    /// A client for the addresses of a configuration. Blocks for the certificate authorities.
    ///
    /// # Errors
    /// They cannot be read.
    pub(super) fn new(settings: &Webhook) -> Result<Self, Error> {
        let mut addresses = settings.url.iter().chain(&settings.done_url);
        // Without https the system's are not needed.
        let is_needed =
            !settings.ca.as_os_str().is_empty() || addresses.any(|address| address.is_https());
        let roots = match is_needed {
            true => authorities::load(&settings.ca)?,
            false => RootCertStore::empty(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(settings.timeout()));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
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
        let request = || {
            Request::post(uri)
                .header(header::CONTENT_TYPE, content_type)
                .header(header::USER_AGENT, concat!("streamforge/", env!("CARGO_PKG_VERSION")))
                .body(Full::new(body.clone()))
                .map_err(|err| Fault::Http(err.to_string()))
        };
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
        body.map_err(|_| Fault::Body)?;
        Ok(Response { status: parts.status, headers: parts.headers })
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
