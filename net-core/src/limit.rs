//! Admission of connections: how many may be open, in all and from one address, and which idle one is closed when there is
//! no room for another. Pure but for the wake-up of the connection that closes: time is an argument.
//!
//! A connection is idle while no answer is being made or sent on it: during a handshake, before its first request, between
//! requests, and while a request's head is incomplete. Policy for a new connection:
//!
//! 1. At the limit of its address, that address loses its own connection that has been idle longest.
//! 2. At the limit in all, its address loses such a connection too; if it has none, the connection that has been idle longest
//!    of all is closed. So a crowd of idle connections from few addresses displaces itself, and a new address displaces the
//!    oldest of them.
//! 3. The last places, one in [`RESERVE`], are open only to addresses that have no connection yet.
//! 4. Where no connection is idle, the new one is refused. A connection with an answer on its way is never closed for another.
//!
//! A request costs two updates of one atomic word and takes no lock. Connections are ordered by the time since when they were
//! idle as it was known when they were listed; the word tells what became of that only when one is to be closed. Each look at
//! a connection that turns out to be active or idle for a shorter time is paid for by an answer that ended since the last.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    future::poll_fn,
    mem,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;
use tracing::warn;

use crate::Host;

/// One place of so many is kept for addresses that have no connection.
const RESERVE: usize = 16;
/// Connections that were told to close and have not yet: above `max`, so that a new connection need not wait for them.
const MAX_CLOSING: usize = 256;
/// After so many looks the next idle connection is closed, though another may have been idle longer: the first look at a full
/// table goes through all that have answered a request since they came.
const MAX_LOOKS: usize = 4_096;
/// Closed together where descriptors have run out: the listeners of RTMP and of the administrator need some too.
const DESCRIPTORS: usize = 32;
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

impl Events for () {}

/// The open connections of all listeners, and those that may be.
#[derive(Debug)]
pub struct Admission {
    /// For the log: of what there are so many.
    name: &'static str,
    max: usize,
    max_per_address: usize,
    epoch: Instant,
    events: Arc<dyn Events>,
    table: Mutex<Table>,
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

/// An admitted connection. Dropped, it leaves its place to another.
#[derive(Debug)]
pub struct Permit(Arc<Usage>);

/// Whether a connection is idle, and since when.
///
/// One word, from the low end: 40 bits of milliseconds after the epoch when it became idle, 22 bits that count exchanges,
/// [`UNLISTED`], [`CLOSED`].
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
    admission: Arc<Admission>,
}

/// An exchange on a connection, which is not idle for as long as this lives.
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

/// What became of the attempt to close an idle connection.
enum Closing {
    Closed,
    /// It is idle, but since later.
    IdleSince(u64),
    Active,
}

/// Events at one limit since the log's last line about it.
#[derive(Debug, Default)]
struct Notice {
    next_ms: u64,
    closed: u64,
    refused: u64,
}

impl Admission {
    /// At most `max` connections at once, and `max_per_address` of one address. `name` is for the log, `events` for metrics.
    pub fn new(name: &'static str, max: usize, max_per_address: usize, events: Arc<dyn Events>) -> Arc<Self> {
        Arc::new(Self {
            name,
            max,
            max_per_address,
            epoch: Instant::now(),
            events,
            table: Mutex::default(),
        })
    }

    /// A permit for a connection from `address`, which is `None` where the address may be forged; an idle one may be closed for it.
    ///
    /// # Errors
    /// The limit that is reached: [`Limit::Total`] or [`Limit::Address`].
    pub fn admit(self: &Arc<Self>, address: Option<IpAddr>, now: Instant) -> Result<Permit, Limit> {
        let now_ms = self.ms(now);
        let host = address.map(Host::of);
        let mut table = self.table();
        let limit = self.limit(&table, host);
        let closed = match limit {
            None => None,
            Some(limit) => match table.close_for(host, limit) {
                Some(closed) => Some(closed),
                None => {
                    let notice = table.notice(limit, now_ms, |notice| notice.refused += 1);
                    let open = table.open;
                    drop(table);
                    self.events.refused(limit);
                    self.log(limit, notice, open, address);
                    return Err(limit);
                }
            },
        };
        let permit = table.admit(self, host, now_ms);
        let (Some(limit), Some(closed)) = (limit, closed) else {
            return Ok(permit);
        };
        let notice = table.notice(limit, now_ms, |notice| notice.closed += 1);
        let open = table.open;
        drop(table);
        self.events.evicted(limit);
        self.log(limit, notice, open, address);
        closed.wake();
        Ok(permit)
    }

    /// Closes some of the connections that have been idle longest, because there are no file descriptors.
    pub fn free_descriptors(&self) {
        for _ in 0..DESCRIPTORS {
            let closed = self.table().close_idlest(None);
            let Some(closed) = closed else { break };
            self.events.evicted(Limit::Descriptors);
            closed.wake();
        }
    }

    /// Connections that are open and were not told to close.
    pub fn open(&self) -> usize {
        self.table().open
    }

