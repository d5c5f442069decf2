//! The bytes of a connection with time limits. A request's head that arrives too slowly ends the
//! connection, and so does a peer that accepts nothing, or hardly anything for long. A timer is
//! armed only during a wait, so that a healthy connection never touches one.

use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{BufMut, Bytes};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    activity::{Activity, PATIENCE, least},
    cork::Uncork,
    metrics::{Metrics, Reason},
};

/// A write up to this size in bytes, in more than `FEW` pieces, such as an audio part with its
/// head, is coalesced on the stack. For more than 8 pieces the kernel allocates a list, which takes
/// longer than the copy.
const SMALL: usize = 4 << 10;
const FEW: usize = 4;

/// The first bytes of an HTTP/2 connection with prior knowledge (RFC 9113 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// The first bytes of a connection, read to detect its protocol.
#[derive(Debug, Default)]
pub(crate) struct Prefix {
    bytes: [u8; PREFACE.len()],
    /// Number of bytes read.
    end: usize,
}

impl Prefix {
    /// Reads until the protocol is clear; `None` if the peer closed before it sent a byte. No more
    /// than the preface is read, whatever follows.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) async fn fill<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
    ) -> io::Result<Option<Protocol>> {
        while self.end < PREFACE.len() {
            // Most connections differ from the preface in their first byte, and the loop ends after
            // one read.
            let count = socket.read(&mut self.bytes[self.end..]).await?;
            self.end += count;
            match count {
                0 if self.end == 0 => return Ok(None),
                0 => return Ok(Some(Protocol::Http1)),
                _ if self.bytes[..self.end] != PREFACE[..self.end] => {
                    return Ok(Some(Protocol::Http1));
                }
                _ => {}
            }
        }
        Ok(Some(Protocol::Http2))
    }

    /// The bytes read.
    pub(crate) fn read(&self) -> Bytes {
        Bytes::copy_from_slice(&self.bytes[..self.end])
    }
}

/// The bytes of a connection, plain or encrypted. Its limits are set with the methods that return
/// `Self`; without them it only forwards.
#[derive(Debug)]
pub(crate) struct Socket<S> {
    inner: S,
    /// Bytes read before, which are read again.
    before: Bytes,
    header: Option<Header>,
    write: Option<Write>,
}

/// The head that is being read, if its time is limited here: HTTP/1.
#[derive(Debug)]
struct Header {
    deadline: Deadline,
    activity: Arc<Activity>,
    /// The number of the awaited request.
    head: u64,
    metrics: Metrics,
}

/// The progress of writes.
#[derive(Debug)]
struct Write {
    deadline: Deadline,
    /// Start of the present wait for the peer.
    since: Instant,
    /// Total time of waits since the last check of the rate.
    waited: Duration,
    /// Bytes accepted since the last check of the rate.
    taken: u64,
    metrics: Metrics,
    /// Whether the peer must accept bytes before more can be written, for [`Full`].
    full: Arc<AtomicBool>,
}

impl<S> Socket<S> {
    /// A socket without limits.
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, before: Bytes::new(), header: None, write: None }
    }

    /// Returns `before` first on the next reads.
    pub(crate) fn after(mut self, before: Bytes) -> Self {
        self.before = before;
        self
    }

    /// The same socket after its last request: returns `bytes`, which were read ahead, first on the
    /// next reads, and limits no head any more.
    pub(crate) fn after_last_head(mut self, bytes: Bytes) -> Self {
        self.header = None;
        // Bytes that were not read again yet follow those that were.
        self.before = match self.before.is_empty() {
            true => bytes,
            false => [bytes, self.before].concat().into(),
        };
        self
    }

    /// Limits the time from a head's first byte to its last.
    pub(crate) fn limit_header(
        mut self,
        limit: Duration,
        activity: &Arc<Activity>,
        metrics: &Metrics,
    ) -> Self {
        self.header = Some(Header {
            deadline: Deadline::new(limit),
            activity: Arc::clone(activity),
            head: 0,
            metrics: metrics.clone(),
        });
        self
    }

    /// Limits the time in which the peer must accept some written bytes; in [`PATIENCE`] such times
    /// of waiting it must accept the bytes of the least rate.
    ///
    /// For the socket itself: layers above may cork bytes, so that their writes succeed while the
    /// peer accepts nothing. Also counts the bytes sent.
    pub(crate) fn limit_write(mut self, limit: Duration, metrics: &Metrics) -> Self {
        self.write = Some(Write {
            deadline: Deadline::new(limit),
            since: Instant::now(),
            waited: Duration::ZERO,
            taken: 0,
            metrics: metrics.clone(),
            full: Arc::default(),
        });
        self
    }

    /// For a protocol that writes to this socket directly; only if writes are limited.
    pub(crate) fn flusher(&self) -> Full {
        let full = self.write.as_ref().map(|write| Arc::clone(&write.full));
        Full(full.unwrap_or_default())
    }

    /// Applies the limit of writes to the result of an operation that may wait for the peer.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut self.write {
            Some(write) => write.written(cx, result),
            None => result,
        }
    }

    /// Like [`Self::written`], and counts the bytes.
    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        // Counted first, because the check of the least rate uses the count.
        if let (Poll::Ready(Ok(count)), Some(write)) = (&result, &mut self.write) {
            write.metrics.sent.inc_by(*count as u64);
            write.taken += *count as u64;
        }
        self.written(cx, result)
    }

    /// Records that bytes have arrived.
    fn has_read(&mut self) {
        if let Some(header) = &mut self.header {
            header.has_read();
        }
    }
}

