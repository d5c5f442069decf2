//! The ingest's findings about a publisher's source, for listings.

use std::{sync::Arc, time::Duration};

/// The quality of a source for its players.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Interval between the last two key frames of the video. `None` before the second.
    pub key_interval: Option<Duration>,
    /// The setting to change at the encoder, in one sentence; `None` if nothing needs a change.
    pub advice: Option<Arc<str>>,
}
