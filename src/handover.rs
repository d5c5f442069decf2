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
mod error;
mod message;
mod offer;
mod older;

pub(crate) use accept::Predecessor;
pub(crate) use error::Error;
#[cfg(test)]
pub(crate) use offer::FLAG;
pub(crate) use offer::{Event, Launch, Successor};
pub(crate) use older::Older;
