//! The tables of API keys, and the fold that writes them.

use serde::{Deserialize, Serialize};

use super::events::Event;
use crate::{
    event::{Envelope, Events as _},
    feature::Folding,
    features::accounts,
    id::{AccountId, ApiKeyId},
    rows::{Fault, Order, RowsMut},
    scope::Scopes,
    table::Table,
    time::Time,
    vault::Sealed,
};

/// An API key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The account whose rights it has.
    pub account: AccountId,
    /// The name that its owner gave it, which may tell something of a person.
    pub name: Sealed,
    /// The SHA-256 of the secret.
    pub digest: [u8; 32],
    /// The part of the rights.
    pub scopes: Scopes,
    /// When it was made.
    pub added: Time,
    /// The time from which it is not valid.
    pub expires: Option<Time>,
}

/// All keys that are not revoked, also expired ones.
pub const KEYS: Table<ApiKeyId, ApiKey> = Table::new("api_keys.keys");
/// Keys by the digest of their secret.
pub const BY_DIGEST: Table<[u8; 32], ApiKeyId> = Table::new("api_keys.by_digest");
/// The keys of an account.
pub const BY_ACCOUNT: Table<(AccountId, ApiKeyId), ()> = Table::new("api_keys.by_account");

/// The greatest number of keys of an account.
pub const MAX_OF_AN_ACCOUNT: usize = 50;

/// Applies an event of an API key, or the end of an account.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn fold(folding: &mut Folding<'_>, envelope: &Envelope) -> Result<(), Fault> {
    let rows = &mut *folding.rows;
    if envelope.kind == accounts::events::ERASED {
        let accounts::events::Event::Erased(event) = accounts::events::Event::read(envelope)?
        else {
            return Ok(());
        };
        let own = BY_ACCOUNT.page(rows, &event.account, None, Order::Up, MAX_OF_AN_ACCOUNT)?;
        return own.iter().try_for_each(|((_, key), ())| remove(rows, *key));
    }
    match Event::read(envelope)? {
        Event::Added(event) => {
            let key = ApiKey {
                account: event.account,
                name: event.name,
                digest: event.digest.0,
                scopes: event.scopes,
                added: envelope.time,
                expires: event.expires,
            };
            BY_DIGEST.put(rows, &key.digest, &event.key)?;
            BY_ACCOUNT.put(rows, &(key.account, event.key), &())?;
            KEYS.put(rows, &event.key, &key)
        }
        Event::Revoked(event) => remove(rows, event.key),
    }
}

fn remove(rows: &mut dyn RowsMut, id: ApiKeyId) -> Result<(), Fault> {
    let Some(key) = KEYS.get(rows, &id)? else { return Ok(()) };
    BY_DIGEST.remove(rows, &key.digest)?;
    BY_ACCOUNT.remove(rows, &(key.account, id))?;
    KEYS.remove(rows, &id)
}
