//! One request over HTTP/3. h3 reads its head; the service forms the response, which is written
//! here (RFC 9114 4.1).
//!
//! Only pieces of up to 4 KiB are copied before quinn encrypts them: they are coalesced, because
//! quinn scans all pieces of a stream for each datagram. A head and the body bytes that are
//! available are written together, so that they leave in one datagram where they fit.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h3::{
    error::{Code, StreamError},
    server::RequestResolver,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use quinn::WriteError;
use tokio::{sync::Notify, time::timeout};
use tracing::debug;

use crate::{
    activity::Activity,
    body::{Body, Data},
    context::Context,
    metrics::Reason,
    pending,
    service::{Client, PendingResponse, Refusal as Refused, Service},
};

use super::{
    exchanges::Exchanges,
    frames::Refusal,
    head,
    request_body::RequestBody,
    send_order::{Order, PROBE, Turns},
    settings::SEND_WINDOW,
    transport::{self, Exchange, wire},
};

/// Pieces up to this size in bytes are copied together into one of up to [`PIECE`]: a few audio
/// frames become one piece.
const SMALL: usize = 4 << 10;
/// Limit in bytes of such a piece; more small pieces become the next one.
const MAX_COALESCED: usize = 16 << 10;
/// Limit in bytes of a coalesced piece. quinn holds a piece until its last byte is acknowledged,
/// and counts all of it against the send window until then.
const PIECE: usize = 64 << 10;

/// State shared by the requests of one connection.
pub(super) struct Requests<S> {
    pub(super) context: Arc<Context<S>>,
    pub(super) quic: quinn::Connection,
    pub(super) activity: Arc<Activity>,
    /// Requests that have arrived completely and have no response yet.
    pub(super) exchanges: Exchanges,
    pub(super) turns: Turns,
    /// Notified when a response is complete.
    pub(super) done: Notify,
    /// Responses written to their end. They may still be in flight. Without the streams that were
    /// reset, because quinn does not report the acknowledgement of a reset.
    pub(super) finished: Mutex<Vec<Arc<Exchange>>>,
}

impl<S: Service> Requests<S> {
    /// Reads one request and responds to it. The response is complete, reset, or no longer wanted
    /// when this ends; bytes of it may be in flight.
    pub(super) async fn respond(
        self: Arc<Self>,
        request: RequestResolver<transport::Connection, Bytes>,
        exchange: Arc<Exchange>,
    ) {
        let busy = self.activity.begin();
        self.exchange(request, &exchange).await;
        if exchange.refusal() == Some(Refusal::Cut) {
            self.refuse(Reason::Malformed);
            // An error of the connection (RFC 9114 7.1).
            self.quic.close(wire(Code::H3_FRAME_ERROR.value()), b"a stream ended within a frame");
        }
        drop(busy);
        self.done.notify_one();
    }

    /// Waits until all bytes of finished responses are acknowledged or no longer wanted.
    pub(super) async fn arrived(&self) {
        let finished =
            std::mem::take(&mut *self.finished.lock().unwrap_or_else(PoisonError::into_inner));
        for exchange in finished {
            let stopped = exchange.send().stopped();
            let _ = stopped.await;
        }
    }

