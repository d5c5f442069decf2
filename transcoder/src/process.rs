//! One worker process and the socket to it: orders in, reports out. Reports of a worker are
//! untrusted, like the messages of a peer.

use std::{
    env,
    ffi::OsString,
    io,
    os::{fd::OwnedFd, unix::net},
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, ChildStderr, Command},
    time::timeout,
};

use crate::protocol::{LENGTH_BYTES, Malformed, Order, Report, parse_length};

/// The hidden subcommand of a worker.
pub(crate) const SUBCOMMAND: &str = "transcode-worker";
/// The workers' process name, independent of the path by which they are started.
pub(crate) const NAME: &str = "streamforge";
/// Time limit for the end of a process after its socket has closed.
const END_LIMIT: Duration = Duration::from_secs(1);

/// A worker's process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process(Child);

/// The sending side, for orders.
#[derive(Debug)]
pub(crate) struct Orders(OwnedWriteHalf);

/// The receiving side, for reports.
#[derive(Debug)]
pub(crate) struct Reports(OwnedReadHalf);

/// Why no more reports can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The socket failed.
    #[error("the worker's socket: {0}")]
    Socket(#[from] io::Error),
    /// The worker sent an invalid message.
    #[error("the worker sent {0}")]
    Malformed(#[from] Malformed),
}

/// Starts a worker: this `program`, on one end of a socket pair. Returns its stderr too.
///
/// # Errors
/// The socket or the process cannot be created.
pub(crate) fn start(
    program: &Path,
    args: &[OsString],
) -> io::Result<(Process, Orders, Reports, Option<ChildStderr>)> {
    let (ours, theirs) = net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let ours = UnixStream::from_std(ours)?;
    let mut child = Command::new(program)
        .arg0(NAME)
        .args(args)
        .env_clear()
        .envs(environment())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A signal from the terminal is for the daemon only, which then ends the worker itself.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let stderr = child.stderr.take();
    let (read, write) = ours.into_split();
    Ok((Process(child), Orders(write), Reports(read), stderr))
}

/// The part of the daemon's environment that a worker gets: paths of libraries and devices. The
/// rest may contain settings, including keys and tokens, and a compromised worker could publish
/// them.
pub(crate) fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    // Whole names of variables, and beginnings of names.
    const NAMES: [&str; 7] =
        ["HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "RUST_BACKTRACE", "TZ", "XDG_CACHE_HOME"];
    const KINDS: [&str; 6] = ["GST_", "LIBVA_", "CUDA_", "NVIDIA_", "LC_", "ORC_"];
    env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        NAMES.iter().any(|known| name == *known) || KINDS.iter().any(|kind| name.starts_with(kind))
    })
}

impl Process {
    /// Its process id, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.0.id()
    }

    /// Waits a moment for the process to end by itself, otherwise kills it. The process has ended
    /// when this returns.
    pub(crate) async fn end(mut self) -> io::Result<ExitStatus> {
        match timeout(END_LIMIT, self.0.wait()).await {
            Ok(status) => status,
            Err(_) => self.kill().await,
        }
    }

    /// Kills the process. It has ended when this returns.
    pub(crate) async fn kill(mut self) -> io::Result<ExitStatus> {
        self.0.start_kill()?;
        self.0.wait().await
    }
}

impl Orders {
    /// Orders to the reader of the other end of `socket`.
    #[cfg(test)]
    pub(crate) fn to(socket: UnixStream) -> Self {
        Self(socket.into_split().1)
    }

    /// Sends an order, waiting for room. Not cancel-safe: half a message may have been sent.
    ///
    /// # Errors
    /// The worker has closed the socket.
    pub(crate) async fn send(&mut self, order: &Order) -> io::Result<()> {
        let written = order.write();
        self.0.write_all_buf(&mut written.head.chain(written.payload)).await
    }
}

