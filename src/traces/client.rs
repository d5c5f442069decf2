//! The client of the collector: one request at a time, within a time and a size, without redirects.

use std::{
    future::Future,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, Uri, uri::Scheme};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use rustls::RootCertStore;
use tokio::time::timeout;

use super::error::Error;
use crate::{authorities, https};

/// Time for a request.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// Time for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for which an unused connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// Largest body of a response.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Largest head of a response.
const MAX_HEAD_BYTES: usize = 32 << 10;

/// The status of the last response: 0 if there was none.
#[derive(Debug, Clone, Default)]
pub(super) struct Status(Arc<AtomicU16>);

impl Status {
    fn set(&self, status: u16) {
        self.0.store(status, Ordering::Relaxed);
    }

    /// Whether the same request may succeed later (OTLP 1.9, "Retryable Response Codes").
    pub(super) fn is_temporary(&self) -> bool {
        matches!(self.0.load(Ordering::Relaxed), 0 | 429 | 502 | 503 | 504)
    }

    /// The status as words for the log.
    pub(super) fn words(&self) -> String {
        match self.0.load(Ordering::Relaxed) {
            0 => "no response".to_owned(),
            status => format!("status {status}"),
        }
    }
}

/// Sends requests to the collector.
#[derive(Debug)]
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    status: Status,
}

impl Client {
    /// A client for an address. `ca`: a file of certificate authorities; empty for the system's.
    /// Blocks for the files.
    ///
    /// # Errors
    /// [`Error`].
    pub(super) fn new(endpoint: &Uri, ca: &Path) -> Result<Self, Error> {
        // Without https the system's are not needed.
        let is_needed = !ca.as_os_str().is_empty() || endpoint.scheme() == Some(&Scheme::HTTPS);
        let roots = if is_needed { authorities::load(ca)? } else { RootCertStore::empty() };
        let connector = https::connector(roots, CONNECT)?;
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .build(connector);
        Ok(Self { http, status: Status::default() })
    }

    /// The status of the last response, which later requests change.
    pub(super) fn status(&self) -> Status {
        self.status.clone()
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.status.set(0);
        let response = self.http.request(request.map(Full::new)).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await?.to_bytes();
        self.status.set(head.status.as_u16());
        Ok(Response::from_parts(head, body))
    }
}

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { timeout(LIMIT, self.exchange(request)).await? })
    }
}
