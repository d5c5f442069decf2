//! Messages of one place in the source are written a limited number of times a minute, and counted
//! beyond: a peer must not fill the disk by making us, or a library, log. Debug and trace messages
//! are not limited, because an operator has requested them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Event, Level, Metadata, Subscriber, callsite::Identifier};
use tracing_subscriber::layer::{Context, Layer};

/// The time over which messages are counted.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Messages of one place within it: of a library, which logs a peer's faults at any level; and of
/// ours, which log the life of a broadcast.
const OF_LIBRARIES: u64 = 5;
const OF_OURS: u64 = 1_000;
/// Our crates, as in a message's target.
const OURS: [&str; 9] = [
    "control_api",
    "http_server",
    "ingest_rtmp",
    "media_core",
    "net_core",
    "origin_http",
    "packager",
    "streamforge",
    "transcoder",
];

/// A layer in front of the writing one. The places in the program bound its memory. Clones share
/// the counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Limit(Arc<Mutex<HashMap<Identifier, Place>>>);

/// Messages of one place since the start of its window.
#[derive(Debug)]
struct Place {
    /// The place: level, target and line.
    metadata: &'static Metadata<'static>,
    /// Start of the window.
    since: Instant,
    /// Messages in the window, suppressed ones included.
    count: u64,
    /// Suppressed messages of all windows since the last report.
    suppressed: u64,
}

/// Suppressed messages of one place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Suppressed {
    /// The module of the place.
    pub(super) target: &'static str,
    /// Its line in the source, if known.
    pub(super) line: Option<u32>,
    /// Number of suppressed messages.
    pub(super) count: u64,
}

impl Limit {
    /// Counts one message of the place that `metadata` describes. Returns whether it may be
    /// written.
    fn permits(&self, metadata: &'static Metadata<'static>, now: Instant) -> bool {
        // In `tracing` the more verbose level is the greater one: debug and trace.
        if *metadata.level() > Level::INFO {
            return true;
        }
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(metadata.callsite()).or_insert(Place {
            metadata,
            since: now,
            count: 0,
            suppressed: 0,
        });
        if now.saturating_duration_since(place.since) >= WINDOW {
            (place.since, place.count) = (now, 0);
        }
        place.count += 1;
        let permitted = place.count <= most(metadata.target());
        place.suppressed += u64::from(!permitted);
        permitted
    }

    /// Messages suppressed since the last call; places that have been silent for a window are
    /// forgotten.
    pub(super) fn take_suppressed(&self, now: Instant) -> Vec<Suppressed> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = places.values_mut().filter(|place| place.suppressed > 0);
        let suppressed = found
            .map(|place| Suppressed {
                target: place.metadata.target(),
                line: place.metadata.line(),
                count: std::mem::take(&mut place.suppressed),
            })
            .collect();
        // A place that returns later gets a new window, so nothing is lost.
        places.retain(|_, place| now.saturating_duration_since(place.since) < WINDOW);
        suppressed
    }
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.permits(event.metadata(), Instant::now())
    }
}

/// Maximum number of messages in a window for a place with this target.
fn most(target: &str) -> u64 {
    let krate = target.split("::").next().unwrap_or_default();
    if OURS.contains(&krate) { OF_OURS } else { OF_LIBRARIES }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt};

    use super::*;

    /// The messages written under a limit.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn lines(&self, text: &str) -> u64 {
            let written = self.0.lock().unwrap();
            String::from_utf8_lossy(&written).matches(text).count() as u64
        }
    }

    /// Runs `speak` under a separate limit.
    fn under_limit(speak: impl FnOnce()) -> (Limit, Written) {
        let (limit, written) = (Limit::default(), Written::default());
        let writer = written.clone();
        let subscriber = tracing_subscriber::registry()
            .with(EnvFilter::new("trace"))
            .with(limit.clone())
            .with(fmt::layer().with_writer(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, speak);
        (limit, written)
    }

    #[test]
    fn every_crate_of_the_daemon_is_listed_as_ours() {
        let workspace: toml::Table = include_str!("../../Cargo.toml").parse().unwrap();
        let members = workspace["workspace"]["members"].as_array().unwrap().iter();
        let members = members.map(|member| member.as_str().unwrap().replace('-', "_"));
        // `benches` is no part of the daemon, and the rules of the platform log nothing.
        let logs = |member: &String| member != "benches" && member != "control_api/domain";
        let mut crates: Vec<_> = members.filter(logs).collect();
        crates.push("streamforge".to_owned());
        crates.sort();
        assert_eq!(crates, OURS);
    }

    #[test]
    fn repeated_messages_of_a_library_are_limited_and_then_counted() {
        let (limit, written) = under_limit(|| {
            for _ in 0..20_000 {
                tracing::warn!(target: "h2::proto::ping_pong", "recv PING ack that we never sent");
            }
            tracing::warn!(target: "h2::proto::ping_pong", "something else");
        });
        assert_eq!(
            (written.lines("never sent"), written.lines("something else")),
            (OF_LIBRARIES, 1)
        );
        let suppressed = limit.take_suppressed(Instant::now());
        assert_eq!(suppressed.len(), 1);
        assert_eq!(
            (suppressed[0].target, suppressed[0].count),
            ("h2::proto::ping_pong", 20_000 - OF_LIBRARIES)
        );
        assert_eq!(limit.take_suppressed(Instant::now()), [], "it is reported once");
    }

    #[test]
    fn our_messages_have_a_higher_limit_and_debug_messages_none() {
        let (_, written) = under_limit(|| {
            for _ in 0..OF_OURS + 10 {
                tracing::info!(target: "ingest_rtmp::publisher", "broadcast is live");
                tracing::debug!(target: "h2::codec", "received frame");
            }
        });
        assert_eq!(written.lines("broadcast is live"), OF_OURS);
        assert_eq!(written.lines("received frame"), OF_OURS + 10);
    }

    #[test]
    fn the_count_restarts_with_each_window_and_silent_callsites_are_forgotten() {
        let (limit, begin) = (Limit::default(), Instant::now());
        let say = |after: Duration| {
            (0..10).filter(|_| limit.permits(&METADATA, begin + after)).count() as u64
        };
        assert_eq!(say(Duration::ZERO), OF_LIBRARIES);
        assert_eq!(say(WINDOW - Duration::from_millis(1)), 0);
        assert_eq!(say(WINDOW), OF_LIBRARIES);
        assert_eq!(limit.take_suppressed(begin + WINDOW)[0].count, 20);
        assert_eq!(limit.0.lock().unwrap().len(), 1);
        limit.take_suppressed(begin + 2 * WINDOW);
        assert_eq!(limit.0.lock().unwrap().len(), 0);
    }

    /// A place in a library.
    struct Library;

    impl tracing::Callsite for Library {
        fn set_interest(&self, _: tracing::subscriber::Interest) {}

        fn metadata(&self) -> &Metadata<'_> {
            &METADATA
        }
    }

    static METADATA: Metadata<'static> = tracing::metadata! {
        name: "said",
        target: "h2",
        level: Level::WARN,
        fields: &[],
        callsite: &Library,
        kind: tracing::metadata::Kind::EVENT,
    };
}
