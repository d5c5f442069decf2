//! The writes of a connection: each step within the write limit, all of them at the minimum rate,
//! and the last messages before it closes.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use net_core::{Permit, Usage};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Connection, Role, SMALL_READ_BYTES, now};
use crate::{Error, metrics::Cause};

/// Number of slices in one vectored write.
const SLICES: usize = 64;
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

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// Writes the whole queue; each step within the write limit, and all steps at the minimum rate.
    /// Returns the cause if the connection must close before that.
    pub(super) async fn flush(
        &mut self,
        mut stop: Pin<&mut impl Future<Output = Cause>>,
    ) -> Result<Option<Cause>, Error> {
        let transmit = self.session.transmit();
        if transmit.is_empty() {
            return Ok(None);
        }
        let limit = self.context.write_limit;
        let mut player = matches!(self.role, Role::Player(_)).then_some(&mut self.permit);
        while !transmit.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = transmit.slices(&mut slices);
            let begun = now();
            let write =
                within(limit, player.as_deref_mut(), self.socket.write_vectored(&slices[..filled]));
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
        // TLS may have buffered some of it.
        tokio::select! {
            biased;
            flushed = within(limit, player, self.socket.flush()) => flushed.map(|()| None),
            cause = stop => Ok(Some(cause)),
        }
    }

    /// Sends the peer the reason of the failure, if the connection still permits it.
    pub(super) async fn explain(
        &mut self,
        err: &Error,
        mut stop: Pin<&mut impl Future<Output = Cause>>,
    ) {
        // After a socket error or a slow write nothing more can be sent.
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

    /// Shuts down the sending side, and waits a moment for the peer to close.
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
        // The connection is closed next in any case.
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
    player: Option<&mut Permit>,
    step: impl Future<Output = io::Result<T>>,
) -> Result<T, Error> {
    let mut step = pin!(step);
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
