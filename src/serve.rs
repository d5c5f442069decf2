//! The command `serve`: starts all parts, handles signals, and stops the parts in the order of the
//! data flow, within one grace period. Or it hands over to a new process, and drains.

mod accounts;
mod adapters;
mod bus;
mod error;
mod health;
mod operations;
mod parts;
mod platform;
mod reload;
mod retire;
mod retirement;
mod start;
mod views;

use std::{
    ops::RangeInclusive,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use control_api::{Platform, Readiness, store::NodeRole};
use media_core::Hub;
use origin_http::Edge;
use packager::{Live, Presentations};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config::source::Loaded,
    handover::{Launch, Predecessor, Successor},
    logs,
    notify::{self, Pulse},
    signals::{Signal, Signals},
    sockets::{Inherited, Sockets},
    traces::Export,
};
pub(crate) use error::Error;
use parts::{Part, Parts};
use reload::Reloadable;
use retirement::Retirement;

/// Interval at which the hub's clock advances.
const TICK: Duration = Duration::from_millis(100);
/// Time from the first signal until everything has stopped.
const GRACE: Duration = Duration::from_secs(10);
/// Time for notices to publishers and RTMP players; the stop does not wait longer for a peer that
/// does not read.
const NOTIFY: Duration = Duration::from_secs(1);
/// Least and most time after the end of the broadcasts for players to fetch the end of their
/// playlists.
const LINGER: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(7);
/// Part of it that remains after a player has read its playlist again, for the last media.
const LAST_MEDIA: Duration = Duration::from_millis(500);

/// The arguments of `serve`.
pub(crate) struct Call {
    /// The configuration, with the values that were set explicitly.
    pub(crate) loaded: Loaded,
    /// The configuration file, if there is one: SIGHUP reloads it.
    pub(crate) file: Option<PathBuf>,
    /// Whether another process hands over to this one.
    pub(crate) takes_over: bool,
    /// Whether the database is the writer's or a replica.
    pub(crate) role: NodeRole,
    /// The export of traces, if a collector is configured.
    pub(crate) export: Option<Export>,
}

