//! Full-text search over titles, descriptions, tags and channels, with typing errors tolerated.
//!
//! - `service`: keeps the index and answers queries.
//! - `analysis`: cuts texts into words. `entry`, `place`, `schema`: what the index has of a thing.
//!   `index`: the files. `indexer`: keeps them as the tables are.
//! - `asked`: the words of a query. `spellings`: the words of the index that they may mean.
//!   `ranking`: finds and orders the entries. `find`: all of it. `excerpt`: marks the words.
//! - `health`, `metrics`, `gauges`: for the operator.
//!
//! The index (crate `tantivy`) is a folder beside the database and can be built again at any time:
//! delete it while the daemon is stopped. It is a projection of the tables that follows the log of
//! events, never within the transaction of a command, and its own commits have the sequence up to
//! which it has followed. A search finds identifiers; whether their reader may know of them is
//! decided by the tables, for each answer.

mod analysis;
mod asked;
mod entry;
mod error;
mod excerpt;
mod find;
mod gauges;
mod health;
mod index;
mod indexer;
mod metrics;
mod place;
mod ranking;
mod schema;
mod service;
mod spellings;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use self::{
    asked::{Asked, MAX_CHARS},
    entry::Thing,
    excerpt::{Piece, excerpt, pieces},
    find::{Filters, Position, Wanted},
    ranking::Sort,
    service::Reading,
};
pub use self::{health::SearchHealth, service::Search};
