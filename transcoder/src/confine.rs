//! Confines a worker before it reads untrusted media: limits of resources (rlimits, niceness), of
//! the files that it may open (`files`, Landlock), of privileges (`privileges`: none) and of system
//! calls (`syscalls`, seccomp). For a separate process, because none of it can be undone.
//!
//! Each layer is effective without the others: a compromised decoder can neither reach the network,
//! start a program, write a file, read the daemon's files, reach another process by a socket or a
//! signal, trace one, nor use more memory and threads than its limits; and it ends when the daemon
//! ends.

mod error;
mod files;
mod limits;
mod privileges;
mod syscalls;

use std::{
    fmt, fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    process,
};

use rustix::process::{
    DumpableBehavior, Resource, Signal, getppid, getpriority_process, set_dumpable_behavior,
    set_parent_process_death_signal, setpriority_process,
};

pub use error::Error;
use error::kernel;
pub use files::Landlock;
pub use limits::Limits;
use limits::limit;
pub use privileges::Threads;
pub use syscalls::Seccomp;

/// The restrictions in force for this process. `Display` prints them in one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confinement {
    /// Files, TCP ports, signals.
    pub landlock: Landlock,
    /// System calls.
    pub seccomp: Seccomp,
    /// The limit of threads.
    pub threads: Threads,
    /// As in [`Limits::memory_bytes`], or less if the process started with less.
    pub memory_bytes: u64,
    /// Niceness, -20 to 19.
    pub nice: i32,
}

impl Confinement {
    /// Whether the kernel supports and enforces all requested restrictions.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self.landlock, Landlock::Enforced { .. }) && self.seccomp == Seccomp::Enforced
    }
}

impl Confinement {
    /// A limit that is not in force for this process but would be elsewhere, as a text for the
    /// operator.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        (self.threads == Threads::NotLimited).then_some(
            "the threads of workers are not limited, because they stay root: set a limit of the \
             container (--pids-limit) or service (TasksMax=), or run the daemon as an ordinary \
             user",
        )
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.memory_bytes >> 20;
        write!(
            f,
            "{}; {}; {}, {mib} MiB of memory, nice {}",
            self.seccomp, self.landlock, self.threads, self.nice
        )
    }
}

/// Confines the calling process for the rest of its life. Returns the restrictions in force.
///
/// Call it after GStreamer is initialised, since that may start its plugin scanner, and before any
/// other thread runs. Plugins can be loaded afterwards. A kernel without Landlock or seccomp makes
/// it weaker, which [`Confinement`] shows; a kernel that has them and refuses makes it fail.
///
/// The process dies when the *thread* that started it ends (`PR_SET_PDEATHSIG`): the daemon must
/// start it from a thread that lives as long as the daemon.
///
/// # Errors
/// The first failed operation; restrictions that were applied before it stay in force.
///
/// Source: prctl(2), setrlimit(2), landlock(7), seccomp(2).
pub fn confine(limits: &Limits) -> Result<Confinement, Error> {
    let threads = fs::read_dir("/proc/self/task").map_err(kernel("threads"))?.count();
    if threads != 1 {
        return Err(Error::Threads(threads));
    }
    let user_threads = privileges::leave_root(limits)?;
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(kernel("death with the parent"))?;
    if let Some(parent) = limits.parent
        && getppid().map(|pid| pid.as_raw_pid().cast_unsigned()) != Some(parent)
    {
        return Err(Error::Orphaned(parent));
    }
    let nice = lower_priority(limits.nice)?;
    let memory_bytes = limit(Resource::Data, limits.memory_bytes, "memory limit")?;
    limit(Resource::Nofile, limits.open_files, "limit of open files")?;
    limit(Resource::Core, 0, "no core dumps")?;
    // No limit of file sizes with graphics drivers, because they share memory with their devices
    // through files that exist only there and count too. No limit either if stdout or stderr is a
    // file, because a write would end the process (SIGXFSZ).
    if !limits.gpu && !speaks_to_a_file() {
        limit(Resource::Fsize, 0, "no files written")?;
    }
    let landlock = files::restrict(limits)?;
    // Not earlier, because it makes root the owner of the files under /proc/self.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(kernel("not to be traced or dumped"))?;
    privileges::drop_capabilities()?;
    let seccomp = syscalls::restrict(limits.gpu)?;
    Ok(Confinement { landlock, seccomp, threads: user_threads, memory_bytes, nice })
}

/// Confines the calling process and checks the effect. For a separate process that then prints the
/// result (`Display`) and ends. Takes a few milliseconds; needs no GStreamer.
///
/// # Errors
/// As [`confine`], and [`Error::NotHeld`].
pub fn trial(limits: &Limits) -> Result<Confinement, Error> {
    const WORLD_READABLE: &str = "/etc/passwd";
    let readable = fs::read(WORLD_READABLE).is_ok();
    let confinement = confine(limits)?;
    // Each layer is tested by an operation that it must refuse. The file is compared with its state
    // before, because a machine may not have it.
    if readable
        && confinement.landlock != Landlock::NotSupported
        && fs::read(WORLD_READABLE).is_ok()
    {
        return Err(Error::NotHeld("files can be read that are no library"));
    }
    if confinement.seccomp == Seccomp::Enforced && !status_has("Seccomp:", "2") {
        return Err(Error::NotHeld("no filter of system calls is in place"));
    }
    let sets = ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"];
    if !sets.iter().all(|set| status_has(set, "0000000000000000")) {
        return Err(Error::NotHeld("it has capabilities"));
    }
    if fs::File::create(Path::new("/tmp").join(format!("confined-{}", process::id()))).is_ok() {
        return Err(Error::NotHeld("files can be written"));
    }
    if usize::try_from(confinement.memory_bytes)
        .is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok())
    {
        return Err(Error::NotHeld("memory beyond the limit can be had"));
    }
    Ok(confinement)
}

fn status_has(key: &str, value: &str) -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.trim() == value))
    })
}

/// Whether standard output or error is a file, not a pipe or a terminal.
fn speaks_to_a_file() -> bool {
    let is_file = |to: BorrowedFd<'_>| {
        let to = to.try_clone_to_owned().map(fs::File::from);
        to.and_then(|to| to.metadata()).is_ok_and(|kind| kind.is_file())
    };
    is_file(io::stdout().as_fd()) || is_file(io::stderr().as_fd())
}

/// Lowers the priority; threads started from now on inherit it.
fn lower_priority(nice: i32) -> Result<i32, Error> {
    let now = getpriority_process(None).map_err(kernel("niceness"))?;
    if now >= nice {
        return Ok(now);
    }
    setpriority_process(None, nice).map_err(kernel("niceness"))?;
    Ok(nice)
}
