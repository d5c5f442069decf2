//! Admission of connections: how many may be open, in all and from one address, and which idle one is closed when there is no
//! room for another. Pure but for the wake-up of the connection that closes: time is an argument.
//!
//! A connection is active while an exchange lasts on it, and idle otherwise. The protocol says what an exchange is: a response
//! on its way, a publication, a player that takes what it is sent. Policy for a new connection:
//!
//! 1. At the limit of its address, that address loses its own connection that has been idle longest.
//! 2. At the limit in all, its address loses such a connection too; if it has none, the connection that has been idle longest
//!    of all is closed. So a crowd of idle connections from few addresses displaces itself, and a new address displaces the
//!    oldest of them.
//! 3. The last permits, one in [`RESERVE`], are only for addresses that have no connection yet.
//! 4. Where no connection is idle, the new one is refused. An active connection is never closed for another.
//!
//! A connection that is to close is not counted any more, though its task has not ended. Where too many are in that state, the
//! new one waits until one of them has ended: that takes as long as the scheduler needs, and no peer can delay it.
//!
//! An exchange costs two updates of one atomic word and takes no lock. Connections are ordered by the time since when they
//! were idle as it was known when they were listed; the word is read only when one is to be closed. Each look at a connection
//! that turns out to be active or idle for a shorter time is paid for by an exchange that ended since the last.

mod notice;
mod table;

use std::{fmt, mem, net::IpAddr, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::Host;
use notice::Notice;
pub use table::{InFlight, Usage};
use table::{LATEST, MAX_CLOSING, Shared, Table};

/// One permit of so many is kept for addresses that have no connection.
const RESERVE: usize = 16;
/// Connections that are closed together where descriptors have run out, because the other listeners need some too: one of so
/// many that may be open, and at most so many.
const DESCRIPTORS: usize = 64;
const MAX_DESCRIPTORS: usize = 32;
/// Longest wait of a new connection for others that are closing.
pub const CLOSING_WAIT: Duration = Duration::from_secs(1);
/// A time that is longer than any wait.
const FAR: Duration = Duration::from_secs(86_400);

/// The limit that a new connection meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Of all connections.
    Total,
    /// Of the connections of one address.
    Address,
    /// Of the process: file descriptors.
    Descriptors,
}

/// Receives what happens at a limit, for metrics.
pub trait Events: fmt::Debug + Send + Sync {
    /// A new connection was refused.
    fn refused(&self, _limit: Limit) {}

    /// An idle connection was closed to make room.
    fn evicted(&self, _limit: Limit) {}
}

/// Counts nothing.
impl Events for () {}

/// The open connections of some listeners, and how many there may be.
#[derive(Debug)]
pub struct ConnectionLimit {
    /// What is limited, for the log.
    name: &'static str,
    max: usize,
    max_per_address: usize,
    events: Arc<dyn Events>,
    /// Time for which a connection must have been idle before it is closed for another.
    patience_ms: u64,
    shared: Arc<Shared>,
}

/// An admitted connection. Dropped, it makes room for another.
#[derive(Debug)]
pub struct Permit {
    usage: Arc<Usage>,
    /// Whether the exchange of [`Permit::set_active`] lasts.
    is_active: bool,
}

/// No room for a connection.
struct Full {
    limit: Limit,
    /// When another attempt is worth while, though no permit has been given back.
    until: Option<Instant>,
}

impl ConnectionLimit {
    /// At most `max` connections at once, and `max_per_address` of one address (IPv6: one /64). `name` is for the log.
    pub fn new(name: &'static str, max: usize, max_per_address: usize, events: Arc<dyn Events>) -> Arc<Self> {
        Self::with_patience(name, max, max_per_address, Duration::ZERO, events)
    }

    /// The same limit, which closes no connection that has been idle for less than `patience`: see [`ConnectionLimit::admit`].
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

