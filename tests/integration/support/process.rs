//! Child processes: each ends with its owner, and its stderr can be read.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A running child and the lines of its stderr so far. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    lines: Arc<(Mutex<Vec<String>>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    pub(crate) fn spawn<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(program);
        command.args(args);
        Self::run(program, command)
    }

    pub(crate) fn run(name: &str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|err| {
                panic!("{name} does not start: {err}; `make test` installs what is needed")
            });
        let lines = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let stderr = child.stderr.take().expect("stderr is piped");
        let shared = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let (lines, came) = &*shared;
                lines
                    .lock()
                    .expect("nobody panics while holding it")
                    .push(String::from_utf8_lossy(&line).into_owned());
                came.notify_all();
            }
        });
        Self { name: name.to_owned(), child, lines, reader: Some(reader) }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.0.lock().expect("nobody panics while holding it").clone()
    }

    pub(crate) fn stderr(&self) -> String {
        self.lines().join("\n")
    }

    /// Waits until `find` returns a value for the lines so far.
    #[track_caller]
    pub(crate) fn wait_for_lines<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut find: impl FnMut(&[String]) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + limit;
        loop {
            {
                let (lines, came) = &*self.lines;
                let lines = lines.lock().expect("nobody panics while holding it");
                if let Some(found) = find(&lines) {
                    return found;
                }
                drop(
                    came.wait_timeout(lines, Duration::from_millis(200))
                        .expect("nobody panics while holding it"),
                );
            }
            let ended = self.child.try_wait().expect("a child can be asked").is_some();
            assert!(
                Instant::now() < deadline && !(ended && self.reader_is_done()),
                "{}: no {what}; stderr:\n{}",
                self.name,
                self.stderr()
            );
        }
    }

    fn reader_is_done(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The exit status once it has ended by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                if let Some(reader) = self.reader.take() {
                    reader.join().expect("the reader of stderr does not panic");
                }
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} still runs after {limit:?}; stderr:\n{}",
                self.name,
                self.stderr()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -TERM {}", self.id());
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
