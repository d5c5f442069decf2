//! Section `playback` of the configuration.

use std::{collections::HashSet, fmt, net::IpAddr};

use jsonwebtoken::DecodingKey;
use media_core::ChannelName;
use net_core::config::{Error, one_or_many, within};
use serde::{Deserialize, Deserializer, de::Error as _};

/// Maximum number of keys: a few issuers, each with an old and a new one.
const MAX_KEYS: usize = 64;
/// Maximum number of listed channels, as many as can be live.
const MAX_PRIVATE: usize = 100_000;
/// Maximum number of listed edges.
const MAX_EDGES: usize = 1_024;
/// Largest leeway in seconds.
const MAX_LEEWAY_S: u64 = 300;
/// Least and largest size of a secret in bytes. RFC 7518 3.2: at least as long as the hash.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 32..=1_024;
/// Largest identifier of a key in bytes.
const MAX_ID_BYTES: usize = 128;

/// Section `playback` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The keys with which tokens are verified, at most 64. The `kid` of a token selects one; a
    /// token without it is verified if there is only one key. To rotate, add the new key, issue
    /// tokens with it, and remove the old one when its last token has expired. None by default: no
    /// token is valid.
    pub keys: Vec<Key>,
    /// Channels that nobody can watch without a token. None by default. An edge learns from its
    /// origin which channels are private; listed there too, a request without a token is refused
    /// without fetching the origin.
    #[serde(deserialize_with = "channels")]
    pub private: Vec<ChannelName>,
    /// Addresses of edges that check tokens themselves. A token that is bound to a client's address
    /// (`ip`) is accepted from these, because they have compared it with their viewer's. None by
    /// default: such tokens do not work through an edge. An entry for anything else, for example a
    /// plain proxy, lifts the binding for everyone behind it.
    #[serde(deserialize_with = "ip_addresses")]
    pub edges: Vec<IpAddr>,
    /// Whether caches between this server and viewers may store responses under the prefix of a
    /// token. Default false: `Cache-Control: private`. With true, media stay available in such a
    /// cache under a token that has expired, for as long as they are fresh there, unless the cache
    /// checks tokens itself.
    pub trusted_cdn: bool,
    /// Seconds by which the clocks of the issuer and of this server may differ, 0 to 300. Default
    /// 10. A token is accepted for so much longer.
    pub leeway_s: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            private: Vec::new(),
            edges: Vec::new(),
            trusted_cdn: false,
            leeway_s: 10,
        }
    }
}

impl Config {
    /// Checks the limits, and that the keys differ in their identifiers.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self) -> Result<(), Error> {
        for (key, count, max) in [
            ("playback.keys", self.keys.len(), MAX_KEYS),
            ("playback.private", self.private.len(), MAX_PRIVATE),
            ("playback.edges", self.edges.len(), MAX_EDGES),
        ] {
            if count > max {
                return Err(Error::TooManyEntries { key, count, max });
            }
        }
        let mut ids = HashSet::new();
        if let Some(twice) = self.keys.iter().find(|key| !ids.insert(&key.id)) {
            let (key, entry) = ("playback.keys", twice.id.clone());
            let form = "the id of one key only; each key has another one";
            return Err(Error::MalformedEntry { key, entry, form });
        }
        within("playback", "leeway_s", self.leeway_s.into(), 0, MAX_LEEWAY_S)
    }
}

/// A key that verifies tokens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawKey")]
pub struct Key {
    /// Its `kid`.
    pub(super) id: String,
    pub(super) material: Material,
}

impl Key {
    /// An Ed25519 public key in PEM with this `kid`.
    ///
    /// # Errors
    /// [`KeyFault`].
    pub fn public(id: String, pem: String) -> Result<Self, KeyFault> {
        RawKey { id, secret: None, public_key: Some(pem) }.try_into()
    }
}

/// The key itself, which determines the algorithm: a token cannot choose another one.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Material {
    /// HS256: who can verify tokens can issue them.
    Secret(String),
    /// EdDSA: an Ed25519 public key in PEM, which can only verify.
    PublicKey(String),
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Secret(***)",
            Self::PublicKey(_) => "PublicKey",
        })
    }
}

