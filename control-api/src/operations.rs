//! The running daemon, as the operator sees and changes it through the API; the daemon provides it.

use std::{fmt, sync::Arc};

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// What the operator may ask of the running daemon. All of it is quick and does not block.
pub trait Operations: Send + Sync + 'static {
    /// The configuration in force, in which secrets are replaced by `***`.
    fn configuration(&self) -> Value;

    /// The filter of log messages in force.
    fn log_level(&self) -> String;

    /// Replaces the filter of log messages, until the next start.
    ///
    /// # Errors
    /// [`InvalidFilter`]; the previous filter stays in force.
    fn set_log_level(&self, filter: &str) -> Result<(), InvalidFilter>;

    /// The workers of the ladder that run, the oldest first.
    fn workers(&self) -> Vec<Worker>;
}

/// A text that is not a filter of log messages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidFilter(pub String);

/// A worker of the ladder: a process that makes the renditions of one broadcast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Worker {
    /// The number of its process.
    #[schema(required = false, example = 4711)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The channel of its broadcast.
    #[schema(example = "studio")]
    pub channel: String,
    /// The identifier of its broadcast.
    #[schema(example = "0199f3a2-7c1e-7d90-8a3b-5d1c2f4e6a70")]
    pub broadcast: String,
    /// The name of its encoder.
    #[schema(example = "x264")]
    pub encoder: String,
    /// When it was started (RFC 3339).
    #[schema(example = "2026-12-01T10:00:00Z")]
    pub since: String,
    /// Its resident memory in bytes, if it can be read.
    #[schema(required = false, example = 157286400)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
}

/// The operations of a daemon.
#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Arc<dyn Operations>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Operations")
    }
}
