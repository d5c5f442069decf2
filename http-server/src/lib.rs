//! HTTP/1.1, HTTP/2 and HTTP/3 in front of one [`Service`]. It knows no served content.
//!
//! The path of a request: [`Server`] accepts the connection, `tls` decrypts it, and `connection`
//! detects its protocol. `h1` serves the plain requests of HTTP/1.1, `connection/hyper` the others
//! and HTTP/2, `quic` HTTP/3. The [`Service`] forms the response, whose [`Body`] is sent:
//!
//! - [`priority`]: the order of the responses of a connection. `schedule` keeps it in HTTP/2,
//!   `quic/send_order` in HTTP/3.
//! - `delivery`, `arrival`, `activity`: the progress and the end of responses, and connections that
//!   are idle or stall.
//! - `socket`: time limits of a connection's bytes. `cork`, `yield_once`: fewer writes.
//! - `pending`: the steps with a request and its response that are common to all protocols.
//!   [`request`], [`authority`]: requests that are refused. `date`: the Date field.
//! - [`mount`]: services below a path prefix, with limits of their own. `request_body`: a request's
//!   body within them. [`upgrade`]: connections that change to another protocol.

#![forbid(unsafe_code)]

mod activity;
mod arrival;
pub mod authority;
mod body;
mod config;
mod connection;
mod context;
mod cork;
mod date;
mod delivery;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod h1;
mod metrics;
pub mod mount;
mod pending;
pub mod priority;
mod quic;
pub mod request;
mod request_body;
mod schedule;
mod server;
mod service;
mod socket;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tls;
pub mod upgrade;
mod yield_once;

pub use arrival::Arrival;
pub use body::{Body, BoxError, Data, Growing};
pub use config::Config;
pub use delivery::Finish;
pub use metrics::{Metrics, Reason};
pub use mount::{Mount, MountedService};
pub use quic::{QuicHandover, QuicLegacy, QuicSocket};
pub use server::{NoCertificate, Server, Sockets};
pub use service::{Client, PendingResponse, Refusal, Service};
