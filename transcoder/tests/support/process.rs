//! A worker's process: this test program, started again with one end of a socket pair as its
//! standard input.

use std::{
    env,
    io::{ErrorKind, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use transcoder::protocol::{LENGTH_BYTES, Level, Order, Report, parse_length};

/// The argument that makes a test program a worker.
pub(crate) const SUBCOMMAND: &str = "transcode-worker";
/// Time limit of a test's worker, on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A user, and a group, without any rights: nobody and nogroup.
const NOBODY: u32 = 65_534;

/// A worker. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    socket: UnixStream,
}

/// The reports of a worker until its end.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) reports: Vec<Report>,
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

/// One access unit of a rendition; 90 kHz ticks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unit {
    pub(crate) key: bool,
    pub(crate) dts: i64,
    pub(crate) pts: i64,
    pub(crate) payload: Bytes,
}

impl Worker {
    /// Starts a worker.
    pub(crate) fn start() -> Self {
        Self::spawn(&mut Command::new(env::current_exe().expect("a test program")))
    }

    /// Starts a worker that is not root, like the service's. If the tests do not run as root, it
    /// has their user.
    pub(crate) fn start_without_privileges() -> Self {
        // The running program by this path, because its folder may be readable by root only.
        let mut command = Command::new("/proc/self/exe");
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        Self::spawn(&mut command)
    }

    fn spawn(command: &mut Command) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        ours.set_read_timeout(Some(LIMIT)).expect("a limit");
        let child = command
            .arg(SUBCOMMAND)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program that runs");
        Self { child, socket: ours }
    }

    /// Sends orders from a separate thread, because a worker that does not read blocks the sender.
    pub(crate) fn send(&self, orders: Vec<Order>) {
        let mut socket = self.socket.try_clone().expect("a socket");
        thread::spawn(move || {
            for order in orders {
                let message = order.write();
                // A worker that has ended does not read; its status has the reason.
                if socket
                    .write_all(&message.head)
                    .and_then(|()| socket.write_all(&message.payload))
                    .is_err()
                {
                    break;
                }
            }
        });
    }

    /// The next report; `None` when the worker has closed the socket.
    pub(crate) fn next(&mut self) -> Option<Report> {
        let mut prefix = [0; LENGTH_BYTES];
        match self.socket.read_exact(&mut prefix) {
            Ok(()) => {}
            Err(err)
                if matches!(err.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) =>
            {
                return None;
            }
            Err(err) => panic!("no report: {err}"),
        }
        let mut message = vec![0; parse_length(prefix).expect("a length")];
        self.socket.read_exact(&mut message).expect("a whole report");
        Some(Report::parse(message.into()).expect("a report"))
    }

    /// All reports until its end.
    pub(crate) fn finish(mut self) -> Said {
        let reports = std::iter::from_fn(|| self.next()).collect();
        let status = self.wait();
        let mut stderr = String::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            pipe.read_to_string(&mut stderr).expect("text");
        }
        Said { reports, status, stderr }
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                return status;
            }
            assert!(Instant::now() < deadline, "a worker whose socket is closed still runs");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The daemon's end of the socket.
    pub(crate) fn socket(&self) -> &UnixStream {
        &self.socket
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Said {
    /// The units of a rendition.
    pub(crate) fn units(&self, of: u8) -> Vec<Unit> {
        let unit = |report: &Report| match report {
            Report::Unit { rendition, key, dts, pts, payload } if *rendition == of => {
                let (dts, pts) = (dts.ticks(), pts.ticks());
                Some(Unit { key: *key, dts, pts, payload: payload.clone() })
            }
            _ => None,
        };
        self.reports.iter().filter_map(unit).collect()
    }

    /// The configurations of a rendition.
    pub(crate) fn records(&self, of: u8) -> Vec<Bytes> {
        let record = |report: &Report| match report {
            Report::Config { rendition, record } if *rendition == of => Some(record.clone()),
            _ => None,
        };
        self.reports.iter().filter_map(record).collect()
    }

    /// Its pictures and their times.
    pub(crate) fn pictures(&self) -> Vec<(i64, Bytes)> {
        let picture = |report: &Report| match report {
            Report::Picture { pts, jpeg } => Some((pts.ticks(), jpeg.clone())),
            _ => None,
        };
        self.reports.iter().filter_map(picture).collect()
    }

    /// The warnings in its reports.
    pub(crate) fn warnings(&self) -> Vec<&str> {
        let warnings = self.reports.iter().filter_map(|report| match report {
            Report::Log { level: Level::Warn, text } => Some(text.as_str()),
            _ => None,
        });
        warnings.collect()
    }
}
