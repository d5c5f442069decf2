//! Corks small writes. The HTTP/2 implementation writes each frame on its own; a hundred
//! responses on a hundred streams then cost one write to the socket.
//!
//! The protocol's flush does nothing. The connection's task sends the corked bytes when the
//! protocol is idle ([`Uncork`]), or when there are enough of them. Large writes are not copied;
//! they are sent together with the bytes corked before. No memory is kept when all bytes are
//! sent.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Writes of up to this size, in bytes, are corked.
const SMALL: usize = 4 << 10;
/// Limit of corked bytes: beyond it, the socket must accept some before the protocol may write
/// more.
const MOST: usize = 64 << 10;
/// Limit of slices in one vectored write.
const PIECES: usize = 64;

/// Sends the bytes that a stream holds back. The task that drives the protocol has it, while the
/// protocol has the stream.
pub(crate) trait Uncork: Send {
    /// Sends all bytes that were written; pending until the peer accepts them.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// The stream that the protocol reads from and writes to.
#[derive(Debug)]
pub(crate) struct Cork<S>(Arc<Mutex<Shared<S>>>);

/// Sends the bytes that a [`Cork`] holds.
#[derive(Debug)]
pub(crate) struct Flush<S>(Arc<Mutex<Shared<S>>>);

#[derive(Debug)]
struct Shared<S> {
    socket: S,
    /// Small writes that are held back; at most [`MOST`] bytes.
    corked: Vec<u8>,
    /// Bytes of `corked` that the socket has accepted.
    sent: usize,
}

impl<S> Cork<S> {
    /// Corks the writes to `socket`.
    pub(crate) fn new(socket: S) -> Self {
        Self(Arc::new(Mutex::new(Shared { socket, corked: Vec::new(), sent: 0 })))
    }

    /// The handle for the task that drives the protocol.
    pub(crate) fn flusher(&self) -> Flush<S> {
        Flush(Arc::clone(&self.0))
    }
}

impl<S: AsyncWrite + Unpin + Send> Uncork for Flush<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).poll_send(cx)
    }
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    /// Writes the corked bytes; pending until the socket has accepted all of them.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.corked.len() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, &self.corked[self.sent..])) {
                Ok(0) => return Poll::Ready(Err(self.fail(io::ErrorKind::WriteZero.into()))),
                Ok(count) => self.sent += count,
                Err(err) => return Poll::Ready(Err(self.fail(err))),
            }
        }
        self.clear();
        Poll::Ready(Ok(()))
    }

    /// Releases the buffer. A connection that waits for a part holds no memory for writing.
    fn clear(&mut self) {
        (self.corked, self.sent) = (Vec::new(), 0);
    }

    /// Drops the corked bytes after an error: they are not sent again.
    fn fail(&mut self, err: io::Error) -> io::Error {
        self.clear();
        err
    }

    /// Writes `pieces` in the order after the corked bytes. Returns how many bytes of `pieces`
    /// were accepted or copied.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = pieces.iter().fold(0_usize, |sum, piece| sum.saturating_add(piece.len()));
        // A small write is copied, so that its pieces are released at once.
        if len <= SMALL {
            if self.corked.len() + len > MOST {
                ready!(self.poll_send(cx))?;
            }
            pieces.iter().for_each(|piece| self.corked.extend_from_slice(piece));
            return Poll::Ready(Ok(len));
        }
        loop {
            // A large write goes out behind the corked bytes in one vectored write, without a
            // copy: its pieces are media that the server holds anyway.
            let before = self.corked.len() - self.sent;
            if before == 0 {
                return Pin::new(&mut self.socket).poll_write_vectored(cx, pieces);
            }
            let mut all = [IoSlice::new(&[]); PIECES];
            all[0] = IoSlice::new(&self.corked[self.sent..]);
            let more = pieces.len().min(PIECES - 1);
            all[1..=more].copy_from_slice(&pieces[..more]);
            match ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, &all[..=more])) {
                Ok(0) => return Poll::Ready(Err(self.fail(io::ErrorKind::WriteZero.into()))),
                Err(err) => return Poll::Ready(Err(self.fail(err))),
                // Only corked bytes were accepted, none of `pieces`: the caller must not count
                // this write.
                Ok(count) if count < before => self.sent += count,
                Ok(count) => {
                    self.clear();
                    if count > before {
                        return Poll::Ready(Ok(count - before));
                    }
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Cork<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Cork<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.0);
        ready!(shared.poll_send(cx))?;
        Pin::new(&mut shared.socket).poll_shutdown(cx)
    }
}

fn lock<S>(shared: &Mutex<Shared<S>>) -> MutexGuard<'_, Shared<S>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn small_writes_are_coalesced_until_the_flusher_runs_or_the_buffer_is_full() {
        let (ours, mut theirs) = duplex(1 << 20);
        let mut cork = Cork::new(ours);
        let mut flusher = cork.flusher();
        for byte in 0..10 {
            cork.write_all(&[byte; 100]).await.unwrap();
            cork.flush().await.unwrap();
        }
        let mut read = vec![0; 1 << 20];
        tokio::select! {
            biased;
            _ = theirs.read(&mut read) => panic!("nothing is sent yet"),
            () = std::future::ready(()) => {}
        }
        poll_fn(|cx| flusher.poll(cx)).await.unwrap();
        assert_eq!(theirs.read(&mut read).await.unwrap(), 1_000);
        assert_eq!(lock(&cork.0).corked.capacity(), 0, "nothing is kept");
        for _ in 0..=MOST / SMALL {
            cork.write_all(&[0; SMALL]).await.unwrap();
        }
        assert_eq!(theirs.read(&mut read).await.unwrap(), MOST);
    }

    #[tokio::test]
    async fn coalesced_bytes_are_sent_before_shutdown() {
        let (ours, mut theirs) = duplex(1 << 20);
        let mut cork = Cork::new(ours);
        cork.write_all(b"last words").await.unwrap();
        cork.shutdown().await.unwrap();
        let mut read = vec![0; 100];
        let count = theirs.read(&mut read).await.unwrap();
        assert_eq!(&read[..count], b"last words");
    }

    proptest! {
        #[test]
        fn all_bytes_arrive_in_order_through_a_pipe_of_any_size(
            sizes in prop::collection::vec((0..3_usize, 0..10_000_usize), 1..20),
            room in 1..20_000_usize,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (ours, mut theirs) = duplex(room);
                let pieces: Vec<Vec<u8>> = sizes
                    .iter()
                    .enumerate()
                    .map(|(index, &(_, size))| vec![u8::try_from(index).unwrap(); size])
                    .collect();
                let writing = async {
                    let mut cork = Cork::new(ours);
                    let mut flusher = cork.flusher();
                    for (piece, (flush, _)) in pieces.iter().zip(&sizes) {
                        cork.write_all(piece).await.unwrap();
                        if *flush == 0 {
                            poll_fn(|cx| flusher.poll(cx)).await.unwrap();
                        }
                    }
                    cork.shutdown().await.unwrap();
                };
                let mut read = Vec::new();
                let ((), all) = tokio::join!(writing, theirs.read_to_end(&mut read));
                all.unwrap();
                assert_eq!(read, pieces.concat());
            });
        }
    }
}
