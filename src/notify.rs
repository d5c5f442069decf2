//! What the service manager is told, where there is one that listens: ready, reloading, stopping, who the main process is, what is live; and
//! that the daemon is alive, which is said only while the hub's clock ticks. sd_notify(3), systemd.service(5).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

/// How often the status is told, if it has changed.
const STATUS_SPAN: Duration = Duration::from_secs(5);

/// Start is over: all listeners are bound, all parts run.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The daemon is on its way out.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The configuration is being read again; [`ready`] ends it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        // Together: systemd 253 and later want the time beside it.
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(err) => debug!(%err, "no monotonic clock"),
    }
}

/// Another process is the daemon from now on.
pub(crate) fn main_process(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(err) = sd_notify::notify(states) {
        debug!(%err, "the service manager is not told");
    }
}

/// Beaten by what must go on for the daemon to be alive. Clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// It goes on.
    pub(crate) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Tells the service manager what `status` says, and within half of its limit that the daemon is alive, as long as `pulse` goes on.
pub(crate) async fn watch(pulse: Pulse, status: impl Fn() -> String + Send, stop: CancellationToken) {
    let limit = sd_notify::watchdog_enabled();
    let mut ticks = interval(limit.map_or(STATUS_SPAN, |limit| (limit / 2).max(Duration::from_millis(1))));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut health = Health::default();
    let (mut told, mut told_at) = (String::new(), None::<Instant>);
    loop {
        let now = tokio::select! {
            now = ticks.tick() => now,
            () = stop.cancelled() => return,
        };
        if limit.is_some() {
            match health.check(pulse.count()) {
                Verdict::Alive => tell(&[NotifyState::Watchdog]),
                Verdict::Stuck => {
                    error!("the hub's clock has stopped; the service manager is not told that all is well")
                }
                Verdict::StillStuck => {}
            }
        }
        if told_at.is_none_or(|at| now.duration_since(at) >= STATUS_SPAN) {
            let status = status();
            if status != told {
                tell(&[NotifyState::Status(&status)]);
                (told, told_at) = (status, Some(now));
            }
        }
    }
}

/// What two looks at the pulse say.
#[derive(Debug, Default)]
struct Health {
    seen: Option<u64>,
    stuck: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Alive,
    /// From now on.
    Stuck,
    StillStuck,
}

impl Health {
    /// The first look knows nothing yet, and says that all is well: the daemon has just started.
    fn check(&mut self, beats: u64) -> Verdict {
        let stuck = self.seen.replace(beats) == Some(beats);
        match (stuck, std::mem::replace(&mut self.stuck, stuck)) {
            (false, _) => Verdict::Alive,
            (true, false) => Verdict::Stuck,
            (true, true) => Verdict::StillStuck,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_whose_clock_stands_is_not_said_to_be_alive() {
        let (pulse, mut health) = (Pulse::default(), Health::default());
        assert_eq!(health.check(pulse.count()), Verdict::Alive);
        pulse.beat();
        assert_eq!(health.check(pulse.count()), Verdict::Alive);
        assert_eq!(health.check(pulse.count()), Verdict::Stuck);
        assert_eq!(health.check(pulse.count()), Verdict::StillStuck);
        pulse.clone().beat();
        assert_eq!(health.check(pulse.count()), Verdict::Alive);
    }
}
