//! The address of a webhook: `http` or `https`, in ASCII, without a user name and a fragment.

/// The greatest length in bytes.
const MAX_BYTES: usize = 2_048;

/// An address to which events are posted. It may contain a secret of the receiver, so that it is
/// never printed.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebhookUrl(String);

/// Why a text is not the address of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is too long.
    #[error("an address has at most {} bytes", MAX_BYTES)]
    Length,
    /// It is no address of HTTP.
    #[error("an address begins with https:// and a host")]
    Scheme,
    /// It has a character that no address has; other scripts are written in percent-encoding, and
    /// in Punycode in the host.
    #[error("an address has printable characters of ASCII alone")]
    Character,
    /// It has a user name or a fragment.
    #[error("an address of a webhook has no user name, no password and no fragment")]
    Part,
}

impl WebhookUrl {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `https`.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl std::fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookUrl(***)")
    }
}

impl std::str::FromStr for WebhookUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.len() > MAX_BYTES {
            return Err(UrlError::Length);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UrlError::Character);
        }
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let rest = rest.ok_or(UrlError::Scheme)?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if text.contains('#') || authority.contains('@') {
            return Err(UrlError::Part);
        }
        match authority.is_empty() || authority.starts_with(':') {
            true => Err(UrlError::Scheme),
            false => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for WebhookUrl {
    type Error = UrlError;

    fn try_from(text: String) -> Result<Self, UrlError> {
        text.parse()
    }
}

impl From<WebhookUrl> for String {
    fn from(url: WebhookUrl) -> Self {
        url.0
    }
}

impl schemars::JsonSchema for WebhookUrl {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WebhookUrl".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^https?://[!-~]+$", "maxLength": MAX_BYTES
        })
    }
}
