//! Log lines about connections that were refused or failed, limited by address so that no peer can
//! fill the log. They never contain keys or queries.
//!
//! In each minute an address has its first five lines, then one each time that their number
//! doubles: so the newest line is never off by more than half. All addresses together are limited
//! in the same way, to 200 lines and then one for each doubling.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use media_core::ChannelName;
use net_core::Host;
use tracing::info;

use crate::{auth::Refusal, metrics::Cause};

/// Span of the counts, after which they start again.
const SPAN: Duration = Duration::from_secs(60);
/// Number of lines of an address above which only each doubling is logged.
const LINES: u64 = 5;
/// Number of lines of all addresses above which only each doubling is logged.
const LINES_OF_ALL: u64 = 200;
/// Minimum time between two searches for expired addresses, because each search visits all of them.
const SWEEP: Duration = Duration::from_secs(1);
/// Maximum number of separately counted addresses. Further ones share one count.
const MAX_HOSTS: usize = 4_096;

/// Writes the lines; one for all connections of a server.
#[derive(Debug, Default)]
pub(crate) struct Reports(Mutex<Limits>);

/// The counts of the present minute.
#[derive(Debug, Default)]
struct Limits {
    /// At most [`MAX_HOSTS`].
    hosts: HashMap<Host, Count>,
    /// Last time that `hosts` was full and searched for expired addresses.
    swept: Option<Instant>,
    /// The shared count of addresses without an entry in `hosts`.
    others: Option<Count>,
    /// Lines of all addresses; `None` before the first.
    all: Option<Count>,
}

/// Events of one address, or lines of all.
#[derive(Debug)]
struct Count {
    /// Start of the present minute of this count.
    since: Instant,
    /// Events since then.
    events: u64,
    /// Events without a line since the last line.
    suppressed: u64,
}

/// The counts in a line.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// Events of the address in the present minute, including this one.
    recent: u64,
    /// Events of the address without a line since its last line.
    suppressed: u64,
}

impl Reports {
    /// Logs that a peer or one of its requests was refused, or that a peer was disconnected.
    pub(crate) fn refused(
        &self,
        peer: SocketAddr,
        channel: Option<&ChannelName>,
        refusal: &Refusal,
        now: Instant,
    ) {
        if let Some(Line { recent, suppressed }) = self.admit(peer.ip(), now) {
            let (channel, reason) = (channel.map(tracing::field::display), refusal.reason.label());
            let (description, detail) = (refusal.description.as_str(), refusal.detail.as_deref());
            info!(%peer, channel, reason, description, detail, recent, suppressed, "refused");
        }
    }

    /// Logs that a connection was closed because of its peer's fault or a time limit.
    pub(crate) fn failed(
        &self,
        peer: SocketAddr,
        channel: Option<&ChannelName>,
        cause: Cause,
        err: &dyn fmt::Display,
        now: Instant,
    ) {
        if let Some(Line { recent, suppressed }) = self.admit(peer.ip(), now) {
            let (channel, reason) = (channel.map(tracing::field::display), cause.label());
            let description = err.to_string();
            info!(%peer, channel, reason, description, recent, suppressed, "connection failed");
        }
    }

    /// Counts an event of `address`. Returns the counts if it gets a line.
    fn admit(&self, address: IpAddr, now: Instant) -> Option<Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).admit(Host::of(address), now)
    }
}

impl Limits {
    /// Counts an event of `host` at `now`. Returns the counts if it gets a line.
    fn admit(&mut self, host: Host, now: Instant) -> Option<Line> {
        let due = self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP);
        // A full table is swept at intervals only, because a flood from many addresses calls this
        // for each event.
        if due && self.hosts.len() >= MAX_HOSTS {
            self.hosts.retain(|_, count| !count.is_over(now));
            self.swept = Some(now);
        }
        // Hosts beyond the limit of the table share one count.
        let count = match self.hosts.len() < MAX_HOSTS || self.hosts.contains_key(&host) {
            true => self.hosts.entry(host).or_insert_with(|| Count::new(now)),
            false => self.others.get_or_insert_with(|| Count::new(now)),
        };
        let all = self.all.get_or_insert_with(|| Count::new(now));
        // Only events that are due by their address count for all: a flood from one address does
        // not suppress the lines of others.
        let due = count.add(now, LINES) && all.add(now, LINES_OF_ALL);
        // The number of suppressed lines is kept for the next line, so that none is unaccounted
        // for.
        match due {
            true => Some(Line {
                recent: count.events,
                suppressed: std::mem::take(&mut count.suppressed),
            }),
            false => {
                count.suppressed += 1;
                None
            }
        }
    }
}

impl Count {
    fn new(now: Instant) -> Self {
        Self { since: now, events: 0, suppressed: 0 }
    }

    /// Whether its minute has passed.
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= SPAN
    }

    /// Counts an event. Returns whether it is one of the first `lines`, or their number has
    /// doubled.
    fn add(&mut self, now: Instant, lines: u64) -> bool {
        if self.is_over(now) {
            (self.since, self.events) = (now, 0);
        }
        self.events += 1;
        self.events <= lines || self.events.is_power_of_two()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: u32) -> Host {
        Host::of(std::net::Ipv4Addr::from(0x0a00_0000 + n).into())
    }

    #[test]
    fn a_thousand_refusals_of_an_address_make_12_log_lines_with_suppressed_counts() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        let lines: Vec<_> = (0..1_000).filter_map(|_| limits.admit(host(1), now)).collect();
        let recent: Vec<_> = lines.iter().map(|line| line.recent).collect();
        assert_eq!(recent, [1, 2, 3, 4, 5, 8, 16, 32, 64, 128, 256, 512]);
        let suppressed: Vec<_> = lines.iter().map(|line| line.suppressed).collect();
        assert_eq!(suppressed, [0, 0, 0, 0, 0, 2, 7, 15, 31, 63, 127, 255]);
        // Another address has separate lines, and the next minute starts with the suppressed ones.
        assert_eq!(limits.admit(host(2), now), Some(Line { recent: 1, suppressed: 0 }));
        let later = limits.admit(host(1), now + SPAN);
        assert_eq!(later, Some(Line { recent: 1, suppressed: 1_000 - 512 }));
    }

    #[test]
    fn refusals_of_all_addresses_together_are_limited() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        let lines = (0..100_000).filter_map(|n| limits.admit(host(n), now)).count();
        assert!((200..=220).contains(&lines), "{lines}");
    }

    #[test]
    fn remembered_addresses_are_bounded_and_expire_after_a_minute() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        for n in 0..10_000 {
            limits.admit(host(n), now);
        }
        assert_eq!(limits.hosts.len(), MAX_HOSTS);
        assert!(limits.others.is_some());
        limits.admit(host(20_000), now + SPAN);
        assert_eq!(limits.hosts.len(), 1);
    }
}
