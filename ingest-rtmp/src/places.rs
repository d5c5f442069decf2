//! Admission of connections: how many may be open, in all and from one address, and which idle one
//! is closed when there is no room for another. Pure but for the wake-up of the connection that
//! closes: time is an argument.
//!
//! A connection is idle until it publishes or plays, and while it is a player that takes nothing.
//! Policy for a new connection, the same as that of HTTP:
//!
//! 1. At the limit of its address, that address loses its own connection that has been idle
//!    longest.
//! 2. At the limit in all, its address loses such a connection too; if it has none, the connection
//!    that has been idle longest of all is closed. So a crowd of idle connections from few
//!    addresses displaces itself.
//! 3. The last places, one in [`RESERVE`], are open only to addresses that have no connection yet,
//!    and never to players. So there is room for a publisher however many play.
//! 4. Where no connection is idle, the new one is refused. A publisher is never closed for another.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    config::Config,
    metrics::{Counted, Metrics},
};

/// One place of so many is kept for addresses that have no connection.
const RESERVE: usize = 16;
/// Connections that were told to close and have not yet: above the limit, so that a new connection
/// need not wait for them.
const MAX_CLOSING: usize = 256;
/// Closed together where descriptors have run out.
const DESCRIPTORS: usize = 32;
/// The log has at most one line in this time about each limit.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The open connections of all listeners, and those that may be.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    max_per_address: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    open: usize,
    closing: usize,
    players: usize,
    serial: u64,
    hosts: HashMap<IpAddr, Host>,
    /// Idle connections, the longest first.
    idle: BTreeMap<Age, Idle>,
    notices: [Notice; 2],
}

/// The connections of one host.
#[derive(Debug, Default)]
struct Host {
    open: usize,
    /// Those that are idle, the longest first.
    idle: BTreeSet<Age>,
}

/// When a connection became idle, and its serial number.
type Age = (Instant, u64);

#[derive(Debug)]
struct Idle {
    host: IpAddr,
    plays: bool,
    evicted: CancellationToken,
}

/// An admitted connection. Dropped, it leaves its place to another.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    host: IpAddr,
    serial: u64,
    /// Since when it is idle, if it is.
    idle: Option<Instant>,
    plays: bool,
    /// Cancelled when it is to close, because another needs its place.
    evicted: CancellationToken,
    _counted: Counted,
}

/// The limit that a new connection meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Of one address.
    Address,
    /// In all.
    All,
}

/// Events at one limit since the log's last line about it.
#[derive(Debug, Default)]
struct Notice {
    next: Option<Instant>,
    closed: u64,
    refused: u64,
}