/// Whether the peer must accept bytes before more can be written. Nothing is held back here.
#[derive(Debug)]
pub(crate) struct Full(Arc<AtomicBool>);

impl Uncork for Full {
    fn poll(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The protocol waits for the socket, and is woken.
        match self.0.load(Ordering::Relaxed) {
            true => Poll::Pending,
            false => Poll::Ready(Ok(())),
        }
    }
}

impl Header {
    /// Records that bytes have arrived: part of a head, unless a request is in progress.
    fn has_read(&mut self) {
        let (begun, busy) = (self.activity.begun(), self.activity.is_busy());
        // hyper begins a request when its head is complete, which `begun` then counts: bytes that
        // arrive before that belong to the head. Further bytes of one head do not extend its time.
        if !busy && (!self.deadline.armed || self.head != begun) {
            self.deadline.arm();
            self.head = begun;
        }
    }

    /// Records that no bytes have arrived. An error if the time limit has passed.
    fn awaits_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.deadline.armed {
            return Poll::Pending;
        }
        if self.head != self.activity.begun() {
            self.deadline.armed = false;
            return Poll::Pending;
        }
        self.deadline.poll(cx).map(|()| {
            self.metrics.refuse(Reason::Header);
            Err(io::Error::new(io::ErrorKind::TimedOut, "a request's head took too long"))
        })
    }
}

/// A socket that is gone holds nothing back: whoever waits for it in [`Full`] would not be woken.
impl Drop for Write {
    fn drop(&mut self) {
        self.full.store(false, Ordering::Relaxed);
    }
}

