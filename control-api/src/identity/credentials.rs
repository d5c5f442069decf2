//! The credentials of a request: an access token, an API key, or a cookie with an access token.

use control_domain::{
    Actor, Role, Scopes, Time,
    features::api_keys,
    id::{AccountId, ApiKeyId, SessionId},
};
use sha2::{Digest as _, Sha256};

use super::authority::{Identity, now};
use crate::problem::Problem;

/// The prefix of API keys, by which scanners for leaked secrets find them.
pub const API_KEY_PREFIX: &str = "sfk_";

/// Credentials that were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// The actor.
    pub actor: Actor,
    /// The account.
    pub account: AccountId,
    /// The session; `None` with an API key.
    pub session: Option<SessionId>,
}

/// What a token is, if it is valid (RFC 7662 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Introspection {
    /// The account.
    pub account: AccountId,
    /// Its present role.
    pub role: Role,
    /// The session of an access token.
    pub session: Option<SessionId>,
    /// The API key, and its scopes.
    pub key: Option<(ApiKeyId, Scopes)>,
    /// When it was issued.
    pub issued: Time,
    /// From when it is not valid.
    pub expires: Option<Time>,
}

impl Introspection {
    fn credentials(self) -> Credentials {
        let Self { account: id, role, session, key, .. } = self;
        let actor = match key {
            Some((key, scopes)) => Actor::Key { key, id, role, scopes },
            None => Actor::Person { id, role },
        };
        Credentials { actor, account: id, session }
    }
}

impl Identity {
    /// The credentials that a token is: an API key, or an access token whose session has not ended.
    /// `None` if it is not valid. Costs two point reads.
    ///
    /// # Errors
    /// 5xx if the database cannot be read.
    pub async fn credentials(&self, token: &str) -> Result<Option<Credentials>, Problem> {
        Ok(self.introspect(token).await?.map(Introspection::credentials))
    }

    /// What a token is; `None` if it is not valid.
    ///
    /// # Errors
    /// 5xx if the database cannot be read.
    pub async fn introspect(&self, token: &str) -> Result<Option<Introspection>, Problem> {
        let now = now();
        if token.starts_with(API_KEY_PREFIX) {
            return self.api_key(token, now).await;
        }
        // The signature first: anybody can send tokens that have none.
        let Some(claims) = self.tokens().verify(token, now) else { return Ok(None) };
        let store = self.platform().store().await?;
        let found = self.session(&store, claims.session, now)?;
        let found = found.filter(|(session, _)| session.account == claims.account);
        Ok(found.map(|(session, account)| Introspection {
            account: session.account,
            role: account.role,
            session: Some(claims.session),
            key: None,
            issued: claims.issued,
            expires: Some(claims.expires),
        }))
    }

    async fn api_key(&self, token: &str, now: Time) -> Result<Option<Introspection>, Problem> {
        let digest = Sha256::digest(token).into();
        let store = self.platform().store().await?;
        let found = store.read(|rows| api_keys::queries::in_force(rows, &digest, now))??;
        Ok(found.map(|(id, key, account)| Introspection {
            account: key.account,
            role: account.role,
            session: None,
            key: Some((id, key.scopes)),
            issued: key.added,
            expires: key.expires,
        }))
    }
}
