//! The control plane: what is live, and administration, over HTTP; and what an operator's tools ask of the daemon.
//!
//! - [`api`]: `/api/v1`, a router to be mounted under any HTTP server; `problem`: how its errors look (RFC 9457).
//! - [`admin`]: `/metrics`, `/healthz`, `/readyz` on a listener of their own.
//! - [`digest`]: random keys as their hashes.
//! - [`viewers`], [`renditions`], [`elsewhere`]: what must be known of the audience, the ladder and an older process, asked of others.
//!
//! No media pass here, and nothing here knows where media come from: the hub says what is live.

#![forbid(unsafe_code)]

pub mod admin;
pub mod api;
pub mod digest;
pub mod elsewhere;
mod metrics;
mod problem;
pub mod renditions;
mod streams;
pub mod viewers;

pub use api::{Administrator, Api};
pub use digest::KeyDigest;
pub use elsewhere::Elsewhere;
pub use renditions::Renditions;
pub use viewers::Viewers;
