//! The writes of a connection: each step within the write limit, all of them at the minimum rate,
//! and the last messages before it closes.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use net_core::{Permit, Usage};
use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{Error, clock::now, metrics::Cause, pace::Pace, transmit::Transmit};

/// Number of slices in one vectored write.
const SLICES: usize = 64;
/// Number of bytes that are read at once, and discarded, while a peer closes.
const DISCARDED_BYTES: usize = 4 << 10;
/// Time limit for a peer to close after its last message: closing with unread input would reset the
/// connection, and the message could be lost in transit.
const LINGER: Duration = Duration::from_secs(1);
/// A player that accepts no bytes for this long is idle: its connection may be closed for another.
pub(super) const STALL: Duration = Duration::from_secs(1);

/// Waits until a connection must close in the middle of a write. Returns the cause. At shutdown its
/// peer has `limit` to receive the last messages.
pub(super) async fn stopped(
    usage: Arc<Usage>,
    shutdown: &CancellationToken,
    limit: Duration,
) -> Cause {
    tokio::select! {
        () = usage.closed() => Cause::Evicted,
        () = async { shutdown.cancelled().await; sleep(limit).await } => Cause::Timeout,
    }
}

/// The writing side of a connection.
pub(super) struct Writer<'a, S> {
    pub(super) socket: &'a mut S,
    pub(super) transmit: &'a mut Transmit,
    pub(super) pace: &'a mut Pace,
    /// The permit of a player, which is idle while it accepts no bytes.
    pub(super) player: Option<&'a mut Permit>,
    /// Time limit of one step.
    pub(super) limit: Duration,
    /// Counts sent bytes.
    pub(super) sent: &'a Counter,
}

impl<S: AsyncWrite + Unpin> Writer<'_, S> {
    /// Writes the whole queue; each step within the write limit, and all steps at the minimum rate.
    /// Returns the cause if the connection must close before that.
    ///
    /// # Errors
    /// The socket fails, a step exceeds the limit, or the steps are too slow.
    pub(super) async fn flush(
        mut self,
        mut stop: Pin<&mut impl Future<Output = Cause>>,
    ) -> Result<Option<Cause>, Error> {
        if self.transmit.is_empty() {
            return Ok(None);
        }
        // The write is polled before `stop`, so that bytes for which the socket has room are sent
        // even if the connection is about to close.
        while !self.transmit.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.transmit.slices(&mut slices);
            let begun = now();
            let player = self.player.as_deref_mut();
            let write = within(self.limit, player, self.socket.write_vectored(&slices[..filled]));
            let written = tokio::select! {
                biased;
                written = write => written?,
                cause = stop.as_mut() => return Ok(Some(cause)),
            };
            // Otherwise a socket that accepts no bytes and reports no error would be written to for
            // ever.
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            self.sent.inc_by(written as u64);
            self.transmit.advance(written);
            self.pace.note(now().saturating_duration_since(begun), written)?;
        }
        // TLS may have buffered some of it.
        tokio::select! {
            biased;
            flushed = within(self.limit, self.player, self.socket.flush()) => {
                flushed.map(|()| None)
            }
            cause = stop => Ok(Some(cause)),
        }
    }
}

/// Shuts down the sending side, and waits a moment for the peer to close. `input` is overwritten:
/// bytes that still arrive are discarded.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    input: &mut BytesMut,
    stop: Pin<&mut impl Future<Output = Cause>>,
) {
    let hang_up = async {
        socket.shutdown().await?;
        loop {
            input.clear();
            input.reserve(DISCARDED_BYTES);
            if socket.read_buf(input).await? == 0 {
                return Ok::<(), io::Error>(());
            }
        }
    };
    // The connection is closed next in any case.
    tokio::select! {
        _ = timeout(LINGER, hang_up) => {}
        _ = stop => {}
    }
}

/// One step of writing, within `limit`. A player is idle while the step waits for longer than
/// [`STALL`].
async fn within<T>(
    limit: Duration,
    player: Option<&mut Permit>,
    step: impl Future<Output = io::Result<T>>,
) -> Result<T, Error> {
    let mut step = pin!(step);
    // A player that accepts nothing for `STALL` is idle for the rest of the step: its permit may
    // then be given to a new connection, while the step keeps its limit.
    let patience = if player.is_some() { STALL.min(limit) } else { limit };
    let mut done = timeout(patience, step.as_mut()).await;
    if let (Err(_), Some(permit)) = (&done, player) {
        permit.set_idle((now() - patience).into());
        done = timeout(limit - patience, step).await;
        permit.set_active();
    }
    let done = done.map_err(|_| Error::TimedOut {
        what: "write",
        limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
    })?;
    Ok(done?)
}
