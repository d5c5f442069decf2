//! What a publisher's ingest has found of its source, for listings.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::Broadcast;

/// How good a source is for those who play it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// From key frame to key frame of the video, as measured last. `None` before the second.
    pub key_interval: Option<Duration>,
    /// What is to be changed at the encoder, in one sentence; `None` if nothing.
    pub advice: Option<Arc<str>>,
}

impl Broadcast {
    /// What was reported last of the source.
    pub fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The publisher's ingest has found this of the source.
    pub fn report(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }
}
