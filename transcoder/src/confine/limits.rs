//! The limits of a worker, and the rlimits among them.

use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::error::{Error, kernel};

/// Limits of a worker.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Private writable memory in bytes: heaps, frames, and 8 MiB for each thread's stack, whether
    /// used or not (`RLIMIT_DATA`). Address space would be no measure: 1080p to three rungs takes
    /// 253 MiB of memory, 366 MiB as counted here and 1011 MiB of addresses, most of them libraries
    /// and malloc's reservations. Default 1 GiB. Beyond the limit an allocation fails, which ends
    /// the process or the element.
    pub memory_bytes: u64,
    /// Maximum number of open descriptors; each GStreamer bus and clock uses two. Descriptors that
    /// are already open stay open. Default 256.
    pub open_files: u64,
    /// Maximum number of threads if the process has a separate user, which needs a daemon that runs
    /// as root and no `gpu`. A ladder has some thirty, and a few more for each core on large
    /// machines. Default 512. Otherwise see [`Threads`](super::Threads).
    pub threads: u64,
    /// Minimum niceness, 0 to 19, so that the daemon has precedence. Default 10.
    pub nice: i32,
    /// Whether the machine's graphics devices may be used: `/dev/dri`, `/dev/nvidia*`. Their
    /// vendors' drivers need more system calls, so calls that otherwise end the process (a socket,
    /// a program start) are then refused instead. Default false.
    pub gpu: bool,
    /// Files, or folders with their content, that may be read besides the system's libraries, for
    /// example those of `GST_PLUGIN_PATH`. Missing ones are ignored. Default none.
    pub read: Vec<PathBuf>,
    /// The process id of the parent, from its own [`std::process::id`]. If it has ended before the
    /// kernel is set to end this process with it, [`confine`](super::confine) fails. Default none:
    /// not checked.
    pub parent: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            open_files: 256,
            threads: 512,
            nice: 10,
            gpu: false,
            read: Vec::new(),
            parent: None,
        }
    }
}

/// Sets the limit permanently to `most`, or to its present value if that is lower. Returns it.
pub(super) fn limit(resource: Resource, most: u64, what: &'static str) -> Result<u64, Error> {
    let bound = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
    let both = Rlimit { current: Some(bound), maximum: Some(bound) };
    setrlimit(resource, both).map_err(kernel(what))?;
    Ok(bound)
}
