//! On whose behalf something is done.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    id::{AccountId, ApiKeyId},
    scope::{Scope, Scopes},
};

/// The role of an account. Each includes those before it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Watches, and has a profile.
    Viewer,
    /// Has channels and videos.
    Creator,
    /// Decides about what others have published.
    Moderator,
    /// May do everything.
    Administrator,
}

impl Role {
    /// All roles, in order.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Creator, Self::Moderator, Self::Administrator];
}

/// The authenticated sender of a command or a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// Somebody without an account, or who is not signed in.
    Anonymous,
    /// A person with an account.
    Person {
        /// The account.
        id: AccountId,
        /// Its role when the request was authenticated.
        role: Role,
    },
    /// A program with an API key of an account.
    Key {
        /// The key.
        key: ApiKeyId,
        /// The account that the key belongs to.
        id: AccountId,
        /// The account's role when the request was authenticated.
        role: Role,
        /// The part of the account's rights that the key has.
        scopes: Scopes,
    },
    /// The daemon itself, and the operator at its machine: may do everything.
    System,
}

impl Actor {
    /// The account, if there is one.
    pub fn account(&self) -> Option<AccountId> {
        match *self {
            Self::Person { id, .. } | Self::Key { id, .. } => Some(id),
            Self::Anonymous | Self::System => None,
        }
    }

    /// Whether the actor has this role or a greater one. A key without the scope `admin` has no
    /// greater one than a creator, whatever its account has.
    pub fn has(&self, role: Role) -> bool {
        match *self {
            Self::Person { role: own, .. } => own >= role,
            Self::Key { role: own, scopes, .. } if scopes.contains(Scope::Admin) => own >= role,
            Self::Key { role: own, .. } => own.min(Role::Creator) >= role,
            Self::Anonymous => false,
            Self::System => true,
        }
    }

    /// Whether the actor's credentials reach this far: only API keys are limited to their scopes.
    /// `None` is beyond every key.
    pub fn reaches(&self, scope: Option<Scope>) -> bool {
        match *self {
            Self::Key { scopes, .. } => scope.is_some_and(|scope| scopes.contains(scope)),
            Self::Anonymous | Self::Person { .. } | Self::System => true,
        }
    }

    /// The name in events.
    pub fn id(&self) -> ActorId {
        match *self {
            Self::Anonymous => ActorId::Anonymous,
            Self::Person { id, .. } | Self::Key { id, .. } => ActorId::Account(id),
            Self::System => ActorId::System,
        }
    }
}

/// The name of an actor in an event: `anonymous`, `system` or an account's identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ActorId {
    /// Nobody who is known.
    Anonymous,
    /// A person.
    Account(AccountId),
    /// The daemon or its operator.
    System,
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Account(id) => id.fmt(f),
            Self::System => f.write_str("system"),
        }
    }
}

impl From<ActorId> for String {
    fn from(id: ActorId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for ActorId {
    type Error = uuid::Error;

    fn try_from(text: String) -> Result<Self, uuid::Error> {
        match text.as_str() {
            "anonymous" => Ok(Self::Anonymous),
            "system" => Ok(Self::System),
            id => id.parse().map(Self::Account),
        }
    }
}
