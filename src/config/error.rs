//! What can be wrong with a configuration, in one line that says where.

use std::{io, path::PathBuf};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error("{}: {source}; --config FILE names the configuration", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    /// A line of the file is not TOML, or names or sets what it must not.
    #[error("{}:{line}: {key}{what}", file.display())]
    Line {
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The key of that line and a colon, or nothing.
        key: String,
        what: String,
    },
    /// An environment variable is no setting, or not one of its values.
    #[error("environment variable {name}: {what}")]
    Variable { name: String, what: String },
    /// Values that do not go together.
    #[error("{0}")]
    Value(String),
}
