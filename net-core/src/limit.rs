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

mod usage;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, mem,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use tracing::warn;

use crate::Host;
use usage::{Closing, LATEST};
pub use usage::{InFlight, Usage};

/// One permit of so many is kept for addresses that have no connection.
const RESERVE: usize = 16;
/// Connections that were told to close and have not yet: above `max`, so that a new connection need not wait for them. Where
/// there are more, it waits.
const MAX_CLOSING: usize = 256;
/// After so many looks the next idle connection is closed, though another may have been idle longer: the first look at a full
/// table goes through all that have had an exchange since they were admitted.
const MAX_LOOKS: usize = 4_096;
/// Connections that are closed together where descriptors have run out, because the other listeners need some too: one of so
/// many that may be open, and at most so many.
const DESCRIPTORS: usize = 64;
const MAX_DESCRIPTORS: usize = 32;
/// Longest wait of a new connection for others that are closing.
pub const CLOSING_WAIT: Duration = Duration::from_secs(1);
/// A time that is longer than any wait.
const FAR: Duration = Duration::from_secs(86_400);
/// The log has at most one line in this time about each limit.
const LOG_INTERVAL_MS: u64 = 60_000;

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
    epoch: Instant,
    events: Arc<dyn Events>,
    /// Time for which a connection must have been idle before it is closed for another.
    patience_ms: u64,
    table: Mutex<Table>,
    /// Notified when a permit is given back.
    released: Notify,
}

#[derive(Debug, Default)]
struct Table {
    open: usize,
    closing: usize,
    serial: u64,
    hosts: HashMap<Host, usize>,
    /// Connections that may be idle, the longest first.
    by_age: BTreeMap<Age, Arc<Usage>>,
    /// The same for each host.
    by_host: BTreeSet<(Host, Age)>,
    notices: [Notice; 2],
}

/// Milliseconds after the epoch when a connection became idle, and its serial number.
type Age = (u64, u64);

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

