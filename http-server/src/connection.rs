//! One TCP connection: the TLS handshake, protocol detection, and the connection's protocol.
//!
//! `h1` serves plain requests of HTTP/1.1. [`hyper`](self::hyper) serves all others, and HTTP/2.

mod hyper;
mod session;
mod unsent;

use std::{future::poll_fn, net::SocketAddr, sync::Arc, task::Poll};

use net_core::Usage;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tracing::debug;

use self::{session::Session, unsent::Unsent};
use crate::{
    context::Context,
    cork::{Cork, Uncork},
    h1,
    metrics::Reason,
    service::Service,
    socket::{Prefix, Protocol, Socket},
    tls,
};

/// Serves one connection to its end, over TLS if there is a `tls`. `usage` counts its exchanges,
/// and closes it while it is idle if another connection needs its permit.
///
/// The time until the first byte, or until the end of the TLS handshake, is at most
/// `Config::first_byte`. Without TLS the first bytes choose the protocol (RFC 9113 3.3, prior
/// knowledge); with TLS, ALPN does (RFC 7301).
pub(crate) async fn serve<S, T>(
    socket: T,
    peer: SocketAddr,
    tls: Option<tls::Acceptor>,
    context: Arc<Context<S>>,
    usage: Arc<Usage>,
) where
    S: Service,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match tls {
        Some(tls) => serve_tls(socket, peer, tls, context, usage).await,
        None => serve_plain(socket, peer, context, usage).await,
    }
}

/// Serves a connection over TLS. Shutdown and eviction are awaited here only until the end of the
/// handshake; after that, the task of the protocol awaits them itself.
async fn serve_tls<S, T>(
    socket: T,
    peer: SocketAddr,
    tls: tls::Acceptor,
    context: Arc<Context<S>>,
    usage: Arc<Usage>,
) where
    S: Service,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (config, metrics) = (&context.config, &context.metrics);
    // The limit of writes applies below TLS, where the socket's progress is visible.
    let socket = Socket::new(socket).limit_write(config.write, metrics);
    let accepted = tokio::select! {
        accepted = timeout(config.first_byte, Box::pin(tls.accept(socket))) => accepted,
        () = context.drain.triggered() => return,
        () = usage.closed() => {
            return debug!("closed during its handshake: connection limit reached");
        }
    };
    // Any peer can cause these failures at will, so they are counted, and logged for debugging
    // only.
    match accepted {
        Ok(Ok((stream, protocol))) => {
            let (early, flusher) = (Some(stream.early()), stream.flusher());
            let session = Session { context, usage, peer, protocol, early };
            serve_protocol(Socket::new(stream), flusher, session).await;
        }
        Ok(Err(err)) => {
            metrics.refuse(Reason::Handshake);
            debug!(%err, "tls handshake failed");
        }
        Err(_) => {
            metrics.refuse(Reason::FirstByte);
            debug!("tls handshake timed out");
        }
    }
}

/// Serves a connection without TLS. Shutdown and eviction are awaited here only until the first
/// bytes show the protocol, as in [`serve_tls`].
async fn serve_plain<S, T>(
    mut socket: T,
    peer: SocketAddr,
    context: Arc<Context<S>>,
    usage: Arc<Usage>,
) where
    S: Service,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (config, metrics) = (&context.config, &context.metrics);
    let mut prefix = Prefix::default();
    let first = tokio::select! {
        first = timeout(config.first_byte, prefix.fill(&mut socket)) => first,
        () = context.drain.triggered() => return,
        () = usage.closed() => {
            return debug!("closed before its first byte: connection limit reached");
        }
    };
    // HTTP/1.1 writes a response in one piece where it can. The HTTP/2 implementation writes single
    // frames, which `Cork` collects.
    match first {
        Ok(Ok(Some(protocol))) => {
            // The first bytes have been read to detect the protocol: they are read again.
            let socket =
                Socket::new(socket).after(prefix.read()).limit_write(config.write, metrics);
            let session = Session { context, usage, peer, protocol, early: None };
            match protocol {
                Protocol::Http1 => {
                    let flusher = socket.flusher();
                    serve_protocol(socket, flusher, session).await;
                }
                Protocol::Http2 => {
                    let cork = Cork::new(socket);
                    let flusher = cork.flusher();
                    serve_protocol(Socket::new(cork), flusher, session).await;
                }
            }
        }
        Ok(Ok(None)) => {}
        Ok(Err(err)) => debug!(%err, "connection lost"),
        Err(_) => {
            metrics.refuse(Reason::FirstByte);
            debug!("no first byte in time");
        }
    }
}

/// Serves HTTP on a connection whose protocol is known. `flusher` sends the bytes that the socket
/// holds back.
///
/// Each protocol's future is in a separate allocation: a task that waits for a part holds no memory
/// for TLS or HTTP/2, and thousands are woken at once.
async fn serve_protocol<S, T>(socket: Socket<T>, mut flusher: impl Uncork, session: Session<S>)
where
    S: Service,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let socket = match session.protocol {
        Protocol::Http1 => {
            let Session { context, usage, peer, early, .. } = &session;
            let mut plain = Box::pin(h1::serve(socket, *peer, early.is_some(), context, usage));
            let mut unsent = Unsent::new(usage);
            // The connection's own bytes go first; `flusher` then sends what TLS still holds. Such
            // bytes count as an exchange, so that the connection is not closed as idle before they
            // have arrived.
            let ended = poll_fn(|cx| {
                let ended = plain.as_mut().poll(cx);
                let flushed = flusher.poll(cx);
                unsent.set(flushed.is_pending());
                match flushed {
                    Poll::Ready(Err(err)) if ended.is_pending() => Poll::Ready(Err(err)),
                    _ => ended,
                }
            });
            // A request that is not plain leaves the loop with its bytes: hyper reads them again.
            match ended.await {
                Ok(Some(socket)) => socket,
                Ok(None) => return,
                Err(err) => {
                    debug!(%err, "connection closed");
                    return;
                }
            }
        }
        Protocol::Http2 => socket,
    };
    Box::pin(hyper::serve(socket, flusher, session)).await;
}
