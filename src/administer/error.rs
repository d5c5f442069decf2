//! Errors of the commands.

use std::path::PathBuf;

use control_api::store::{ArchiveError, OpenError};

use crate::{config, control_socket::ClientError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The daemon has no response, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The command's threads cannot be started.
    #[error("no threads to run on: {0}")]
    Runtime(#[source] std::io::Error),
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database cannot be copied or restored.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The database cannot be read or changed.
    #[error("{0}")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The tables differ from the log.
    #[error("the database is not sound: run `streamforge db rebuild`, then verify again")]
    NotSound,
    /// The command needs a daemon that does not run.
    #[error("a daemon runs with this data_dir: stop it first")]
    DaemonRuns,
    /// The system has no random numbers.
    #[error("the system returned no random numbers")]
    Random,
    /// A folder has no absolute path.
    #[error("{}: {source}", path.display())]
    Path {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file of fixtures is not valid.
    #[error("{}: {}: {detail}", file.display(), place(pointer))]
    Fixtures {
        /// The file.
        file: PathBuf,
        /// The entry at fault, as a JSON Pointer.
        pointer: String,
        /// The fault.
        detail: String,
    },
    /// No thing has this name.
    #[error("{place} has no {thing} {name}")]
    Unknown {
        /// The kind of thing.
        thing: &'static str,
        /// The name that was given.
        name: String,
        /// The thing in which it was looked for.
        place: String,
    },
}

/// A JSON Pointer for people.
fn place(pointer: &str) -> &str {
    if pointer.is_empty() { "the file" } else { pointer }
}
