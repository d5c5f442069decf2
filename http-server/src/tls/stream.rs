//! The plaintext of a connection over a TLS session. Encrypts written bytes into full records and
//! corks them, so that many HTTP/2 frames cost one write to the socket.
//!
//! The protocol's flush does nothing. The connection's task sends the corked records when the
//! protocol is idle ([`Flush`]), or when there are enough of them. No write buffer is kept while
//! the protocol is idle; the read buffers are the session's, 4 KiB when idle.

use std::{
    io::{self, BufRead, IoSlice, Read, Write},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use rustls::{ProtocolVersion, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{cork::Uncork, socket::Protocol};

/// Plaintext bytes that are encrypted and corked before the socket must accept them. This fits a
/// processor's cache.
const MAX_CORKED: usize = 128 << 10;
/// Plaintext bytes of one record (RFC 8446 5.1).
const RECORD: usize = 16 << 10;
/// The last bytes of a write, below this number, wait for more bytes instead of becoming a record
/// of their own.
const TAIL: usize = 2 << 10;
/// Limit of slices in one vectored write.
const SLICES: usize = 64;

/// The stream that the protocol reads from and writes to. It shares the session with [`Flush`],
/// which another future of the same task holds: the lock is never contended.
#[derive(Debug)]
pub(crate) struct Stream<S> {
    shared: Arc<Mutex<Shared<S>>>,
    early: Arc<AtomicBool>,
}

/// Sends the bytes that a [`Stream`] holds.
#[derive(Debug)]
pub(crate) struct Flush<S>(Arc<Mutex<Shared<S>>>);

#[derive(Debug)]
struct Shared<S> {
    socket: S,
    session: ServerConnection,
    /// Plaintext not in a record yet: fewer than `TAIL` bytes.
    tail: Vec<u8>,
    /// Plaintext bytes in records that the socket has not accepted completely.
    corked: usize,
    /// The handshake is not complete.
    early: Arc<AtomicBool>,
    /// There may be early data to read.
    has_early: bool,
    /// `close_notify` is among the records.
    closed: bool,
}

impl<S> Stream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Wraps a session whose client hello has been read, perhaps with bytes after it.
    pub(super) fn new(socket: S, mut session: ServerConnection) -> Self {
        // `MAX_CORKED` is the limit instead.
        session.set_buffer_limit(None);
        let early = Arc::new(AtomicBool::new(true));
        let shared = Shared {
            socket,
            session,
            tail: Vec::new(),
            corked: 0,
            early: Arc::clone(&early),
            has_early: false,
            closed: false,
        };
        Self { shared: Arc::new(Mutex::new(shared)), early }
    }

    /// Continues the handshake until requests may arrive: its end, or the first early data.
    ///
    /// # Errors
    /// The socket's, `UnexpectedEof` if the peer closes, `InvalidData` if it violates TLS.
    pub(super) async fn handshake(&mut self) -> io::Result<Protocol> {
        std::future::poll_fn(|cx| lock(&self.shared).poll_handshake(cx)).await
    }

    /// The handle for the task that drives the protocol.
    pub(crate) fn flusher(&self) -> Flush<S> {
        Flush(Arc::clone(&self.shared))
    }

    /// Calls `act` with the socket below.
    #[cfg(test)]
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut S) -> T) -> T {
        act(&mut lock(&self.shared).socket)
    }

    /// True until the handshake is complete: until then a request may be a replay (RFC 8470).
    pub(crate) fn early(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.early)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Uncork for Flush<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).poll_send(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Shared<S> {
    /// See [`Stream::handshake`].
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Protocol>> {
        loop {
            self.process(cx)?;
            if !self.session.is_handshaking() {
                // In TLS 1.2 the server sends the last handshake message. In 1.3 only tickets
                // remain: they are sent with the first response.
                if self.session.protocol_version() == Some(ProtocolVersion::TLSv1_2) {
                    ready!(self.poll_drain(cx))?;
                }
                return Poll::Ready(Ok(spoken(&self.session)));
            }
            // Requests are in the first flight. The rest of the handshake proceeds with the reads
            // and writes of the protocol.
            if self.session.early_data().is_some() {
                self.has_early = true;
                return Poll::Ready(Ok(spoken(&self.session)));
            }
            ready!(self.poll_drain(cx))?;
            if ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Reads some bytes from the socket; 0 at its end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut wire = Wire { socket: &mut self.socket, cx };
        blocking(self.session.read_tls(&mut wire))
    }

    /// Processes the bytes read. Bytes that are not TLS end the connection; an alert is sent if the
    /// socket accepts it at once.
    fn process(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.session.process_new_packets() {
            Ok(_) => {
                // Stored once. Requests read it when their head has arrived.
                if !self.session.is_handshaking() && self.early.load(Ordering::Relaxed) {
                    self.early.store(false, Ordering::Release);
                }
                Ok(())
            }
            Err(err) => {
                let _ = self.poll_drain(cx);
                Err(io::Error::new(io::ErrorKind::InvalidData, err))
            }
        }
    }

    /// Reads decrypted bytes: early data first, then those after the handshake.
    ///
    /// # Errors
    /// The socket's, a violation of TLS, or an end without `close_notify`.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if self.has_early
                && let Some(mut early) = self.session.early_data()
            {
                let count = early.read(buf.initialize_unfilled())?;
                if count > 0 {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                self.has_early = self.session.is_handshaking();
            }
            let mut reader = self.session.reader();
            match reader.fill_buf() {
                Ok(bytes) => {
                    let count = bytes.len().min(buf.remaining());
                    buf.put_slice(&bytes[..count]);
                    reader.consume(count);
                    // The peer has sent `close_notify`: nothing follows.
                    return Poll::Ready(Ok(()));
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                // The end came without `close_notify`: the bytes read may be truncated (RFC 8446
                // 6.1).
                Err(err) => return Poll::Ready(Err(err)),
            }
            ready!(self.poll_receive(cx))?;
            self.process(cx)?;
        }
    }

    /// Accepts some of the bytes to send, encrypts them into full records, and holds the records
    /// back until there are [`MAX_CORKED`] bytes.
    ///
    /// Each record costs about 22 bytes and a call of the cipher, so short writes are joined first.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.corked >= MAX_CORKED {
            ready!(self.poll_drain(cx))?;
        }
        let tail = self.tail.len();
        let offered =
            bufs.iter().take(SLICES).fold(0_usize, |sum, buf| sum.saturating_add(buf.len()));
        let taken = offered.min(MAX_CORKED - tail);
        let rest = (tail + taken) % RECORD;
        let held = if rest < TAIL { rest } else { 0 };
        // Too few bytes for a record: they wait for more.
        if held == tail + taken {
            append(&mut self.tail, bufs, 0, taken);
            return Poll::Ready(Ok(taken));
        }
        // Whole records, or one that is long enough. `held` are the last bytes of `taken`, because
        // the tail is shorter than a record.
        let sealed = taken - held;
        let mut slices = [IoSlice::new(&[]); SLICES + 1];
        slices[0] = IoSlice::new(&self.tail);
        let (mut used, mut left) = (1, sealed);
        for buf in bufs.iter().take(SLICES) {
            let count = buf.len().min(left);
            if count > 0 {
                slices[used] = IoSlice::new(&buf[..count]);
                used += 1;
            }
            left -= count;
        }
        let first = usize::from(tail == 0);
        let written = self.session.writer().write_vectored(&slices[first..used])?;
        if written != tail + sealed {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.corked += written;
        self.tail.clear();
        append(&mut self.tail, bufs, sealed, taken - sealed);
        if self.corked >= MAX_CORKED {
            // The socket may accept them at once; if not, this task is woken when it does.
            if let Poll::Ready(Err(err)) = self.poll_drain(cx) {
                return Poll::Ready(Err(err));
            }
        }
        Poll::Ready(Ok(taken))
    }

    /// Hands all records to the socket.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut wire = Wire { socket: &mut self.socket, cx };
            if ready!(blocking(self.session.write_tls(&mut wire)))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        self.corked = 0;
        Poll::Ready(Ok(()))
    }

    /// Sends all bytes written so far.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.seal()?;
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Encrypts the tail as a record.
    fn seal(&mut self) -> io::Result<()> {
        if !self.tail.is_empty() {
            self.session.writer().write_all(&self.tail)?;
            self.corked += self.tail.len();
            self.tail = Vec::new();
        }
        Ok(())
    }

    /// Sends `close_notify` and shuts down the sending side of the socket.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            self.seal()?;
            self.session.send_close_notify();
            self.closed = true;
        }
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        lock(&self.shared).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        lock(&self.shared).poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.shared).poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: [`Flush`] sends the bytes later.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.shared).poll_close(cx)
    }
}

