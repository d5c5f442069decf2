//! Implements h3's transport traits for quinn. The connection's loop accepts streams itself and
//! passes them in, so nothing here waits. The sending side of a request is shared with the code
//! that writes the response, so that h3 does not carry it.

use std::{
    collections::VecDeque,
    future::pending,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h3::{
    error::Code,
    quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf},
};
use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use super::frames::{Frames, Refusal};

/// Number of streams that a server opens: control, and two of QPACK (RFC 9114 6.2, RFC 9204 4.2).
const OPENED: usize = 3;

/// Waits until the peer stops reading one of this server's streams; pending for ever if it does
/// not.
pub(super) type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection, with the requests that have arrived and that h3 has not taken yet. h3 does not
/// read the peer's other streams ([`unidirectional`](super::unidirectional)).
pub(super) struct Connection {
    quic: quinn::Connection,
    /// This server's unidirectional streams that h3 has not taken.
    opened: VecDeque<quinn::SendStream>,
    /// Each is ready when the peer stops reading the corresponding stream.
    stopped: Vec<Stopped>,
    requests: VecDeque<RequestStream>,
    /// The last request that h3 has taken.
    taken: Option<Arc<Exchange>>,
    /// Limit in bytes of an encoded field section.
    max_section: u64,
}

/// The stream of one request, as far as the code that writes the response needs it.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Shared by h3, which responds to a head that is too large, and the code that writes all other
    /// responses.
    send: Mutex<quinn::SendStream>,
    /// The reason why it is not read further, if any.
    refusal: OnceLock<Refusal>,
    /// The request arrived before the handshake was complete, so that it may be a replay (RFC 9001
    /// 9.2).
    pub(super) early: bool,
    id: u64,
}

impl Connection {
    /// Opens this server's streams, as soon as the peer allows it. An encoded field section has
    /// `max_section` bytes at most.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn open(
        quic: quinn::Connection,
        max_section: u64,
    ) -> Result<Self, ConnectionError> {
        let (mut opened, mut stopped) =
            (VecDeque::with_capacity(OPENED), Vec::<Stopped>::with_capacity(OPENED));
        // The peer must not close these streams (RFC 9114 6.2.1). Only its STOP_SENDING is an
        // event: the end of the connection ends its task anyway.
        for _ in 0..OPENED {
            let stream = quic.open_uni().await?;
            let waiting = stream.stopped();
            stopped.push(Box::pin(async move {
                if !matches!(waiting.await, Ok(Some(_))) {
                    pending::<()>().await;
                }
            }));
            opened.push_back(stream);
        }
        Ok(Self { quic, opened, stopped, requests: VecDeque::new(), taken: None, max_section })
    }

    /// Adds the stream of a request that has arrived.
    pub(super) fn bring_request(&mut self, send: quinn::SendStream, recv: quinn::RecvStream) {
        let exchange = Arc::new(Exchange {
            early: recv.is_0rtt(),
            id: recv.id().into(),
            send: Mutex::new(send),
            refusal: OnceLock::new(),
        });
        self.requests.push_back(RequestStream {
            recv: RecvStream {
                stream: recv,
                frames: Frames::new(self.max_section),
                input: Bytes::new(),
                exchange: Arc::clone(&exchange),
            },
            send: SendStream { exchange, writing: VecDeque::new() },
        });
    }

    /// Futures of this server's streams that last as long as the connection, for the caller to
    /// watch.
    pub(super) fn watched(&mut self) -> Vec<Stopped> {
        std::mem::take(&mut self.stopped)
    }

    /// The stream of the request that h3 has just taken.
    pub(super) fn taken(&mut self) -> Option<Arc<Exchange>> {
        self.taken.take()
    }
}

