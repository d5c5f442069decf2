//! Admission of connections: limits of open connections, in total and from one address, and the
//! choice of an idle one to close when the limit is reached. Pure except for the wake-up of the
//! connection that closes: time is an argument.
//!
//! A connection is active during an exchange, and idle otherwise. The protocol defines an exchange:
//! a response being sent, a publication, or a player that accepts its data. Policy for a new
//! connection:
//!
//! 1. At the limit of its address, that address loses its own connection that has been idle
//!    longest.
//! 2. At the limit in total, its address loses such a connection too; if it has none, the
//!    connection that has been idle longest of all is closed. So a crowd of idle connections from
//!    few addresses displaces itself, and a new address displaces the oldest of them.
//! 3. The last permits, one in [`RESERVE`], are reserved for addresses that have no connection yet.
//! 4. If no connection is idle, the new one is refused. An active connection is never closed for
//!    another.
//!
//! A connection that is to close does not count any more, although its task has not ended. If too
//! many are in that state, the new one waits until one of them has ended: that takes as long as the
//! scheduler needs, and no peer can delay it.
//!
//! An exchange costs two updates of one atomic word and takes no lock. Connections are ordered by
//! the start of their idle time as it was when they were listed; the word is read only when one is
//! to be closed. Each examination of a connection that turns out to be active, or idle for a
//! shorter time, is paid for by an exchange that ended since the last.

mod table;

use std::{fmt, mem, net::IpAddr, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::Host;
pub use table::{InFlight, Usage};
use table::{LATEST, MAX_CLOSING, MadeRoom, Shared, Table};

/// One permit of this many is reserved for addresses that have no connection.
const RESERVE: usize = 16;
/// When file descriptors have run out, one connection in this many of the limit is closed, and at
/// most `MAX_DESCRIPTORS`, because the other listeners need descriptors too.
const DESCRIPTORS: usize = 64;
const MAX_DESCRIPTORS: usize = 32;
/// Longest wait of a new connection for others that are closing.
pub const CLOSING_WAIT: Duration = Duration::from_secs(1);
/// A time longer than any wait.
const FAR: Duration = Duration::from_secs(86_400);

/// The limit that a new connection has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The limit of all connections.
    Total,
    /// The limit of one address.
    Address,
    /// The process's limit of file descriptors.
    Descriptors,
}

/// Receives the events of a limit, for metrics.
pub trait Events: fmt::Debug + Send + Sync {
    /// A new connection was refused.
    fn refused(&self, _limit: Limit) {}

    /// An idle connection was closed for a new one.
    fn evicted(&self, _limit: Limit) {}
}

/// Counts nothing.
impl Events for () {}

/// The open connections of some listeners, and their limit.
#[derive(Debug)]
pub struct ConnectionLimit {
    /// The name of the limited connections, for the log.
    name: &'static str,
    max: usize,
    max_per_address: usize,
    events: Arc<dyn Events>,
    /// Time for which a connection must have been idle before it is closed for another.
    patience_ms: u64,
    shared: Arc<Shared>,
}

/// An admitted connection. Dropping it returns the permit.
#[derive(Debug)]
pub struct Permit {
    usage: Arc<Usage>,
    /// Whether the exchange of [`Permit::set_active`] lasts.
    is_active: bool,
}

/// There is no permit for a connection.
struct Full {
    limit: Limit,
    /// Time until which another attempt is useful, although no permit has been returned.
    until: Option<Instant>,
}

impl ConnectionLimit {
    /// At most `max` connections at once, and `max_per_address` of one address (IPv6: one /64).
    /// `name` is for the log.
    pub fn new(
        name: &'static str,
        max: usize,
        max_per_address: usize,
        events: Arc<dyn Events>,
    ) -> Arc<Self> {
        Self::with_patience(name, max, max_per_address, Duration::ZERO, events)
    }

