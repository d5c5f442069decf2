//! The events of a stream key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    events,
    id::{ChannelId, StreamKeyId},
    text::KeyName,
};

/// The SHA-256 of a key, in hexadecimal in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyDigest(pub [u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest has 64 hexadecimal digits")]
pub struct NoDigest;

impl From<KeyDigest> for String {
    fn from(digest: KeyDigest) -> Self {
        digest.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for KeyDigest {
    type Error = NoDigest;

    fn try_from(text: String) -> Result<Self, NoDigest> {
        let mut digest = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(NoDigest);
        }
        for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NoDigest)?;
            // A sign would be accepted by the conversion.
            if pair.starts_with('+') {
                return Err(NoDigest);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NoDigest)?;
        }
        Ok(Self(digest))
    }
}

impl JsonSchema for KeyDigest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "KeyDigest".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
    }
}

/// A channel has another key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Added {
    /// The key.
    pub key: StreamKeyId,
    /// The channel on which it may publish.
    pub channel: ChannelId,
    /// The name that its owner gave it.
    pub name: KeyName,
    /// The digest of the secret.
    pub digest: KeyDigest,
}

/// A key is no longer valid. A session that publishes with it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Revoked {
    /// The key.
    pub key: StreamKeyId,
}

events! {
    /// An event of a stream key.
    pub enum Event {
        Added = "streamforge.stream_key.added.v1" on key,
        Revoked = "streamforge.stream_key.revoked.v1" on key,
    }
}

/// The type of [`Revoked`], at which a session that publishes with the key ends.
pub const REVOKED: &str = "streamforge.stream_key.revoked.v1";