impl Exchange {
    /// The sending side of the stream.
    pub(super) fn send(&self) -> MutexGuard<'_, quinn::SendStream> {
        self.send.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reason why the request is not read further, if any.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.get().copied()
    }

    /// Whether the peer has acknowledged the complete response.
    pub(super) fn has_arrived(&self) -> bool {
        self.send().priority().is_err()
    }

    /// The number of the stream (RFC 9000 2.1).
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Writes as much of `pieces` as there is room for. Returns the number of pieces written
    /// completely, and of bytes. A piece written in part keeps its rest.
    pub(super) fn poll_write(
        &self,
        pieces: &mut [Bytes],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(usize, usize), WriteError>> {
        let mut send = self.send();
        let written = ready!(pin!(send.write_chunks(pieces)).poll(cx))?;
        Poll::Ready(Ok((written.chunks, written.bytes)))
    }
}

impl quic::Connection<Bytes> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = Nothing;

    fn poll_accept_recv(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        // The peer's unidirectional streams are read by `unidirectional`, which bounds the bytes
        // that are stored.
        Poll::Pending
    }

    fn poll_accept_bidi(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Result<RequestStream, ConnectionErrorIncoming>> {
        let Some(stream) = self.requests.pop_front() else {
            return Poll::Pending;
        };
        self.taken = Some(Arc::clone(&stream.send.exchange));
        Poll::Ready(Ok(stream))
    }

    fn opener(&self) -> Nothing {
        Nothing
    }
}

impl quic::OpenStreams<Bytes> for Connection {
    type BidiStream = RequestStream;
    type SendStream = SendStream;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RequestStream, StreamErrorIncoming>> {
        quic::OpenStreams::poll_open_bidi(&mut Nothing, cx)
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        // `open` has opened all streams that h3 needs, so that none is awaited here.
        let Some(stream) = self.opened.pop_front() else {
            return quic::OpenStreams::poll_open_send(&mut Nothing, cx);
        };
        let exchange = Exchange {
            early: false,
            id: stream.id().into(),
            send: Mutex::new(stream),
            refusal: OnceLock::new(),
        };
        Poll::Ready(Ok(SendStream { exchange: Arc::new(exchange), writing: VecDeque::new() }))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.quic.close(wire(code.value()), reason);
    }
}

/// Opens nothing: this server never pushes (RFC 9114 4.6).
pub(super) struct Nothing;

impl quic::OpenStreams<Bytes> for Nothing {
    type BidiStream = RequestStream;
    type SendStream = SendStream;

    fn poll_open_bidi(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Result<RequestStream, StreamErrorIncoming>> {
        Poll::Ready(Err(unknown(io::ErrorKind::Unsupported)))
    }

    fn poll_open_send(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        Poll::Ready(Err(unknown(io::ErrorKind::Unsupported)))
    }

    fn close(&mut self, _: Code, _: &[u8]) {}
}

/// The receiving side, which h3 reads.
pub(super) struct RecvStream {
    stream: quinn::RecvStream,
    frames: Frames,
    /// Bytes that have arrived and are not handed on.
    input: Bytes,
    /// Records when the stream is not read further.
    exchange: Arc<Exchange>,
}

impl RecvStream {
    /// Records why the stream is not read further, and returns the error with which h3 gives it up.
    fn refuse(&mut self, refusal: Refusal) -> StreamErrorIncoming {
        let _ = self.exchange.refusal.set(refusal);
        let code = match refusal {
            Refusal::TooLong => Code::H3_EXCESSIVE_LOAD,
            Refusal::Malformed => Code::H3_MESSAGE_ERROR,
            Refusal::Cut => Code::H3_FRAME_ERROR,
        };
        StreamErrorIncoming::StreamTerminated { error_code: code.value() }
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        // The bytes at hand are handed on before more are read, so that at most one chunk is held,
        // and QUIC's flow control stops a peer that sends faster than its request is read.
        loop {
            match self.frames.next(&mut self.input) {
                Ok(Some(bytes)) => return Poll::Ready(Ok(Some(bytes))),
                Ok(None) => {}
                Err(refusal) => return Poll::Ready(Err(self.refuse(refusal))),
            }
            // The stream keeps the waker, not this future.
            let chunk = pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx);
            match ready!(chunk) {
                Ok(Some(chunk)) => self.input = chunk.bytes,
                Ok(None) => {
                    // h3 takes the end of the stream for the end of the request, also within a
                    // frame.
                    let end = self.frames.end().map(|()| None);
                    return Poll::Ready(end.map_err(|refusal| self.refuse(refusal)));
                }
                Err(err) => return Poll::Ready(Err(read_error(err))),
            }
        }
    }

