//! The old process' side: it starts the program again and hands over its sockets.

use std::{
    env,
    ffi::OsString,
    mem,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use http_server::QuicHandover;
use media_core::hub::Numbers;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::timeout,
};
use tracing::debug;
use uuid::Uuid;

use super::{
    channel::Channel,
    error::Error,
    message::{Message, Note},
};
use crate::sockets::{Any, Sockets};

/// The hidden flag of `serve`: take over from the process at the other end of standard input.
pub(crate) const FLAG: &str = "--take-over";
/// Time limit for the new process, which first tests encoders for some seconds.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Time from the close of its socket to the end of the process.
const END_LIMIT: Duration = Duration::from_secs(5);
/// Variables of the service manager that are for this process only. The watchdog's limit is kept,
/// for the new process.
const OWN_VARIABLES: [&str; 5] =
    ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_FDS_FIRST_FD", "WATCHDOG_PID"];

/// The command line of this process, for the next one.
#[derive(Debug)]
pub(crate) struct Launch {
    /// The path of the program, which an upgrade has replaced by then.
    program: PathBuf,
    /// The arguments of this process, and [`FLAG`].
    args: Vec<OsString>,
}

impl Launch {
    /// The command line of this process. Call it early: once the program file is replaced, the
    /// kernel no longer reports the path.
    pub(crate) fn of_this_process() -> Self {
        let mut args = env::args_os();
        let named = args.next().map(PathBuf::from).unwrap_or_default();
        // A bare name was found by PATH; a path is used as given, because it may be a link with
        // another target by then.
        let program = match named.components().count() {
            0 | 1 => env::current_exe().unwrap_or(named),
            _ => named,
        };
        let mut args: Vec<_> = args.filter(|arg| arg != FLAG).collect();
        args.push(FLAG.into());
        Self { program, args }
    }

    /// Starts the program again and hands it `sockets`. It fetches missing broadcasts from `local`,
    /// where no broadcast reaches `numbers`. When this returns it serves, and this process must
    /// accept nothing more.
    ///
    /// # Errors
    /// It does not start. Its process has ended, and nothing has changed.
    pub(crate) async fn hand_over(
        &self,
        sockets: &Sockets,
        local: &Path,
        numbers: Numbers,
    ) -> Result<Successor, Error> {
        let (channel, theirs) = Channel::pair()?;
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::from(theirs));
        // The new process gets its sockets over the channel. With these variables it would take the
        // descriptors of the service manager, which it does not have.
        for name in OWN_VARIABLES {
            command.env_remove(name);
        }
        let child = command.spawn().map_err(|source| Error::NoProgram {
            program: self.program.display().to_string(),
            source,
        })?;
        // The command holds the other end, which would stay open here.
        drop(command);
        let mut starting = Starting { child: Some(child), given: Vec::new() };
        let start = Message::Start {
            local: local.into(),
            discontinuities: numbers.discontinuity,
            msn: numbers.msn,
            stored_keys: true,
        };
        // Each failure drops `starting`, which ends the process and takes the sockets back.
        match timeout(READY_LIMIT, starting.start(&channel, sockets, &start)).await {
            Ok(Ok(())) => {}
            Ok(Err(err)) => return Err(starting.failed(err).await),
            Err(_) => return Err(Error::Late(READY_LIMIT.as_secs())),
        }
        let child = starting.has_started().ok_or(Error::Gone)?;
        Ok(Successor { channel, child })
    }
}

/// A process that is not ready yet. Dropping it ends the process and reverts the hand-over.
struct Starting {
    /// `None` when it has started.
    child: Option<Child>,
    /// QUIC sockets that were handed over.
    given: Vec<QuicHandover>,
}

impl Starting {
    /// Hands over all sockets, and waits until the new process serves.
    async fn start(
        &mut self,
        channel: &Channel,
        sockets: &Sockets,
        start: &Message,
    ) -> Result<(), Error> {
        // One packet for each socket, because the number of descriptors in a packet is limited.
        for open in sockets.iter() {
            let (purpose, address) = (open.purpose, open.address);
            match &open.socket {
                Any::Tcp(listener) => {
                    let message = Message::Socket { purpose, address };
                    channel.send(&message, &[listener.as_fd()]).await?;
                }
                Any::Served(quic) => {
                    let legacy = quic.prepare()?;
                    // Noted before the send, so that a failure reverts this socket too.
                    self.given.push(quic.clone());
                    let mut descriptors = vec![legacy.socket.as_fd()];
                    descriptors.extend(legacy.inboxes.iter().map(AsFd::as_fd));
                    let note = Note(legacy.note);
                    channel.send(&Message::Quic { address, note }, &descriptors).await?;
                }
                // This process does not serve it, so the new process binds its own.
                Any::Quic(_) => {}
            }
        }
        channel.send(start, &[]).await?;
        match channel.receive().await? {
            (Message::Ready, _) => Ok(()),
            (other, _) => Err(Error::OutOfTurn(other.name())),
        }
    }

    /// The cause of a failure: the end of the process, if it has ended.
    async fn failed(&mut self, err: Error) -> Error {
        match (&mut self.child, err) {
            (Some(child), Error::Gone) => match timeout(END_LIMIT, child.wait()).await {
                Ok(Ok(status)) => Error::Ended(status),
                _ => Error::Gone,
            },
            (_, err) => err,
        }
    }

    /// The process serves: the sockets are its own now.
    fn has_started(mut self) -> Option<Child> {
        mem::take(&mut self.given).iter().for_each(QuicHandover::complete);
        self.child.take()
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.given.iter().for_each(QuicHandover::abandon);
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.start_kill();
        }
    }
}

/// The new process, as seen by the old one. It continues when this is dropped.
#[derive(Debug)]
pub(crate) struct Successor {
    /// The socket to the new process. Its close shows the new process that this one has ended.
    channel: Channel,
    /// Its process, for the exit status.
    child: Child,
}

/// An event from the new process for a draining one.
#[derive(Debug)]
pub(crate) enum Event {
    /// Reload the configuration.
    Reload,
    /// The rights to publish that concern this key, channel or account end.
    Withdraw(Uuid),
    /// The service stops.
    Stop,
    /// The new process is gone.
    Gone(Option<ExitStatus>),
}

impl Successor {
    /// Its process number.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Notifies it that it is the main process now.
    pub(crate) async fn is_main(&self) {
        if let Err(err) = self.channel.send(&Message::Main, &[]).await {
            debug!(%err, "new process not notified that it is the main process");
        }
    }

    /// Forwards a SIGHUP that this process received.
    pub(crate) fn reload(&self) {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        // Its process id is valid until its exit status is read.
        if let Some(Err(err)) = pid.map(|pid| kill_process(pid, Signal::HUP)) {
            debug!(%err, "SIGHUP not forwarded to the new process: send it again");
        }
    }

    /// The next event. Cancel-safe.
    pub(crate) async fn next_event(&mut self) -> Event {
        match self.channel.receive().await {
            Ok((Message::Stop, _)) => Event::Stop,
            Ok((Message::Reload, _)) => Event::Reload,
            Ok((Message::Withdraw { subject }, _)) => Event::Withdraw(subject),
            Ok(_) | Err(_) => Event::Gone(self.child.try_wait().ok().flatten()),
        }
    }
}
