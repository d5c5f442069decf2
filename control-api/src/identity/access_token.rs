//! Access tokens: JSON Web Tokens (RFC 7519, RFC 9068) of ten minutes, signed with Ed25519 (EdDSA,
//! RFC 8037). Others verify them with the keys at `/.well-known/jwks.json`; this daemon also checks
//! at each request that the session has not ended.
//!
//! The keys are random, and in a file that only the daemon can read. A new key is announced an hour
//! before it signs, so that nobody who has fetched the keys meets an unknown one. A key is kept for
//! verification until its last token has expired.
//!
//! A signature is verified once: verdicts are kept, under the digest of the token, in a cache of
//! bounded size. Verification costs about 90 µs, the verdict less than 1 µs.

use std::{
    fmt,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use control_domain::{
    Role, Time,
    id::{AccountId, SessionId},
};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
};
use quick_cache::sync::Cache;
use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};

/// The life of a token.
pub const LIFE: Duration = Duration::from_secs(600);
/// The time for which a key signs.
const ROTATION: Duration = Duration::from_secs(30 * 24 * 3_600);
/// The time for which a key is announced before it signs.
const ANNOUNCED: Duration = Duration::from_secs(3_600);
/// The time for which clients may keep the list of keys; less than [`ANNOUNCED`].
pub const KEYS_MAX_AGE: Duration = Duration::from_secs(900);
/// The file of the keys, in the platform's folder.
const FILE: &str = "access-token-keys.json";
/// The file of the writer's public keys, in the folder of a replica.
const WRITERS: &str = "access-token-public-keys.json";
/// The type of these tokens (RFC 9068 2.1), so that no token of another kind passes for one.
const TYPE: &str = "at+jwt";
/// Largest token in bytes; ours have about 400.
const MAX_TOKEN_BYTES: usize = 1_024;
/// Verdicts that are kept, about 200 bytes each.
const VERDICTS: usize = 10_000;
/// Interval at which the file is read again because of an unknown key.
const REREAD: Duration = Duration::from_secs(10);

/// DER of a private key of Ed25519 before its 32 bytes (RFC 8410 7).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Why there are no keys, or no token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The file is damaged.
    #[error("{}: not a list of keys: delete it, and all access tokens are renewed", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The system has no random numbers.
    #[error("the system returned no random numbers")]
    Random,
    /// A token cannot be signed.
    #[error("a token cannot be signed: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// The claims of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    /// The account.
    pub account: AccountId,
    /// The session.
    pub session: SessionId,
    /// The role when the token was issued. It is for others; here the account's present role
    /// counts.
    pub role: Role,
    /// When it was issued.
    pub issued: Time,
    /// From when it is not valid.
    pub expires: Time,
}

/// The claims as in the token.
#[derive(Serialize, Deserialize)]
struct Written {
    iss: String,
    sub: AccountId,
    sid: SessionId,
    role: Role,
    iat: u64,
    exp: u64,
}

/// A key in the file.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    /// The private key, base64url.
    secret: String,
    /// From when it signs.
    from: Time,
}

/// A JSON Web Key Set, as far as it is read.
#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

/// A public key of Ed25519 in it.
#[derive(Deserialize)]
struct Jwk {
    kid: String,
    x: String,
}

/// A key in use.
struct Key {
    stored: Stored,
    /// The thumbprint of its public key (RFC 7638).
    id: String,
    /// The public key, base64url.
    public: String,
    /// `None` of the writer's keys at a replica.
    signing: Option<EncodingKey>,
    verifying: DecodingKey,
}

impl Key {
    /// Reads a key. `None` if it is damaged.
    fn new(stored: Stored) -> Option<Self> {
        let secret = URL_SAFE_NO_PAD.decode(&stored.secret).ok()?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&secret).ok()?;
        let public = URL_SAFE_NO_PAD.encode(pair.public_key());
        // The members in this order, without spaces (RFC 7638 3).
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{public}"}}"#);
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(members));
        let signing = Some(EncodingKey::from_ed_der(&[&PKCS8[..], &secret].concat()));
        let verifying = DecodingKey::from_ed_components(&public).ok()?;
        Some(Self { stored, id, public, signing, verifying })
    }

    /// A key of the writer, with which tokens are verified. `None` if it is damaged.
    fn of_writer(jwk: Jwk) -> Option<Self> {
        let verifying = DecodingKey::from_ed_components(&jwk.x).ok()?;
        let stored = Stored { secret: String::new(), from: Time::default() };
        Some(Self { stored, id: jwk.kid, public: jwk.x, signing: None, verifying })
    }

    /// The public key as a JSON Web Key (RFC 8037 2).
    fn jwk(&self) -> Value {
        json!({
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
            "kid": self.id, "x": self.public,
        })
    }
}

