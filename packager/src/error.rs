//! Errors of the packager's settings, which the operator corrects.

/// Errors of the packager.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of its range.
    #[error("{setting} is {value_ms} ms, must be {least_ms} to {most_ms} ms")]
    OutOfRange {
        /// Its key in the configuration.
        setting: &'static str,
        /// The value in the configuration, in milliseconds.
        value_ms: u128,
        /// The smallest value allowed, in milliseconds.
        least_ms: u64,
        /// The largest value allowed, in milliseconds.
        most_ms: u64,
    },
    /// The memory for a broadcast is out of its range.
    #[error("window_mb is {mb}, must be 16 to 1048576")]
    MemoryOutOfRange {
        /// The value in the configuration, in MiB.
        mb: usize,
    },
}