impl Write {
    /// Ends the wait if the operation completed, or begins one. An error if the peer has accepted
    /// no bytes within the limit, or too few over several waits.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        // A wait begins with the first write that the socket does not accept, and ends with the
        // next that it does. Each wait counts towards the least rate.
        if result.is_ready() {
            if self.deadline.armed {
                self.deadline.armed = false;
                self.full.store(false, Ordering::Relaxed);
                if self.is_trickle() {
                    return self.end("the peer accepts too few bytes");
                }
            }
            return result;
        }
        if !self.deadline.armed {
            self.deadline.arm();
            self.since = Instant::now();
            self.full.store(true, Ordering::Relaxed);
        }
        ready!(self.deadline.poll(cx));
        self.end("the peer accepts no bytes")
    }

    /// Ends a wait. Returns whether the peer has made the server wait for long, and accepted less
    /// than the least rate meanwhile.
    fn is_trickle(&mut self) -> bool {
        self.waited += self.since.elapsed();
        if self.waited < self.deadline.limit * PATIENCE {
            return false;
        }
        let (waited, taken) = (mem::take(&mut self.waited), mem::take(&mut self.taken));
        taken < least(waited)
    }

    /// Counts the connection and fails the operation, which ends the connection.
    fn end<T>(&self, why: &'static str) -> Poll<io::Result<T>> {
        self.metrics.refuse(Reason::Write);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // The socket is not read beside them: it may have no bytes, and the reader would wait for
        // it although it has some.
        if !this.before.is_empty() {
            let count = buf.remaining().min(this.before.len());
            buf.put_slice(&this.before.split_to(count));
            this.has_read();
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() > before => this.has_read(),
            Poll::Ready(result) => return Poll::Ready(result),
            Poll::Pending => {
                return match &mut this.header {
                    // Only a head has a limit here; bodies and idle connections have their own.
                    Some(header) => header.awaits_more(cx),
                    None => Poll::Pending,
                };
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.wrote(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let inner = Pin::new(&mut self.inner);
        let len = bufs.iter().fold(0_usize, |sum, buf| sum.saturating_add(buf.len()));
        // The copy is on the stack and limited by `SMALL`; see there for the reason.
        let result = match bufs.len() > FEW && len <= SMALL {
            false => inner.poll_write_vectored(cx, bufs),
            true => {
                let mut coalesced = [0; SMALL];
                let mut free = &mut coalesced[..];
                bufs.iter().for_each(|buf| free.put_slice(buf));
                inner.poll_write(cx, &coalesced[..len])
            }
        };
        self.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.written(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.written(cx, result)
    }
}

/// A timer that is armed at times, and runs from the first wait for it: most are disarmed before
/// that, and never read the clock.
#[derive(Debug)]
struct Deadline {
    limit: Duration,
    armed: bool,
    /// `sleep` is set for the present wait.
    running: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    fn new(limit: Duration) -> Self {
        Self { limit, armed: false, running: false, sleep: None }
    }

    /// The time limit applies from the next wait on.
    fn arm(&mut self) {
        self.armed = true;
        self.running = false;
    }

    /// Ready when the limit has passed since the first poll after [`Self::arm`].
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.running {
            self.running = true;
            // The timer is kept for the connection's life: setting it again is cheaper than
            // creating it.
            let until = Instant::now() + self.limit;
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(until),
                None => self.sleep = Some(Box::pin(sleep_until(until))),
            }
        }
        match &mut self.sleep {
            Some(sleep) => Future::poll(sleep.as_mut(), cx),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncWriteExt, DuplexStream, duplex},
        time::sleep,
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn limited() -> (Socket<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(1_000);
        (Socket::new(ours).limit_write(LIMIT, &Metrics::default()), theirs)
    }

    /// Writes to a peer that accepts `step` bytes each second, for an hour or until the write
    /// fails.
    async fn write_to_one_that_takes(step: usize) -> Option<io::ErrorKind> {
        let (mut socket, mut peer) = limited();
        let taking = async {
            let mut bytes = vec![0; step];
            loop {
                peer.read_exact(&mut bytes).await.unwrap();
                sleep(Duration::from_secs(1)).await;
            }
        };
        let writing = async {
            loop {
                if let Err(err) = socket.write_all(&[0; 1_000]).await {
                    return err.kind();
                }
            }
        };
        tokio::select! {
            () = taking => None,
            kind = writing => Some(kind),
            () = sleep(Duration::from_secs(3_600)) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_below_the_minimum_rate_is_closed() {
        assert_eq!(write_to_one_that_takes(1).await, Some(io::ErrorKind::TimedOut));
        assert_eq!(write_to_one_that_takes(1_000).await, Some(io::ErrorKind::TimedOut));
        assert_eq!(write_to_one_that_takes(1_100).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn time_without_pending_writes_does_not_count_against_the_peer() {
        let (mut socket, mut peer) = limited();
        for _ in 0..200 {
            socket.write_all(&[0; 100]).await.unwrap();
            peer.read_exact(&mut [0; 100]).await.unwrap();
            sleep(LIMIT).await;
        }
    }

    #[tokio::test]
    async fn small_vectored_writes_arrive_unchanged() {
        for (pieces, size) in
            [(1, 10), (FEW, 10), (FEW + 1, 10), (FEW + 1, 100), (16, SMALL / 16), (17, SMALL / 16)]
        {
            let (ours, mut theirs) = duplex(8 << 10);
            let bytes: Vec<u8> =
                (0..pieces * size).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let slices: Vec<_> = bytes.chunks(size).map(IoSlice::new).collect();
            let written = Socket::new(ours).write_vectored(&slices).await.unwrap();
            let mut arrived = vec![0; written];
            theirs.read_exact(&mut arrived).await.unwrap();
            assert_eq!((written, arrived), (bytes.len(), bytes.clone()), "{pieces} of {size}");
        }
    }
}
