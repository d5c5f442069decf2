//! The secret of a webhook, as Standard Webhooks writes it
//! (<https://github.com/standard-webhooks/standard-webhooks>, "Signature scheme"): `whsec_` and 24
//! to 64 bytes in base 64 (RFC 4648 4).

/// The beginning of each secret.
pub const PREFIX: &str = "whsec_";

/// A secret with which deliveries are signed. It is never printed.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct WebhookSecret(String);

/// Why a text is not a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret is whsec_ and 24 to 64 bytes in base 64")]
pub struct NoSecret;

impl WebhookSecret {
    /// The text, to seal it or to show it once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl std::str::FromStr for WebhookSecret {
    type Err = NoSecret;

    fn from_str(text: &str) -> Result<Self, NoSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(NoSecret)?;
        let digits = encoded.trim_end_matches('=');
        let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let is_padded = encoded.len().is_multiple_of(4) && encoded.len() - digits.len() <= 2;
        let bytes = digits.len() * 3 / 4;
        match digits.bytes().all(is_digit) && is_padded && (24..=64).contains(&bytes) {
            true => Ok(Self(text.to_owned())),
            false => Err(NoSecret),
        }
    }
}

impl TryFrom<String> for WebhookSecret {
    type Error = NoSecret;

    fn try_from(text: String) -> Result<Self, NoSecret> {
        text.parse()
    }
}

impl schemars::JsonSchema for WebhookSecret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WebhookSecret".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^whsec_[A-Za-z0-9+/]{32,86}={0,2}$"
        })
    }
}
