//! What can go wrong in packaging. All of it is ours or the operator's.

/// Errors of the packager.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of its range.
    #[error("{setting} is {value_ms} ms, must be {least_ms} to {most_ms} ms")]
    OutOfRange {
        /// Its name.
        setting: &'static str,
        /// What was given.
        value_ms: u128,
        /// The least.
        least_ms: u64,
        /// The most.
        most_ms: u64,
    },
    /// The memory for a broadcast is out of its range.
    #[error("window_mb is {mb}, must be 16 to 1048576")]
    MemoryOutOfRange {
        /// What was given, in MiB.
        mb: usize,
    },
}
