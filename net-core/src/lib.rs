//! The base of listeners of every protocol. It has no code for a protocol, and imports no other
//! crate of the workspace.
//!
//! - [`mod@accept`]: the accept loop. [`listener`]: the sockets that it accepts from.
//! - [`limit`]: limits of open connections, and the choice of an idle one to close for a new one.
//! - [`quota`]: limits of a number, in total and for each address. `notice`: limits of log lines.
//! - [`shutdown`]: a flag that is set once and awaited by thousands of connections.
//! - [`dormant`]: a future that is polled only after it was woken.
//! - [`rope`]: bytes in pieces, which are never joined.
//! - `traces`: the target of spans that are exported. [`network`]: networks of addresses.
//! - [`gauge`]: counts live objects. [`config`]: addresses and ranges in the configuration.

#![forbid(unsafe_code)]

pub mod accept;
pub mod config;
pub mod dormant;
pub mod gauge;
pub mod host;
pub mod limit;
pub mod listener;
pub mod network;
mod notice;
pub mod quota;
pub mod rope;
pub mod shutdown;
mod traces;

pub use accept::accept;
pub use dormant::Dormant;
pub use gauge::Counted;
pub use host::Host;
pub use limit::{ConnectionLimit, Events, InFlight, Limit, Permit, Usage};
pub use listener::Listener;
pub use network::{Network, NotANetwork};
pub use quota::{Quota, Share};
pub use rope::Rope;
pub use shutdown::{Shutdown, TriggerOnDrop};
pub use traces::TRACES;
