//! Errors of a hand-over.

use std::{io, process::ExitStatus};

use super::message;

/// Why a hand-over fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The socket between the processes failed.
    #[error("the socket to the other process: {0}")]
    Socket(#[from] io::Error),
    /// A packet is not a valid message.
    #[error("the other process sent {0}")]
    Message(#[from] message::Malformed),
    /// A message was not expected in this state.
    #[error("the other process sent {0} unexpectedly")]
    OutOfTurn(&'static str),
    /// The other end closed.
    #[error("the other process has ended")]
    Gone,
    /// The program cannot be started.
    #[error("{program}: {source}; is it still installed there?")]
    NoProgram { program: String, source: io::Error },
    /// It ended before it was ready.
    #[error("the new process ended before it was ready, {0}; see its messages above")]
    Ended(ExitStatus),
    /// It was not ready in time.
    #[error("the new process was not ready within {0} s")]
    Late(u64),
}
