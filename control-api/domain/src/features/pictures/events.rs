//! The events of pictures.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    events,
    id::{AccountId, ChannelId},
};

/// The name of a picture: a hash of its content and its owner, so that equal pictures of two owners
/// have different names, and one can be removed without the other. 64 hexadecimal digits in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PictureHash(pub [u8; 32]);

/// A text is not the name of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name of a picture has 64 hexadecimal digits in lower case")]
pub struct NoHash;

impl fmt::Display for PictureHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl From<PictureHash> for String {
    fn from(hash: PictureHash) -> Self {
        hash.to_string()
    }
}

impl FromStr for PictureHash {
    type Err = NoHash;

    fn from_str(text: &str) -> Result<Self, NoHash> {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(NoHash),
        };
        let mut hash = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 2 * hash.len() {
            return Err(NoHash);
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(hash))
    }
}

impl TryFrom<String> for PictureHash {
    type Error = NoHash;

    fn try_from(text: String) -> Result<Self, NoHash> {
        text.parse()
    }
}

impl JsonSchema for PictureHash {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PictureHash".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
    }
}

/// An account shows another picture, or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AvatarChanged {
    /// The account.
    pub account: AccountId,
    /// The picture.
    pub avatar: Option<PictureHash>,
}

/// A channel shows another picture, or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelAvatarChanged {
    /// The channel.
    pub channel: ChannelId,
    /// The picture.
    pub avatar: Option<PictureHash>,
}

/// A channel shows another banner, or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BannerChanged {
    /// The channel.
    pub channel: ChannelId,
    /// The picture.
    pub banner: Option<PictureHash>,
}

events! {
    /// An event of a picture.
    pub enum Event {
        AvatarChanged = "streamforge.account.avatar_changed.v1" on account,
        ChannelAvatarChanged = "streamforge.channel.avatar_changed.v1" on channel,
        BannerChanged = "streamforge.channel.banner_changed.v1" on channel,
    }
}
