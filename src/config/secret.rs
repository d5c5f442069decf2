//! Secrets in the configuration: in plain text or as a digest. Only the digest is kept, and no error
//! shows the text.

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
