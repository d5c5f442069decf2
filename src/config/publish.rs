//! The settings of the right to publish: the policy, stream keys, tokens, and the back end that is
//! asked.

use std::{fmt, path::PathBuf, time::Duration};

use control_api::KeyDigest;
use http::Uri;
use media_core::ChannelName;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    error::{Error, KeyError},
    secret::{Hashed, Plain, Secret},
    within::Within,
};

/// The right to publish.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Publish {
    /// How publishers without a listed key are authorised.
    pub(crate) policy: Policy,
    /// Stream keys, which are valid under every policy. A channel may have several.
    pub(crate) keys: Vec<Key>,
    /// Tokens, for [`Policy::Jwt`].
    pub(crate) jwt: Jwt,
    /// The back end, for [`Policy::Webhook`].
    pub(crate) webhook: Webhook,
}

impl Publish {
    /// Checks the constraints between values.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.policy {
            Policy::Open | Policy::Keys => {}
            Policy::Jwt if self.jwt.has_key() => {}
            Policy::Jwt => return Err(Error::NoTokenKey),
            Policy::Webhook => {
                let Webhook { url, done_url, format, .. } = &self.webhook;
                if url.is_none() {
                    return Err(Error::NoBackEnd);
                }
                // MediaMTX does not notify its back end of the end of a stream.
                if done_url.is_some() && *format != Format::NginxRtmp {
                    return Err(Error::DoneWithoutFormat);
                }
            }
        }
        Ok(())
    }
}

/// How publishers without a listed key are authorised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Policy {
    /// Anyone may publish: the stream key is the channel's name.
    Open,
    /// A publisher needs a listed stream key, which is for one channel.
    #[default]
    Keys,
    /// A publisher needs a signed token.
    Jwt,
    /// An HTTP server of the operator decides.
    Webhook,
}

/// Signed tokens (RFC 7519). At least one of the first four is set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Jwt {
    /// The secret of tokens that are signed with HS256.
    pub(crate) secret: Option<Secret>,
    /// File of a public key in PEM: Ed25519, P-256 or RSA. Empty: none.
    pub(crate) public_key: PathBuf,
    /// File of a JSON Web Key Set (RFC 7517 5). Empty: none.
    pub(crate) jwks: PathBuf,
    /// An address of a JSON Web Key Set, which begins with https://. Its keys are fetched again
    /// when they are old, and for a token whose key is not known.
    pub(crate) jwks_url: Option<Address>,
    /// File with certificate authorities in PEM that are trusted for `jwks_url` in place of the
    /// system's. Empty: the system's.
    pub(crate) ca: PathBuf,
    /// The `iss` that tokens must have. Empty: any.
    pub(crate) issuer: String,
    /// The `aud` that tokens must have. Empty: any.
    pub(crate) audience: String,
    /// The claim with a list of MediaMTX's permissions.
    pub(crate) permissions_claim: String,
    /// Whether a publisher is disconnected when its token expires.
    pub(crate) end_at_expiry: bool,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            secret: None,
            public_key: PathBuf::new(),
            jwks: PathBuf::new(),
            jwks_url: None,
            ca: PathBuf::new(),
            issuer: String::new(),
            audience: String::new(),
            permissions_claim: "mediamtx_permissions".to_owned(),
            end_at_expiry: false,
        }
    }
}

impl Jwt {
    /// Whether a key is configured with which tokens can be verified.
    pub(crate) fn has_key(&self) -> bool {
        self.secret.is_some()
            || self.jwks_url.is_some()
            || [&self.public_key, &self.jwks].iter().any(|file| !file.as_os_str().is_empty())
    }
}

/// The back end that is asked about publishers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Webhook {
    /// The address that is asked.
    pub(crate) url: Option<Address>,
    /// The address that is notified when a publisher stops.
    pub(crate) done_url: Option<Address>,
    /// The form of the requests, and the meaning of the responses.
    pub(crate) format: Format,
    /// Milliseconds for a request with its response.
    timeout_ms: Within<100, 10_000>,
    /// Maximum number of simultaneous requests.
    max_requests: Within<1, 1_024>,
    /// File with certificate authorities in PEM that are trusted in place of the system's. Empty:
    /// the system's.
    pub(crate) ca: PathBuf,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            url: None,
            done_url: None,
            format: Format::default(),
            timeout_ms: Within::new(2_000),
            max_requests: Within::new(64),
            ca: PathBuf::new(),
        }
    }
}

impl Webhook {
    /// Settings for tests: a back end at `url`.
    #[cfg(test)]
    pub(crate) fn at(url: &str, format: Format) -> Self {
        let url = Some(Address(url.parse().expect("an address")));
        Self { url, format, ..Self::default() }
    }

    /// These settings with other limits.
    #[cfg(test)]
    pub(crate) fn limited<const MS: u64, const REQUESTS: u64>(self) -> Self {
        let (timeout_ms, max_requests) = (Within::new(MS), Within::new(REQUESTS));
        Self { timeout_ms, max_requests, ..self }
    }

    /// The time limit of a request with its response.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.get())
    }

    /// Maximum number of simultaneous requests.
    pub(crate) fn max_requests(&self) -> usize {
        usize::try_from(self.max_requests.get()).unwrap_or(usize::MAX)
    }
}

/// The server whose back ends are understood.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// MediaMTX's `authHTTPAddress`: JSON.
    #[default]
    #[serde(rename = "mediamtx")]
    MediaMtx,
    /// nginx-rtmp's `on_publish`: a form.
    NginxRtmp,
}

/// The address of a back end. `Debug` hides its path and query, which may hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address(Uri);

impl Address {
    /// The whole address.
    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }

    /// Whether it is reached over TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == Some(&http::uri::Scheme::HTTPS)
    }
}

/// Scheme, host and port.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}", self.0.scheme_str().unwrap_or("http"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}/***")
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The value does not appear in the error, which is logged.
        let wrong = || D::Error::custom("not an address that begins with http:// or https://");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong());
        };
        if authority.as_str().contains('@') {
            return Err(D::Error::custom(
                "a user and password in the address are not supported: use a secret in its path \
                 or query",
            ));
        }
        // The port of `host:99999` is no port, but is not refused by the parser.
        let port = authority.as_str().rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        if authority.host().is_empty() || port.is_some() && authority.port_u16().is_none() {
            return Err(wrong());
        }
        Ok(Self(uri))
    }
}

/// A stream key, stored as its hash, and its channel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawKey")]
pub(crate) struct Key {
    /// The channel to which the key publishes.
    pub(crate) channel: ChannelName,
    /// The SHA-256 of the key.
    pub(crate) digest: KeyDigest,
}

/// An entry of `publish.keys` as it is written: with exactly one of `key` and `key_sha256`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    channel: String,
    key: Option<Plain>,
    key_sha256: Option<Hashed>,
}

impl TryFrom<RawKey> for Key {
    type Error = KeyError;

    fn try_from(raw: RawKey) -> Result<Self, KeyError> {
        let channel = raw.channel.parse()?;
        match (raw.key, raw.key_sha256) {
            (Some(Plain(digest)), None) | (None, Some(Hashed(digest))) => {
                Ok(Self { channel, digest })
            }
            // The channel is valid here, so the error can name the entry.
            _ => Err(KeyError::Secret { channel }),
        }
    }
}
