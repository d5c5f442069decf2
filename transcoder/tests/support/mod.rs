//! Sources for a worker, and the worker's process from the daemon's side.

pub(crate) mod process;
pub(crate) mod sound;
pub(crate) mod source;
