//! The readers of events: each feature declares for its events which actors may read them.

use crate::{
    actor::{Actor, Role},
    id::AccountId,
};

/// The actors that may read an event. The actor on whose behalf it happened may always read it, and
/// so may administrators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Everybody.
    Anyone,
    /// An account, and moderators.
    OwnerAndModerators(AccountId),
    /// An account.
    Owner(AccountId),
    /// Nobody else.
    Administrators,
}

impl Audience {
    /// Whether the actor is one of them.
    pub fn includes(self, actor: &Actor) -> bool {
        let is = |account: AccountId| actor.account() == Some(account);
        match self {
            Self::Anyone => true,
            Self::OwnerAndModerators(owner) => is(owner) || actor.has(Role::Moderator),
            Self::Owner(owner) => is(owner) || actor.has(Role::Administrator),
            Self::Administrators => actor.has(Role::Administrator),
        }
    }
}
