//! The state of the bus for its operator: metrics and health.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::error::Error;
use crate::{
    Platform,
    health::{Check, Finding},
    store::NodeRole,
};

/// Time for which a connection may be missing, because a server is started again.
const OUTAGE: Duration = Duration::from_secs(10);
/// Events behind which the bus is late.
const LATE: u64 = 10_000;

/// The state of the bus in this process.
#[derive(Debug)]
pub(super) struct Status {
    is_connected: AtomicBool,
    /// The last event that is on both sides; meaningless before the first connection.
    position: AtomicU64,
    /// The last event that a replica knows to be in the stream.
    end: AtomicU64,
    is_known: AtomicBool,
    events: AtomicU64,
    failures: AtomicU64,
    resumptions: AtomicU64,
    trouble: Mutex<Trouble>,
}

/// The last fault.
#[derive(Debug)]
struct Trouble {
    /// Since when nothing goes through the bus; `None` if it does.
    since: Option<Instant>,
    words: Option<String>,
    is_lasting: bool,
}

impl Default for Status {
    fn default() -> Self {
        let since = Some(Instant::now());
        Self {
            is_connected: AtomicBool::default(),
            position: AtomicU64::default(),
            end: AtomicU64::default(),
            is_known: AtomicBool::default(),
            events: AtomicU64::default(),
            failures: AtomicU64::default(),
            resumptions: AtomicU64::default(),
            trouble: Mutex::new(Trouble { since, words: None, is_lasting: false }),
        }
    }
}

impl Status {
    fn trouble(&self) -> std::sync::MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection is there or not.
    pub(super) fn connected(&self, is_up: bool) {
        self.is_connected.store(is_up, Ordering::Relaxed);
    }

    /// Events go through the bus from now on.
    pub(super) fn resumed(&self, position: u64, end: u64) {
        self.position.store(position, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        self.is_known.store(true, Ordering::Relaxed);
        self.resumptions.fetch_add(1, Ordering::Relaxed);
        *self.trouble() = Trouble { since: None, words: None, is_lasting: false };
    }

    /// How often events began to go through the bus.
    pub(super) fn resumptions(&self) -> u64 {
        self.resumptions.load(Ordering::Relaxed)
    }

    /// An event is acknowledged.
    pub(super) fn published(&self, sequence: u64) {
        self.position.store(sequence, Ordering::Relaxed);
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// Events are folded.
    pub(super) fn consumed(&self, count: usize, position: u64, end: u64) {
        self.events.fetch_add(count as u64, Ordering::Relaxed);
        self.position.store(position, Ordering::Relaxed);
        self.seen(end);
    }

    /// The stream has an event with this sequence.
    pub(super) fn seen(&self, end: u64) {
        self.end.fetch_max(end, Ordering::Relaxed);
    }

    /// Nothing goes through the bus. Returns whether this is news.
    pub(super) fn failed(&self, error: &Error) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let words = error.to_string();
        let mut trouble = self.trouble();
        trouble.since.get_or_insert_with(Instant::now);
        let is_new = trouble.words.as_ref() != Some(&words);
        trouble.words = Some(words);
        trouble.is_lasting = error.is_lasting();
        is_new
    }

    /// Events that are not on the other side yet; `None` if that is unknown.
    fn lag(&self, platform: &Platform) -> Option<u64> {
        if !self.is_known.load(Ordering::Relaxed) {
            return None;
        }
        let own = platform.ready()?.sequence();
        Some(match platform.role() {
            NodeRole::Writer => own.saturating_sub(self.position.load(Ordering::Relaxed)),
            NodeRole::Replica => self.end.load(Ordering::Relaxed).saturating_sub(own),
        })
    }
}

/// The metrics, which are read at each scrape.
pub(super) fn register(platform: &Platform, status: &Arc<Status>, registry: &mut Registry) {
    let (platform, status) = (platform.clone(), Arc::clone(status));
    registry.register_collector(Box::new(Shown { platform, status }));
}

#[derive(Debug)]
struct Shown {
    platform: Platform,
    status: Arc<Status>,
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = &self.status;
        let encoder = &mut encoder;
        let count = |counter: &AtomicU64| ConstCounter::new(counter.load(Ordering::Relaxed));
        let help = "Whether there is a connection to the bus (1) or not (0)";
        let is_connected = i64::from(status.is_connected.load(Ordering::Relaxed));
        one(encoder, "bus_connected", help, &ConstGauge::new(is_connected))?;
        let help = "Events that the bus has acknowledged, or of a replica: that it has folded";
        one(encoder, "bus_events", help, &count(&status.events))?;
        let help = "Interruptions of the bus";
        one(encoder, "bus_failures", help, &count(&status.failures))?;
        if let Some(lag) = status.lag(&self.platform) {
            let help = "Events that are not on the bus yet, or of a replica: not here yet";
            let lag = ConstGauge::new(i64::try_from(lag).unwrap_or(i64::MAX));
            one(encoder, "bus_lag_events", help, &lag)?;
        }
        Ok(())
    }
}

fn one(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// Whether events go through the bus. Media are served without it, and so is the API.
#[derive(Debug)]
pub struct BusHealth {
    platform: Platform,
    status: Arc<Status>,
}

impl BusHealth {
    pub(super) fn new(platform: Platform, status: Arc<Status>) -> Self {
        Self { platform, status }
    }
}

impl Check for BusHealth {
    fn name(&self) -> &'static str {
        "bus"
    }

    fn check(&self) -> Finding {
        let lag = self.status.lag(&self.platform);
        let behind = lag.filter(|lag| *lag > 0).map(|lag| format!("; {lag} events behind"));
        let trouble = self.status.trouble();
        let is_over = |since: Instant| trouble.is_lasting || since.elapsed() > OUTAGE;
        if trouble.since.is_some_and(is_over) {
            let words = trouble.words.as_deref().unwrap_or("no connection yet");
            return Finding::Degraded(format!("{words}{}", behind.unwrap_or_default()));
        }
        match lag {
            Some(lag) if lag >= LATE => Finding::Degraded(format!("{lag} events behind")),
            _ => Finding::Ok,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_news_once_and_a_lasting_one_is_shown_at_once() {
        let (platform, status) = (Platform::default(), Arc::<Status>::default());
        let health = BusHealth::new(platform, Arc::clone(&status));
        assert_eq!(health.check(), Finding::Ok, "it has just begun");
        assert!(status.failed(&Error::Lost));
        assert!(!status.failed(&Error::Lost));
        assert_eq!(health.check(), Finding::Ok, "a server that is started again");
        let other = Error::OtherLog { stream: "events".into(), sequence: 7 };
        assert!(status.failed(&other));
        let Finding::Degraded(words) = health.check() else { panic!("it is lasting") };
        assert!(words.contains("event 7 of the stream events"), "{words}");
        status.resumed(7, 9);
        assert_eq!(health.check(), Finding::Ok);
        assert!(status.failed(&other), "it is another occurrence");
    }
}
