//! Why the index cannot be read or written.

use std::{io, path::Path};

use control_domain::Fault;
use tantivy::{TantivyError, directory::error::OpenReadError};
use tokio::task::JoinError;

/// A failure of the search.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The index failed.
    #[error("the index of the search failed: {0}")]
    Index(#[from] TantivyError),
    /// A file of the index has other bytes than were written.
    #[error("files of the index are damaged: {0}")]
    Damaged(String),
    /// The folder of the index cannot be used.
    #[error("{path}: {error}")]
    Folder {
        /// The folder.
        path: Box<Path>,
        /// The cause.
        error: io::Error,
    },
    /// The tables or the log cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A task failed by a fault of the daemon.
    #[error("a task of the search failed: {0}")]
    Task(#[from] JoinError),
    /// The daemon stops, or hands over.
    #[error("the search stops")]
    Stopped,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Index(error.into())
    }
}

impl Error {
    /// Whether the index has to be built again.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Index(error) => match error {
                TantivyError::DataCorruption(_)
                | TantivyError::IncompatibleIndex(_)
                | TantivyError::SchemaError(_)
                | TantivyError::FieldNotFound(_)
                | TantivyError::OpenReadError(
                    OpenReadError::FileDoesNotExist(_) | OpenReadError::IncompatibleIndex(_),
                ) => true,
                TantivyError::IoError(error) => is_damage(error),
                TantivyError::OpenReadError(OpenReadError::IoError { io_error, .. }) => {
                    is_damage(io_error)
                }
                _ => false,
            },
            Self::Folder { .. } | Self::Fault(_) | Self::Task(_) | Self::Stopped => false,
        }
    }
}

/// Whether an error is one of the contents, and not of the disk.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}
