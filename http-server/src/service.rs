//! The service behind the server: it forms the response to each request, the same for all
//! protocols.

use std::{
    net::SocketAddr,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};

use crate::body::{Body, BoxError};

/// Serves the requests of all listeners. Called concurrently, from all connections.
///
/// The server refuses ambiguous requests, those with too many fields, and those that may be a
/// replay; it drops the bodies of responses to HEAD, and adds Date and Alt-Svc.
pub trait Service: Send + Sync + 'static {
    /// A response in progress: usually without an allocation, because thousands wait at once.
    type Pending<'a>: PendingResponse
    where
        Self: 'a;

    /// Begins to serve one request of `client`. Dropping the result cancels the request.
    fn call<B>(&self, request: Request<B>, client: Client) -> Self::Pending<'_>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>;

    /// Forms the response to a request of `client` that the server refuses. `head` is `None` if the
    /// request could not be read, or if the connection ends before the response is sent.
    fn refuse(&self, refusal: Refusal, client: Client, head: Option<&Parts>) -> Response<Body>;
}

/// A response in progress.
pub trait PendingResponse: Future<Output = Response<Body>> + Send + Unpin {
    /// Ready when the request is known to be complete. The response is not ready before: a
    /// connection that has only incomplete requests counts as idle.
    fn poll_request_end(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// The sender of a request.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// The address of the connection.
    pub peer: SocketAddr,
    /// A process of this daemon, for its own clients.
    pub ours: bool,
    /// The request arrived over TLS.
    pub secure: bool,
    /// The request arrived before the handshake was complete, so that it may be a replay (RFC 8446
    /// 8).
    pub early: bool,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the response.
    pub status: StatusCode,
    /// A phrase for the client, without a full stop and a line break.
    pub reason: &'static str,
}
