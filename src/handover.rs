//! One process of the daemon gives way to the next, and nobody who is connected notices: the old one starts the program anew, hands it the
//! listening sockets, and stays until its last publisher has gone. What only the old one has, the new one fetches from it.
//!
//! - `message`: what the two say to each other. `channel`: the socket between them.
//! - `offer`: the old process' side. `accept`: the new one's. `older`: the old one's API, for the new one's.
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
//! Whoever sees the socket close knows that the other is gone.

mod accept;
mod channel;
mod message;
mod offer;
mod older;

use std::{io, process::ExitStatus};

pub(crate) use accept::Predecessor;
pub(crate) use offer::{Launch, Successor, Word};
pub(crate) use older::Older;

/// The hidden flag of `serve` that says: take over from who is at the other end of standard input.
pub(crate) const FLAG: &str = "--take-over";

/// Why one process does not follow another.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The socket between them.
    #[error("the socket to the other process: {0}")]
    Socket(#[from] io::Error),
    /// What came is no message.
    #[error("the other process sent {0}")]
    Message(#[from] message::Malformed),
    /// A message came that is for another moment.
    #[error("the other process sent {0} out of turn")]
    OutOfTurn(&'static str),
    /// The other end closed.
    #[error("the other process is gone")]
    Gone,
    /// The program cannot be started.
    #[error("{program}: {source}; is it still installed there?")]
    NoProgram { program: String, source: io::Error },
    /// It ended before it was ready.
    #[error("the new process ended before it was ready, {0}; its last words stand above")]
    Ended(ExitStatus),
    /// It is not ready in time.
    #[error("the new process was not ready within {0} s")]
    Late(u64),
}
