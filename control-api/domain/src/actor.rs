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
    /// The daemon itself: may do everything.
    System,
    /// The operator of the daemon: may do everything.
    Operator(Door),
}

/// The way by which the operator reaches the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// The control socket, or the command line on the files while no daemon runs.
    Socket,
    /// The administrator's token of the configuration.
    Token,
    /// A signal to the process.
    Signal,
}

impl Door {
    /// All ways.
    pub const ALL: [Self; 3] = [Self::Socket, Self::Token, Self::Signal];

    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Token => "token",
            Self::Signal => "signal",
        }
    }

    /// The name of the operator in events, with the door.
    const fn full_name(self) -> &'static str {
        match self {
            Self::Socket => "operator:socket",
            Self::Token => "operator:token",
            Self::Signal => "operator:signal",
        }
    }
}

/// The special right that an act needed, so that the audit log keeps it: more than the right of an
/// owner over an own thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Authority {
    /// The account is a moderator.
    Moderator,
    /// The account is an administrator.
    Administrator,
    /// The operator did it.
    Operator,
}

impl Actor {
    /// The account, if there is one.
    pub fn account(&self) -> Option<AccountId> {
        match *self {
            Self::Person { id, .. } | Self::Key { id, .. } => Some(id),
            Self::Anonymous | Self::System | Self::Operator(_) => None,
        }
    }

    /// Whether no permission limits the actor: the daemon and its operator.
    pub fn is_unlimited(&self) -> bool {
        matches!(self, Self::System | Self::Operator(_))
    }

    /// Whether the actor has this role or a greater one. A key without the scope `admin` has no
    /// greater one than a creator, whatever its account has.
    pub fn has(&self, role: Role) -> bool {
        match *self {
            Self::Person { role: own, .. } => own >= role,
            Self::Key { role: own, scopes, .. } if scopes.contains(Scope::Admin) => own >= role,
            Self::Key { role: own, .. } => own.min(Role::Creator) >= role,
            Self::Anonymous => false,
            Self::System | Self::Operator(_) => true,
        }
    }

    /// Whether the actor's credentials reach this far: only API keys are limited to their scopes.
    /// `None` is beyond every key.
    pub fn reaches(&self, scope: Option<Scope>) -> bool {
        match *self {
            Self::Key { scopes, .. } => scope.is_some_and(|scope| scopes.contains(scope)),
            Self::Anonymous | Self::Person { .. } | Self::System | Self::Operator(_) => true,
        }
    }

    /// The name in events.
    pub fn id(&self) -> ActorId {
        match *self {
            Self::Anonymous => ActorId::Anonymous,
            Self::Person { id, .. } | Self::Key { id, .. } => ActorId::Account(id),
            Self::System => ActorId::System,
            Self::Operator(door) => ActorId::Operator(door),
        }
    }
}

/// The name of an actor in an event: `anonymous`, `system`, `operator:` with the way by which the
/// operator came, or an account's identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ActorId {
    /// Nobody who is known.
    Anonymous,
    /// A person.
    Account(AccountId),
    /// The daemon.
    System,
    /// The operator of the daemon.
    Operator(Door),
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Account(id) => id.fmt(f),
            Self::System => f.write_str("system"),
            Self::Operator(door) => f.write_str(door.full_name()),
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
            other => match Door::ALL.into_iter().find(|door| other == door.full_name()) {
                Some(door) => Ok(Self::Operator(door)),
                None => other.parse().map(Self::Account),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_actor_is_read_back() {
        let account = AccountId::new(uuid::Uuid::from_u128(7));
        let doors = Door::ALL.map(ActorId::Operator);
        for id in [ActorId::Anonymous, ActorId::System, ActorId::Account(account)]
            .into_iter()
            .chain(doors)
        {
            let text = serde_json::to_string(&id).expect("a name");
            assert_eq!(serde_json::from_str::<ActorId>(&text).expect("the same name"), id);
        }
        assert_eq!(ActorId::Operator(Door::Socket).to_string(), "operator:socket");
        for text in ["operator", "operator:", "operator:window", "somebody"] {
            assert!(ActorId::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
