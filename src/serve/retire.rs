//! Draining: a new process takes the listeners; this one keeps its publishers until they
//! disconnect, and serves its broadcasts to the new one on a Unix socket.

use std::{pin::pin, time::Duration};

use media_core::hub::Numbers;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Daemon, Part, Signals, Why, error::Kept};
use crate::{
    handover::{Event, Launch, Successor},
    notify,
    signals::Signal,
    sockets::Sockets,
};

/// Discontinuities that draining broadcasts may still have: a publisher's clock that jumps, or an
/// encoder whose settings change while it publishes.
const DISCONTINUITIES: u64 = 8;
/// How long the requests that use the database may take to end.
const CLOSE: Duration = Duration::from_secs(2);
/// Media sequence numbers beyond one a second that they may still use: the publisher's lead over
/// the clock, and the hub's burst of marks.
const NUMBERS: u64 = 16;

impl Daemon {
    /// Starts a new process and hands it the listeners. It serves when this returns.
    ///
    /// # Errors
    /// Why it failed; this process is unchanged.
    pub(super) async fn hand_over(&mut self, launch: &Launch) -> Result<Successor, Kept> {
        info!("handing over to a new process");
        let server = self.retirement.local_server().await?;
        // Started before the new process, which fetches from it as soon as it serves.
        self.parts.start(Part::Local, |stop| server.serve(CancellationToken::new(), stop));
        // Players compare these numbers across both processes (RFC 8216bis 4.4.3.2, 4.4.3.3), so
        // those of the new process must be larger than any that this one still assigns.
        let reached = self.presentations.discontinuities().max(self.retirement.discontinuities);
        let (sockets, local) = (&self.sockets, &self.retirement.socket);
        let next = self.hub.next_numbers(Instant::now().into_std());
        let numbers = Numbers {
            msn: next.msn + NUMBERS,
            discontinuity: next.discontinuity.max(reached) + DISCONTINUITIES,
        };
        let handed = launch.hand_over(sockets, local, numbers).await;
        // The listeners are this process' own again, so it serves as before.
        if handed.is_err() {
            self.parts.stop(Part::Local).await;
            self.retirement.clean_up().await;
        }
        Ok(handed?)
    }

    /// Accepts no more connections, and serves the present ones until the last publisher has
    /// disconnected and its broadcast has ended.
    pub(super) async fn give_way(&mut self, successor: Successor, signals: &mut Signals) -> Why {
        self.release_listeners(&successor).await;
        // The new process uses the present configuration, so publishers that it does not authorise
        // must not stay.
        if let Err(stop) = signals.run_until_stop(self.reloadable.reload_rights()).await {
            return stopping(stop);
        }
        // The new process has a test picture, an admin listener and a control socket of its own.
        for part in [Part::Demo, Part::Admin, Part::Control] {
            self.parts.stop(part).await;
        }
        self.drain(successor, signals).await
    }

    /// Leaves the listeners and the service manager to the new process. Connections stay.
    async fn release_listeners(&mut self, successor: &Successor) {
        if let Some(pid) = successor.pid() {
            notify::main_process(pid);
            info!(
                pid,
                drain_s = self.retirement.drain.as_secs(),
                "another process serves, this one drains"
            );
        }
        // Views are counted where the database is.
        self.parts.stop(Part::Views).await;
        // A database has one writer, so the new process opens it after this one has closed it. A
        // request that hangs does not delay the upgrade; the new process waits for it.
        if let Some(platform) = &self.platform
            && timeout(CLOSE, platform.close()).await.is_err()
        {
            warn!("requests still use the database: the new process cannot open it yet");
        }
        // From here on the new process reads the UDP sockets and notifies the service manager.
        successor.is_main().await;
        self.parts.stop(Part::Notify).await;
        // The HTTP and RTMP parts end when their last connection does, which is expected from here
        // on.
        self.parts.may_end(&[Part::Http, Part::Rtmp]);
        self.retire.cancel();
        self.sockets = Sockets::default();
    }

    /// Serves the present connections until this process has drained or must stop. Returns why it
    /// stops.
    async fn drain(&self, mut successor: Successor, signals: &mut Signals) -> Why {
        let mut drained = pin!(self.drained(Instant::now() + self.retirement.drain));
        loop {
            tokio::select! {
                () = &mut drained => {
                    info!("drained");
                    break Why::Drained;
                }
                event = successor.next_event() => {
                    if let Some(why) = self.handle_event(event, signals).await {
                        break why;
                    }
                }
                signal = signals.next() => match signal {
                    Signal::Terminate | Signal::Interrupt => break stopping(signal),
                    // The signal is for the serving process, also if it arrived during the
                    // hand-over, because the log file may have been moved since the new process
                    // opened it. The new process notifies this one.
                    Signal::Reload => successor.reload(),
                    Signal::Upgrade => warn!(%signal, "signal ignored: this process is draining"),
                },
                part = self.parts.any_ended() => break Why::APart(part),
            }
        }
    }

    /// Waits until nothing depends on this process any more; publishers may stay until `limit`.
    async fn drained(&self, limit: Instant) {
        // Three conditions, one after the other: no publisher, no broadcast, and no even older
        // process that depends on this one.
        tokio::select! {
            () = self.parts.ended(Part::Rtmp) => {}
            () = sleep_until(limit) => {
                info!("drain limit reached, disconnecting publishers");
                return;
            }
        }
        // Ended broadcasts are held for a while, and may be requested until then.
        self.presentations.emptied().await;
        if let Some(predecessor) = &self.predecessor {
            predecessor.gone().await;
        }
    }

    /// Handles an event of the new process. Returns why this process stops, if it does.
    async fn handle_event(&self, event: Event, signals: &mut Signals) -> Option<Why> {
        match event {
            Event::Reload => {
                let reload = self.reloadable.reload_rights();
                if let Err(stop) = signals.run_until_stop(reload).await {
                    return Some(stopping(stop));
                }
                if let Some(predecessor) = &self.predecessor {
                    predecessor.reload().await;
                }
                None
            }
            Event::Withdraw(subject) => {
                self.reloadable.publishers.withdraw(subject);
                None
            }
            Event::Stop => {
                info!("stopping together with the new process");
                Some(Why::Requested)
            }
            Event::Gone(status) => {
                // The sockets were given away; and systemd ends the remaining processes when its
                // main process ends, and restarts the service.
                warn!(?status, "the new process is gone: stopping, because it had the sockets");
                Some(Why::Requested)
            }
        }
    }
}

/// The reason to stop after `signal`, which is logged.
fn stopping(signal: Signal) -> Why {
    info!(%signal, "stopping while draining");
    Why::Requested
}
