//! The kernel's information about a process: proc(5). And signals to it.

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Sends a signal by its name, for example `KILL`.
#[track_caller]
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(status.is_ok_and(|status| status.success()), "kill -{name} {pid}");
}

/// Processes whose parent is `pid`, zombies too.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|child| parent(*child) == Some(pid)).collect()
}

/// The parent of an existing process. The name in parentheses is followed by the state and the
/// parent's number.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(1)?.parse().ok()
}

/// The arguments of a process's command line; empty if it has ended.
pub(crate) fn command_line(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The targets of its open file descriptors.
pub(crate) fn descriptors(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs");
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.map(|link| link.to_string_lossy().into_owned()).collect()
}

/// How many threads it has.
pub(crate) fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs").count()
}

/// Its resident memory in KiB.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("KiB")
}

/// Processor time of all its threads; zero if it has ended. The first field of schedstat is in
/// nanoseconds.
pub(crate) fn processor_time(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let spent = threads.filter_map(|thread| {
        let stat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(spent.sum())
}

/// A process with a limited share of the processor: it is stopped whenever it has used its share,
/// and continued a moment later. Dropping this lets it run.
#[derive(Debug)]
pub(crate) struct Throttle {
    end: Arc<AtomicBool>,
    throttler: Option<JoinHandle<()>>,
}

impl Throttle {
    /// Limits it to `share` of its present usage, as measured for a second.
    pub(crate) fn to_share(pid: u32, share: f64) -> Self {
        const SPAN: Duration = Duration::from_secs(1);
        const LOOK: Duration = Duration::from_millis(5);
        let before = processor_time(pid);
        thread::sleep(SPAN);
        let usage = processor_time(pid).saturating_sub(before).as_secs_f64() / SPAN.as_secs_f64();
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let throttler = thread::spawn(move || {
            let (begun, before) = (Instant::now(), processor_time(pid));
            let mut stopped = false;
            while !ended.load(Ordering::Relaxed) {
                // In total, so that an excess of one turn is deducted from the next.
                let allowed = begun.elapsed().mul_f64(share * usage);
                let over = processor_time(pid).saturating_sub(before) >= allowed;
                if over != stopped {
                    signal(pid, if over { "STOP" } else { "CONT" });
                    stopped = over;
                }
                thread::sleep(LOOK);
            }
            signal(pid, "CONT");
        });
        Self { end, throttler: Some(throttler) }
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(throttler) = self.throttler.take() {
            let _ = throttler.join();
        }
    }
}
