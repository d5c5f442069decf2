//! The ingest's findings about a publisher's source, for listings.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::Broadcast;

/// The quality of a source for its players.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Interval between the last two key frames of the video. `None` before the second.
    pub key_interval: Option<Duration>,
    /// The setting to change at the encoder, in one sentence; `None` if nothing needs a change.
    pub advice: Option<Arc<str>>,
}

impl Broadcast {
    /// The last report about the source.
    pub fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores the ingest's report about the source.
    pub fn report(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }
}
