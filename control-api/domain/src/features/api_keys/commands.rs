//! Requests to add and revoke API keys.

use super::{
    events::{Added, Revoked},
    queries,
    tables::{BY_DIGEST, MAX_OF_AN_ACCOUNT},
};
use crate::{
    actor::{Actor, Role},
    command::{Command, Context, Decision, Refusal},
    features::{accounts, stream_keys::events::KeyDigest},
    id::{AccountId, ApiKeyId},
    permission::Who,
    rows::Rows,
    scope::Scopes,
    text::KeyName,
    time::Time,
};

/// Adds a key to an account.
#[derive(Debug)]
pub struct AddKey {
    /// The account.
    pub account: AccountId,
    /// A name for the key, which no other key of the account has.
    pub name: KeyName,
    /// The digest of the secret, which was made at random.
    pub digest: KeyDigest,
    /// The part of the account's rights.
    pub scopes: Scopes,
    /// The time from which it is not valid.
    pub expires: Option<Time>,
}

impl Command for AddKey {
    const NAME: &'static str = "api_key.add";
    /// Also an administrator does not act as somebody else.
    const WHO: Who = Who::SignedIn;

    type Done = ApiKeyId;

    fn decide(&self, context: &Context<'_>) -> Result<Decision<ApiKeyId>, Refusal> {
        if context.actor.account() != Some(self.account) {
            return Err(Refusal::Forbidden { command: Self::NAME, who: Self::WHO });
        }
        accounts::queries::present(context.rows, self.account)?;
        if self.scopes.is_empty() {
            return Err(Refusal::Conflict {
                rule: "no_scopes",
                reason: "a key without a scope could do nothing",
            });
        }
        if self.expires.is_some_and(|expires| expires <= context.now) {
            return Err(Refusal::Conflict {
                rule: "expired",
                reason: "the key would have expired before it was made",
            });
        }
        let keys = queries::of_account(context.rows, self.account)?;
        if keys.len() >= MAX_OF_AN_ACCOUNT {
            return Err(Refusal::Limit { things: "API keys", limit: MAX_OF_AN_ACCOUNT as u64 });
        }
        for (_, key) in keys {
            if context.vault.open(&key.name)?.as_deref() == Some(self.name.as_str()) {
                return Err(Refusal::Conflict {
                    rule: "name_taken",
                    reason: "another API key of the account has this name",
                });
            }
        }
        if BY_DIGEST.contains(context.rows, &self.digest.0)? {
            return Err(Refusal::Conflict { rule: "key_taken", reason: "this key exists" });
        }
        let key = ApiKeyId::new(context.ids.next());
        let event = Added {
            key,
            account: self.account,
            name: context.vault.seal(self.account, self.name.as_str())?,
            digest: self.digest,
            scopes: self.scopes,
            expires: self.expires,
        };
        Decision::event(event, key)
    }
}

/// Revokes a key.
#[derive(Debug)]
pub struct RevokeKey {
    /// The key.
    pub key: ApiKeyId,
}

impl Command for RevokeKey {
    const NAME: &'static str = "api_key.revoke";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(Some(queries::key(rows, self.key)?.account))
    }

    /// Nobody but the owner knows an account's keys.
    fn is_visible(&self, _: &dyn Rows, _: &Actor) -> Result<bool, Refusal> {
        Ok(false)
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        queries::key(context.rows, self.key)?;
        Decision::event(Revoked { key: self.key }, ())
    }
}