/// Issues and verifies tokens.
pub struct AccessTokens {
    path: PathBuf,
    issuer: String,
    /// Whether the keys are those of the writer, of which this node has the public halves.
    is_replica: bool,
    /// In the order in which they sign.
    keys: ArcSwap<Vec<Key>>,
    /// Held while the file is written or read. When it was read last because of an unknown key.
    file: Mutex<Time>,
    /// By the SHA-256 of the token.
    verdicts: Cache<[u8; 32], Claims>,
}

impl fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokens").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl AccessTokens {
    /// Reads the keys in the platform's folder, or makes the first. Blocks for the file.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(folder: &Path, issuer: &str, now: Time) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let keys = match read(&path)? {
            Some(keys) => keys,
            None => {
                let keys = vec![new_key(&path, now)?];
                write(&path, &keys)?;
                keys
            }
        };
        Ok(Self::with(path, issuer, keys, false))
    }

    /// The keys of a replica: those of the writer that were learned last, if any. Blocks for the
    /// file.
    pub fn of_replica(folder: &Path, issuer: &str) -> Self {
        let path = folder.join(WRITERS);
        // Without the file, or if it is damaged, they are learned again.
        let keys = std::fs::read(&path).ok().and_then(|keys| parse_set(&keys)).unwrap_or_default();
        Self::with(path, issuer, keys, true)
    }

    fn with(path: PathBuf, issuer: &str, keys: Vec<Key>, is_replica: bool) -> Self {
        Self {
            path,
            issuer: issuer.to_owned(),
            is_replica,
            keys: ArcSwap::from_pointee(keys),
            file: Mutex::new(Time::default()),
            verdicts: Cache::new(VERDICTS),
        }
    }

    /// Takes the writer's public keys at a replica, a JSON Web Key Set, and keeps them in the
    /// folder. Blocks for the file, if they have changed.
    pub fn learn(&self, set: &[u8]) {
        let Some(keys) = parse_set(set).filter(|_| self.is_replica) else { return };
        let _file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.keys.load();
        if keys.iter().map(|key| &key.id).eq(known.iter().map(|key| &key.id)) {
            return;
        }
        info!(keys = keys.len(), "keys of the writer's access tokens learned");
        self.keys.store(Arc::new(keys));
        if let Err(err) = write_whole(&self.path, set) {
            warn!(%err, "keys of the writer's access tokens not kept for the next start");
        }
    }

    /// A token for a session.
    ///
    /// # Errors
    /// [`Error::Sign`].
    pub fn issue(
        &self,
        account: AccountId,
        session: SessionId,
        role: Role,
        now: Time,
    ) -> Result<String, Error> {
        self.rotate(now);
        let keys = self.keys.load();
        // The newest that signs; the first, if the clock was set back.
        let key = keys.iter().rev().find(|key| key.stored.from <= now).or(keys.first());
        let key = key.ok_or_else(|| Error::Damaged { path: self.path.clone() })?;
        let header = Header {
            typ: Some(TYPE.to_owned()),
            kid: Some(key.id.clone()),
            ..Header::new(Algorithm::EdDSA)
        };
        let claims = Written {
            iss: self.issuer.clone(),
            sub: account,
            sid: session,
            role,
            iat: now.as_millis() / 1_000,
            exp: now.after(LIFE).as_millis() / 1_000,
        };
        let signing = key.signing.as_ref();
        let signing = signing.ok_or_else(|| Error::Damaged { path: self.path.clone() })?;
        Ok(encode(&header, &claims, signing)?)
    }

    /// The claims of a token that this daemon has signed and that has not expired.
    pub fn verify(&self, token: &str, now: Time) -> Option<Claims> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let digest = Sha256::digest(token).into();
        let claims = match self.verdicts.get(&digest) {
            Some(claims) => claims,
            None => {
                let claims = self.signed(token, now)?;
                // Refusals are not kept: anybody can send any number of them.
                self.verdicts.insert(digest, claims);
                claims
            }
        };
        (now < claims.expires).then_some(claims)
    }

    /// The claims of a token that this daemon has signed.
    fn signed(&self, token: &str, now: Time) -> Option<Claims> {
        let header = decode_header(token).ok()?;
        let kid = header.kid.as_deref()?;
        if header.typ.as_deref() != Some(TYPE) {
            return None;
        }
        let has = |keys: &[Key]| keys.iter().any(|key| key.id == kid);
        if !has(&self.keys.load()) {
            self.reread(now);
        }
        let keys = self.keys.load();
        let key = keys.iter().find(|key| key.id == kid)?;
        // The algorithm is ours and not the header's (RFC 8725 3.1). The time is checked by the
        // caller, on its clock.
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["iss", "sub", "exp"]);
        validation.validate_exp = false;
        validation.validate_aud = false;
        let claims = decode::<Written>(token, &key.verifying, &validation).ok()?.claims;
        let time = |seconds: u64| Time::from_millis(seconds.saturating_mul(1_000));
        Some(Claims {
            account: claims.sub,
            session: claims.sid,
            role: claims.role,
            issued: time(claims.iat),
            expires: time(claims.exp),
        })
    }

    /// The public keys, also those that sign next, as a JSON Web Key Set (RFC 7517 5).
    pub fn jwks(&self, now: Time) -> Value {
        self.rotate(now);
        let keys = self.keys.load();
        json!({ "keys": keys.iter().map(Key::jwk).collect::<Vec<_>>() })
    }

    /// Announces the next key if the last has signed for long, and drops those whose tokens have
    /// expired. Reads no file if nothing is due.
    fn rotate(&self, now: Time) {
        let is_due = |keys: &[Key]| {
            let last = keys.last().is_none_or(|key| key.stored.from.after(ROTATION) <= now);
            last || keys.get(1).is_some_and(|second| is_over(second, now))
        };
        if self.is_replica || !is_due(&self.keys.load()) {
            return;
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have done it, or another process during an upgrade.
        let rotated = || {
            let mut keys = read(&self.path)?.unwrap_or_default();
            if is_due(&keys) {
                // All but the last that has signed long enough.
                let over = keys.iter().skip(1).take_while(|key| is_over(key, now)).count();
                keys.drain(..over);
                if keys.last().is_none_or(|key| key.stored.from.after(ROTATION) <= now) {
                    keys.push(new_key(&self.path, now.after(ANNOUNCED))?);
                }
                write(&self.path, &keys)?;
                info!(keys = keys.len(), "keys of access tokens rotated");
            }
            Ok::<_, Error>(keys)
        };
        match rotated() {
            Ok(keys) => self.keys.store(Arc::new(keys)),
            // The keys in use go on. Tried again with the next token, at most so often.
            Err(err) if *file <= now => {
                warn!(%err, "keys of access tokens not rotated");
                *file = now.after(REREAD);
            }
            Err(_) => {}
        }
    }

    /// Reads the file again, because another process may have rotated the keys.
    fn reread(&self, now: Time) {
        let Ok(mut next) = self.file.try_lock() else { return };
        if !self.is_replica && *next <= now {
            *next = now.after(REREAD);
            if let Ok(Some(keys)) = read(&self.path) {
                self.keys.store(Arc::new(keys));
            }
        }
    }
}

