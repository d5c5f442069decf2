//! The platform's rules, without I/O: no socket, no file, no clock and no random number.
//!
//! A [`Command`] is decided by a pure function against the current tables and yields events: facts
//! in the past tense that are kept for ever. Each event is folded into read tables, in the same
//! transaction. Queries read tables only. The crate `control-api` owns the database, the thread
//! that writes, and the HTTP API.
//!
//! A feature is one folder below [`features`], which declares its events, commands, tables and
//! permissions; `features.rs` lists it.

#![forbid(unsafe_code)]

pub mod actor;
pub mod audience;
pub mod command;
pub mod draft;
pub mod event;
pub mod export;
pub mod feature;
pub mod features;
pub mod id;
pub mod language;
pub mod page;
pub mod password;
pub mod patch;
pub mod permission;
pub mod refusal;
pub mod rows;
#[cfg(any(test, feature = "testing"))]
pub mod scenario;
pub mod scope;
pub mod table;
pub mod text;
pub mod time;
pub mod vault;

pub use actor::{Actor, Authority, Door, Role};
pub use audience::Audience;
pub use command::{Command, Context};
pub use event::{Envelope, NewEvent};
pub use export::Export;
pub use feature::{Feature, Folding};
pub use permission::Who;
pub use refusal::Refusal;
pub use rows::{Fault, Rows, RowsMut};
pub use scope::{Scope, Scopes};
pub use table::Table;
pub use time::Time;
pub use vault::{Sealed, Vault};
