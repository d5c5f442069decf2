//! The right to publish by a signed token (RFC 7519). The token is the stream key itself, or it is
//! in the query of the stream name, `NAME?token=TOKEN`, as MediaMTX has it.
//!
//! A token names its channel in the claim `channel`, or in a list of MediaMTX's permissions. `exp`
//! is required. Each configured key verifies one algorithm, so that a token cannot choose another
//! (RFC 8725 3.1). HS256, ES256, EdDSA and RS256.

mod claims;
mod keys;
mod remote;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use ingest_rtmp::{Grant, PublishRequest, Reason, Refusal};
use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind};
use media_core::{ChannelName, name};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::credentials::Credentials;
use crate::config::Jwt;
pub(crate) use keys::Error;
use keys::VerifyingKey;
use remote::Remote;

/// Largest token in bytes. ffmpeg's addresses have at most 1024.
const MAX_TOKEN_BYTES: usize = 8 << 10;
/// Allowed difference in seconds between our clock and the issuer's.
const LEEWAY_S: u64 = 5;

/// Verifies tokens by the configuration in force.
#[derive(Debug)]
pub(super) struct Verifier {
    /// At most [`keys::MAX_KEYS`], and those of the configuration itself.
    keys: Vec<VerifyingKey>,
    /// The key set at an address, if one is configured.
    remote: Option<Arc<Remote>>,
    /// The configuration, without its keys.
    settings: Settings,
}

/// The conditions of tokens. Publishers continue when they stay the same.
#[derive(Debug, PartialEq)]
struct Settings {
    /// `iss`, or empty.
    issuer: String,
    /// `aud`, or empty.
    audience: String,
    /// The claim with MediaMTX's permissions.
    permissions_claim: String,
    /// Whether a right ends with its token.
    end_at_expiry: bool,
}

/// Why a token gives no right; the text is for the streamer and has nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Rejection {
    #[error(
        "this server needs a token: enter NAME?token=TOKEN, or the token alone, as the stream key"
    )]
    Missing,
    #[error(
        "this is no token that the server can read: it needs a JWT signed with HS256, ES256, \
         EdDSA or RS256, complete and without spaces"
    )]
    Unreadable,
    #[error("the server has no key for this token: its signer, algorithm or kid is not known")]
    UnknownKey,
    #[error("the signature of this token is not valid: it was changed, or signed by someone else")]
    Signature,
    #[error("this token has expired: get a new one")]
    Expired,
    #[error("this token is not valid yet: check the clock of the server that issues it")]
    Early,
    #[error("this token has no {0} that this server accepts")]
    Claim(&'static str),
    #[error("this token is for another channel than the one in the stream key")]
    Foreign,
    #[error(
        "this token does not name one channel: enter NAME?token=TOKEN, with the channel's name, as \
         the stream key"
    )]
    NoChannel,
    #[error("{0}; the stream key is the channel's name here, followed by ?token=TOKEN")]
    Name(name::Invalid),
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        let reason = match rejection {
            Rejection::Name(_) => Reason::Name,
            _ => Reason::Denied,
        };
        Self::new(reason, rejection.to_string())
    }
}

impl Verifier {
    /// Reads the keys of a configuration. Blocks for the files.
    ///
    /// # Errors
    /// A file cannot be read, or has no usable key.
    pub(super) fn load(config: &Jwt) -> Result<Self, Error> {
        let Jwt { issuer, audience, permissions_claim, end_at_expiry, .. } = config.clone();
        Ok(Self {
            keys: keys::load(config)?,
            remote: Remote::of(config)?.map(Arc::new),
            settings: Settings { issuer, audience, permissions_claim, end_at_expiry },
        })
    }

    /// Number of keys, without those at an address.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The host of the address of a key set.
    pub(super) fn address(&self) -> Option<String> {
        self.remote.as_ref().map(|remote| remote.address())
    }

    /// When the key set at an address is to be fetched again; `None`: there is none.
    pub(super) fn renewal(&self) -> Option<Instant> {
        self.remote.as_ref().map(|remote| remote.next())
    }

    /// Fetches the key set at an address again, if it is time for it.
    pub(super) async fn renew(&self) {
        if let Some(remote) = &self.remote {
            remote.renew(Instant::now()).await;
        }
    }

    /// Adopts the rights of `before` for the keys that both have, if tokens have the same
    /// conditions: their publishers continue.
    pub(super) fn continue_rights(&mut self, before: &Self) {
        if self.settings != before.settings {
            return;
        }
        for key in &mut self.keys {
            if let Some(known) = before.keys.iter().find(|known| known.is_same(key)) {
                key.right = known.right.clone();
            }
        }
        // With its keys and their rights.
        if let (Some(remote), Some(known)) = (&mut self.remote, &before.remote)
            && remote.is_same(known)
        {
            *remote = Arc::clone(known);
        }
    }

