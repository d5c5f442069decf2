//! Whether a connection is idle, and since when; and the wake-up of the task that serves it when it is to close.

use std::{
    future::poll_fn,
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use super::ConnectionLimit;
use crate::Host;

/// The use of one connection.
///
/// Its state is one word, from the low end: 40 bits of milliseconds after the epoch when it became idle, 22 bits that count
/// exchanges, [`UNLISTED`], [`CLOSED`].
#[derive(Debug)]
pub struct Usage {
    state: AtomicU64,
    /// The task that serves the connection.
    waker: Mutex<Option<Waker>>,
    /// Of its address, if that is known to be its own.
    host: Option<Host>,
    serial: u64,
    /// The time under which it is listed, [`NOT_LISTED`], or [`GONE`]. Used under the table's lock alone.
    listed: AtomicU64,
    limit: Arc<ConnectionLimit>,
}

/// An exchange on a connection, which is active for as long as this lives.
#[derive(Debug)]
pub struct InFlight(Arc<Usage>);

/// An exchange in [`Usage`]'s word.
const EXCHANGE: u64 = 1 << 40;
const SINCE: u64 = EXCHANGE - 1;
const EXCHANGES: u64 = UNLISTED - EXCHANGE;
/// It was found active, and is to be listed when it becomes idle.
const UNLISTED: u64 = 1 << 62;
/// It is to close.
const CLOSED: u64 = 1 << 63;
const NOT_LISTED: u64 = u64::MAX;
const GONE: u64 = u64::MAX - 1;
/// The last time that can be represented.
pub(super) const LATEST: u64 = SINCE;

/// The result of an attempt to close an idle connection.
pub(super) enum Closing {
    Closed,
    /// It is idle, but since later.
    IdleSince(u64),
    Active,
}

impl Usage {
    pub(super) fn new(limit: &Arc<ConnectionLimit>, host: Option<Host>, serial: u64, now_ms: u64) -> Self {
        Self {
            state: AtomicU64::new(now_ms),
            waker: Mutex::default(),
            host,
            serial,
            listed: AtomicU64::new(NOT_LISTED),
            limit: Arc::clone(limit),
        }
    }

    /// Begins an exchange: a request is whole, or written bytes wait for the peer. False if the connection is to close.
    pub fn begin(&self) -> bool {
        let begin = |state: u64| (state & CLOSED == 0).then_some(state + EXCHANGE);
        self.state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, begin)
            .is_ok()
    }

    /// Ends an exchange that was begun. With the last one the connection is idle, since `now`.
    pub fn end(self: &Arc<Self>, now: Instant) {
        let now_ms = self.limit.ms(now);
        let end = |state: u64| {
            Some(match state & EXCHANGES {
                EXCHANGE => now_ms,
                _ => state - EXCHANGE,
            })
        };
        // It is never closed while an exchange lasts, so this cannot undo that.
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, end);
        let before = before.unwrap_or_else(|state| state);
        if before & (EXCHANGES | UNLISTED) == EXCHANGE | UNLISTED {
            self.limit.table().list(self, now_ms);
        }
    }

    /// The same as [`Usage::begin`], ended when the result is dropped.
    pub fn exchange(self: &Arc<Self>) -> Option<InFlight> {
        self.begin().then(|| InFlight(Arc::clone(self)))
    }

    /// Whether the connection is to close to make room.
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Waits until the connection is to close. The task that waits is woken; it must stay the same.
    pub async fn closed(&self) {
        let mut is_registered = false;
        poll_fn(|cx| match mem::replace(&mut is_registered, true) {
            true if self.is_closed() => Poll::Ready(()),
            true => Poll::Pending,
            false => self.poll_closed(cx),
        })
        .await;
    }

    /// Ready if the connection is to close; else the task is woken when it is.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        match self.is_closed() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Closes the connection if it has been idle since `since_ms`, or longer.
    pub(super) fn close(&self, since_ms: u64) -> Closing {
        let close = |state: u64| match state & EXCHANGES {
            0 if state & SINCE > since_ms => None,
            0 => Some(state | CLOSED),
            _ => Some(state | UNLISTED),
        };
        match self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, close) {
            Ok(state) if state & EXCHANGES == 0 => Closing::Closed,
            Ok(_) => Closing::Active,
            Err(state) => Closing::IdleSince(state & SINCE),
        }
    }

    pub(super) fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn host(&self) -> Option<Host> {
        self.host
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    pub(super) fn limit(&self) -> &ConnectionLimit {
        &self.limit
    }

    /// The time under which it is listed, if it is.
    pub(super) fn listed(&self) -> Option<u64> {
        let listed = self.listed.load(Ordering::Relaxed);
        (listed < GONE).then_some(listed)
    }

    /// Notes that it is listed under `since_ms`. False if it is listed already, or gone.
    pub(super) fn set_listed(&self, since_ms: u64) -> bool {
        let is_unlisted = self.listed.load(Ordering::Relaxed) == NOT_LISTED;
        if is_unlisted {
            self.listed.store(since_ms, Ordering::Relaxed);
        }
        is_unlisted
    }

    pub(super) fn set_unlisted(&self) {
        self.listed.store(NOT_LISTED, Ordering::Relaxed);
    }

    /// Notes that its permit is gone, so that it is never listed again.
    pub(super) fn set_gone(&self) {
        self.listed.store(GONE, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.end(Instant::now());
    }
}
