//! The bus: the events of the platform in NATS JetStream, and replicas that are made of them.
//!
//! **One log, one stream.** The stream holds the log and nothing else, so that the sequence of a
//! message is the sequence of its event. Messages are published with `Nats-Expected-Last-Sequence`,
//! the sequence of the event before, and with the event's identifier as `Nats-Msg-Id`. So the
//! server itself refuses a message that is out of order, and one that is there already.
//!
//! **The stream is the cursor.** The writer keeps no progress of its own. With each connection it
//! reads the last sequence of the stream, compares that message's identifier with the event of the
//! same sequence in its log, and goes on behind it:
//!
//! - A crash between an acknowledgement and a cursor cannot happen, because there is no cursor.
//! - A message whose acknowledgement was lost is in the stream, or it is not. A copy of it that is
//!   still on its way when the writer looks at the stream is refused by the expected sequence, or
//!   the writer's own message is; then the writer looks again. The identifier is the second line:
//!   the server drops a message that it has, for as long as the duplicate window.
//! - A stream that is new, or has lost its end, is filled again from the log.
//! - Another writer with another log finds an event that is not its own and stops, until an
//!   operator acts. If both were equal until now, one of the two next messages is refused, and its
//!   writer finds the difference with the next look. So a split brain is fenced.
//!
//! The expected sequence is that of the stream and not of the subject, because the order of all
//! events matters, not of those of one kind.
//!
//! **Keys of persons** go by a key-value bucket and not by the stream, because they must be
//! deletable (`keys`). Events carry sealed personal data alone, as the log does.
//!
//! - `address`, `names`, `settings`: the settings. `subject`, `persons`: the subject of an event,
//!   and the persons whose data it carries. `link`: the connection. `stream`: the stream. `keys`:
//!   the bucket.
//! - `publisher`: the writer's side. `consumer`: the replica's side. `service`: the part of the
//!   daemon that runs one of them.
//! - `status`: metrics and health.
//!
//! Without the cargo feature `nats` the settings alone are known.

mod address;
mod names;

#[cfg(feature = "nats")]
mod consumer;
#[cfg(feature = "nats")]
mod error;
#[cfg(feature = "nats")]
mod keys;
#[cfg(feature = "nats")]
mod link;
#[cfg(feature = "nats")]
mod persons;
#[cfg(feature = "nats")]
mod publisher;
#[cfg(feature = "nats")]
mod service;
#[cfg(feature = "nats")]
mod settings;
#[cfg(feature = "nats")]
mod shared;
#[cfg(feature = "nats")]
mod status;
#[cfg(feature = "nats")]
mod stream;
#[cfg(feature = "nats")]
mod subject;

pub use address::{Address, AddressError, Token};
pub use names::{NameError, StreamName, SubjectPrefix};

#[cfg(feature = "nats")]
pub use {error::Error, service::Bus, settings::Settings, status::BusHealth};