    fn stop_sending(&mut self, code: u64) {
        // The stream may have ended.
        let _ = self.stream.stop(wire(code));
    }

    fn recv_id(&self) -> StreamId {
        id(self.stream.id().into())
    }
}

impl Drop for RecvStream {
    /// Stops the stream without an error: further bytes are not needed (RFC 9114 4.1).
    fn drop(&mut self) {
        let _ = self.stream.stop(wire(Code::H3_NO_ERROR.value()));
    }
}

/// The sending side that h3 writes: settings and GOAWAY, and h3's own response to a request whose
/// head is too large.
pub(super) struct SendStream {
    exchange: Arc<Exchange>,
    /// The bytes that `send_data` has taken and `poll_ready` writes. A GOAWAY may follow one whose
    /// write was given up.
    writing: VecDeque<WriteBuf<Bytes>>,
}

impl quic::SendStream<Bytes> for SendStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        // Data that the peer's window does not admit completely stays in front, and the next call
        // continues after the bytes that were written.
        while let Some(data) = self.writing.front_mut() {
            let mut send = self.exchange.send();
            while data.has_remaining() {
                let written =
                    ready!(pin!(send.write(data.chunk())).poll(cx)).map_err(write_error)?;
                data.advance(written);
            }
            self.writing.pop_front();
        }
        Poll::Ready(Ok(()))
    }

    /// h3 awaits `poll_ready` after each call, and the caller gives up no wait but those for the
    /// two GOAWAY, so that few bytes are held.
    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.writing.push_back(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        let finished = self.exchange.send().finish();
        Poll::Ready(finished.map_err(|err| StreamErrorIncoming::Unknown(err.into())))
    }

    fn reset(&mut self, code: u64) {
        // The stream may have ended.
        let _ = self.exchange.send().reset(wire(code));
    }

    fn send_id(&self) -> StreamId {
        id(self.exchange.id)
    }
}

/// Both sides of a request's stream.
pub(super) struct RequestStream {
    recv: RecvStream,
    send: SendStream,
}

impl quic::RecvStream for RequestStream {
    type Buf = Bytes;

    /// Bytes pass the filter of `frames` before h3 reads them.
    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.recv.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.recv.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.recv_id()
    }
}

impl quic::SendStream<Bytes> for RequestStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

/// An error code in QUIC's encoding.
pub(super) fn wire(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

/// The number of a stream as h3's type.
fn id(id: u64) -> StreamId {
    StreamId::try_from(id).expect("the number of a QUIC stream has 62 bits")
}

/// An error that is none of h3's cases.
fn unknown(kind: io::ErrorKind) -> StreamErrorIncoming {
    StreamErrorIncoming::Unknown(Box::new(io::Error::from(kind)))
}

/// The end of the connection as h3's error. h3 distinguishes a close of the application and a
/// timeout from all other causes.
fn lost(err: ConnectionError) -> StreamErrorIncoming {
    let connection_error = match err {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    };
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error }
}

/// A failed read as h3's error.
fn read_error(err: ReadError) -> StreamErrorIncoming {
    match err {
        ReadError::Reset(code) => {
            StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
        }
        ReadError::ConnectionLost(err) => lost(err),
        other => StreamErrorIncoming::Unknown(Box::new(other)),
    }
}

/// A failed write as h3's error.
fn write_error(err: WriteError) -> StreamErrorIncoming {
    match err {
        WriteError::Stopped(code) => {
            StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
        }
        WriteError::ConnectionLost(err) => lost(err),
        other => StreamErrorIncoming::Unknown(Box::new(other)),
    }
}