    /// Serves one request. Every way out that did not finish the response resets its stream
    /// (`Writer`'s drop), so that the client does not take it for complete.
    async fn exchange(
        &self,
        request: RequestResolver<transport::Connection, Bytes>,
        exchange: &Arc<Exchange>,
    ) {
        let mut writer = Writer { requests: self, exchange, ended: false };
        let config = &self.context.config;
        // The limit covers the head only. A body has its own limits, and a response may be held for
        // a part.
        let resolved = match timeout(config.header, request.resolve_request()).await {
            Ok(resolved) => resolved,
            Err(_) => {
                self.refuse(Reason::Header);
                return writer.reset(Code::H3_REQUEST_INCOMPLETE);
            }
        };
        let (request, stream) = match resolved {
            Ok(resolved) => resolved,
            Err(err) => return self.unread(&err, writer).await,
        };
        if let Some(wrong) = wrong(request.headers()) {
            debug!(wrong, "request malformed");
            self.refuse(Reason::Malformed);
            return writer.reset(Code::H3_MESSAGE_ERROR);
        }
        let head_only = request.method() == Method::HEAD;
        let length = request.headers().get(header::CONTENT_LENGTH).and_then(length);
        let mut body = RequestBody::new(stream, length);
        body.begin().await;
        let request: Request<RequestBody> = request.map(|()| body);
        let mut pending = pending::begin(&self.context, request, self.client(exchange));
        let whole = poll_fn(|cx| pending.poll_request_end(cx));
        if writer.unless_stopped(whole).await.is_none() {
            return;
        }
        // A connection with incomplete requests only counts as idle.
        let Some(_in_flight) = self.exchanges.begin() else {
            // The connection is ending to make room for another one (RFC 9114 4.1.1).
            return writer.reset(Code::H3_REQUEST_REJECTED);
        };
        let Some(response) = writer.unless_stopped(pending).await else {
            return;
        };
        if writer.send(response, head_only).await.is_err() {
            debug!("request cancelled");
        }
    }

    /// Responds to a request whose head could not be read, or resets its stream.
    async fn unread(&self, err: &StreamError, mut writer: Writer<'_, S>) {
        debug!(%err, "request not read");
        let refusal = writer.exchange.refusal();
        // The filter of frames makes h3 fail with an error of h3's choice, so that the recorded
        // refusal decides first.
        match err {
            StreamError::ConnectionError { .. } => {}
            // h3 has responded.
            StreamError::HeaderTooBig { .. } => {
                self.refuse(Reason::Malformed);
                writer.finish();
            }
            _ if refusal == Some(Refusal::TooLong) => {
                self.refuse(Reason::Malformed);
                let refusal = Refused {
                    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                    reason: "the request's head is too large",
                };
                let client = self.client(writer.exchange);
                let response = pending::refuse(&self.context, refusal, client);
                let _ = writer.send(response, false).await;
            }
            _ if refusal == Some(Refusal::Malformed) => {
                self.refuse(Reason::Malformed);
                writer.reset(Code::H3_MESSAGE_ERROR);
            }
            StreamError::StreamError { code, .. } => {
                self.refuse(Reason::Malformed);
                writer.reset(*code);
            }
            // The peer has cancelled the request.
            _ => writer.reset(Code::H3_REQUEST_CANCELLED),
        }
    }

    /// The sender of a request.
    fn client(&self, exchange: &Exchange) -> Client {
        let peer = self.quic.remote_address();
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        self.context.client(peer, true, exchange.early)
    }

    /// Counts a request that is not served.
    fn refuse(&self, reason: Reason) {
        self.context.metrics.refuse(reason);
    }
}

/// Writes one response. A response not written to its end is reset, so that the peer does not take
/// it for complete.
struct Writer<'a, S> {
    requests: &'a Requests<S>,
    /// The stream of the request.
    exchange: &'a Arc<Exchange>,
    /// The stream was finished or reset.
    ended: bool,
}

