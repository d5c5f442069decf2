//! The authority on identities: the keys of access tokens, the hashes of passwords, and the
//! platform whose accounts they belong to.

use std::{fmt, path::Path, sync::Arc, time::SystemTime};

use control_domain::{Refusal, Rows, Time, Vault};

use super::{
    access_token::{self, AccessTokens},
    extras::Extras,
    oidc::Providers,
    password::Hasher,
};
use crate::{
    Platform,
    mail::Outbox,
    problem::{Kind, Problem},
    rate::Limiter,
    store::NodeRole,
};

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
    /// Parts of signing in that not every installation has.
    extras: Extras,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("tokens", &self.0.tokens).finish_non_exhaustive()
    }
}

impl Identity {
    /// The identities of a platform, whose folder has the keys of access tokens. `issuer` names
    /// this installation in them. Blocks for the file, and for one hash.
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
        let tokens = match platform.role() {
            NodeRole::Writer => AccessTokens::open(folder, issuer, now())?,
            NodeRole::Replica => AccessTokens::of_replica(folder, issuer),
        };
        Ok(Self(Arc::new(Inner { platform, tokens, hasher, limiter, extras: Extras::default() })))
    }

    /// The platform.
    pub fn platform(&self) -> &Platform {
        &self.0.platform
    }

    /// Computes and compares hashes of passwords.
    pub fn hasher(&self) -> &Hasher {
        &self.0.hasher
    }

    /// The access tokens.
    pub(super) fn tokens(&self) -> &AccessTokens {
        &self.0.tokens
    }

    /// Counts attempts to sign in.
    pub(super) fn limiter(&self) -> &Limiter {
        &self.0.limiter
    }

    /// The parts that not every installation has.
    pub(super) fn extras(&self) -> &Extras {
        &self.0.extras
    }

    /// Reads the tables, with the keys of personal data. The query must be short.
    ///
    /// # Errors
    /// The problem of its refusal, or of a database that cannot be read.
    pub(crate) async fn read<T>(
        &self,
        query: impl FnOnce(&dyn Rows, &dyn Vault) -> Result<T, Refusal>,
    ) -> Result<T, Problem> {
        let store = self.platform().store().await?;
        Ok(store.read(|rows| query(rows, store.vault()))??)
    }

    /// Takes the public keys of the writer's access tokens, at a replica. Blocks for a file, if
    /// they have changed.
    #[cfg(feature = "nats")]
    pub(crate) fn learn(&self, keys: &[u8]) {
        self.0.tokens.learn(keys);
    }

    /// The public keys of access tokens, as a JSON Web Key Set.
    pub(crate) fn jwks(&self) -> serde_json::Value {
        self.0.tokens.jwks(now())
    }
}

/// The time.
pub(super) fn now() -> Time {
    Time::from(SystemTime::now())
}

/// The problem of a token that cannot be issued.
pub(super) fn not_issued(error: &access_token::Error) -> Problem {
    tracing::error!(%error, "no access token");
    let words = "no token can be issued; the daemon's log has the reason";
    Problem::new(Kind::Internal, words)
}

impl Identity {
    /// Sends mails through an outbox from now on. A second call changes nothing.
    #[must_use]
    pub fn with_outbox(self, outbox: Outbox) -> Self {
        let _ = self.extras().outbox.set(outbox);
        self
    }

    /// Lets people sign in at these providers from now on. A second call changes nothing.
    #[must_use]
    pub fn with_providers(self, providers: Providers) -> Self {
        let _ = self.extras().providers.set(providers);
        self
    }

    /// The foreign providers, if there are any.
    pub(crate) fn providers(&self) -> Option<&Providers> {
        self.extras().providers.get()
    }

    /// Names the site by its address. A second call changes nothing.
    #[must_use]
    pub fn with_site(self, url: &str) -> Self {
        let host = url.split("://").last().unwrap_or(url).trim_end_matches('/');
        let _ = self.extras().site.set(host.to_owned());
        self
    }

    /// The name of the site.
    pub(super) fn site(&self) -> &str {
        self.extras().site.get().map_or(ISSUER, String::as_str)
    }
}
