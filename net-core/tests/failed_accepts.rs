//! The log of an accept loop that fails. A program of its own with one test, because the log of a
//! process is one.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use net_core::{ConnectionLimit, Listener, accept};
use tokio::{
    io::{DuplexStream, duplex},
    time::sleep,
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// The number of failures in each line of the log.
static LINES: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// Records events; there are no spans.
struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("net_core")
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Failures);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Failures;

impl Visit for Failures {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "failures" {
            LINES.lock().expect("nobody panics while holding it").push(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// Fails for lack of a descriptor and succeeds in turn, as a listener does whose idle connections
/// are closed.
#[derive(Default)]
struct Alternating(AtomicU32);

impl Listener for Alternating {
    type Socket = DuplexStream;

    async fn next(&self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Err(io::Error::from_raw_os_error(24)),
            _ => Ok((duplex(64).0, SocketAddr::from(([192, 0, 2, 1], 1_000)))),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failures_between_connections_are_logged_once_a_minute_with_their_number() {
    tracing::subscriber::set_global_default(Log).unwrap();
    let (listener, mut served) = (Alternating::default(), 0_u64);
    let limit = ConnectionLimit::new("connections", 9, 9, Arc::new(()));
    // The clock is paused: the loop tries again after a tenth of a second, 600 times a minute.
    let minutes = sleep(Duration::from_secs(150));
    accept(&listener, &limit, minutes, |_, _, _| served += 1).await;
    let lines = LINES.lock().unwrap().clone();
    assert!(lines.len() == 3 && lines[0] == 1, "{lines:?}");
    assert!(lines[1..].iter().all(|&failures| failures > 500), "{lines:?}");
    assert!(served > 1_400, "{served}");
}
