//! The writing thread of the access log: its queue, its file, and its behaviour when the disk is
//! full.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tracing::{info, warn};

use super::line::{Format, Record};

/// Maximum number of queued lines: a second's at 4096 responses a second. Each takes up to 4 KiB,
/// and usually 300 bytes.
const QUEUE: usize = 4_096;
/// Number of bytes joined for one write while more lines wait.
const GATHERED: usize = 64 << 10;
/// Maximum wait for queued lines at the end.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// The queue of the writing thread, and its end: dropping it waits for the thread.
pub(super) struct Writer {
    /// Present until the writer is dropped.
    queue: Option<SyncSender<Message>>,
    /// Whether the file must be reopened; set even if the queue has no room for a message.
    reopen: Arc<AtomicBool>,
    /// Counts the lines that were dropped.
    unlogged: Counter,
    /// Closed when the thread has ended.
    ended: Mutex<Receiver<()>>,
}

/// A message to the writing thread.
enum Message {
    /// A line to write.
    Line(Box<Record>),
    /// Check the flags.
    Wake,
}

impl Writer {
    /// Opens `path`, or stdout, and starts the thread.
    ///
    /// # Errors
    /// The file cannot be opened or created, or the thread cannot be started.
    pub(super) fn start(
        path: Option<PathBuf>,
        format: Format,
        unlogged: Counter,
    ) -> io::Result<Self> {
        // The first failure is the caller's: without a file there is no thread.
        let output = match &path {
            Some(path) => Output::File(open(path)?),
            None => Output::Stdout,
        };
        let (queue, lines) = sync_channel(QUEUE);
        let (alive, ended) = sync_channel(1);
        let reopen = Arc::new(AtomicBool::new(false));
        let thread = Thread {
            path,
            output,
            format,
            reopen: Arc::clone(&reopen),
            unlogged: unlogged.clone(),
            torn: false,
            failing: false,
        };
        thread::Builder::new().name("access-log".into()).spawn(move || {
            thread.run(&lines);
            drop(alive);
        })?;
        Ok(Self { queue: Some(queue), reopen, unlogged, ended: ended.into() })
    }

    /// Queues a line, or counts it as dropped.
    pub(super) fn write(&self, record: Box<Record>) {
        // Never waits: a response must not be delayed by the disk.
        let queued =
            self.queue.as_ref().is_some_and(|queue| queue.try_send(Message::Line(record)).is_ok());
        if !queued {
            self.unlogged.inc();
        }
    }

    /// Asks the thread to reopen the file. Returns at once.
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        if let Some(queue) = &self.queue {
            // If the queue is full, the thread has lines to write, and checks the flag before the
            // next batch.
            let _ = queue.try_send(Message::Wake);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The thread ends when the queue is empty and closed. Its last lines are awaited, because a
        // stop of the daemon would otherwise lose them.
        self.queue = None;
        let ended = self.ended.get_mut().map(|ended| ended.recv_timeout(LAST_WAIT));
        if matches!(ended, Ok(Err(RecvTimeoutError::Timeout))) {
            warn!("the last lines of the access log were not written in time");
        }
    }
}

/// The state of the writing thread.
struct Thread {
    path: Option<PathBuf>,
    output: Output,
    format: Format,
    reopen: Arc<AtomicBool>,
    unlogged: Counter,
    /// Whether a write has failed, possibly in the middle of a line.
    torn: bool,
    /// Whether the last write failed.
    failing: bool,
}

/// The destination of lines.
enum Output {
    File(File),
    Stdout,
}

impl Thread {
    /// Writes lines until the queue is closed and empty.
    fn run(mut self, lines: &Receiver<Message>) {
        let mut text = String::new();
        while let Ok(first) = lines.recv() {
            self.look();
            // All queued lines up to `GATHERED` bytes become one write: one system call for many
            // responses.
            let (mut next, mut count) = (Some(first), 0);
            while let Some(message) = next {
                if let Message::Line(record) = message {
                    record.write(self.format, &mut text);
                    count += 1;
                }
                next = (text.len() < GATHERED).then(|| lines.try_recv().ok()).flatten();
            }
            self.write(&text, count);
            text.clear();
        }
    }

    /// Reopens the file if that was requested.
    fn look(&mut self) {
        let Some(path) = self.path.as_ref().filter(|_| self.reopen.swap(false, Ordering::AcqRel))
        else {
            return;
        };
        // On success the state of the old file does not matter any more: the new one begins with a
        // whole line.
        match open(path) {
            Ok(file) => {
                (self.output, self.torn) = (Output::File(file), false);
                info!(path = %path.display(), "access log reopened");
            }
            Err(err) => {
                let path = path.display();
                warn!(%path, %err, "access log not reopened, writing continues to the old file");
            }
        }
    }

    /// Writes `count` lines, or counts them as dropped. A full disk costs lines, and never delays a
    /// response.
    fn write(&mut self, text: &str, count: u64) {
        if text.is_empty() {
            return;
        }
        let output: &mut dyn Write = match &mut self.output {
            Output::File(file) => file,
            Output::Stdout => &mut io::stdout(),
        };
        // The failed write may have ended within a line, so the next line starts on its own.
        let end: &[u8] = if self.torn { b"\n" } else { b"" };
        let written = output
            .write_all(end)
            .and_then(|()| output.write_all(text.as_bytes()))
            .and_then(|()| output.flush());
        self.torn = written.is_err();
        match written {
            Ok(()) => self.failing = false,
            Err(err) => {
                self.unlogged.inc_by(count);
                // Logged once for each period of failures.
                if !self.failing {
                    warn!(%err, "the access log cannot be written");
                }
                self.failing = true;
            }
        }
    }
}

/// Opens the file for appending. Its mode hides it from other users, because addresses of viewers
/// are personal data.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;

    #[test]
    fn a_record_after_a_torn_line_begins_on_a_new_line() {
        let file = env::temp_dir().join(format!("streamforge-access-log-torn-{}", process::id()));
        let mut thread = Thread {
            path: None,
            output: Output::File(open(Path::new("/dev/full")).unwrap()),
            format: Format::Combined,
            reopen: Arc::default(),
            unlogged: Counter::default(),
            torn: false,
            failing: false,
        };
        thread.write("one\n", 1);
        thread.output = Output::File(open(&file).unwrap());
        thread.write("two\n", 1);
        thread.write("three\n", 1);
        assert_eq!(fs::read_to_string(&file).unwrap(), "\ntwo\nthree\n");
        assert_eq!(thread.unlogged.get(), 1);
        let _ = fs::remove_file(&file);
    }
}