impl<S> Writer<'_, S> {
    /// Waits for `work`; `None` if the client stops reading the response first (RFC 9114 4.1.1).
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let stopped = async {
            let stopped = self.exchange.send().stopped();
            stopped.await
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            _ = stopped => None,
        }
    }

    /// Writes a response to its end. A body that fails resets the stream.
    ///
    /// # Errors
    /// The client has stopped reading, or is gone.
    async fn send(&mut self, response: Response<Body>, head_only: bool) -> Result<(), Unwanted> {
        let (mut parts, mut body) = response.into_parts();
        complete(parts.status, &mut parts.headers, &body, head_only);
        let rank = body.rank();
        let order = Order::new(rank, self.exchange.id());
        // The first write reports whether the stream still exists.
        let _ = self.exchange.send().set_priority(order.priority());
        let mut pieces = Pieces::default();
        head::write(parts.status, &parts.headers, &mut pieces.small);
        self.requests.activity.watch(&mut body);
        let requests = self.requests;
        let mut turn = requests.turns.turn(self.exchange.id(), order);
        loop {
            let frame = poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await;
            let frame = match frame {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    // Sends the available bytes now.
                    self.write(&mut pieces, &mut turn, None).await?;
                    turn.leave();
                    let next = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
                    self.unless_stopped(next).await.ok_or(Unwanted)?
                }
            };
            // The first frame is written with the head. `before` are the bytes in front of its own,
            // which the body's progress does not count.
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(mut data) = frame.into_data() {
                        let before = pieces.len();
                        pieces.push(&data);
                        self.write(&mut pieces, &mut turn, Some((&mut data, before))).await?;
                    }
                    if body.is_end_stream() {
                        break;
                    }
                }
                Some(Err(err)) => {
                    debug!(%err, "response cut");
                    self.reset(Code::H3_INTERNAL_ERROR);
                    return Ok(());
                }
                None => break,
            }
        }
        self.write(&mut pieces, &mut turn, None).await?;
        self.finish();
        Ok(())
    }

    /// Writes all `pieces`. `data`: the source of the pieces, and the number of bytes before its
    /// own.
    async fn write(
        &self,
        pieces: &mut Pieces,
        turn: &mut super::send_order::Turn<'_>,
        mut data: Option<(&mut Data, usize)>,
    ) -> Result<(), Unwanted> {
        let (pieces, mut from) = (pieces.take(), 0);
        let mut pieces = pieces;
        let quic = &self.requests.quic;
        let sent = &self.requests.context.metrics.sent;
        while from < pieces.len() {
            // `turn` may call `write` twice: the second time with a larger send window, to find out
            // which window is full.
            let (chunks, bytes) = poll_fn(|cx| {
                let rest = &mut pieces[from..];
                let write = |cx: &mut std::task::Context<'_>| self.exchange.poll_write(rest, cx);
                let open = |open| {
                    quic.set_send_window(if open { SEND_WINDOW + PROBE } else { SEND_WINDOW })
                };
                turn.poll(cx, write, open)
            })
            .await?;
            from += chunks;
            sent.inc_by(bytes as u64);
            // The body's progress advances with the bytes that quinn has taken, without the frame's
            // head. A slow client is found by it.
            if let Some((data, before)) = &mut data {
                let head = bytes.min(*before);
                *before -= head;
                let body = (bytes - head).min(data.remaining());
                data.advance(body);
            }
        }
        Ok(())
    }

    /// Marks the stream's end after the bytes written.
    fn finish(&mut self) {
        self.ended = true;
        // The peer may have stopped reading.
        if self.exchange.send().finish().is_err() {
            return;
        }
        let mut finished = self.requests.finished.lock().unwrap_or_else(PoisonError::into_inner);
        // Acknowledged responses are removed only before the list would grow.
        if finished.len() == finished.capacity() {
            finished.retain(|exchange| !exchange.has_arrived());
        }
        finished.push(Arc::clone(self.exchange));
    }

    /// Abandons the stream with an error code (RFC 9114 8.1).
    fn reset(&mut self, code: Code) {
        self.ended = true;
        // The stream may have ended, or h3 may have reset it.
        let _ = self.exchange.send().reset(wire(code.value()));
    }
}

impl<S> Drop for Writer<'_, S> {
    fn drop(&mut self) {
        if !self.ended {
            self.reset(Code::H3_REQUEST_CANCELLED);
        }
    }
}

/// The client has stopped reading the response, or is gone.
#[derive(Debug)]
struct Unwanted;

impl From<WriteError> for Unwanted {
    fn from(_: WriteError) -> Self {
        Self
    }
}

/// The next bytes to write, in pieces of a size that suits quinn.
#[derive(Default)]
struct Pieces {
    /// Pieces that are not joined with others.
    ready: Vec<Bytes>,
    /// Gathered bytes after those pieces.
    small: BytesMut,
}

impl Pieces {
    /// Number of bytes in all pieces.
    fn len(&self) -> usize {
        self.ready.iter().map(Bytes::len).sum::<usize>() + self.small.len()
    }

