//! The control plane over HTTP: the API that lists and ends live broadcasts, and the metrics and
//! health checks of the operator.
//!
//! - [`api`]: `/api/v1`, a router for any HTTP server; `problem`: the format of its errors (RFC
//!   9457).
//! - [`admin`]: `/metrics`, `/healthz`, `/readyz` on a separate listener.
//! - [`digest`]: digests of random keys.
//! - [`viewers`], [`renditions`], [`privacy`], [`elsewhere`]: traits through which other crates
//!   provide the audience, the state of the ladder, the private channels and the streams of an
//!   older process.
//!
//! No media pass through this crate, and it does not know their origin: it lists the broadcasts of
//! the hub.

#![forbid(unsafe_code)]

pub mod admin;
pub mod api;
pub mod digest;
pub mod elsewhere;
mod metrics;
pub mod privacy;
mod problem;
pub mod renditions;
mod streams;
pub mod viewers;

pub use api::{Administrator, Api};
pub use digest::KeyDigest;
pub use elsewhere::{Elsewhere, NoResponse, PendingResponse};
pub use privacy::Privacy;
pub use renditions::Renditions;
pub use viewers::Viewers;