/// Why an entry of `playback.keys` is refused. Never shows a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// The identifier is empty or too long.
    #[error("a key's id has 1 to {MAX_ID_BYTES} bytes")]
    Id,
    /// There is no secret and no public key, or both.
    #[error("key {id:?}: set exactly one of secret and public_key")]
    Material {
        /// The key's identifier.
        id: String,
    },
    /// The secret is too short or too long.
    #[error(
        "key {id:?}: its secret has {len} bytes, HS256 needs {} to {}; `openssl rand -hex 32` makes \
         a good one", SECRET_BYTES.start(), SECRET_BYTES.end()
    )]
    Secret {
        /// The key's identifier.
        id: String,
        /// Its length.
        len: usize,
    },
    /// The public key is not an Ed25519 key in PEM.
    #[error(
        "key {id:?}: its public_key is not an Ed25519 public key in PEM; \
         `openssl pkey -in PRIVATE_KEY -pubout` prints it"
    )]
    PublicKey {
        /// The key's identifier.
        id: String,
    },
}

/// An entry of `playback.keys` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    id: String,
    secret: Option<String>,
    public_key: Option<String>,
}

impl TryFrom<RawKey> for Key {
    type Error = KeyFault;

    fn try_from(raw: RawKey) -> Result<Self, KeyFault> {
        let RawKey { id, secret, public_key } = raw;
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return Err(KeyFault::Id);
        }
        let material = match (secret, public_key) {
            (Some(secret), None) if SECRET_BYTES.contains(&secret.len()) => {
                Material::Secret(secret)
            }
            (Some(secret), None) => return Err(KeyFault::Secret { id, len: secret.len() }),
            (None, Some(pem)) => Material::PublicKey(pem),
            _ => return Err(KeyFault::Material { id }),
        };
        match material.decoding() {
            Some(_) => Ok(Self { id, material }),
            None => Err(KeyFault::PublicKey { id }),
        }
    }
}

impl Material {
    /// The key for the verifier; `None` if it is not a usable key.
    pub(super) fn decoding(&self) -> Option<DecodingKey> {
        match self {
            Self::Secret(secret) => DecodingKey::from_secret(secret.as_bytes()).ok(),
            Self::PublicKey(pem) => DecodingKey::from_ed_pem(pem.trim().as_bytes()).ok(),
        }
    }
}

/// Names of channels.
fn channels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ChannelName>, D::Error> {
    let names = one_or_many(deserializer)?;
    names.iter().map(|name| name.parse().map_err(D::Error::custom)).collect()
}

/// Addresses without a port.
fn ip_addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let texts = one_or_many(deserializer)?;
    let parse = |text: &String| {
        text.parse().map_err(|_| D::Error::custom(format!("{text:?} is not an IP address")))
    };
    texts.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playback::testing::{PUBLIC_KEY, SECRET};

    fn read(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|err| err.message().to_owned())?;
        config.check().map_err(|err| err.to_string())?;
        Ok(config)
    }

    #[test]
    fn secrets_and_public_keys_are_read_and_secrets_are_never_shown() {
        let text = format!(
            "private = ['board', 'staff']\nedges = '192.0.2.7'\nleeway_s = 0\n\
             [[keys]]\nid = 'a'\nsecret = '{SECRET}'\n\
             [[keys]]\nid = 'b'\npublic_key = '''\n{PUBLIC_KEY}'''\n"
        );
        let config = read(&text).unwrap();
        assert_eq!((config.keys.len(), config.private.len(), config.edges.len()), (2, 2, 1));
        assert!(!format!("{config:?}").contains(SECRET));
        assert_eq!(read("").unwrap(), Config::default());
    }

    #[test]
    fn invalid_keys_are_refused_with_a_remedy_and_without_the_secret() {
        let short = "only-thirty-one-bytes-are-here!";
        for (text, words) in [
            (format!("[[keys]]\nid = 'a'\nsecret = '{short}'\n"), "has 31 bytes"),
            (format!("[[keys]]\nid = ''\nsecret = '{SECRET}'\n"), "id has 1 to"),
            ("[[keys]]\nid = 'a'\n".into(), "exactly one"),
            ("[[keys]]\nid = 'a'\npublic_key = 'nothing'\n".into(), "Ed25519"),
            (
                format!(
                    "[[keys]]\nid = 'a'\nsecret = '{SECRET}'\npublic_key = '''{PUBLIC_KEY}'''\n"
                ),
                "exactly one",
            ),
            (format!("[[keys]]\nid = 'a'\nsecret = '{SECRET}'\n").repeat(2), "one key only"),
            (format!("[[keys]]\nid = 'a'\nsecret = '{SECRET}'\nalg = 'none'\n"), "unknown field"),
            ("leeway_s = 301\n".into(), "playback.leeway_s is 301"),
            ("private = ['a/b']\n".into(), ""),
            ("edges = ['localhost']\n".into(), "not an IP address"),
            ("open = true\n".into(), "unknown field"),
        ] {
            let fault = read(&text).unwrap_err();
            assert!(fault.contains(words), "{text}: {fault}");
            assert!(!fault.contains(short) && !fault.contains(SECRET), "{fault}");
        }
    }
}
