//! One process of the daemon hands over to the next, without an interruption for clients: the old
//! one starts the program again, hands it the listening sockets, and stays until its last publisher
//! has disconnected. The new one fetches the old one's broadcasts from it.
//!
//! - `message`: the messages between the two. `channel`: the socket between them.
//! - `offer`: the old process' side. `accept`: the new one's. `older`: the old one's API, for the
//!   new one's.
//!
//! ```text
//! old                                     new
//!  |-- starts, with a socket as stdin ----->|
//!  |-- Socket (with a descriptor), each --->|
//!  |-- Start: where to fetch from --------->|  starts all parts on these sockets
//!  |<------------------------------ Ready --|  (or it ends: the old one goes on)
//!  |   reads no more datagrams              |
//!  |-- Main: be the main process ---------->|  reads datagrams
//!  |   accepts no more, drains              |  serves
//!  |<----------------------------- Reload --|  (at each SIGHUP)
//!  |<------------------------------- Stop --|  (if the whole service stops)
//! ```
//! A process that sees the socket close knows that the other one has ended.

mod accept;
mod channel;
mod message;
mod offer;
mod older;

use std::{io, process::ExitStatus};

pub(crate) use accept::Predecessor;
pub(crate) use offer::{Launch, Successor, Word};
pub(crate) use older::Older;

/// The hidden flag of `serve`: take over from the process at the other end of standard input.
pub(crate) const FLAG: &str = "--take-over";

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