    /// Appends a DATA frame. Small pieces are copied, large ones shared, very large ones divided.
    fn push(&mut self, data: &Data) {
        head::write_data(data.remaining(), &mut self.small);
        for mut piece in data.pieces() {
            // Audio frames and heads of parts are small and many; a video frame is large and stays
            // as it is.
            if piece.len() <= SMALL {
                if self.small.len() + piece.len() > MAX_COALESCED {
                    self.coalesce();
                }
                self.small.put_slice(&piece);
                continue;
            }
            self.coalesce();
            while piece.len() > PIECE {
                self.ready.push(piece.split_to(PIECE));
            }
            self.ready.push(piece);
        }
    }

    /// Makes the coalesced bytes a piece.
    fn coalesce(&mut self) {
        if !self.small.is_empty() {
            self.ready.push(self.small.split().freeze());
        }
    }

    /// Removes all pieces.
    fn take(&mut self) -> Vec<Bytes> {
        self.coalesce();
        std::mem::take(&mut self.ready)
    }
}

/// Sets Content-Length, as the implementations of HTTP/1.1 and HTTP/2 do. A response to HEAD has
/// the length already: its body was dropped (`pending`).
fn complete(status: StatusCode, headers: &mut HeaderMap, body: &Body, head_only: bool) {
    let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT;
    if bodiless {
        // RFC 9110 8.6 forbids the field there; the API's framework sets it.
        headers.remove(header::CONTENT_LENGTH);
    } else if !head_only
        && status != StatusCode::NOT_MODIFIED
        && let Some(len) = body.len()
    {
        headers.entry(header::CONTENT_LENGTH).or_insert_with(|| len.into());
    }
}

/// The reason why a request's fields are malformed, if they are (RFC 9114 4.2, 4.1.2).
fn wrong(headers: &HeaderMap) -> Option<&'static str> {
    const OF_THE_CONNECTION: [&str; 5] =
        ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    if let Some(name) = OF_THE_CONNECTION.into_iter().find(|&name| headers.contains_key(name)) {
        return Some(name);
    }
    if headers.get_all(header::TE).iter().any(|te| !te.as_bytes().eq_ignore_ascii_case(b"trailers"))
    {
        return Some("te");
    }
    // h3 checks none of these fields, and another reader of the request could find another end.
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(first) = lengths.next()
        && (length(first).is_none() || lengths.next().is_some())
    {
        return Some("content-length");
    }
    None
}

/// Parses a Content-Length: digits only (RFC 9110 8.6).
fn length(value: &http::HeaderValue) -> Option<u64> {
    let text = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use net_core::Rope;

    use super::*;

    #[tokio::test]
    async fn large_pieces_are_shared_and_small_ones_coalesced() {
        let large = Bytes::from(vec![1; PIECE + SMALL + 1]);
        let rope =
            Rope::new([Bytes::from_static(b"moof"), Bytes::from_static(b"small"), large.clone()]);
        let mut body = Body::from(rope);
        let data =
            http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap().into_data().unwrap();
        let mut pieces = Pieces::default();
        pieces.push(&data);
        let pieces = pieces.take();
        assert!(pieces[0].ends_with(b"moofsmall"));
        assert_eq!(pieces[1].as_ptr(), large.as_ptr());
        assert_eq!(pieces[2].as_ptr(), large[PIECE..].as_ptr());
        assert_eq!(pieces.len(), 3);
    }

    #[test]
    fn connection_specific_fields_and_invalid_content_lengths_are_malformed() {
        let wrong = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            wrong(&headers)
        };
        assert_eq!(wrong("connection", "close"), Some("connection"));
        assert_eq!(wrong("transfer-encoding", "chunked"), Some("transfer-encoding"));
        assert_eq!(wrong("te", "gzip"), Some("te"));
        assert_eq!(wrong("content-length", "+5"), Some("content-length"));
        assert_eq!((wrong("te", "trailers"), wrong("content-length", "5")), (None, None));
    }
}