    /// The same limit, which closes no connection that has been idle for less than `patience`: see
    /// [`ConnectionLimit::admit`].
    pub fn with_patience(
        name: &'static str,
        max: usize,
        max_per_address: usize,
        patience: Duration,
        events: Arc<dyn Events>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            max,
            max_per_address,
            events,
            patience_ms: u64::try_from(patience.as_millis()).unwrap_or(LATEST),
            shared: Shared::new(),
        })
    }

    /// Returns a permit for a connection from `address`, which is `None` if the address may be
    /// forged. An idle connection may be closed for it.
    ///
    /// Waits for at most `wait` if a permit will be available: connections are closing, or will
    /// have been idle for long enough. Cancel-safe.
    ///
    /// # Errors
    /// The limit that is reached: [`Limit::Total`] or [`Limit::Address`].
    pub async fn admit(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        wait: Duration,
    ) -> Result<Permit, Limit> {
        let deadline = Instant::now() + wait;
        // A returned permit wakes all waiting connections; those that do not get it wait again.
        loop {
            // Registered before the attempt, so that a permit returned meanwhile is not missed.
            let released = self.shared.released.notified();
            let now = Instant::now();
            let full = match self.attempt(address, now) {
                Ok(permit) => return Ok(permit),
                Err(full) => full,
            };
            // Without a prospect of a permit, or after the deadline, the peer learns at once that
            // it is refused.
            let Some(until) = full.until.filter(|_| now < deadline) else {
                return Err(self.refuse(full.limit, address, now));
            };
            let _ = timeout_at(until.min(deadline), released).await;
        }
    }

    /// The same as [`ConnectionLimit::admit`], without waiting. For tests, which pass the time.
    ///
    /// # Errors
    /// The limit that is reached: [`Limit::Total`] or [`Limit::Address`].
    #[cfg(any(test, feature = "testing"))]
    pub fn try_admit(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<Permit, Limit> {
        let admitted = self.attempt(address, now);
        admitted.map_err(|full| self.refuse(full.limit, address, now))
    }

    fn attempt(self: &Arc<Self>, address: Option<IpAddr>, now: Instant) -> Result<Permit, Full> {
        let now_ms = self.shared.ms(now);
        let host = address.map(Host::of);
        let mut table = self.shared.table();
        let Some(limit) = self.limit(&table, host) else {
            return Ok(Permit::new(table.admit(&self.shared, host, now_ms)));
        };
        // The latest start of an idle time that permits the connection to be closed.
        let before_ms = match self.patience_ms {
            // Other listeners may have a later clock.
            0 => Some(LATEST),
            patience_ms => now_ms.checked_sub(patience_ms),
        };
        // At the limit of an address only its own connections may be closed; at the total limit any
        // may.
        let closed =
            before_ms.and_then(|before_ms| table.close_for(host, limit == Limit::Total, before_ms));
        let Some(closed) = closed else {
            let until = self.until(&table, host, limit, now);
            return Err(Full { limit, until });
        };
        // The closed connection does not count any more, so that the new one takes its place under
        // the same lock.
        let permit = Permit::new(table.admit(&self.shared, host, now_ms));
        let notice = table.notices[limit as usize].add(now_ms, |counts| counts.closed += 1);
        let open = table.open;
        // Metrics, the log and the wake-up are outside the lock, because they take locks of their
        // own.
        drop(table);
        self.events.evicted(limit);
        self.log(limit, notice, open, address);
        closed.wake();
        Ok(permit)
    }

    /// Time until which a connection of `host`, which has reached `limit`, may wait for a permit.
    /// `None` if none will be available.
    fn until(
        &self,
        table: &Table,
        host: Option<Host>,
        limit: Limit,
        now: Instant,
    ) -> Option<Instant> {
        // Connections that are closing will end soon; the caller's deadline limits the wait.
        if table.closing >= MAX_CLOSING {
            return Some(now + FAR);
        }
        if self.patience_ms == 0 {
            return None;
        }
        // Time until the connection that has been idle longest, of the address or of all, may be
        // closed.
        let host = if limit == Limit::Address { host } else { None };
        let (since_ms, _) = table.oldest(host)?;
        Some(self.shared.at(since_ms + self.patience_ms))
    }

    /// Counts and logs a refused connection.
    fn refuse(&self, limit: Limit, address: Option<IpAddr>, now: Instant) -> Limit {
        let mut table = self.shared.table();
        let notice =
            table.notices[limit as usize].add(self.shared.ms(now), |counts| counts.refused += 1);
        let open = table.open;
        drop(table);
        self.events.refused(limit);
        self.log(limit, notice, open, address);
        limit
    }

    /// Closes some of the connections that have been idle longest, because there are no file
    /// descriptors.
    pub fn free_descriptors(&self) {
        // Each step takes the lock anew, so that other listeners are not held up.
        for _ in 0..(self.max / DESCRIPTORS).clamp(1, MAX_DESCRIPTORS) {
            let closed = self.shared.table().close_idlest(None, LATEST);
            let Some(closed) = closed else { break };
            self.events.evicted(Limit::Descriptors);
            closed.wake();
        }
    }

    /// The limited connections, for the log.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Number of connections that are open and not closing.
    pub fn open(&self) -> usize {
        self.shared.table().open
    }

    /// Number of permits that are not reserved for addresses without a connection.
    pub fn unreserved(&self) -> usize {
        self.max - self.max / RESERVE
    }

    /// The limit that a new connection of `host` reaches, if any.
    fn limit(&self, table: &Table, host: Option<Host>) -> Option<Limit> {
        // An address without a connection may use the reserved permits too.
        let here = host.map_or(0, |host| table.of(host));
        let max = if here == 0 { self.max } else { self.unreserved() };
        if host.is_some() && here >= self.max_per_address {
            Some(Limit::Address)
        } else if table.open >= max {
            Some(Limit::Total)
        } else {
            None
        }
    }

    fn log(&self, limit: Limit, notice: Option<MadeRoom>, open: usize, address: Option<IpAddr>) {
        // Most events are only summed up: a line is due once in a while.
        let Some(MadeRoom { closed, refused }) = notice else {
            return;
        };
        let (of, address) = (self.name, address.map(tracing::field::display));
        match limit {
            Limit::Address => {
                let limit = self.max_per_address;
                warn!(
                    of,
                    address,
                    limit,
                    closed,
                    refused,
                    "address limit reached: its idle ones are closed, others refused"
                );
            }
            _ => {
                let limit = self.max;
                warn!(
                    of,
                    address,
                    limit,
                    open,
                    closed,
                    refused,
                    "connection limit reached: idle ones are closed, others refused"
                );
            }
        }
    }
}

impl Permit {
    fn new(usage: Arc<Usage>) -> Self {
        let is_active = false;
        Self { usage, is_active }
    }

    /// The connection's use, which counts its exchanges.
    pub fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// Begins an exchange that lasts until [`Permit::set_idle`], unless it has begun already.
    pub fn set_active(&mut self) {
        if !self.is_active {
            self.is_active = self.usage.begin();
        }
    }

    /// Ends that exchange, if it has begun: the connection is idle since `since`, unless there are
    /// other exchanges.
    pub fn set_idle(&mut self, since: Instant) {
        if mem::take(&mut self.is_active) {
            self.usage.end(since);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // The permit is returned before waiting connections are woken: each tries again at once.
        let shared = self.usage.shared();
        shared.table().release(&self.usage);
        shared.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