    /// The limit that a new connection of `host` meets.
    fn limit(&self, table: &Table, host: Option<Host>) -> Option<Limit> {
        let here = host.map_or(0, |host| table.of(host));
        let reserved = if here == 0 { 0 } else { self.max / RESERVE };
        if host.is_some() && here >= self.max_per_address {
            Some(Limit::Address)
        } else if table.open + reserved >= self.max {
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
        u64::try_from(ms).unwrap_or(SINCE).min(SINCE)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn admit(&mut self, admission: &Arc<Admission>, host: Option<Host>, now_ms: u64) -> Permit {
        self.open += 1;
        self.serial += 1;
        if let Some(host) = host {
            *self.hosts.entry(host).or_default() += 1;
        }
        let usage = Arc::new(Usage {
            state: AtomicU64::new(now_ms),
            waker: Mutex::default(),
            host,
            serial: self.serial,
            listed: AtomicU64::new(NOT_LISTED),
            admission: Arc::clone(admission),
        });
        self.list(&usage, now_ms);
        Permit(usage)
    }

    /// Connections of a host.
    fn of(&self, host: Host) -> usize {
        self.hosts.get(&host).copied().unwrap_or(0)
    }

    /// Closes an idle connection in favour of one of `host`, which meets `limit`.
    fn close_for(&mut self, host: Option<Host>, limit: Limit) -> Option<Arc<Usage>> {
        if self.closing >= MAX_CLOSING {
            return None;
        }
        let own = host.and_then(|host| self.close_idlest(Some(host)));
        match limit {
            Limit::Address => own,
            _ => own.or_else(|| self.close_idlest(None)),
        }
    }

    /// Closes the connection, of `host` or of all, that has been idle longest. It is not counted any more.
    fn close_idlest(&mut self, host: Option<Host>) -> Option<Arc<Usage>> {
        for look in 0..2 * MAX_LOOKS {
            let age = match host {
                Some(host) => {
                    self.by_host
                        .range((host, (0, 0))..=(host, (u64::MAX, u64::MAX)))
                        .next()?
                        .1
                }
                None => *self.by_age.first_key_value()?.0,
            };
            let usage = self.unlist(age)?;
            let idle_since = if look < MAX_LOOKS { age.0 } else { SINCE };
            match usage.close(idle_since) {
                Closing::Closed => {
                    self.forget(usage.host);
                    self.closing += 1;
                    return Some(usage);
                }
                Closing::IdleSince(since) => self.list(&usage, since),
                Closing::Active => {}
            }
        }
        None
    }

    fn list(&mut self, usage: &Arc<Usage>, since_ms: u64) {
        if usage.listed.load(Ordering::Relaxed) != NOT_LISTED {
            return;
        }
        usage.listed.store(since_ms, Ordering::Relaxed);
        let age = (since_ms, usage.serial);
        if let Some(host) = usage.host {
            self.by_host.insert((host, age));
        }
        self.by_age.insert(age, Arc::clone(usage));
    }

    fn unlist(&mut self, age: Age) -> Option<Arc<Usage>> {
        let usage = self.by_age.remove(&age)?;
        if let Some(host) = usage.host {
            self.by_host.remove(&(host, age));
        }
        usage.listed.store(NOT_LISTED, Ordering::Relaxed);
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
    /// The connection's use, to be told of its exchanges.
    pub fn usage(&self) -> &Arc<Usage> {
        &self.0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let usage = &self.0;
        let mut table = usage.admission.table();
        let listed = usage.listed.load(Ordering::Relaxed);
        if listed != NOT_LISTED {
            table.unlist((listed, usage.serial));
        }
        usage.listed.store(GONE, Ordering::Relaxed);
        match usage.is_closed() {
            true => table.closing -= 1,
            false => table.forget(usage.host),
        }
    }
}

impl Usage {
    /// Begins an exchange: a request is whole, or written bytes wait for the peer. False if the connection is to close.
    pub fn begin(&self) -> bool {
        let begin = |state: u64| (state & CLOSED == 0).then_some(state + EXCHANGE);
        self.state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, begin)
            .is_ok()
    }

    /// Ends an exchange that was begun.
    pub fn end(self: &Arc<Self>, now: Instant) {
        let now_ms = self.admission.ms(now);
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
            self.admission.table().list(self, now_ms);
        }
    }

    /// The same as [`Usage::begin`], ended when the result is dropped.
    pub fn exchange(self: &Arc<Self>) -> Option<InFlight> {
        self.begin().then(|| InFlight(Arc::clone(self)))
    }

    /// Whether the connection is to close, because another needs its place.
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Waits until the connection is to close. The task that asks is woken; it must stay the same.
    pub async fn closed(&self) {
        let mut is_heard = false;
        poll_fn(|cx| match mem::replace(&mut is_heard, true) {
            true if self.is_closed() => Poll::Ready(()),
            true => Poll::Pending,
            false => self.poll_closed(cx),
        })
        .await;
    }

    /// Ready if the connection is to close; else the task is woken then.
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
    fn close(&self, since_ms: u64) -> Closing {
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

    fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.end(Instant::now());
    }
}

#[cfg(test)]
mod tests;
