//! Giving way: a new process takes the listeners; this one keeps its publishers until they have gone, and what the new one does not have, it
//! serves to it on a Unix socket.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process,
    sync::Arc,
    time::Duration,
};

use media_core::hub::Numbers;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Daemon, Part, Signals, Why};
use crate::{
    config::Config,
    handover::{Launch, Successor, Word},
    notify,
    signals::Signal,
    sockets::Sockets,
};

/// How often a draining process looks whether it is done.
const LOOK: Duration = Duration::from_millis(500);
/// Discontinuities that what drains may still come to: a publisher's clock that jumps, or an encoder that is set otherwise while it sends.
const DISCONTINUITIES: u64 = 8;
/// Media sequence numbers that it may still come to beyond one a second: what a publisher is ahead of the clock, and the hub's burst of marks.
const NUMBERS: u64 = 16;

/// What giving way needs.
pub(super) struct Retirement {
    http: origin_http::Config,
    router: Arc<origin_http::Router>,
    /// Of this process alone.
    socket: PathBuf,
    /// How long publishers are kept.
    drain: Duration,
    /// What players of the process before may have seen.
    discontinuities: u64,
}

impl Retirement {
    pub(super) fn new(config: &Config, router: Arc<origin_http::Router>, discontinuities: u64) -> Self {
        Self {
            http: config.http.clone(),
            router,
            socket: config.data_dir.join("handover").join(format!("{}.sock", process::id())),
            drain: config.upgrade.drain(),
            discontinuities,
        }
    }

    /// A server for the new process, that serves what this one has.
    fn local_server(&self) -> io::Result<origin_http::Server> {
        let sockets = origin_http::Sockets {
            local: vec![listen(&self.socket)?],
            ..origin_http::Sockets::default()
        };
        let https = origin_http::Https::default();
        origin_http::Server::new(&self.http, &https, sockets, None, Arc::clone(&self.router))
    }

    /// Leaves nothing behind.
    pub(super) fn clean_up(&self) {
        // It is there only if this process has tried to hand over.
        let _ = fs::remove_file(&self.socket);
    }
}

/// A socket that only this user reaches.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // Of an older process that had this number.
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

impl Daemon {
    /// Starts a new process and hands it the listeners. When this returns it serves.
    ///
    /// # Errors
    /// Why there is none; this process is as it was.
    pub(super) async fn hand_over(&mut self, launch: &Launch) -> Result<Successor, String> {
        info!("handing over to a new process");
        let server = self.retirement.local_server();
        let server = server.map_err(|err| format!("{}: {err}", self.retirement.socket.display()))?;
        self.parts
            .start(Part::Local, |stop| server.serve(CancellationToken::new(), stop));
        let reached = self
            .presentations
            .discontinuities()
            .max(self.retirement.discontinuities);
        let (sockets, local) = (&self.sockets, &self.retirement.socket);
        let next = self.hub.next_numbers(Instant::now().into_std());
        let numbers = Numbers {
            msn: next.msn + NUMBERS,
            discontinuity: next.discontinuity.max(reached) + DISCONTINUITIES,
        };
        let handed = launch.hand_over(sockets, local, numbers).await;
        if handed.is_err() {
            self.parts.stop(Part::Local).await;
            self.retirement.clean_up();
        }
        handed.map_err(|err| err.to_string())
    }

    /// Accepts no more, and serves who is there until the last publisher has gone and what it sent is over.
    pub(super) async fn give_way(&mut self, mut successor: Successor, signals: &mut Signals) -> Why {
        if let Some(pid) = successor.pid() {
            notify::main_process(pid);
            info!(
                pid,
                drain_s = self.retirement.drain.as_secs(),
                "another process serves, this one drains"
            );
        }
        successor.is_main().await;
        self.parts.stop(Part::Notify).await;
        self.parts.may_end(&[Part::Http, Part::Rtmp]);
        self.retire.cancel();
        self.sockets = Sockets::default();
        // The new one goes by the configuration as it is now; who was let in by the old shall not stay.
        self.reloadable.reload_rights();
        for part in [Part::Demo, Part::Admin] {
            self.parts.stop(part).await;
        }
        let limit = Instant::now() + self.retirement.drain;
        let (parts, presentations, predecessor) = (&self.parts, &self.presentations, self.predecessor.as_ref());
        let drained = async {
            tokio::select! {
                () = parts.ended(Part::Rtmp) => {}
                () = sleep_until(limit) => {
                    info!("publishers are still there, their time is over");
                    return;
                }
            }
            // What has ended is kept for a while, and may be asked for until then.
            while !presentations.is_empty() {
                sleep(LOOK).await;
            }
            if let Some(predecessor) = predecessor {
                predecessor.gone().await;
            }
        };
        tokio::pin!(drained);
        loop {
            tokio::select! {
                () = &mut drained => {
                    info!("drained");
                    break Why::Drained;
                }
                word = successor.word() => match word {
                    Word::Reload => {
                        self.reloadable.reload_rights();
                        if let Some(predecessor) = predecessor {
                            predecessor.reload().await;
                        }
                    }
                    Word::Stop => {
                        info!("the new process stops, this one too");
                        break Why::Told;
                    }
                    Word::Gone(status) => {
                        // The sockets were given away; and systemd, whose main process that was, ends what is left and starts anew.
                        warn!(?status, "the new process is gone, and with it the sockets: this one stops, to be started again");
                        break Why::Told;
                    }
                },
                signal = signals.next() => match signal {
                    stop @ (Signal::Terminate | Signal::Interrupt) => {
                        info!(signal = %stop, "stopping while draining");
                        break Why::Told;
                    }
                    // It was meant for who serves; one that came during the hand-over too, for the file of a log may have been moved since
                    // the new process opened it. That tells this one.
                    Signal::Reload => successor.reload(),
                    Signal::Upgrade => warn!(%signal, "this process is draining: the new one takes signals"),
                },
                part = parts.any_ended() => break Why::APart(part),
            }
        }
    }
}
