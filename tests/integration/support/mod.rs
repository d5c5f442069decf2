//! Shared by the tests of the whole daemon: the daemon itself, media to publish, clients that
//! publish and clients that read. Nothing here uses the daemon's code: it is controlled only
//! through its command line, its sockets and its logs.

pub(crate) mod cache;
pub(crate) mod daemon;
pub(crate) mod dash;
pub(crate) mod ffprobe;
pub(crate) mod follow;
pub(crate) mod fragment;
pub(crate) mod http;
pub(crate) mod live;
pub(crate) mod machine;
pub(crate) mod media;
pub(crate) mod nats;
pub(crate) mod operator;
pub(crate) mod players;
pub(crate) mod playlist;
pub(crate) mod proc;
pub(crate) mod process;
pub(crate) mod publisher;
pub(crate) mod push;
pub(crate) mod rtmp;
pub(crate) mod tls;
pub(crate) mod token;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// The directory of one test: removed when the test passes, kept for inspection when it fails.
#[derive(Debug)]
pub(crate) struct Workdir(PathBuf);

impl Workdir {
    pub(crate) fn new(what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("{what}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a directory under target/");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Calls `probe` ten times a second until it returns a value.
///
/// # Panics
/// If there is none after `limit`: `what` did not happen.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < deadline, "no {what} within {limit:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Milliseconds of an ISO 8601 time with a full date, as `date` reads it.
#[track_caller]
pub(crate) fn unix_ms(time: &str) -> i64 {
    let output = Command::new("date").args(["-d", time, "+%s%3N"]).output().expect("date");
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("no time: {time}"))
}