    /// A permit for a connection from `address`, which is `None` where the address may be forged. An idle connection may be
    /// closed for it.
    ///
    /// Waits for at most `wait` where room is about to come: connections are closing, or will have been idle for long enough.
    /// Cancel-safe.
    ///
    /// # Errors
    /// The limit that is reached: [`Limit::Total`] or [`Limit::Address`].
    pub async fn admit(self: &Arc<Self>, address: Option<IpAddr>, wait: Duration) -> Result<Permit, Limit> {
        let deadline = Instant::now() + wait;
        loop {
            // Registered before the attempt, so that a permit that is given back meanwhile is not missed.
            let released = self.shared.released.notified();
            let now = Instant::now();
            let full = match self.attempt(address, now) {
                Ok(permit) => return Ok(permit),
                Err(full) => full,
            };
            let Some(until) = full.until.filter(|_| now < deadline) else {
                return Err(self.refuse(full.limit, address, now));
            };
            let _ = timeout_at(until.min(deadline), released).await;
        }
    }

    /// The same as [`ConnectionLimit::admit`], without waiting.
    ///
    /// # Errors
    /// The limit that is reached: [`Limit::Total`] or [`Limit::Address`].
    pub fn try_admit(self: &Arc<Self>, address: Option<IpAddr>, now: Instant) -> Result<Permit, Limit> {
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
        let before_ms = match self.patience_ms {
            // Other listeners may have a later clock.
            0 => LATEST,
            patience_ms => now_ms.saturating_sub(patience_ms),
        };
        let Some(closed) = table.close_for(host, limit == Limit::Total, before_ms) else {
            let until = self.until(&table, host, limit, now);
            return Err(Full { limit, until });
        };
        let permit = Permit::new(table.admit(&self.shared, host, now_ms));
        let notice = table.notices[limit as usize].add(now_ms, |notice| notice.closed += 1);
        let open = table.open;
        drop(table);
        self.events.evicted(limit);
        self.log(limit, notice, open, address);
        closed.wake();
        Ok(permit)
    }

    /// Until when a connection of `host`, which meets `limit`, may wait for room. `None` if none is about to come.
    fn until(&self, table: &Table, host: Option<Host>, limit: Limit, now: Instant) -> Option<Instant> {
        if table.closing >= MAX_CLOSING {
            return Some(now + FAR);
        }
        if self.patience_ms == 0 {
            return None;
        }
        let host = if limit == Limit::Address { host } else { None };
        let (since_ms, _) = table.oldest(host)?;
        Some(self.shared.at(since_ms + self.patience_ms))
    }

    /// Counts and logs that a connection is refused.
    fn refuse(&self, limit: Limit, address: Option<IpAddr>, now: Instant) -> Limit {
        let mut table = self.shared.table();
        let notice = table.notices[limit as usize].add(self.shared.ms(now), |notice| notice.refused += 1);
        let open = table.open;
        drop(table);
        self.events.refused(limit);
        self.log(limit, notice, open, address);
        limit
    }

    /// Closes some of the connections that have been idle longest, because there are no file descriptors.
    pub fn free_descriptors(&self) {
        for _ in 0..(self.max / DESCRIPTORS).clamp(1, MAX_DESCRIPTORS) {
            let closed = self.shared.table().close_idlest(None, LATEST);
            let Some(closed) = closed else { break };
            self.events.evicted(Limit::Descriptors);
            closed.wake();
        }
    }

    /// Connections that are open and were not told to close.
    pub fn open(&self) -> usize {
        self.shared.table().open
    }

    /// Permits that are not kept for addresses without a connection.
    pub fn unreserved(&self) -> usize {
        self.max - self.max / RESERVE
    }

    /// The limit that a new connection of `host` meets.
    fn limit(&self, table: &Table, host: Option<Host>) -> Option<Limit> {
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

    fn log(&self, limit: Limit, notice: Option<Notice>, open: usize, address: Option<IpAddr>) {
        let Some(Notice { closed, refused, .. }) = notice else {
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
                    "too many from one address: its idle ones are closed, others refused"
                );
            }
            _ => {
                let limit = self.max;
                warn!(
                    of,
                    address, limit, open, closed, refused, "no room for more: idle ones are closed, others refused"
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

    /// Ends that exchange, if it has begun: the connection is idle since `since`, unless there are other exchanges.
    pub fn set_idle(&mut self, since: Instant) {
        if mem::take(&mut self.is_active) {
            self.usage.end(since);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let shared = self.usage.shared();
        shared.table().release(&self.usage);
        shared.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
