//! Secrets in a configuration. Their values never appear in `Debug` or in an error.

use std::{fmt, sync::Arc};

use control_api::KeyDigest;
use serde::{Deserialize, Deserializer, de::Error as _};

/// A secret in plain text; only its hash is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plain(pub(super) KeyDigest);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = String::deserialize(deserializer)?;
        // A short secret could be guessed. The value does not appear in the error, which is logged.
        match key.len() {
            8..=256 => Ok(Self(KeyDigest::of(&key))),
            _ => Err(D::Error::custom(
                "a key or token has 8 to 256 bytes; `openssl rand -hex 16` makes a good one",
            )),
        }
    }
}

/// A secret as its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hashed(pub(super) KeyDigest);

impl<'de> Deserialize<'de> for Hashed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

/// A secret that signs: 32 to 1024 bytes of text, because a signature with a shorter secret could
/// be guessed (RFC 7518 3.2).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Arc<str>);

impl Secret {
    /// The secret itself.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let secret = String::deserialize(deserializer)?;
        match secret.len() {
            32..=1024 => Ok(Self(secret.into())),
            _ => Err(D::Error::custom(
                "a secret of tokens has 32 to 1024 bytes; `openssl rand -hex 32` makes a good one",
            )),
        }
    }
}