impl Places {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            max: config.max_connections,
            max_per_address: config.max_connections_per_address,
            table: Mutex::default(),
        })
    }

    /// A place for a connection from `address`; an idle one may be closed for it.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr, now: Instant, metrics: &Metrics) -> Result<Place, Limit> {
        let host = host(address);
        let mut table = self.table();
        if let Some(limit) = self.limit(&table, host) {
            let evicted = table.evict_for(host, limit);
            let notice = table.notice(limit, now, evicted.is_some());
            if evicted.is_none() {
                drop(table);
                self.log(limit, notice, address);
                return Err(limit);
            }
            self.log(limit, notice, address);
        }
        table.open += 1;
        table.serial += 1;
        table.hosts.entry(host).or_default().open += 1;
        let mut place = Place {
            places: Arc::clone(self),
            host,
            serial: table.serial,
            idle: None,
            plays: false,
            evicted: CancellationToken::new(),
            _counted: Counted::new(&metrics.connections),
        };
        table.list(&mut place, now);
        Ok(place)
    }

    /// Closes some of the connections that have been idle longest, because there are no file
    /// descriptors.
    pub(crate) fn free_descriptors(&self) {
        let mut table = self.table();
        for _ in 0..DESCRIPTORS {
            if table.evict(None).is_none() {
                break;
            }
        }
    }

    fn limit(&self, table: &Table, host: IpAddr) -> Option<Limit> {
        let here = table.hosts.get(&host).map_or(0, |host| host.open);
        let reserved = if here == 0 { 0 } else { self.max / RESERVE };
        if here >= self.max_per_address {
            Some(Limit::Address)
        } else if table.open + reserved >= self.max {
            Some(Limit::All)
        } else {
            None
        }
    }

    fn log(&self, limit: Limit, notice: Option<Notice>, address: IpAddr) {
        let Some(Notice { closed, refused, .. }) = notice else {
            return;
        };
        let of = "rtmp connections";
        match limit {
            Limit::Address => warn!(
                of, %address, limit = self.max_per_address, closed, refused,
                "too many from one address: its idle ones are closed, others refused"
            ),
            Limit::All => warn!(
                of, %address, limit = self.max, closed, refused,
                "no room for more: idle ones are closed, others refused"
            ),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Closes an idle connection in favour of one of `host`, which meets `limit`; whether there was
    /// one.
    fn evict_for(&mut self, host: IpAddr, limit: Limit) -> Option<()> {
        if self.closing >= MAX_CLOSING {
            return None;
        }
        let own = self.evict(Some(host));
        match limit {
            Limit::Address => own,
            Limit::All => own.or_else(|| self.evict(None)),
        }
    }

    /// Closes the connection, of `host` or of all, that has been idle longest. It is not counted
    /// any more.
    fn evict(&mut self, host: Option<IpAddr>) -> Option<()> {
        let age = match host {
            None => *self.idle.first_key_value()?.0,
            Some(host) => *self.hosts.get(&host)?.idle.first()?,
        };
        let idle = self.unlist(age)?;
        self.forget(idle.host, idle.plays);
        self.closing += 1;
        idle.evicted.cancel();
        Some(())
    }

    fn list(&mut self, place: &mut Place, since: Instant) {
        let age = (since, place.serial);
        place.idle = Some(since);
        if let Some(host) = self.hosts.get_mut(&place.host) {
            host.idle.insert(age);
        }
        self.idle.insert(
            age,
            Idle {
                host: place.host,
                plays: place.plays,
                evicted: place.evicted.clone(),
            },
        );
    }

    fn unlist(&mut self, age: Age) -> Option<Idle> {
        let idle = self.idle.remove(&age)?;
        if let Some(host) = self.hosts.get_mut(&idle.host) {
            host.idle.remove(&age);
        }
        Some(idle)
    }

    fn unlist_place(&mut self, place: &mut Place) {
        if let Some(since) = place.idle.take() {
            self.unlist((since, place.serial));
        }
    }

    fn forget(&mut self, host: IpAddr, plays: bool) {
        self.open -= 1;
        self.players -= usize::from(plays);
        if let Some(here) = self.hosts.get_mut(&host) {
            here.open -= 1;
            if here.open == 0 {
                self.hosts.remove(&host);
            }
        }
    }

    /// Counts a connection closed or refused at `limit`; the sums since the last line if the log is
    /// to have one.
    fn notice(&mut self, limit: Limit, now: Instant, closed: bool) -> Option<Notice> {
        let notice = &mut self.notices[usize::from(limit == Limit::Address)];
        match closed {
            true => notice.closed += 1,
            false => notice.refused += 1,
        }
        let due = notice.next.is_none_or(|next| now >= next);
        let next = Some(now + LOG_INTERVAL);
        due.then(|| {
            mem::replace(
                notice,
                Notice {
                    next,
                    ..Notice::default()
                },
            )
        })
    }
}

impl Place {
    /// Cancelled when the connection is to close, because another needs its place.
    pub(crate) fn evicted(&self) -> &CancellationToken {
        &self.evicted
    }

    /// It is idle since `since`. A player stays one.
    pub(crate) fn set_idle(&mut self, since: Instant) {
        let places = Arc::clone(&self.places);
        let mut table = places.table();
        if !self.evicted.is_cancelled() && self.idle.is_none() {
            table.list(self, since);
        }
    }

    /// It is not idle: it publishes, or takes what is played.
    pub(crate) fn set_active(&mut self) {
        let places = Arc::clone(&self.places);
        places.table().unlist_place(self);
    }

    /// It begins to play, and is not idle; false if no more may.
    pub(crate) fn play(&mut self) -> bool {
        let places = Arc::clone(&self.places);
        let mut table = places.table();
        if !self.evicted.is_cancelled() && !self.plays {
            if table.players >= places.max - places.max / RESERVE {
                return false;
            }
            table.players += 1;
            self.plays = true;
        }
        table.unlist_place(self);
        true
    }

    /// It neither publishes nor plays any more, and is idle since `now`.
    pub(crate) fn stop(&mut self, now: Instant) {
        let places = Arc::clone(&self.places);
        let mut table = places.table();
        table.unlist_place(self);
        if !self.evicted.is_cancelled() {
            table.players -= usize::from(mem::take(&mut self.plays));
            table.list(self, now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let places = Arc::clone(&self.places);
        let mut table = places.table();
        if self.evicted.is_cancelled() {
            table.closing -= 1;
            return;
        }
        table.unlist_place(self);
        table.forget(self.host, self.plays);
    }
}

/// The owner of an address: with IPv6, one host has a /64.
pub(crate) fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests;