/// The socket with the blocking interface that the session expects: a pending operation is
/// `WouldBlock`, and wakes the task later.
struct Wire<'a, 'b, S> {
    socket: &'a mut S,
    cx: &'a mut Context<'b>,
}

impl<S: AsyncRead + Unpin> Read for Wire<'_, '_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(bytes);
        match Pin::new(&mut *self.socket).poll_read(self.cx, &mut buf) {
            Poll::Ready(result) => result.map(|()| buf.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S: AsyncWrite + Unpin> Write for Wire<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match Pin::new(&mut *self.socket).poll_write_vectored(self.cx, bufs) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Calls `take` once with a reader of the socket, and waits while it would block.
pub(super) async fn receive<S>(
    socket: &mut S,
    mut take: impl FnMut(&mut dyn Read) -> io::Result<usize>,
) -> io::Result<usize>
where
    S: AsyncRead + Unpin,
{
    std::future::poll_fn(|cx| blocking(take(&mut Wire { socket, cx }))).await
}

/// Turns `WouldBlock` into pending: the task is woken.
fn blocking<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(err) if err.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

/// Appends `count` bytes of `bufs` to `tail`, after skipping `start` bytes.
fn append(tail: &mut Vec<u8>, bufs: &[IoSlice<'_>], mut start: usize, mut count: usize) {
    for buf in bufs {
        let from = start.min(buf.len());
        let to = buf.len().min(from + count);
        tail.extend_from_slice(&buf[from..to]);
        start -= from;
        count -= to - from;
        if count == 0 {
            break;
        }
    }
}

/// The state, also after a panic of another holder: the connection ends with its task anyway.
fn lock<S>(shared: &Mutex<Shared<S>>) -> MutexGuard<'_, Shared<S>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The protocol that ALPN has selected so far.
fn spoken(session: &ServerConnection) -> Protocol {
    match session.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http1,
    }
}
