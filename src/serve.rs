//! What `serve` does: it starts all parts, listens to signals, and stops the parts in the order in which data flow, under one grace period.
//! Or it gives way to a new process of itself, and drains.

mod adapters;
mod parts;
mod reload;
mod retire;
mod start;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use control_api::admin;
use media_core::Hub;
use origin_http::Edge;
use packager::{Live, Presentations};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config::Loaded,
    handover::{Launch, Predecessor, Successor},
    logs,
    notify::{self, Pulse},
    signals::{Signal, Signals},
    sockets::{Inherited, Sockets},
};
use parts::{Part, Parts};
use reload::Reloadable;
use retire::Retirement;

/// How often the clock acts on the hub.
const TICK: Duration = Duration::from_millis(100);
/// From the first signal until everything has stopped.
const GRACE: Duration = Duration::from_secs(10);
/// For publishers and RTMP players to be told; who does not read keeps its connection until the grace is over, and nobody waits for it.
const TELL: Duration = Duration::from_secs(1);
/// After the broadcasts have ended: for players to fetch the end of their playlists.
const LINGER: Duration = Duration::from_secs(2);

/// What `serve` was called with.
pub(crate) struct Call {
    pub(crate) loaded: Loaded,
    /// The configuration's file, if there is one: it is read again at SIGHUP.
    pub(crate) file: Option<PathBuf>,
    /// Whether another process hands over to this one.
    pub(crate) takes_over: bool,
}

/// Runs the daemon until it is told to stop, or has given way.
///
/// # Errors
/// One line: why it did not start, or did not end well.
pub(crate) fn run(call: Call) -> Result<ExitCode, String> {
    let launch = Launch::of_this_process();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|err| format!("no threads to run on: {err}"))?;
    let outcome = runtime.block_on(serve(call, launch));
    // What is left has outlived the grace.
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn serve(call: Call, launch: Launch) -> Result<(), String> {
    let mut signals = Signals::listen().map_err(|err| format!("signals: {err}"))?;
    let (inherited, predecessor) = match call.takes_over {
        true => {
            let received = Predecessor::receive().await;
            let (predecessor, sockets) = received.map_err(|err| format!("cannot take over: {err}"))?;
            (Inherited::from_predecessor(sockets), Some(predecessor))
        }
        false => (Inherited::from_service_manager()?, None),
    };
    let mut daemon = Daemon::start(call, inherited, predecessor).await?;
    if let Some(predecessor) = &daemon.predecessor {
        match predecessor.take_over().await {
            Ok(()) => info!("took over from the process before"),
            Err(err) => warn!(%err, "the process before is gone already"),
        }
        daemon.sockets.begin();
    }
    notify::ready();

    let why = tokio::select! {
        why = daemon.run(&mut signals, &launch) => why,
        never = logs::report_left_out() => match never {},
    };
    tokio::select! {
        drained = timeout(GRACE, daemon.stop()) => if drained.is_err() {
            warn!("not all has stopped within the grace, ending");
        },
        signal = signals.next_stop() => {
            return Err(format!("ended at once by a second {signal}; what was live is cut off"));
        }
    }
    info!("stopped");
    match (daemon.parts.panicked(), why) {
        (Some(part), _) => Err(format!(
            "{part} has failed, a fault of this program: the log says where; start it again"
        )),
        (None, Why::APart(part)) => Err(format!(
            "a part has ended by itself, {part}: the log says more; start it again"
        )),
        (None, Why::Told | Why::Drained) => Ok(()),
    }
}

/// Why the daemon does not go on.
enum Why {
    Told,
    /// This part has ended, and was not told to.
    APart(Part),
    /// Another process has its place, and what this one had is over.
    Drained,
}

/// All that runs.
struct Daemon {
    hub: Hub,
    presentations: Presentations,
    readiness: admin::Readiness,
    parts: Parts,
    /// What the listeners were made of, to be handed over.
    sockets: Sockets,
    /// Accept no more, and serve who is there.
    retire: CancellationToken,
    edge: Option<Arc<Edge>>,
    retirement: Retirement,
    reloadable: Reloadable,
    /// The process that this one follows, as long as that drains.
    predecessor: Option<Predecessor>,
}

impl Daemon {
    /// Acts on signals until it is to stop, as the main process or after another has become that.
    async fn run(&mut self, signals: &mut Signals, launch: &Launch) -> Why {
        match self.serve(signals, launch).await {
            Ok(successor) => self.give_way(successor, signals).await,
            Err(why) => {
                notify::stopping();
                why
            }
        }
    }

    /// Acts on signals until another process serves, or this one is to stop.
    async fn serve(&mut self, signals: &mut Signals, launch: &Launch) -> Result<Successor, Why> {
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    stop @ (Signal::Terminate | Signal::Interrupt) => {
                        info!(signal = %stop, grace_s = GRACE.as_secs(), "stopping");
                        return Err(Why::Told);
                    }
                    Signal::Reload => {
                        notify::reloading();
                        self.reloadable.reload();
                        if let Some(predecessor) = &self.predecessor {
                            predecessor.reload().await;
                        }
                        notify::ready();
                    }
                    Signal::Upgrade => {
                        let upgraded = tokio::select! {
                            upgraded = self.hand_over(launch) => upgraded,
                            signal = signals.next_stop() => {
                                info!(%signal, grace_s = GRACE.as_secs(), "stopping");
                                return Err(Why::Told);
                            }
                        };
                        match upgraded {
                            Ok(successor) => return Ok(successor),
                            Err(why) => warn!(why, "not upgraded; this process goes on as before"),
                        }
                    }
                },
                part = self.parts.any_ended() => return Err(Why::APart(part)),
            }
        }
    }

    /// Stops all parts in the order data flow: publishers, broadcasts, requests, the rest. Bounded by the caller.
    async fn stop(&mut self) {
        self.readiness.set(false);
        // It stops at the same time.
        if let Some(predecessor) = &self.predecessor {
            predecessor.stop().await;
        }
        // The kernel takes no more connections for listeners that will not accept them.
        self.sockets = Sockets::default();
        self.parts.stop(Part::Demo).await;
        let live: Vec<Arc<Live>> = self
            .hub
            .broadcasts()
            .iter()
            .filter_map(|broadcast| self.presentations.broadcast(broadcast.id()))
            .collect();
        if timeout(TELL, self.parts.stop(Part::Rtmp)).await.is_err() {
            info!("rtmp peers left that do not read");
        }
        self.hub.close();
        for live in &live {
            live.ended().await;
        }
        if live.iter().any(|live| live.current().is_some()) {
            sleep(LINGER).await;
        }
        for part in [
            Part::Ladder,
            Part::Http,
            Part::Local,
            Part::Packager,
            Part::Rtmp,
            Part::Certificates,
            Part::Clock,
            Part::Notify,
            Part::Admin,
        ] {
            self.parts.stop(part).await;
        }
        if let Some(edge) = &self.edge {
            edge.stop().await;
        }
        self.retirement.clean_up();
        if let Some(predecessor) = &self.predecessor {
            predecessor.gone().await;
        }
    }
}

/// Lets the clock act on the hub until `stop`.
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