/// Events at one limit since the log's last line about it.
#[derive(Debug, Default)]
struct Notice {
    next_ms: u64,
    closed: u64,
    refused: u64,
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
            epoch: Instant::now(),
            events,
            patience_ms: u64::try_from(patience.as_millis()).unwrap_or(LATEST),
            table: Mutex::default(),
            released: Notify::new(),
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
            let released = self.released.notified();
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
        let now_ms = self.ms(now);
        let host = address.map(Host::of);
        let mut table = self.table();
        let Some(limit) = self.limit(&table, host) else {
            return Ok(table.admit(self, host, now_ms));
        };
        let before_ms = match self.patience_ms {
            // Other listeners may have a later clock.
            0 => LATEST,
            patience_ms => now_ms.saturating_sub(patience_ms),
        };
        let Some(closed) = table.close_for(host, limit, before_ms) else {
            let until = self.until(&table, host, limit, now);
            return Err(Full { limit, until });
        };
        let permit = table.admit(self, host, now_ms);
        let notice = table.notice(limit, now_ms, |notice| notice.closed += 1);
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
        Some(self.epoch + Duration::from_millis(since_ms + self.patience_ms))
    }

    /// Counts and logs that a connection is refused.
    fn refuse(&self, limit: Limit, address: Option<IpAddr>, now: Instant) -> Limit {
        let mut table = self.table();
        let notice = table.notice(limit, self.ms(now), |notice| notice.refused += 1);
        let open = table.open;
        drop(table);
        self.events.refused(limit);
        self.log(limit, notice, open, address);
        limit
    }

    /// Closes some of the connections that have been idle longest, because there are no file descriptors.
    pub fn free_descriptors(&self) {
        for _ in 0..(self.max / DESCRIPTORS).clamp(1, MAX_DESCRIPTORS) {
            let closed = self.table().close_idlest(None, LATEST);
            let Some(closed) = closed else { break };
            self.events.evicted(Limit::Descriptors);
            closed.wake();
        }
    }

    /// Connections that are open and were not told to close.
    pub fn open(&self) -> usize {
        self.table().open
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

    fn ms(&self, at: Instant) -> u64 {
        let ms = at.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(ms).unwrap_or(LATEST).min(LATEST)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn admit(&mut self, limit: &Arc<ConnectionLimit>, host: Option<Host>, now_ms: u64) -> Permit {
        self.open += 1;
        self.serial += 1;
        if let Some(host) = host {
            *self.hosts.entry(host).or_default() += 1;
        }
        let usage = Arc::new(Usage::new(limit, host, self.serial, now_ms));
        self.list(&usage, now_ms);
        Permit {
            usage,
            is_active: false,
        }
    }

    /// Connections of a host.
    fn of(&self, host: Host) -> usize {
        self.hosts.get(&host).copied().unwrap_or(0)
    }

    /// Closes an idle connection in favour of one of `host`, which meets `limit`.
    fn close_for(&mut self, host: Option<Host>, limit: Limit, before_ms: u64) -> Option<Arc<Usage>> {
        if self.closing >= MAX_CLOSING {
            return None;
        }
        let own = host.and_then(|host| self.close_idlest(Some(host), before_ms));
        match limit {
            Limit::Address => own,
            _ => own.or_else(|| self.close_idlest(None, before_ms)),
        }
    }

    /// Closes the connection, of `host` or of all, that has been idle longest, and not later than `before_ms`. It is not counted
    /// any more.
    fn close_idlest(&mut self, host: Option<Host>, before_ms: u64) -> Option<Arc<Usage>> {
        for look in 0..2 * MAX_LOOKS {
            let age = self.oldest(host).filter(|&(since_ms, _)| since_ms <= before_ms)?;
            let usage = self.unlist(age)?;
            let idle_since = if look < MAX_LOOKS { age.0 } else { before_ms };
            match usage.close(idle_since) {
                Closing::Closed => {
                    self.forget(usage.host());
                    self.closing += 1;
                    return Some(usage);
                }
                Closing::IdleSince(since) => self.list(&usage, since),
                Closing::Active => {}
            }
        }
        None
    }

    /// The first that is listed, of `host` or of all.
    fn oldest(&self, host: Option<Host>) -> Option<Age> {
        match host {
            Some(host) => {
                let ages = (host, (0, 0))..=(host, (u64::MAX, u64::MAX));
                self.by_host.range(ages).next().map(|&(_, age)| age)
            }
            None => self.by_age.first_key_value().map(|(&age, _)| age),
        }
    }

    fn list(&mut self, usage: &Arc<Usage>, since_ms: u64) {
        if !usage.set_listed(since_ms) {
            return;
        }
        let age = (since_ms, usage.serial());
        if let Some(host) = usage.host() {
            self.by_host.insert((host, age));
        }
        self.by_age.insert(age, Arc::clone(usage));
    }

    fn unlist(&mut self, age: Age) -> Option<Arc<Usage>> {
        let usage = self.by_age.remove(&age)?;
        if let Some(host) = usage.host() {
            self.by_host.remove(&(host, age));
        }
        usage.set_unlisted();
        Some(usage)
    }

    fn forget(&mut self, host: Option<Host>) {
        self.open -= 1;
        if let Some(host) = host
            && let Some(here) = self.hosts.get_mut(&host)
        {
            *here -= 1;
            if *here == 0 {
                self.hosts.remove(&host);
            }
        }
    }

    /// Counts an event at `limit`; the sums since the last line if the log is to have one.
    fn notice(&mut self, limit: Limit, now_ms: u64, count: impl FnOnce(&mut Notice)) -> Option<Notice> {
        let notice = &mut self.notices[usize::from(limit == Limit::Address)];
        count(notice);
        if now_ms < notice.next_ms {
            return None;
        }
        let next_ms = now_ms + LOG_INTERVAL_MS;
        Some(mem::replace(
            notice,
            Notice {
                next_ms,
                ..Notice::default()
            },
        ))
    }
}

impl Permit {
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
        let usage = &self.usage;
        let mut table = usage.limit().table();
        if let Some(since_ms) = usage.listed() {
            table.unlist((since_ms, usage.serial()));
        }
        usage.set_gone();
        match usage.is_closed() {
            true => table.closing -= 1,
            false => table.forget(usage.host()),
        }
        drop(table);
        usage.limit().released.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
