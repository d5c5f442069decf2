//! Questions about API keys. They read tables only.

use serde_json::json;

use super::{
    events::Event,
    tables::{ApiKey, BY_ACCOUNT, BY_DIGEST, KEYS, MAX_OF_AN_ACCOUNT},
};
use crate::{
    actor::{Actor, Role},
    audience::Audience,
    event::{Envelope, Events as _},
    export::{ExportOf, Portion},
    features::accounts::{self, queries::Account},
    id::{AccountId, ApiKeyId},
    permission::{Permission, Who},
    refusal::Refusal,
    rows::{Fault, Order, Rows},
    time::Time,
};

/// A key, or [`Refusal::NotFound`].
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::Fault`].
pub fn key(rows: &dyn Rows, id: ApiKeyId) -> Result<ApiKey, Refusal> {
    KEYS.get(rows, &id)?.ok_or(Refusal::NotFound { thing: "api_key" })
}

/// The keys of an account, the oldest first: at most [`MAX_OF_AN_ACCOUNT`].
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn of_account(rows: &dyn Rows, account: AccountId) -> Result<Vec<(ApiKeyId, ApiKey)>, Fault> {
    let ids = BY_ACCOUNT.page(rows, &account, None, Order::Up, MAX_OF_AN_ACCOUNT)?;
    let mut keys = Vec::with_capacity(ids.len());
    for ((_, id), ()) in ids {
        keys.extend(KEYS.get(rows, &id)?.map(|key| (id, key)));
    }
    Ok(keys)
}

/// The key with this digest and its account, if it is in force: it is not revoked, has not expired,
/// and the account is not erased.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn in_force(
    rows: &dyn Rows,
    digest: &[u8; 32],
    now: Time,
) -> Result<Option<(ApiKeyId, ApiKey, Account)>, Fault> {
    let Some(id) = BY_DIGEST.get(rows, digest)? else { return Ok(None) };
    let Some(key) = KEYS.get(rows, &id)? else { return Ok(None) };
    if key.expires.is_some_and(|expires| expires <= now) {
        return Ok(None);
    }
    let account = accounts::queries::account(rows, key.account)?;
    let account = account.filter(|account| account.person.is_some());
    Ok(account.map(|account| (id, key, account)))
}

/// The actors that may list the API keys of an account.
pub const LIST: Permission =
    Permission { command: "api_key.list", who: Who::OwnerOr(Role::Administrator) };

/// The API keys of an account for an actor, the oldest first: at most [`MAX_OF_AN_ACCOUNT`].
///
/// # Errors
/// A refusal of [`LIST`].
pub fn list(
    rows: &dyn Rows,
    actor: &Actor,
    account: AccountId,
) -> Result<Vec<(ApiKeyId, ApiKey)>, Refusal> {
    LIST.check(actor, Some(account), false)?;
    Ok(of_account(rows, account)?)
}

/// A key's events are for its owner.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn audience(rows: &dyn Rows, envelope: &Envelope) -> Result<Audience, Fault> {
    let account = match Event::read(envelope)? {
        Event::Added(event) => Some(event.account),
        // Its row is gone, and its owner is the actor, who may always read it.
        Event::Revoked(event) => KEYS.get(rows, &event.key)?.map(|key| key.account),
    };
    Ok(account.map_or(Audience::Administrators, Audience::Owner))
}

/// The keys of a person, without their secrets.
///
/// # Errors
/// A [`Fault`] of the tables or the vault.
pub fn export(person: &ExportOf<'_>, _: Option<&[u8]>) -> Result<Portion, Fault> {
    let mut items = Vec::new();
    for (id, key) in of_account(person.rows, person.id)? {
        items.push(json!({
            "id": id,
            "name": person.vault.open(&key.name)?,
            "scopes": key.scopes,
            "added": key.added,
            "expires": key.expires,
        }));
    }
    Ok(Portion::whole(items))
}