/// Whether the tokens of the key before this one have expired.
fn is_over(key: &Key, now: Time) -> bool {
    key.stored.from.after(LIFE) <= now
}

/// The keys in a JSON Web Key Set; `None` if it is none.
fn parse_set(set: &[u8]) -> Option<Vec<Key>> {
    let set = serde_json::from_slice::<JwkSet>(set).ok()?;
    set.keys.into_iter().map(Key::of_writer).collect()
}

/// Makes a key that signs from a time on.
fn new_key(path: &Path, from: Time) -> Result<Key, Error> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| Error::Random)?;
    let stored = Stored { secret: URL_SAFE_NO_PAD.encode(secret), from };
    Key::new(stored).ok_or_else(|| Error::Damaged { path: path.to_owned() })
}

/// The keys in a file; `None` if there is none.
fn read(path: &Path) -> Result<Option<Vec<Key>>, Error> {
    let damaged = || Error::Damaged { path: path.to_owned() };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::File { path: path.to_owned(), error }),
    };
    let stored: Vec<Stored> = serde_json::from_slice(&text).map_err(|_| damaged())?;
    let keys = stored.into_iter().map(Key::new).collect::<Option<Vec<_>>>().ok_or_else(damaged)?;
    match keys.is_empty() {
        true => Err(damaged()),
        false => Ok(Some(keys)),
    }
}

/// Writes the keys into a file that only its owner can read: completely or not at all.
fn write(path: &Path, keys: &[Key]) -> Result<(), Error> {
    let stored = keys.iter().map(|key| &key.stored).collect::<Vec<_>>();
    let text = serde_json::to_vec(&stored);
    let file = |error| Error::File { path: path.to_owned(), error };
    write_whole(path, &text.map_err(|err| file(err.into()))?)
}

/// Writes a file that only its owner can read: completely or not at all.
fn write_whole(path: &Path, text: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let write = || {
        let _ = std::fs::remove_file(&temporary);
        let mut options = std::fs::OpenOptions::new();
        let mut new = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
        new.write_all(text)?;
        new.sync_all()?;
        std::fs::rename(&temporary, path)?;
        std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|error| Error::File { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests;
