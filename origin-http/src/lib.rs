//! The origin: serves presentations to players and caches over HTTP, together with the API and the
//! watch page.
//!
//! The path of a request: `http-server` reads it and calls the [`Router`], its service, in the same
//! way for all protocols. Decisions that need no waiting are in pure modules: [`resource`] (the
//! requested resource), [`directives`] (RFC 8216bis), `lookup` (the available media), [`range`],
//! [`encoding`], `response` (status, headers, lifetimes), [`cmcd`] (reports of players). `sampler`
//! takes samples of delivered media.
//!
//! No media are copied here, nothing is rendered twice, and a waiting request costs a waiter, but
//! no thread and no polling.

#![forbid(unsafe_code)]

mod access_log;
mod audience;
mod clock;
pub mod cmcd;
mod conditions;
mod config;
mod cors;
pub mod directives;
pub mod edge;
pub mod encoding;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod lookup;
mod metrics;
mod pending;
pub mod playback;
mod posters;
mod proxies;
pub mod range;
pub mod resource;
mod response;
mod router;
#[cfg(test)]
mod sample;
mod sampler;
mod server_timing;
mod site;
#[cfg(test)]
mod stage;
mod static_files;
#[cfg(test)]
mod tests;
mod text;
mod urgency;

pub use access_log::{AccessLog, Format};
pub use audience::Audience;
pub use config::{Config, Https};
pub use edge::Edge;
pub use metrics::Metrics;
pub use pending::Pending;
pub use playback::Playback;
pub use posters::{NoPosters, Poster, Posters};
pub use router::Router;
pub use sampler::{Delivered, Key, Sampler};
pub use site::PublicUrl;
pub use static_files::{StaticFile, StaticFiles};
