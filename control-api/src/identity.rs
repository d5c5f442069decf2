//! Who somebody is: accounts sign in with a password and get a session, whose tokens are checked at
//! each request.
//!
//! - [`password`]: argon2id. [`access_token`]: JSON Web Tokens of ten minutes, and the keys.
//!   [`refresh_token`]: tokens that are used once. [`cookie`]: both as cookies, for browsers.
//! - `sign_in`: the beginning, continuation and end of sessions. `credentials`: the account of a
//!   request. `first`: the first administrator.

pub mod access_token;
pub mod cookie;
mod credentials;
mod first;
pub mod password;
pub mod refresh_token;
mod sign_in;

use std::{fmt, path::Path, sync::Arc, time::SystemTime};

use control_domain::Time;

use self::{access_token::AccessTokens, password::Hasher};
pub use self::{
    credentials::{API_KEY_PREFIX, Credentials, Introspection},
    first::FirstAdministrator,
    sign_in::{Attempt, SignedIn},
};
use crate::{Platform, problem::Problem, rate::Limiter};

/// The issuer in access tokens, unless another is configured.
pub const ISSUER: &str = "streamforge";

/// Why identities cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The keys of access tokens cannot be used.
    #[error(transparent)]
    Keys(#[from] access_token::Error),
    /// The folder cannot be made.
    #[error("{}: {error}", folder.display())]
    Folder {
        /// The folder.
        folder: std::path::PathBuf,
        /// The cause.
        error: std::io::Error,
    },
    /// Passwords cannot be hashed.
    #[error("passwords cannot be hashed: the system returned no random numbers")]
    Passwords,
}

/// Checks identities. Clones share it.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    platform: Platform,
    tokens: AccessTokens,
    hasher: Hasher,
    /// Counts attempts to sign in by account.
    limiter: Arc<Limiter>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("tokens", &self.0.tokens).finish_non_exhaustive()
    }
}

impl Identity {
    /// The identities of a platform, whose folder has the keys of access tokens. `issuer` names this
    /// installation in them. Blocks for the file, and for one hash.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(
        platform: Platform,
        folder: &Path,
        issuer: &str,
        limiter: Arc<Limiter>,
    ) -> Result<Self, Error> {
        let hasher = Hasher::new().map_err(|_| Error::Passwords)?;
        Self::with(platform, folder, issuer, limiter, hasher)
    }

    /// The same with another hasher.
    pub(crate) fn with(
        platform: Platform,
        folder: &Path,
        issuer: &str,
        limiter: Arc<Limiter>,
        hasher: Hasher,
    ) -> Result<Self, Error> {
        // The database may be open in another process still, and the keys are needed before.
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::Folder { folder: folder.to_owned(), error })?;
        let tokens = AccessTokens::open(folder, issuer, now())?;
        Ok(Self(Arc::new(Inner { platform, tokens, hasher, limiter })))
    }

    /// The platform.
    pub(crate) fn platform(&self) -> &Platform {
        &self.0.platform
    }

    /// Computes and compares hashes of passwords.
    pub(crate) fn hasher(&self) -> &Hasher {
        &self.0.hasher
    }

    /// The public keys of access tokens, as a JSON Web Key Set.
    pub(crate) fn jwks(&self) -> serde_json::Value {
        self.0.tokens.jwks(now())
    }
}

/// The time.
fn now() -> Time {
    Time::from(SystemTime::now())
}

/// The problem of a token that cannot be issued.
fn not_issued(error: &access_token::Error) -> Problem {
    tracing::error!(%error, "no access token");
    let words = "no token can be issued; the daemon's log has the reason";
    Problem::new(crate::problem::Kind::Internal, words)
}
