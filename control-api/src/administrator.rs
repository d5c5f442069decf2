//! The administrator of the configuration.

use std::sync::{Arc, PoisonError, RwLock};

use crate::KeyDigest;

/// The administrator, identified by the digest of a token, which can be replaced; without a digest
/// nothing can be changed. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Administrator(Arc<RwLock<Option<KeyDigest>>>);

impl Administrator {
    /// The administrator with this token.
    pub fn new(token: Option<KeyDigest>) -> Self {
        Self(Arc::new(RwLock::new(token)))
    }

    /// Replaces the token.
    pub fn set(&self, token: Option<KeyDigest>) {
        // The lock covers a copy, which leaves no invalid value behind, so a poisoned one is used.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// Whether `token` is the token.
    pub(crate) fn has(&self, token: &str) -> bool {
        self.token().is_some_and(|digest| digest.matches(token))
    }

    /// The digest in force.
    pub(crate) fn token(&self) -> Option<KeyDigest> {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}
