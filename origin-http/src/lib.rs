//! The origin: serves presentations to players and caches over HTTP, together with the API and the
//! watch page.
//!
//! The path of a request: [`Server`] accepts the connection; `connection` implements the protocol
//! (`h1` the plain requests of players, hyper the rest of HTTP/1.1 and HTTP/2, `quic` HTTP/3);
//! [`Router`] produces the response; [`Body`] is sent. All protocols share the router and the body.
//! Decisions that need no waiting are in pure modules: [`path`] (the requested resource),
//! [`directives`] (RFC 8216bis), `media` (the available media), [`range`], [`encoding`], `answer`
//! (status, headers, lifetimes).
//!
//! No media are copied here, nothing is rendered twice, and a waiting request costs a waiter, but
//! no thread and no polling.

#![forbid(unsafe_code)]

mod access_log;
mod activity;
mod answer;
mod answering;
mod audience;
mod body;
mod clock;
mod conditions;
mod config;
mod connection;
mod cors;
mod delivery;
pub mod directives;
pub mod edge;
pub mod encoding;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod h1;
mod media;
mod metrics;
mod notes;
mod pages;
pub mod path;
mod posters;
mod quic;
pub mod range;
mod request;
mod request_body;
mod router;
#[cfg(test)]
mod sample;
mod schedule;
mod server;
mod site;
mod socket;
#[cfg(test)]
mod stage;
mod text;
mod tls;
mod urgency;

pub use access_log::{AccessLog, Format};
pub use answering::Answering;
pub use audience::Audience;
pub use body::{Body, BoxError, Data};
pub use config::{Config, Https};
pub use edge::Edge;
pub use metrics::Metrics;
pub use pages::{Page, Pages};
pub use posters::{NoPosters, Poster, Posters};
pub use quic::{QuicHandover, QuicLegacy, QuicSocket};
pub use request::refusal;
pub use router::{Fallback, RequestBody, Router};
pub use server::{Server, Sockets};
pub use site::PublicUrl;
