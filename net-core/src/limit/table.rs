//! The connections of one limit: the number of each host, their order by idle time, and the state
//! of each.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::poll_fn,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{Host, notice::Notice};

/// Limit of connections that are to close and have not yet. They exceed `max`, so that a new
/// connection need not wait for them; beyond this number it waits.
pub(super) const MAX_CLOSING: usize = 256;
/// After this many examined connections the next idle one is closed, although another may have been
/// idle longer: the first examination of a full table visits all that have had an exchange since
/// they were admitted.
const MAX_LOOKS: usize = 4_096;
/// The state that a limit and its connections share.
#[derive(Debug)]
pub(super) struct Shared {
    epoch: Instant,
    table: Mutex<Table>,
    /// Notified when a permit is returned.
    pub(super) released: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) open: usize,
    pub(super) closing: usize,
    serial: u64,
    pub(super) hosts: HashMap<Host, usize>,
    /// Connections that may be idle, the longest first.
    pub(super) by_age: BTreeMap<Age, Arc<Usage>>,
    /// The same for each host.
    pub(super) by_host: BTreeSet<(Host, Age)>,
    /// One for each limit.
    pub(super) notices: [Notice<MadeRoom>; 3],
}

/// Connections that a limit has closed or refused.
#[derive(Debug, Default)]
pub(super) struct MadeRoom {
    pub(super) closed: u64,
    pub(super) refused: u64,
}

/// Milliseconds after the epoch when a connection became idle, and its serial number.
type Age = (u64, u64);

