//! `[platform]`: accounts, channels and the rest of the video platform, and their database.

use serde::Deserialize;

/// The platform around the media server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Platform {
    /// Whether there is a database. Without it the media server runs alone, with the stream keys of
    /// the configuration.
    pub(crate) enabled: bool,
}
