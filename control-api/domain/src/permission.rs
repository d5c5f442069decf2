//! The table of permissions: the actors that may send a command or a restricted query. Each command
//! and each such query names one row of it.

use std::fmt;

use crate::{
    actor::{Actor, Role},
    id::AccountId,
};

/// The actors that may send a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Everybody.
    Anyone,
    /// Everybody who is signed in.
    SignedIn,
    /// Accounts of this role or a greater one.
    Role(Role),
    /// The owner of the thing, and accounts of this role or a greater one.
    OwnerOr(Role),
    /// The daemon and its operator alone.
    System,
}

impl Who {
    /// Whether the actor is one of them. `owner` is the account that owns the thing, if the command
    /// is about one.
    pub fn includes(self, actor: &Actor, owner: Option<AccountId>) -> bool {
        match self {
            _ if actor.is_unlimited() => true,
            Self::Anyone => true,
            Self::SignedIn => actor.account().is_some(),
            Self::Role(role) => actor.has(role),
            Self::OwnerOr(role) => actor.has(role) || (owner.is_some() && owner == actor.account()),
            Self::System => false,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::SignedIn => f.write_str("signed in"),
            Self::Role(role) => write!(f, "{}", name(*role)),
            Self::OwnerOr(role) => write!(f, "owner, {}", name(*role)),
            Self::System => f.write_str("operator"),
        }
    }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Creator => "creator",
        Role::Moderator => "moderator",
        Role::Administrator => "administrator",
    }
}

/// A row of the table of permissions.
#[derive(Debug, Clone, Copy)]
pub struct Permission {
    /// The name of the command or query: `feature.verb`.
    pub command: &'static str,
    /// The actors that may send it.
    pub who: Who,
}
