//! A worker process and its life: started, started again with growing delays when it ends, ended with the daemon. What it writes to stderr
//! is passed on to the log, within bounds.

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

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// A worker that ran this long was well: the next delay is the first again.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// From the end of its input until a worker is killed.
const END_LIMIT: Duration = Duration::from_secs(2);
/// What is kept of a line.
const MAX_LINE_BYTES: usize = 400;
/// Lines passed on in each [`LINES_SPAN`].
const MAX_LINES: u32 = 20;
const LINES_SPAN: Duration = Duration::from_secs(10);

/// A process to keep running.
#[derive(Clone)]
pub struct Worker {
    /// What it is called in the log.
    pub name: &'static str,
    /// The program: as a rule the daemon's own.
    pub program: PathBuf,
    /// Its arguments. They can be seen by anyone on the machine.
    pub args: Vec<OsString>,
    /// The first line of its standard input, which then stays open: when it ends, the worker must end. It may be secret.
    pub input: String,
}

impl Worker {
    /// Keeps the worker running until `shutdown`; returns when its process is gone.
    pub async fn supervise(self, shutdown: CancellationToken) {
        let mut delay = FIRST_DELAY;
        loop {
            let started = Instant::now();
            match self.run(&shutdown).await {
                Ok(None) => break,
                Ok(Some(status)) => warn!(worker = self.name, %status, retry_s = delay.as_secs(), "worker ended"),
                Err(err) => warn!(worker = self.name, %err, retry_s = delay.as_secs(), "worker does not start"),
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

    /// One life of the process: its status, or `None` when it was ended for `shutdown`.
    async fn run(&self, shutdown: &CancellationToken) -> io::Result<Option<ExitStatus>> {
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .envs(process::environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A signal from the terminal is the daemon's, which then ends the worker in its turn.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let mut input = child.stdin.take();
        if let Some(input) = &mut input {
            // A worker that ends at once has closed it; its status says more.
            let _ = input.write_all(format!("{}\n", self.input).as_bytes()).await;
        }
        info!(worker = self.name, pid = child.id(), "worker started");
        let forwarding = async {
            if let Some(stderr) = child.stderr.take() {
                forward(stderr, self.name).await;
            }
        };
        // Its stderr ends with it, or before.
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
            status = child.wait() => status.map(Some),
            () = shutdown.cancelled() => {
                drop(input);
                end(&mut child).await.map(|()| None)
            }
        }
    }
}

async fn end(child: &mut Child) -> io::Result<()> {
    match timeout(END_LIMIT, child.wait()).await {
        Ok(status) => status.map(|_| ()),
        Err(_) => child.kill().await,
    }
}

/// Passes lines on to the log until the stream ends: long ones cut, too many counted instead.
pub(crate) async fn forward(mut stream: impl AsyncRead + Unpin, worker: &'static str) {
    let mut buffer = [0; 1024];
    let mut line = Vec::with_capacity(MAX_LINE_BYTES);
    let mut talk = Talk::new(worker);
    loop {
        let read = match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        for &byte in &buffer[..read] {
            if byte != b'\n' {
                if line.len() < MAX_LINE_BYTES {
                    line.push(byte);
                }
                continue;
            }
            talk.warn(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }
    talk.warn(&String::from_utf8_lossy(&line));
}

/// What a worker says, passed on to the log: as much as may be.
#[derive(Debug)]
pub(crate) struct Talk {
    worker: &'static str,
    since: Instant,
    taken: u32,
    left_out: u32,
}

impl Talk {
    pub(crate) fn new(worker: &'static str) -> Self {
        Self {
            worker,
            since: Instant::now(),
            taken: 0,
            left_out: 0,
        }
    }

    /// Something is degraded.
    pub(crate) fn warn(&mut self, line: &str) {
        if !line.is_empty() && self.may(Instant::now()) {
            warn!(worker = self.worker, line = %plain(line), "worker says");
        }
    }

    /// For the curious.
    pub(crate) fn debug(&mut self, line: &str) {
        if !line.is_empty() && self.may(Instant::now()) {
            debug!(worker = self.worker, line = %plain(line), "worker says");
        }
    }

    fn may(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= LINES_SPAN {
            self.tell();
            (self.since, self.taken, self.left_out) = (now, 0, 0);
        }
        let within = self.taken < MAX_LINES;
        if within {
            self.taken += 1;
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
        within
    }

    fn tell(&self) {
        if self.left_out > 0 {
            warn!(
                worker = self.worker,
                lines = self.left_out,
                "worker said more, left out"
            );
        }
    }
}

/// One line of a log, whatever a worker has made of it.
fn plain(line: &str) -> String {
    line.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.tell();
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
    async fn a_worker_reads_its_line_and_ends_when_its_input_does() {
        let directory = std::env::temp_dir().join(format!("streamforge-worker-{}", std::process::id()));
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
    async fn a_worker_that_does_not_listen_is_killed() {
        let shutdown = CancellationToken::new();
        let run = async {
            let status = shell("exec sleep 60").run(&shutdown).await.unwrap();
            assert!(status.is_none());
        };
        let stop = async {
            sleep(Duration::from_millis(50)).await;
            shutdown.cancel();
        };
        timeout(Duration::from_secs(20), async { tokio::join!(run, stop) })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn the_status_of_a_worker_that_failed_is_known() {
        let status = shell("exit 3").run(&CancellationToken::new()).await.unwrap();
        assert_eq!(status.and_then(|status| status.code()), Some(3));
    }

    #[tokio::test]
    async fn a_talkative_worker_is_cut_short() {
        let mut talk = Talk::new("test");
        let start = Instant::now();
        let passed = (0..1_000).filter(|_| talk.may(start)).count();
        assert_eq!(passed, 20);
        assert_eq!(talk.left_out, 980);
        assert!(talk.may(start + LINES_SPAN));
    }
}
