//! Sources to feed a worker, and the worker's process as the daemon sees it.

pub(crate) mod process;
pub(crate) mod sound;
pub(crate) mod source;
