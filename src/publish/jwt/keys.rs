//! The keys that verify tokens, from the configuration and its files. Each has one algorithm.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use control_api::KeyDigest;
use jsonwebtoken::{
    Algorithm, DecodingKey, Header, crypto,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{authorities, config::Jwt};

/// Maximum number of keys of a key set; further ones are an error.
pub(super) const MAX_KEYS: usize = 64;
/// Largest file in bytes.
const MAX_FILE_BYTES: u64 = 256 << 10;
/// Least number of bytes of a secret for HS256 (RFC 7518 3.2).
const LEAST_SECRET_BYTES: usize = 32;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error("{}: {source}", file.display())]
    Read { file: PathBuf, source: io::Error },
    /// The file is larger than any key.
    #[error("{}: larger than {} KiB", file.display(), MAX_FILE_BYTES >> 10)]
    Large { file: PathBuf },
    /// A private key was named by mistake.
    #[error(
        "{}: this is a private key, which belongs to the issuer of tokens alone; `openssl pkey \
         -in FILE -pubout` prints the public one", file.display()
    )]
    Private { file: PathBuf },
    /// The file has no public key of a supported kind.
    #[error(
        "{}: no public key in PEM (BEGIN PUBLIC KEY) for EdDSA, ES256 or RS256", file.display()
    )]
    NotAKey { file: PathBuf },
    /// The file is no key set.
    #[error("{}: not a JSON Web Key Set, an object with a list named keys", file.display())]
    NotASet { file: PathBuf },
    /// None of its keys can verify tokens.
    #[error("{}: no key for EdDSA, ES256, RS256 or HS256 among its {keys}", file.display())]
    NoKey { file: PathBuf, keys: usize },
    /// The certificate authorities for the address of a key set cannot be used.
    #[error("publish.jwt.ca: {0}")]
    Authorities(#[from] authorities::Error),
    /// The TLS settings are not supported.
    #[error("jwks_url: {0}")]
    Tls(#[from] rustls::Error),
    /// The address is not protected.
    #[error(
        "jwks_url: the address must begin with https://, otherwise anyone on the way could add a key"
    )]
    NotHttps,
    /// Too many keys.
    #[error("{}: {keys} keys, of which at most {MAX_KEYS} are supported", file.display())]
    ManyKeys { file: PathBuf, keys: usize },
}

/// A key with its algorithm, and the right of publishers whose tokens it has verified.
pub(super) struct VerifyingKey {
    /// The key's name in headers of tokens; a key without one is tried for all tokens.
    kid: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
    /// The hash of its text in the configuration, to recognise it after a reload.
    identity: KeyDigest,
    /// Cancelled when the key is withdrawn: its publishers are then disconnected.
    pub(super) right: CancellationToken,
}

/// Without the key, which may be a secret.
impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl VerifyingKey {
    /// A key, if it can verify its algorithm; `text` identifies it.
    fn new(
        kid: Option<String>,
        algorithm: Algorithm,
        key: DecodingKey,
        text: &str,
    ) -> Option<Self> {
        // The library reads a key at its first use. An invalid one must be found here.
        crypto::verify("", b"", &key, algorithm).ok()?;
        let (identity, right) = (KeyDigest::of(text), CancellationToken::new());
        Some(Self { kid, algorithm, key, identity, right })
    }

    /// Whether it may have signed the token with this header.
    pub(super) fn fits(&self, header: &Header) -> bool {
        let named = match (&self.kid, &header.kid) {
            (Some(kid), Some(wanted)) => kid == wanted,
            _ => true,
        };
        named && self.algorithm == header.alg
    }

    /// Whether `other` is the same key.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.kid, self.algorithm, self.identity) == (&other.kid, other.algorithm, other.identity)
    }
}

/// All keys of a configuration.
///
/// # Errors
/// A file cannot be read, or has no usable key.
pub(super) fn load(config: &Jwt) -> Result<Vec<VerifyingKey>, Error> {
    let mut keys = Vec::new();
    if let Some(secret) = &config.secret {
        let key = DecodingKey::from_secret(secret.expose().as_bytes());
        let key = key
            .ok()
            .and_then(|key| VerifyingKey::new(None, Algorithm::HS256, key, secret.expose()));
        keys.extend(key);
    }
    if !config.public_key.as_os_str().is_empty() {
        keys.push(from_pem(&config.public_key)?);
    }
    if !config.jwks.as_os_str().is_empty() {
        keys.extend(from_jwks(&config.jwks)?);
    }
    Ok(keys)
}

