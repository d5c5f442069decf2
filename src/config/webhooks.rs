//! `[webhooks]`: the deliveries of the platform's events.

use std::path::PathBuf;

use serde::Deserialize;

/// Rules for deliveries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Webhooks {
    /// Whether deliveries may go to addresses that are not of the public internet, and without TLS.
    pub(crate) allow_internal: bool,
    /// File with certificate authorities in PEM that are trusted in place of the system's. Empty:
    /// the system's.
    pub(crate) ca: PathBuf,
}
