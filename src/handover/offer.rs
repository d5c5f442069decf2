//! The old process' side: it starts the program anew and hands over its sockets.

use std::{
    env,
    ffi::OsString,
    mem,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use media_core::hub::Numbers;
use origin_http::QuicHandover;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::timeout,
};
use tracing::debug;

use super::{
    Error, FLAG,
    channel::Channel,
    message::{Message, Note},
};
use crate::sockets::{Any, Sockets};

/// The new process tries encoders first, which takes seconds.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// From the end of its socket to its own.
const END_LIMIT: Duration = Duration::from_secs(5);
/// What was meant for this process by its service manager. The watchdog's limit stays, and is then the new one's.
const OWN_VARIABLES: [&str; 5] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_FDS_FIRST_FD",
    "WATCHDOG_PID",
];

/// How this process was started: the next is started likewise.
#[derive(Debug)]
pub(crate) struct Launch {
    program: PathBuf,
    args: Vec<OsString>,
}

impl Launch {
    /// As this process was. To be asked early: once another program stands in its place, the kernel does not tell the path any more.
    pub(crate) fn of_this_process() -> Self {
        let mut args = env::args_os();
        let named = args.next().map(PathBuf::from).unwrap_or_default();
        // A bare name was found by PATH; a path is taken as it was given, for it may be a link that points elsewhere by then.
        let program = match named.components().count() {
            0 | 1 => env::current_exe().unwrap_or(named),
            _ => named,
        };
        let mut args: Vec<_> = args.filter(|arg| arg != FLAG).collect();
        args.push(FLAG.into());
        Self { program, args }
    }

    /// Starts the program anew and hands it `sockets`. What it does not have, it finds at `local`, where no broadcast gets to `numbers`. It has
    /// started when this returns, and this process must accept nothing more.
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
        for name in OWN_VARIABLES {
            command.env_remove(name);
        }
        let child = command.spawn().map_err(|source| Error::NoProgram {
            program: self.program.display().to_string(),
            source,
        })?;
        // It holds the other end, which would stay open here.
        drop(command);
        let mut starting = Starting {
            child: Some(child),
            given: Vec::new(),
        };
        let start = Message::Start {
            local: local.into(),
            discontinuities: numbers.discontinuity,
            msn: numbers.msn,
        };
        match timeout(READY_LIMIT, starting.start(&channel, sockets, &start)).await {
            Ok(Ok(())) => {}
            Ok(Err(err)) => return Err(starting.failed(err).await),
            Err(_) => return Err(Error::Late(READY_LIMIT.as_secs())),
        }
        let child = starting.has_started().ok_or(Error::Gone)?;
        Ok(Successor { channel, child })
    }
}

/// A process that is not ready. When this is dropped it is ended, and all is as before.
struct Starting {
    child: Option<Child>,
    /// Sockets of QUIC that it has been given.
    given: Vec<QuicHandover>,
}

impl Starting {
    /// Hands over all that there is, and waits until the new process serves.
    async fn start(&mut self, channel: &Channel, sockets: &Sockets, start: &Message) -> Result<(), Error> {
        for open in sockets.iter() {
            let (purpose, address) = (open.purpose, open.address);
            match &open.socket {
                Any::Tcp(listener) => {
                    let message = Message::Socket { purpose, address };
                    channel.send(&message, &[listener.as_fd()]).await?;
                }
                Any::Served(quic) => {
                    let legacy = quic.prepare()?;
                    self.given.push(quic.clone());
                    let mut descriptors = vec![legacy.socket.as_fd()];
                    descriptors.extend(legacy.inboxes.iter().map(AsFd::as_fd));
                    let note = Note(legacy.note);
                    channel.send(&Message::Quic { address, note }, &descriptors).await?;
                }
                // Nothing serves it: then the new process binds its own.
                Any::Quic(_) => {}
            }
        }
        channel.send(start, &[]).await?;
        match channel.receive().await? {
            (Message::Ready, _) => Ok(()),
            (other, _) => Err(Error::OutOfTurn(other.name())),
        }
    }

    /// Why it failed: its own end, if that is why.
    async fn failed(&mut self, err: Error) -> Error {
        match (&mut self.child, err) {
            (Some(child), Error::Gone) => match timeout(END_LIMIT, child.wait()).await {
                Ok(Ok(status)) => Error::Ended(status),
                _ => Error::Gone,
            },
            (_, err) => err,
        }
    }

    /// It serves: what was given is its own.
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

/// The process that follows this one, and lives on when this is dropped.
#[derive(Debug)]
pub(crate) struct Successor {
    channel: Channel,
    child: Child,
}

/// What a process that drains hears from the one that follows.
#[derive(Debug)]
pub(crate) enum Word {
    /// The configuration is to be read again.
    Reload,
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

    /// Tells it that it is the main process now.
    pub(crate) async fn is_main(&self) {
        if let Err(err) = self.channel.send(&Message::Main, &[]).await {
            debug!(%err, "the new process is not told");
        }
    }

    /// Makes it read its configuration again, as whoever sent us SIGHUP meant it to.
    pub(crate) fn reload(&self) {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        // Its number is its own as long as it is not waited for.
        if let Some(Err(err)) = pid.map(|pid| kill_process(pid, Signal::HUP)) {
            debug!(%err, "the new process is not told");
        }
    }

    /// The next word. Cancel-safe.
    pub(crate) async fn word(&mut self) -> Word {
        match self.channel.receive().await {
            Ok((Message::Stop, _)) => Word::Stop,
            Ok((Message::Reload, _)) => Word::Reload,
            Ok(_) | Err(_) => Word::Gone(self.child.try_wait().ok().flatten()),
        }
    }
}
