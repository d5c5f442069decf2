//! Why a process is not confined.

use std::io;

/// Why the process is not confined. It must not continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Landlock confines only the calling thread and the threads that it starts, so there must be
    /// no other.
    #[error("{0} threads are running; a process can be confined only while it has one")]
    Threads(usize),
    /// [`Limits::parent`](super::Limits::parent) is not, or no longer, the parent.
    #[error("the parent process {0} has ended")]
    Orphaned(u32),
    /// The kernel refuses an operation that every kernel supports.
    #[error("{what}: {source}")]
    Kernel {
        /// The operation.
        what: &'static str,
        /// The error.
        source: io::Error,
    },
    /// The kernel has Landlock and refuses it.
    #[error("Landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    /// The kernel has seccomp and refuses it.
    #[error("seccomp: {0}")]
    Seccomp(#[from] seccompiler::Error),
    /// Found by [`trial`](super::trial): the kernel accepted a restriction and does not enforce it.
    #[error("the confinement is not effective: {0}")]
    NotHeld(&'static str),
}

/// Adds the operation to an error of the kernel.
pub(super) fn kernel<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> Error {
    move |err| Error::Kernel { what, source: err.into() }
}