impl Shared {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { epoch: Instant::now(), table: Mutex::default(), released: Notify::new() })
    }

    /// Milliseconds after the epoch.
    pub(super) fn ms(&self, at: Instant) -> u64 {
        let ms = at.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(ms).unwrap_or(LATEST).min(LATEST)
    }

    /// The inverse of [`Shared::ms`].
    pub(super) fn at(&self, ms: u64) -> Instant {
        self.epoch + Duration::from_millis(ms)
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    pub(super) fn admit(
        &mut self,
        shared: &Arc<Shared>,
        host: Option<Host>,
        now_ms: u64,
    ) -> Arc<Usage> {
        // A new connection is idle: it has no exchange yet.
        self.open += 1;
        self.serial += 1;
        if let Some(host) = host {
            *self.hosts.entry(host).or_default() += 1;
        }
        let usage = Arc::new(Usage::new(shared, host, self.serial, now_ms));
        self.list(&usage, now_ms);
        usage
    }

    /// Returns the permit of a connection.
    pub(super) fn release(&mut self, usage: &Usage) {
        // The entry goes first: its key is the time under which it is listed, not the present
        // state.
        if let Some(since_ms) = usage.listed() {
            self.unlist((since_ms, usage.serial));
        }
        usage.set_gone();
        // A closed connection left the counts when it was closed.
        match usage.is_closed() {
            true => self.closing -= 1,
            false => self.forget(usage.host),
        }
    }

    /// Number of connections of a host.
    pub(super) fn of(&self, host: Host) -> usize {
        self.hosts.get(&host).copied().unwrap_or(0)
    }

    /// Closes an idle connection for one of `host`: one of its own, or any if it has none and
    /// `may_be_anothers`.
    pub(super) fn close_for(
        &mut self,
        host: Option<Host>,
        may_be_anothers: bool,
        before_ms: u64,
    ) -> Option<Arc<Usage>> {
        // The closed ones still have their memory and descriptors, so their number is limited too.
        if self.closing >= MAX_CLOSING {
            return None;
        }
        // An address displaces its own connections first, so that a crowd from one address harms
        // itself only.
        let own = host.and_then(|host| self.close_idlest(Some(host), before_ms));
        match may_be_anothers {
            true => own.or_else(|| self.close_idlest(None, before_ms)),
            false => own,
        }
    }

    /// Closes the connection, of `host` or of all, that has been idle longest, but not one idle
    /// since later than `before_ms`. It does not count any more.
    pub(super) fn close_idlest(
        &mut self,
        host: Option<Host>,
        before_ms: u64,
    ) -> Option<Arc<Usage>> {
        // The list has the idle times of when connections were listed. One that was active since is
        // listed anew under its true time, and the next one is examined.
        for look in 0..2 * MAX_LOOKS {
            let age = self.oldest(host).filter(|&(since_ms, _)| since_ms <= before_ms)?;
            let usage = self.unlist(age)?;
            // After `MAX_LOOKS` any idle connection will do, so that the lock is not held for long.
            let idle_since = if look < MAX_LOOKS { age.0 } else { before_ms };
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

    /// The first listed one, of `host` or of all.
    pub(super) fn oldest(&self, host: Option<Host>) -> Option<Age> {
        match host {
            Some(host) => {
                // All entries of the host, in the order of their idle times.
                let ages = (host, (0, 0))..=(host, (u64::MAX, u64::MAX));
                self.by_host.range(ages).next().map(|&(_, age)| age)
            }
            None => self.by_age.first_key_value().map(|(&age, _)| age),
        }
    }

    fn list(&mut self, usage: &Arc<Usage>, since_ms: u64) {
        // It is listed already, or its permit has been returned meanwhile.
        if !usage.set_listed(since_ms) {
            return;
        }
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
}

/// The use of one connection.
///
/// Its state is one word, from the low end: 40 bits of milliseconds after the epoch when it became
/// idle, 22 bits that count exchanges, [`UNLISTED`], [`CLOSED`].
#[derive(Debug)]
pub struct Usage {
    state: AtomicU64,
    /// The task that serves the connection.
    waker: Mutex<Option<Waker>>,
    /// The host of its address, if the address is validated.
    host: Option<Host>,
    serial: u64,
    /// The time under which it is listed, [`NOT_LISTED`], or [`GONE`]. Used only under the table's
    /// lock.
    listed: AtomicU64,
    shared: Arc<Shared>,
}

/// An exchange on a connection; the connection is active while it lives.
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
enum Closing {
    Closed,
    /// It is idle, but since later.
    IdleSince(u64),
    Active,
}

impl Usage {
    fn new(shared: &Arc<Shared>, host: Option<Host>, serial: u64, now_ms: u64) -> Self {
        Self {
            state: AtomicU64::new(now_ms),
            waker: Mutex::default(),
            host,
            serial,
            listed: AtomicU64::new(NOT_LISTED),
            shared: Arc::clone(shared),
        }
    }

    /// Begins an exchange: a request is complete, or written bytes wait for the peer. Returns false
    /// if the connection is to close.
    pub fn begin(&self) -> bool {
        // The check and the count are one step, so that no connection is closed between them.
        let begin = |state: u64| (state & CLOSED == 0).then_some(state + EXCHANGE);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, begin).is_ok()
    }

    /// Ends an exchange. After the last one the connection is idle, since `now`.
    pub fn end(self: &Arc<Self>, now: Instant) {
        let now_ms = self.shared.ms(now);
        let end = |state: u64| {
            Some(match state & EXCHANGES {
                EXCHANGE => now_ms,
                _ => state - EXCHANGE,
            })
        };
        // A connection is never closed during an exchange, so this cannot undo that.
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, end);
        let before = before.unwrap_or_else(|state| state);
        // Only a connection that was found active takes the lock here; all others are still listed.
        if before & (EXCHANGES | UNLISTED) == EXCHANGE | UNLISTED {
            self.shared.table().list(self, now_ms);
        }
    }

    /// The same as [`Usage::begin`], ended when the result is dropped.
    pub fn exchange(self: &Arc<Self>) -> Option<InFlight> {
        self.begin().then(|| InFlight(Arc::clone(self)))
    }

    /// Whether the connection is to close for another.
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Waits until the connection is to close. Always the same task must wait: only its waker is
    /// kept.
    pub async fn closed(&self) {
        let mut is_registered = false;
        // The waker is registered at the first poll. Later polls cost one load.
        poll_fn(|cx| match mem::replace(&mut is_registered, true) {
            true if self.is_closed() => Poll::Ready(()),
            true => Poll::Pending,
            false => self.poll_closed(cx),
        })
        .await;
    }

    /// Ready if the connection is to close; otherwise the task is woken when it is.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        // Registered before the check, because `close` and `wake` may run in between.
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
            // Idle for a shorter time than listed: it is listed again under its own time.
            0 if state & SINCE > since_ms => None,
            0 => Some(state | CLOSED),
            // Active: it is removed from the list, and lists itself again at the end of its
            // exchange.
            _ => Some(state | UNLISTED),
        };
        // The previous state shows which of the three cases of `close` applied.
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

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The time under which it is listed, if it is.
    fn listed(&self) -> Option<u64> {
        let listed = self.listed.load(Ordering::Relaxed);
        (listed < GONE).then_some(listed)
    }

    /// Records that it is listed under `since_ms`. Returns false if it is listed already, or gone.
    fn set_listed(&self, since_ms: u64) -> bool {
        let is_unlisted = self.listed.load(Ordering::Relaxed) == NOT_LISTED;
        if is_unlisted {
            self.listed.store(since_ms, Ordering::Relaxed);
        }
        is_unlisted
    }

    fn set_unlisted(&self) {
        self.listed.store(NOT_LISTED, Ordering::Relaxed);
    }

    /// Records that its permit is gone, so that it is never listed again.
    fn set_gone(&self) {
        self.listed.store(GONE, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.end(Instant::now());
    }
}
