//! A worker process and its life: started, started again with growing delays when it ends, ended
//! with the daemon. Its stderr is forwarded to the log, within limits.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::process;

/// Pause before the first restart; it doubles up to [`LONGEST_DELAY`].
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest pause before a restart.
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Run time after which a worker counts as healthy: the next delay is the first again.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// Time from the end of its input until a worker is killed.
const END_LIMIT: Duration = Duration::from_secs(2);
/// Maximum length of a forwarded line.
const MAX_LINE_BYTES: usize = 400;
/// Maximum number of lines forwarded in each [`LINES_SPAN`].
const MAX_LINES: u32 = 20;
/// The time for which [`MAX_LINES`] is counted.
const LINES_SPAN: Duration = Duration::from_secs(10);

/// A process to keep running.
#[derive(Clone)]
pub struct Worker {
    /// Its name in the log.
    pub name: &'static str,
    /// The program, usually the daemon's own.
    pub program: PathBuf,
    /// Its arguments, which every user of the machine can see.
    pub args: Vec<OsString>,
    /// The first line of its standard input, which then stays open: when it closes, the worker must
    /// end. It may be secret.
    pub input: String,
}

impl Worker {
    /// Keeps the worker running until `shutdown`. Its process has ended when this returns.
    pub async fn supervise(self, shutdown: CancellationToken) {
        // Restarts never stop: the cause, for example a missing package, may be repaired meanwhile.
        let mut delay = FIRST_DELAY;
        loop {
            let started = Instant::now();
            match self.run(&shutdown).await {
                Ok(None) => break,
                Ok(Some(status)) => {
                    let retry_s = delay.as_secs();
                    warn!(
                        worker = self.name, %status, retry_s,
                        "worker ended unexpectedly, and is started again: see its messages"
                    );
                }
                Err(err) => {
                    let retry_s = delay.as_secs();
                    warn!(
                        worker = self.name, %err, retry_s,
                        "worker cannot be started: check the program file and the process limit"
                    );
                }
            }
            if started.elapsed() >= WELL_AFTER {
                delay = FIRST_DELAY;
            }
            tokio::select! {
                () = sleep(delay) => {}
                () = shutdown.cancelled() => break,
            }
            delay = (delay * 2).min(LONGEST_DELAY);
        }
    }

