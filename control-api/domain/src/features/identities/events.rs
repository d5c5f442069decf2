//! The events of an identity.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    events,
    id::{AccountId, IdentityId},
    vault::Sealed,
};

/// An account can be used with an identity of a foreign provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Linked {
    /// The identity.
    pub identity: IdentityId,
    /// The account.
    pub account: AccountId,
    /// The provider's identifier in the configuration.
    pub provider: String,
    /// The provider's issuer identifier, an address.
    pub issuer: String,
    /// The person's identifier at the provider.
    pub subject: Sealed,
}

/// An identity no longer belongs to an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Unlinked {
    /// The identity.
    pub identity: IdentityId,
}

events! {
    /// An event of an identity.
    pub enum Event {
        Linked = "streamforge.identity.linked.v1" on identity,
        Unlinked = "streamforge.identity.unlinked.v1" on identity,
    }
}
