//! Errors of a configuration, in one line with the position.

use std::{io, path::PathBuf};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error("{}: {source}; --config FILE names the configuration", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    /// A line of the file is not TOML, or has an unknown key or an invalid value.
    #[error("{}:{line}: {key}{what}", file.display())]
    Line {
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The key of that line and a colon, or empty.
        key: String,
        what: String,
    },
    /// An environment variable has an unknown name or an invalid value.
    #[error("environment variable {name}: {what}")]
    Variable { name: String, what: String },
    /// Values that conflict.
    #[error("{0}")]
    Value(String),
}