    /// Runs the process once. Returns its status, or `None` if it was ended for `shutdown`.
    async fn run(&self, shutdown: &CancellationToken) -> io::Result<Option<ExitStatus>> {
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .envs(process::environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A signal from the terminal is for the daemon only, which then ends the worker itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let mut input = child.stdin.take();
        if let Some(input) = &mut input {
            // A worker that ends at once has closed it; its status has more information.
            let _ = input.write_all(format!("{}\n", self.input).as_bytes()).await;
        }
        info!(worker = self.name, pid = child.id(), "worker started");
        let forwarding = async {
            if let Some(stderr) = child.stderr.take() {
                forward(stderr, self.name).await;
            }
        };
        // Its stderr ends with the process, or before.
        tokio::select! {
            () = forwarding => {}
            () = shutdown.cancelled() => {
                drop(input);
                end(&mut child).await?;
                debug!(worker = self.name, "worker ended");
                return Ok(None);
            }
        }
        tokio::select! {
            // A worker may close its stderr and continue, so its end is awaited separately.
            status = child.wait() => status.map(Some),
            () = shutdown.cancelled() => {
                drop(input);
                end(&mut child).await.map(|()| None)
            }
        }
    }
}

/// Waits for the process to end after its input has closed, then kills it.
async fn end(child: &mut Child) -> io::Result<()> {
    match timeout(END_LIMIT, child.wait()).await {
        Ok(status) => status.map(|_| ()),
        Err(_) => child.kill().await,
    }
}

/// Forwards lines to the log until the stream ends. Long lines are truncated, and excess ones are
/// only counted.
pub(crate) async fn forward(mut stream: impl AsyncRead + Unpin, worker: &'static str) {
    let mut buffer = [0; 1024];
    let mut line = Vec::with_capacity(MAX_LINE_BYTES);
    let mut log = WorkerLog::new(worker);
    loop {
        let read = match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        for &byte in &buffer[..read] {
            if byte != b'\n' {
                // The rest of a long line is read and discarded, so that the worker never blocks on
                // its stderr.
                if line.len() < MAX_LINE_BYTES {
                    line.push(byte);
                }
                continue;
            }
            log.warn(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }
    log.warn(&String::from_utf8_lossy(&line));
}

/// A worker's messages, forwarded to the log within limits.
#[derive(Debug)]
pub(crate) struct WorkerLog {
    /// The worker's name in the log.
    worker: &'static str,
    /// Start of the present span.
    since: Instant,
    /// Lines forwarded in this span.
    taken: u32,
    /// Lines suppressed in this span.
    suppressed: u32,
}

impl WorkerLog {
    pub(crate) fn new(worker: &'static str) -> Self {
        Self { worker, since: Instant::now(), taken: 0, suppressed: 0 }
    }

    /// Forwards a warning.
    pub(crate) fn warn(&mut self, line: &str) {
        if !line.is_empty() && self.may(Instant::now()) {
            warn!(worker = self.worker, line = %plain(line), "worker message");
        }
    }

    /// Forwards a debug message.
    pub(crate) fn debug(&mut self, line: &str) {
        if !line.is_empty() && self.may(Instant::now()) {
            debug!(worker = self.worker, line = %plain(line), "worker message");
        }
    }

    /// Whether another line may be forwarded at `now`; otherwise it is counted.
    fn may(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= LINES_SPAN {
            self.report_suppressed();
            (self.since, self.taken, self.suppressed) = (now, 0, 0);
        }
        let within = self.taken < MAX_LINES;
        if within {
            self.taken += 1;
        } else {
            self.suppressed = self.suppressed.saturating_add(1);
        }
        within
    }

    /// Logs the number of lines that this span suppressed.
    fn report_suppressed(&self) {
        if self.suppressed > 0 {
            warn!(worker = self.worker, lines = self.suppressed, "worker messages suppressed");
        }
    }
}

/// One line of a log without control characters, whatever a worker has written.
fn plain(line: &str) -> String {
    line.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

impl Drop for WorkerLog {
    fn drop(&mut self) {
        self.report_suppressed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Worker {
        Worker {
            name: "test",
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            input: "first line".into(),
        }
    }

    #[tokio::test]
    async fn a_worker_reads_its_first_line_and_ends_with_its_input() {
        let directory =
            std::env::temp_dir().join(format!("streamforge-worker-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (line, end) = (directory.join("line"), directory.join("end"));
        let script = format!(
            "read line; echo \"$line\" > {0}; cat > /dev/null; echo over > {1}",
            line.display(),
            end.display()
        );
        let shutdown = CancellationToken::new();
        let supervised = tokio::spawn(shell(&script).supervise(shutdown.clone()));
        while std::fs::read_to_string(&line).unwrap_or_default().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
        assert!(!end.exists());
        shutdown.cancel();
        supervised.await.unwrap();
        assert_eq!(std::fs::read_to_string(&line).unwrap(), "first line\n");
        assert!(end.exists());
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[tokio::test]
    async fn a_worker_that_ignores_shutdown_is_killed() {
        let shutdown = CancellationToken::new();
        let run = async {
            let status = shell("exec sleep 60").run(&shutdown).await.unwrap();
            assert!(status.is_none());
        };
        let stop = async {
            sleep(Duration::from_millis(50)).await;
            shutdown.cancel();
        };
        timeout(Duration::from_secs(20), async { tokio::join!(run, stop) }).await.unwrap();
    }

    #[tokio::test]
    async fn the_exit_status_of_a_failed_worker_is_returned() {
        let status = shell("exit 3").run(&CancellationToken::new()).await.unwrap();
        assert_eq!(status.and_then(|status| status.code()), Some(3));
    }

    #[tokio::test]
    async fn log_lines_of_a_worker_are_limited_to_20_a_span() {
        let mut log = WorkerLog::new("test");
        let start = Instant::now();
        let passed = (0..1_000).filter(|_| log.may(start)).count();
        assert_eq!(passed, 20);
        assert_eq!(log.suppressed, 980);
        assert!(log.may(start + LINES_SPAN));
    }
}
