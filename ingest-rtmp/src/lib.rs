//! RTMP server: publish and play. Bytes from a socket become frames in the hub, and vice versa.
//!
//! The path of a frame: [`server`](Server) accepts, `connection` reads, [`chunk`] assembles each
//! message once, [`session`] executes the commands, [`flv`] finds the frame in the message,
//! `access_unit` makes it a whole picture, `publisher` passes it to the hub. For a player it goes
//! from the hub through `player` and `transmit` to the socket. No payload is copied after `chunk`,
//! unless it is repaired, or a small part of its message (`payload`).
//!
//! All parsers and state machines are bounded and without I/O; only `connection` and `server` use
//! sockets. The code that parses untrusted bytes is ours; rml_rtmp provides the handshake, the
//! message types and the chunk serialiser.

#![forbid(unsafe_code)]

mod access_unit;
mod address;
mod advice;
mod amf;
pub mod amf0;
mod amf3;
mod audience;
pub mod auth;
mod burst;
pub mod chunk;
mod clock;
mod command;
mod config;
mod connection;
mod error;
pub mod flv;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod groups;
mod health;
mod metrics;
mod pace;
mod payload;
mod player;
mod publisher;
mod reports;
mod server;
pub mod session;
#[cfg(test)]
mod testing;
mod timing;
mod tls;
mod transmit;

pub use auth::{
    Authorization, Authorize, ClientInfo, Grant, Lease, PlayRequest, PublishRequest, Reason,
    Refusal, StreamKey,
};
pub use config::Config;
pub use error::Error;
pub use metrics::Metrics;
pub use server::{Listeners, Server};
pub use transmit::Transmit;
