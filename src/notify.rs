//! Notifications to the service manager, if there is one: ready, reloading, stopping, the main
//! process, live broadcasts; and the watchdog's keep-alive, which is sent only while the hub's
//! clock ticks. sd_notify(3), systemd.service(5).

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

/// Minimum interval of status notifications.
const STATUS_SPAN: Duration = Duration::from_secs(5);

/// The start is complete: all listeners are bound, all parts run.
pub(crate) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// The daemon is stopping.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// The configuration is being reloaded; [`ready`] ends this state.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        // Both in one message: systemd 253 and later require the time with it.
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(err) => debug!(%err, "no monotonic clock"),
    }
}

/// Another process is the daemon from now on.
pub(crate) fn main_process(pid: u32) {
    notify(&[NotifyState::MainPid(pid)]);
}

/// Sends states to the socket in `NOTIFY_SOCKET`; does nothing without one. The service manager is
/// not necessary for serving, so a failure is only logged.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(err) = sd_notify::notify(states) {
        debug!(%err, "the service manager cannot be notified");
    }
}

/// Beaten by the task that must run for the daemon to be alive. Clones share the count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Records that the task runs.
    pub(crate) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of beats so far.
    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sends `status` to the service manager, and the keep-alive within half of its limit, as long as
/// `pulse` beats.
pub(crate) async fn watch(
    pulse: Pulse,
    status: impl Fn() -> String + Send,
    stop: CancellationToken,
) {
    let limit = sd_notify::watchdog_enabled();
    // Half of the limit, as sd_watchdog_enabled(3) recommends.
    let mut ticks =
        interval(limit.map_or(STATUS_SPAN, |limit| (limit / 2).max(Duration::from_millis(1))));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut health = Health::default();
    let (mut sent, mut sent_at) = (String::new(), None::<Instant>);
    loop {
        let now = tokio::select! {
            now = ticks.tick() => now,
            () = stop.cancelled() => return,
        };
        // If the hub's clock has not advanced since the last check, media do not move, whatever the
        // other tasks do: the service manager restarts the daemon when the notices stop.
        if limit.is_some() {
            match health.check(pulse.count()) {
                Verdict::Alive => notify(&[NotifyState::Watchdog]),
                Verdict::Stuck => {
                    error!("the hub's clock has stopped: the watchdog is no longer notified")
                }
                Verdict::StillStuck => {}
            }
        }
        // With a watchdog, ticks are more frequent than the status needs.
        if sent_at.is_none_or(|at| now.duration_since(at) >= STATUS_SPAN) {
            let status = status();
            if status != sent {
                notify(&[NotifyState::Status(&status)]);
                (sent, sent_at) = (status, Some(now));
            }
        }
    }
}

/// Compares the pulse at two times.
#[derive(Debug, Default)]
struct Health {
    /// The number of beats at the last check.
    seen: Option<u64>,
    /// The result of the last check.
    stuck: bool,
}

/// The result of a check.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The pulse has beaten since the last check.
    Alive,
    /// The pulse has stopped, as of this check.
    Stuck,
    /// The pulse has stopped, as of an earlier check: it is logged already.
    StillStuck,
}

impl Health {
    /// The first check has no comparison, and assumes success, because the daemon has just started.
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
    fn a_daemon_with_a_stopped_clock_is_not_reported_as_alive() {
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
