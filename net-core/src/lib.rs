//! What listeners of every protocol need. No protocol is known here, and no other crate of the workspace.
//!
//! - [`mod@accept`]: the accept loop. [`listener`]: the sockets that it accepts from.
//! - [`limit`]: how many connections may be open, and which idle one is closed for a new one.
//! - [`quota`]: how many there may be of something, in all and for each address.
//! - [`shutdown`]: a flag that is set once and awaited by thousands of connections.
//! - [`gauge`]: counts what is alive. [`config`]: addresses and ranges in the configuration.

#![forbid(unsafe_code)]

pub mod accept;
pub mod config;
pub mod gauge;
pub mod host;
pub mod limit;
pub mod listener;
pub mod quota;
pub mod shutdown;

pub use accept::accept;
pub use gauge::Counted;
pub use host::Host;
pub use limit::{ConnectionLimit, Events, InFlight, Limit, Permit, Usage};
pub use listener::Listener;
pub use quota::{Quota, Share};
pub use shutdown::{Shutdown, TriggerOnDrop};
