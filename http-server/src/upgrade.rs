//! Connections that change from HTTP/1.1 to another protocol (RFC 9110 7.8), for example to
//! WebSocket (RFC 6455). A service below a [`Mount`](crate::Mount) that allows it accepts the
//! upgrade with status 101 and gets the connection's bytes.
//!
//! HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220) are left out: their extended CONNECT is not announced,
//! so that clients use HTTP/1.1 for such requests.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, UPGRADE},
};
use net_core::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{body::Body, context};

/// Serves a connection after its upgrade, to the end of the connection.
pub(crate) type Serve = Box<dyn FnOnce(Upgraded) -> Serving + Send>;
/// A connection being served.
pub(crate) type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Accompanies a request whose connection may change its protocol, among the request's extensions.
/// Holds the service's acceptance.
#[derive(Clone, Default)]
pub(crate) struct Offer(Arc<Mutex<Option<Serve>>>);

/// An upgrade that a client has requested and a service may accept. Dropping it declines.
pub struct Upgrade {
    offer: Offer,
    protocol: &'static str,
}

/// The bytes of a connection whose protocol has changed. What remains of HTTP is the limit of the
/// time in which the peer must accept written bytes; limits of silence are up to the service.
///
/// Only the future that [`Upgrade::accept`] was given may use it, because the task of that future
/// also sends the bytes that TLS has corked: a flush is not needed. To end the connection,
/// shut it down (`AsyncWriteExt::shutdown`), so that all written bytes are sent.
pub struct Upgraded {
    stream: Box<dyn Stream>,
    retire: Shutdown,
    drain: Shutdown,
}

/// The bytes of a connection, plain or encrypted.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// The upgrade to `protocol` that `request` asks for. `None` if it does not, or if the request's
/// mount or protocol does not allow it: the service then responds as to any other request.
///
/// `protocol` is a name of the registry, compared without regard to case. Call it once.
///
/// Source: RFC 9110 7.8.
pub fn on<B>(request: &mut Request<B>, protocol: &'static str) -> Option<Upgrade> {
    let offer = request.extensions_mut().remove::<Offer>()?;
    lists(request.headers(), UPGRADE, protocol).then_some(Upgrade { offer, protocol })
}

/// Whether a field that is a list of names has this one, in any case (RFC 9110 5.6.1).
fn lists(headers: &HeaderMap, field: HeaderName, name: &str) -> bool {
    headers.get_all(field).iter().any(|value| {
        let mut names = value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        names.any(|found| found.eq_ignore_ascii_case(name.as_bytes()))
    })
}

impl Upgrade {
    /// The response that accepts the upgrade; the service may add fields. `serve` begins when the
    /// response has been written. It runs in the connection's task, keeps the connection's permit,
    /// and the connection ends with it.
    pub fn accept<F, S>(self, serve: F) -> Response<Body>
    where
        F: FnOnce(Upgraded) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static(self.protocol));
        // The connection takes it when it sends the response.
        let serve: Serve = Box::new(|stream| Box::pin(serve(stream)));
        *self.offer.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(serve);
        response
    }
}

impl Offer {
    /// Offers an upgrade to the service of `request`, if it asks for one: HTTP/1.1, both Upgrade
    /// and `Connection: upgrade`, because an intermediary may have forwarded the former by mistake,
    /// and no body, because its bytes would precede those of the other protocol.
    ///
    /// Source: RFC 9110 7.8, 7.6.1.
    pub(crate) fn to<B: http_body::Body>(request: &mut Request<B>) -> Option<Self> {
        let asks = request.version() == Version::HTTP_11
            && request.method() != Method::CONNECT
            && lists(request.headers(), CONNECTION, "upgrade")
            && request.body().is_end_stream();
        asks.then(|| {
            let offer = Self::default();
            request.extensions_mut().insert(offer.clone());
            offer
        })
    }

    /// The service's acceptance, if `response` is its response.
    pub(crate) fn accepted(&self, response: &Response<Body>) -> Option<Serve> {
        // A service that accepted an upgrade may still respond with another status, for example
        // after an error: the connection then stays with HTTP.
        let is_switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        is_switching.then(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).take())?
    }
}

impl Upgraded {
    /// `stream` after its upgrade.
    pub(crate) fn new<S>(stream: impl Stream + 'static, context: &context::Context<S>) -> Self {
        let (retire, drain) = (context.retire.clone(), context.drain.clone());
        Self { stream: Box::new(stream), retire, drain }
    }

    /// Ready when the server stops, or asks its peers to reconnect to another process: the service
    /// is to end the connection. A connection that is still open `Config::drain` after the stop is
    /// cut.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let (retire, drain) = (self.retire.clone(), self.drain.clone());
        async move {
            tokio::select! {
                () = retire.triggered() => {}
                () = drain.triggered() => {}
            }
        }
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
