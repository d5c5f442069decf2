//! What a connection writes: each step within the write limit, all of them at the least rate, and the
//! last words before it closes.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Connection, Role, SMALL_READ_BYTES, now};
use crate::{Error, metrics::Cause, places::Place};

/// Slices in one vectored write.
const SLICES: usize = 64;
/// How long a peer may take to hang up after its last message: closing with unread input would reset the connection, and
/// the reason could be lost on its way.
const LINGER: Duration = Duration::from_secs(1);
/// A player that takes nothing for so long is idle: its place may be given to another.
pub(super) const STALL: Duration = Duration::from_secs(1);

/// Waits until a connection must close in the middle of a write; why. At shutdown its peer has `limit`
/// to take the last words.
pub(super) async fn stopped(evicted: CancellationToken, shutdown: &CancellationToken, limit: Duration) -> Cause {
    tokio::select! {
        () = evicted.cancelled() => Cause::Evicted,
        () = async { shutdown.cancelled().await; sleep(limit).await } => Cause::Timeout,
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// Writes all that is queued; each step within the write limit, and all steps at the least
    /// rate. Returns why the connection must close before that, if it must.
    pub(super) async fn flush(
        &mut self,
        mut stop: Pin<&mut impl Future<Output = Cause>>,
    ) -> Result<Option<Cause>, Error> {
        let transmit = self.session.transmit();
        if transmit.is_empty() {
            return Ok(None);
        }
        let limit = self.context.write_limit;
        let mut player = matches!(self.role, Role::Player(_)).then_some(&mut self.place);
        while !transmit.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = transmit.slices(&mut slices);
            let begun = now();
            let write = within(
                limit,
                player.as_deref_mut(),
                self.socket.write_vectored(&slices[..filled]),
            );
            let written = tokio::select! {
                biased;
                written = write => written?,
                cause = stop.as_mut() => return Ok(Some(cause)),
            };
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            self.context.metrics.sent.inc_by(written as u64);
            transmit.advance(written);
            self.pace.note(now().saturating_duration_since(begun), written)?;
        }
        // TLS may have kept some of it.
        tokio::select! {
            biased;
            flushed = within(limit, player, self.socket.flush()) => flushed.map(|()| None),
            cause = stop => Ok(Some(cause)),
        }
    }

    /// Tells the peer why the connection failed, if it can still be told.
    pub(super) async fn explain(&mut self, err: &Error, mut stop: Pin<&mut impl Future<Output = Cause>>) {
        // The socket, or writes that took too long, leave no way for more.
        let gone = matches!(
            err,
            Error::Io(_) | Error::TooSlow { .. } | Error::TimedOut { what: "write", .. }
        );
        if gone || self.session.fail(err).is_err() || self.session.transmit().is_empty() {
            return;
        }
        if matches!(self.flush(stop.as_mut()).await, Ok(None)) {
            self.linger(stop).await;
        }
    }

    /// Shuts down the sending side, and waits a moment for the peer to hang up.
    pub(super) async fn linger(&mut self, stop: Pin<&mut impl Future<Output = Cause>>) {
        let hang_up = async {
            self.socket.shutdown().await?;
            loop {
                self.input.clear();
                self.input.reserve(SMALL_READ_BYTES);
                if self.socket.read_buf(&mut self.input).await? == 0 {
                    return Ok::<(), io::Error>(());
                }
            }
        };
        // Whether it did or not, the connection is closed next.
        tokio::select! {
            _ = timeout(LINGER, hang_up) => {}
            _ = stop => {}
        }
    }
}

/// One step of writing, within `limit`. A player is idle while the step waits for longer than
/// [`STALL`].
async fn within<T>(
    limit: Duration,
    player: Option<&mut Place>,
    step: impl Future<Output = io::Result<T>>,
) -> Result<T, Error> {
    let mut step = pin!(step);
    let patience = if player.is_some() { STALL.min(limit) } else { limit };
    let mut done = timeout(patience, step.as_mut()).await;
    if let (Err(_), Some(place)) = (&done, player) {
        place.set_idle(now() - patience);
        done = timeout(limit - patience, step).await;
        place.set_active();
    }
    let done = done.map_err(|_| Error::TimedOut {
        what: "write",
        limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
    })?;
    Ok(done?)
}