/// The text of a file of bounded size.
fn read(path: &Path) -> Result<String, Error> {
    let file = || path.to_owned();
    let mut text = String::new();
    File::open(path)
        .and_then(|opened| opened.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
        .map_err(|source| Error::Read { file: file(), source })?;
    match text.len() as u64 > MAX_FILE_BYTES {
        true => Err(Error::Large { file: file() }),
        false => Ok(text),
    }
}

/// The public key in a file; its type determines the algorithm.
fn from_pem(path: &Path) -> Result<VerifyingKey, Error> {
    let text = read(path)?;
    if text.contains("PRIVATE KEY-----") {
        return Err(Error::Private { file: path.to_owned() });
    }
    let pem = text.as_bytes();
    let tries = [
        (Algorithm::EdDSA, DecodingKey::from_ed_pem(pem)),
        (Algorithm::ES256, DecodingKey::from_ec_pem(pem)),
        (Algorithm::RS256, DecodingKey::from_rsa_pem(pem)),
    ];
    tries
        .into_iter()
        .find_map(|(algorithm, key)| VerifyingKey::new(None, algorithm, key.ok()?, &text))
        .ok_or_else(|| Error::NotAKey { file: path.to_owned() })
}

/// The usable keys of a key set (RFC 7517 5). Keys of unknown kinds, and for encryption, are
/// skipped, as the standard requires.
fn from_jwks(path: &Path) -> Result<Vec<VerifyingKey>, Error> {
    let file = || path.to_owned();
    from_set(read(path)?.as_bytes(), false).map_err(|fault| match fault {
        SetFault::NotASet => Error::NotASet { file: file() },
        SetFault::ManyKeys { keys } => Error::ManyKeys { file: file(), keys },
        SetFault::NoKey { keys } => Error::NoKey { file: file(), keys },
    })
}

/// Why a text is no set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SetFault {
    #[error("it is not a JSON Web Key Set, an object with a list named keys")]
    NotASet,
    #[error("it has {keys} keys, of which at most {MAX_KEYS} are supported")]
    ManyKeys { keys: usize },
    #[error("it has no key for EdDSA, ES256 or RS256 among its {keys}")]
    NoKey { keys: usize },
}

/// The usable keys of a key set. If it `is_public`, secrets in it are not used: anyone may have
/// read them.
pub(super) fn from_set(text: &[u8], is_public: bool) -> Result<Vec<VerifyingKey>, SetFault> {
    let set: Value = serde_json::from_slice(text).map_err(|_| SetFault::NotASet)?;
    let listed = set.get("keys").and_then(Value::as_array).ok_or(SetFault::NotASet)?;
    if listed.len() > MAX_KEYS {
        return Err(SetFault::ManyKeys { keys: listed.len() });
    }
    let mut keys: Vec<_> = listed.iter().filter_map(from_jwk).collect();
    keys.retain(|key| !is_public || key.algorithm != Algorithm::HS256);
    match keys.is_empty() {
        true => Err(SetFault::NoKey { keys: listed.len() }),
        false => Ok(keys),
    }
}

/// The key of an entry of a key set, if it can verify tokens.
fn from_jwk(entry: &Value) -> Option<VerifyingKey> {
    let jwk: Jwk = serde_json::from_value(entry.clone()).ok()?;
    if jwk.common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature) {
        return None;
    }
    let (algorithm, own) = match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::OctetKey(_) => (Algorithm::HS256, KeyAlgorithm::HS256),
        _ => return None,
    };
    // An RSA key, for example, may be for another of its algorithms.
    if jwk.common.key_algorithm.is_some_and(|algorithm| algorithm != own) {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let short = |key: &DecodingKey| {
        key.try_get_as_bytes().map_or(true, |secret| secret.len() < LEAST_SECRET_BYTES)
    };
    if algorithm == Algorithm::HS256 && short(&key) {
        return None;
    }
    VerifyingKey::new(jwk.common.key_id, algorithm, key, &entry.to_string())
}