impl Reports {
    /// The next report; `None` when the worker has closed the socket between two messages. Not
    /// cancel-safe.
    ///
    /// # Errors
    /// The message is invalid, or the socket failed.
    pub(crate) async fn next(&mut self) -> Result<Option<Report>, Error> {
        let mut prefix = [0; LENGTH_BYTES];
        // The first byte is read alone: an end before it is regular, an end after it is an error.
        if self.0.read(&mut prefix[..1]).await? == 0 {
            return Ok(None);
        }
        self.0.read_exact(&mut prefix[1..]).await?;
        let len = parse_length(prefix)?;
        // The buffer grows with the received bytes: a length alone allocates nothing.
        let mut message = BytesMut::with_capacity(len.min(1 << 20));
        let mut rest = (&mut self.0).take(len as u64);
        while message.len() < len {
            if rest.read_buf(&mut message).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        Ok(Some(Report::parse(message.freeze())?))
    }
}

#[cfg(test)]
mod tests {
    use media_core::MediaTime;

    use super::*;
    use crate::protocol::{Media, Stats};

    fn pair() -> (UnixStream, Reports) {
        let (theirs, ours) = UnixStream::pair().unwrap();
        (theirs, Reports(ours.into_split().0))
    }

    /// The first result of reading, after a worker has written `bytes` and ended.
    async fn read(bytes: &[u8]) -> Result<Option<Report>, Error> {
        let (mut worker, mut reports) = pair();
        worker.write_all(bytes).await.unwrap();
        drop(worker);
        reports.next().await
    }

    #[tokio::test]
    async fn malformed_reports_of_a_worker_are_errors() {
        assert!(matches!(read(b"").await, Ok(None)));
        assert!(matches!(read(b"\0\0").await, Err(Error::Socket(_))));
        assert!(matches!(
            read(b"\xff\xff\xff\xff").await,
            Err(Error::Malformed(Malformed::Length { .. }))
        ));
        assert!(matches!(read(b"\0\0\0\x05\x02").await, Err(Error::Socket(_))));
        assert!(matches!(read(b"GET / HTTP/1.1\r\n\r\n").await, Err(Error::Malformed(_))));
        assert!(matches!(
            read(b"\0\0\0\x02\x63\x00").await,
            Err(Error::Malformed(Malformed::Kind { kind: 0x63 }))
        ));
    }

    #[tokio::test]
    async fn consecutive_reports_are_read_whole_and_in_order() {
        let (mut worker, mut reports) = pair();
        let payload = bytes::Bytes::from(vec![7; 3 << 20]);
        let at = MediaTime::from_ticks(5);
        let unit =
            Report::Unit { rendition: 1, key: true, dts: at, pts: at, payload: payload.clone() };
        let stats = Report::Stats(Stats::default());
        let sent = [unit, stats];
        let writing = async {
            for report in &sent {
                let written = report.write();
                worker.write_all(&written.head).await.unwrap();
                worker.write_all(&written.payload).await.unwrap();
            }
            worker
        };
        let reading = async { [reports.next().await, reports.next().await] };
        let (_worker, read) = tokio::join!(writing, reading);
        assert_eq!(read.map(|report| report.unwrap().unwrap()), sent);
    }

    #[tokio::test]
    async fn a_killed_worker_process_is_reaped_and_its_socket_closes() {
        let (process, mut orders, mut reports, _stderr) =
            start(Path::new("/bin/cat"), &[]).unwrap();
        let unit = Order::Unit {
            media: Media::Video,
            key: false,
            dts: MediaTime::from_ticks(1),
            pts: MediaTime::from_ticks(2),
            mark: None,
            payload: bytes::Bytes::from_static(b"unit"),
        };
        orders.send(&unit).await.unwrap();
        let id = process.id().unwrap();
        // It writes to its standard output, which is not the socket: there is no report, and it
        // waits for more input.
        assert!(timeout(Duration::from_millis(50), reports.next()).await.is_err());
        assert!(process.kill().await.unwrap().code().is_none());
        assert!(!Path::new(&format!("/proc/{id}/stat")).exists());
        assert!(matches!(reports.next().await, Ok(None) | Err(_)));
    }
}