/// Runs the daemon until a signal stops it, or it has handed over and drained.
///
/// # Errors
/// The cause of a failed start or stop.
pub(crate) fn run(call: Call) -> Result<ExitCode, Error> {
    let launch = Launch::of_this_process();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    let outcome = runtime.block_on(serve(call, launch));
    // Remaining tasks have exceeded the grace period.
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Runs the daemon inside the runtime, from the start to the end of the stop.
async fn serve(call: Call, launch: Launch) -> Result<(), Error> {
    let mut signals = Signals::listen().map_err(Error::Signals)?;
    // The sockets of an old process replace those of the service manager, which were passed to that
    // process at its start.
    let (inherited, predecessor) = match call.takes_over {
        true => {
            let received = Predecessor::receive().await;
            let (predecessor, sockets) = received.map_err(Error::TakeOver)?;
            (Inherited::from_predecessor(sockets), Some(predecessor))
        }
        false => (Inherited::from_service_manager()?, None),
    };
    let mut daemon = Daemon::start(call, inherited, predecessor).await?;
    if let Some(predecessor) = &daemon.predecessor {
        match predecessor.take_over().await {
            Ok(()) => info!("took over from the old process"),
            Err(err) => warn!(%err, "the old process has already ended"),
        }
        // Only now may this process read the UDP sockets of HTTP/3.
        daemon.sockets.begin();
    }
    notify::ready();

    // Reports of suppressed messages never end; they run beside the daemon, not as a part, because
    // no part depends on them.
    let why = tokio::select! {
        why = daemon.run(&mut signals, &launch) => why,
        never = logs::report_suppressed() => match never {},
    };
    tokio::select! {
        // A second signal ends the daemon at once, and so does the end of the grace period.
        drained = timeout(GRACE, daemon.stop()) => if drained.is_err() {
            warn!("grace period over, ending with running parts");
        },
        signal = signals.next_stop() => {
            return Err(Error::Cut(signal));
        }
    }
    info!("stopped");
    // A panic is the more precise reason, also if it was only found during the stop.
    match (daemon.parts.panicked(), why) {
        (Some(part), _) => Err(Error::Panicked(part)),
        (None, Why::APart(part)) => Err(Error::Ended(part)),
        (None, Why::Requested | Why::Drained) => Ok(()),
    }
}

/// Why the daemon stops.
enum Why {
    /// A signal, or the process that has taken over, requested the stop.
    Requested,
    /// This part ended unexpectedly.
    APart(Part),
    /// Another process has taken over, and the broadcasts of this one have ended.
    Drained,
}

/// The running daemon.
struct Daemon {
    /// The registry of broadcasts.
    hub: Hub,
    /// The packager's snapshots.
    presentations: Presentations,
    /// The platform's database, if it is enabled.
    platform: Option<Platform>,
    /// The response of `/readyz`: true from the complete start to the stop.
    readiness: Readiness,
    /// The running tasks.
    parts: Parts,
    /// The sockets of the listeners, for a hand-over.
    sockets: Sockets,
    /// Cancelled to accept no more connections and keep the present ones.
    retire: CancellationToken,
    /// The edge, if origins are configured or an old process drains.
    edge: Option<Arc<Edge>>,
    /// The resources for a later hand-over.
    retirement: Retirement,
    /// The state that SIGHUP changes.
    reloadable: Reloadable,
    /// The old process, as long as it drains.
    predecessor: Option<Arc<Predecessor>>,
}

impl Daemon {
    /// Handles signals until the stop, as the main process or while draining.
    async fn run(&mut self, signals: &mut Signals, launch: &Launch) -> Why {
        match self.serve(signals, launch).await {
            Ok(successor) => self.give_way(successor, signals).await,
            Err(why) => {
                notify::stopping();
                why
            }
        }
    }

    /// Handles signals until another process serves, or this one must stop.
    async fn serve(&mut self, signals: &mut Signals, launch: &Launch) -> Result<Successor, Why> {
        loop {
            let signal = tokio::select! {
                signal = signals.next() => signal,
                part = self.parts.any_ended() => return Err(Why::APart(part)),
            };
            // A stop waits neither for files on a disk that hangs nor for a new process, which
            // tests encoders for some seconds. Other signals are handled one after the other.
            let handled = match signal {
                Signal::Terminate | Signal::Interrupt => Err(signal),
                Signal::Reload => signals.run_until_stop(self.reload()).await.map(|()| None),
                Signal::Upgrade => signals.run_until_stop(self.hand_over(launch)).await.map(Some),
            };
            match handled {
                Ok(None) => {}
                Ok(Some(Ok(successor))) => return Ok(successor),
                Ok(Some(Err(why))) => warn!(%why, "upgrade failed: this process continues"),
                Err(stop) => {
                    info!(signal = %stop, grace_s = GRACE.as_secs(), "stopping");
                    return Err(Why::Requested);
                }
            }
        }
    }

    /// Reloads the configuration, here and in the old process, which authorises its publishers by
    /// the keys that it has read.
    async fn reload(&mut self) {
        notify::reloading();
        self.reloadable.reload().await;
        if let Some(predecessor) = &self.predecessor {
            predecessor.reload().await;
        }
        notify::ready();
    }

    /// Stops all parts in the order of the data flow: publishers, broadcasts, requests, the rest.
    /// The caller limits the time.
    async fn stop(&mut self) {
        self.readiness.set(false);
        if let Some(platform) = &self.platform {
            platform.end_streams();
        }
        // The old process stops at the same time.
        if let Some(predecessor) = &self.predecessor {
            predecessor.stop().await;
        }
        // The kernel then refuses connections to listeners that no longer accept.
        self.sockets = Sockets::default();
        self.parts.stop(Part::Demo).await;
        // Collected before the publishers are stopped, because broadcasts that have ended are no
        // longer listed.
        let live: Vec<Arc<Live>> = self
            .hub
            .broadcasts()
            .iter()
            .filter_map(|broadcast| self.presentations.broadcast(broadcast.id()))
            .collect();
        // Publishers first, so that their last frames still reach the segments. A timeout leaves
        // the part running; it is stopped again below.
        if timeout(NOTIFY, self.parts.stop(Part::Rtmp)).await.is_err() {
            info!("rtmp connections left without a notice: their peers do not read");
        }
        // Back ends read that their publishers have stopped. Each notice has a limit.
        if timeout(NOTIFY, self.reloadable.publishers.finish()).await.is_err() {
            info!("a back end was not notified of all publishers that have stopped");
        }
        self.hub.close();
        // Playlists get their end (EXT-X-ENDLIST) before the wait for players begins.
        for live in &live {
            live.ended().await;
        }
        sleep(linger(&live)).await;
        // The broadcasts have ended. Readers stop before the packager, whose snapshots they serve;
        // the admin listener is last, so that metrics are available during the stop.
        for part in [
            Part::Ladder,
            Part::Http,
            Part::Local,
            Part::Packager,
            Part::Rtmp,
            Part::Certificates,
            Part::TokenKeys,
            Part::Clock,
            Part::Notify,
            Part::Control,
            Part::Health,
            Part::Admin,
        ] {
            self.parts.stop(part).await;
        }
        // The last request has ended, so all commands have been sent.
        if let Some(platform) = &self.platform {
            self.parts.stop(Part::Mail).await;
            self.parts.stop(Part::Bus).await;
            self.parts.stop(Part::Webhooks).await;
            self.parts.stop(Part::Views).await;
            #[cfg(feature = "search")]
            self.parts.stop(Part::Search).await;
            self.parts.stop(Part::Pictures).await;
            self.parts.stop(Part::Platform).await;
            platform.close().await;
        }
        if let Some(edge) = &self.edge {
            edge.stop().await;
        }
        // Nothing makes spans any more. It takes some seconds at most.
        self.parts.stop(Part::Traces).await;
        self.retirement.clean_up().await;
        if let Some(predecessor) = &self.predecessor {
            predecessor.gone().await;
        }
    }
}

/// The time that players need to read the end of the `live` broadcasts. Players that do not use
/// blocking requests reload a playlist after its target duration (RFC 8216bis 6.3.4), and a
/// manifest after minimumUpdatePeriod, which is shorter.
fn linger(live: &[Arc<Live>]) -> Duration {
    let presentations = live.iter().filter_map(|live| live.current());
    let longest = presentations.map(|presentation| presentation.target_duration_s).max();
    longest.map_or(Duration::ZERO, |seconds| {
        let wait = Duration::from_secs(seconds).saturating_add(LAST_MEDIA);
        wait.clamp(*LINGER.start(), *LINGER.end())
    })
}

/// Advances the hub's clock until `stop`.
async fn tick(hub: Hub, pulse: Pulse, stop: CancellationToken) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                hub.advance(Instant::now());
                pulse.beat();
            }
            () = stop.cancelled() => break,
        }
    }
}
