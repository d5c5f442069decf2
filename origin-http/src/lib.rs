//! The origin: serves presentations to players and caches over HTTP, together with the API and the
//! watch page.
//!
//! The path of a request: `http-server` reads it and calls the [`Router`], its service, in the same
//! way for all protocols. Decisions that need no waiting are in pure modules: [`path`] (the
//! requested resource), [`directives`] (RFC 8216bis), `media` (the available media), [`range`],
//! [`encoding`], `answer` (status, headers, lifetimes).
//!
//! No media are copied here, nothing is rendered twice, and a waiting request costs a waiter, but
//! no thread and no polling.

#![forbid(unsafe_code)]

mod access_log;
mod answer;
mod answering;
mod audience;
mod clock;
mod conditions;
mod config;
mod cors;
pub mod directives;
pub mod edge;
pub mod encoding;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod media;
mod metrics;
mod notes;
mod pages;
pub mod path;
mod posters;
pub mod range;
mod router;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod serving;
mod site;
#[cfg(test)]
mod stage;
mod text;
mod urgency;

pub use access_log::{AccessLog, Format};
pub use answering::Answering;
pub use audience::Audience;
pub use config::{Config, Https};
pub use edge::Edge;
pub use metrics::Metrics;
pub use pages::{Page, Pages};
pub use posters::{NoPosters, Poster, Posters};
pub use router::Router;
pub use site::PublicUrl;
