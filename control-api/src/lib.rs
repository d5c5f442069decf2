//! The control plane over HTTP: the API that lists and ends live broadcasts, and the metrics and
//! health checks of the operator.
//!
//! - [`api`]: `/api/v1`, a router for any HTTP server. [`manners`]: what all its routes share:
//!   [`request_id`], [`guard`] (security headers), [`cors`], [`rate`] limits, [`deadline`],
//!   [`content`] (bodies), [`precondition`] (ETag, If-Match).
//! - [`problem`]: the format of its errors (RFC 9457). [`page`], [`cursor`]: pages of lists.
//!   [`idempotency`]: Idempotency-Key. [`caller`]: the sender of a request.
//! - `documentation`: `/api/docs`, a viewer of the API's description.
//! - [`platform`]: the accounts, channels and other things of the platform, if it is enabled.
//!   [`authentication`]: the credentials of a request. [`secret`]: random keys. [`duties`]: the
//!   work that no request asks for. [`webhooks`]: delivers events to webhooks. [`audit`]:
//!   operations of the daemon that are recorded.
//! - [`bus`]: sends events to NATS JetStream, and makes replicas of them. `replica`: changes that
//!   are sent to a replica.
//! - [`maintenance`]: routes of the control socket for the database. [`seed`]: makes things from a
//!   file of fixtures.
//! - [`admin`]: `/metrics`, `/healthz`, `/readyz` on a separate listener. [`health`]: the checks
//!   behind `/readyz`. [`requests`]: metrics of the API's requests. [`traces`]: their spans.
//! - [`store`]: the platform's database, with the rules of `control-domain`.
//! - [`views`]: counts views and watch time by the media that were delivered. [`pictures`]: avatars
//!   and banners.
//! - [`identity`]: passwords, access and refresh tokens, cookies. [`digest`]: digests of random
//!   keys. [`mail`]: mails to the owners of accounts.
//! - `search`: full-text search, if the crate is built with it (feature `search`).
//! - [`viewers`], [`renditions`], [`privacy`], [`elsewhere`], [`operations`]: traits through which
//!   other crates provide the audience, the state of the ladder, the private channels, the streams
//!   of an older process, and the running daemon.
//!
//! No media pass through this crate, and it does not know their origin: it lists the broadcasts of
//! the hub.

#![forbid(unsafe_code)]

pub mod admin;
pub mod administrator;
pub mod api;
pub mod audit;
pub mod authentication;
pub mod bus;
pub mod caller;
pub mod content;
pub mod cors;
pub mod cursor;
pub mod deadline;
mod described;
pub mod digest;
mod documentation;
pub mod duties;
pub mod elsewhere;
pub mod guard;
pub mod health;
pub mod idempotency;
pub mod identity;
pub mod mail;
pub mod maintenance;
pub mod manners;
mod metrics;
pub mod operations;
pub mod page;
pub mod pictures;
pub mod platform;
pub mod platform_health;
pub mod playback;
pub mod precondition;
pub mod privacy;
pub mod problem;
pub mod rate;
pub mod readiness;
pub mod renditions;
mod replica;
pub mod request_id;
pub mod requests;
#[cfg(feature = "search")]
pub mod search;
pub mod secret;
pub mod seed;
mod sequence;
pub mod store;
mod streams;
pub mod traces;
pub mod viewers;
pub mod views;
pub mod webhooks;

pub use administrator::Administrator;
pub use api::Api;
pub use caller::Caller;
pub use digest::KeyDigest;
pub use elsewhere::{Elsewhere, NoResponse, PendingResponse};
pub use health::Health;
pub use manners::Manners;
pub use operations::Operations;
pub use pictures::Pictures;
pub use platform::Platform;
pub use playback::PlaybackTokens;
pub use privacy::Privacy;
pub use readiness::Readiness;
pub use renditions::Renditions;
#[cfg(feature = "search")]
pub use search::Search;
pub use store::Store;
pub use viewers::Viewers;
pub use webhooks::Webhooks;