    /// Withdraws the rights that `newer` has not adopted. Returns the number of such keys.
    pub(super) fn withdraw_missing(&self, newer: Option<&Self>) -> usize {
        let adopts = |key: &VerifyingKey| {
            newer.is_some_and(|newer| {
                newer.settings == self.settings && newer.keys.iter().any(|other| other.is_same(key))
            })
        };
        let withdrawn = self.keys.iter().filter(|key| !adopts(key));
        let withdrawn = withdrawn.inspect(|key| key.right.cancel()).count();
        let Some(remote) = &self.remote else { return withdrawn };
        let keeps = |newer: &Self| newer.remote.as_ref().is_some_and(|it| Arc::ptr_eq(it, remote));
        match newer.is_some_and(keeps) {
            true => withdrawn,
            false => withdrawn + remote.withdraw(),
        }
    }

    /// The decision about a request.
    ///
    /// # Errors
    /// The token is missing or gives no right to the channel.
    pub(super) async fn decide(&self, request: &PublishRequest) -> Result<Grant, Refusal> {
        let grant = self.grant(request);
        // The signer may have a key that is newer than those here.
        let is_unknown = matches!(grant, Err(Rejection::UnknownKey));
        let Some(remote) = self.remote.as_ref().filter(|_| is_unknown) else {
            return Ok(grant?);
        };
        match remote.look_again(Instant::now()).await {
            true => Ok(self.grant(request)?),
            false if remote.is_empty() => {
                let words = "the server cannot check tokens now: try again";
                Err(Refusal::new(Reason::Failed, words))
            }
            false => Ok(grant?),
        }
    }

    fn grant(&self, request: &PublishRequest) -> Result<Grant, Rejection> {
        let key = request.key.expose();
        let query = request.query.as_ref().map_or("", |query| query.expose());
        let Credentials { token, .. } = Credentials::parse(query);
        // A channel's name has no dot, and a token has two.
        let (name, token) = match token.is_empty() {
            false => (Some(key.parse::<ChannelName>().map_err(Rejection::Name)?), &*token),
            true if key.split('.').count() == 3 => (None, key),
            true => return Err(Rejection::Missing),
        };
        let (right, claims) = self.verify(token)?;
        let permitted = claims::Permitted::parse(&claims, &self.settings.permissions_claim);
        let channel = match name {
            Some(name) if permitted.includes(&name, &request.app) => name,
            Some(_) => return Err(Rejection::Foreign),
            None => permitted.only(&request.app).ok_or(Rejection::NoChannel)?,
        };
        let expires = self.settings.end_at_expiry.then(|| expiry(&claims)).flatten();
        Ok(Grant { withdrawn: right, expires, ..Grant::from(channel) })
    }

    /// The claims of a token, and the right of the key that has verified it.
    fn verify(&self, token: &str) -> Result<(CancellationToken, Map<String, Value>), Rejection> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Rejection::Unreadable);
        }
        let header = decode_header(token).map_err(|_| Rejection::Unreadable)?;
        let mut rejection = Rejection::UnknownKey;
        let fetched = self.remote.as_ref().map(|remote| remote.keys());
        let fetched = fetched.iter().flat_map(|keys| keys.iter());
        for key in self.keys.iter().chain(fetched).filter(|key| key.fits(&header)) {
            match decode(token, &key.key, &self.validation(key)) {
                Ok(data) => return Ok((key.right.clone(), data.claims)),
                Err(err) => rejection = rejected(err.kind()),
            }
            // The next key is tried only if this one has not signed the token.
            if rejection != Rejection::Signature {
                break;
            }
        }
        Err(rejection)
    }

    /// The conditions for a token of `key`.
    fn validation(&self, key: &VerifyingKey) -> Validation {
        let Settings { issuer, audience, .. } = &self.settings;
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        // The library checks these two only if the token has them, unless they are required.
        let mut required = vec!["exp"];
        if !issuer.is_empty() {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.validate_aud = !audience.is_empty();
        if !audience.is_empty() {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

/// The rejection for an error of the library.
fn rejected(kind: &ErrorKind) -> Rejection {
    match kind {
        ErrorKind::InvalidSignature => Rejection::Signature,
        ErrorKind::InvalidAlgorithm => Rejection::UnknownKey,
        ErrorKind::ExpiredSignature => Rejection::Expired,
        ErrorKind::ImmatureSignature => Rejection::Early,
        ErrorKind::InvalidIssuer => Rejection::Claim("iss"),
        ErrorKind::InvalidAudience => Rejection::Claim("aud"),
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
            Rejection::Claim(match claim.as_str() {
                "iss" => "iss",
                "aud" => "aud",
                "nbf" => "nbf",
                _ => "exp",
            })
        }
        _ => Rejection::Unreadable,
    }
}

/// The end of a verified token on the monotonic clock. `None` if it is beyond that clock's range.
fn expiry(claims: &Map<String, Value>) -> Option<Instant> {
    let exp = claims.get("exp")?;
    // RFC 7519 2 permits fractions of seconds.
    let exp = exp.as_u64().map(Duration::from_secs);
    let exp = exp.or_else(|| Duration::try_from_secs_f64(claims.get("exp")?.as_f64()?).ok())?;
    let end = SystemTime::UNIX_EPOCH.checked_add(exp + Duration::from_secs(LEEWAY_S))?;
    // A token that has expired since it was verified ends at once.
    let rest = end.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now().checked_add(rest)
}

#[cfg(test)]
pub(super) mod tests;
