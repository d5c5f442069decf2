//! The parts that both sides of the bus use.

use std::sync::Arc;

use super::{settings::Settings, status::Status};
use crate::{Platform, identity::Identity};

/// The settings, the state, and the platform.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) status: Arc<Status>,
    pub(super) platform: Platform,
    pub(super) identity: Identity,
}

impl Shared {
    /// The public keys of the access tokens that this node issues.
    pub(super) fn token_keys(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(&self.identity.jwks()).ok()
    }

    /// Takes the public keys of the writer's access tokens.
    pub(super) fn learn_token_keys(&self, keys: &[u8]) {
        self.identity.learn(keys);
    }
}
