//! The events of an API key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    events,
    features::stream_keys::events::KeyDigest,
    id::{AccountId, ApiKeyId},
    scope::Scopes,
    time::Time,
    vault::Sealed,
};

/// An account has another key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Added {
    /// The key.
    pub key: ApiKeyId,
    /// The account whose rights it has.
    pub account: AccountId,
    /// The name that its owner gave it, which may tell something of a person.
    pub name: Sealed,
    /// The digest of the secret.
    pub digest: KeyDigest,
    /// The part of the rights: names of scopes, of which a later version may have others.
    #[schemars(with = "Vec<String>")]
    pub scopes: Scopes,
    /// The time from which it is not valid; none if it is valid until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
}

/// A key is no longer valid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Revoked {
    /// The key.
    pub key: ApiKeyId,
}

events! {
    /// An event of an API key.
    pub enum Event {
        Added = "streamforge.api_key.added.v1" on key,
        Revoked = "streamforge.api_key.revoked.v1" on key,
    }
}
