//! The readers of events: each feature declares for its events which actors may read them.

use crate::{
    actor::{Actor, ActorId, Role},
    event::Envelope,
    feature::Feature,
    id::AccountId,
    rows::{Fault, Rows},
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

/// Whether an actor may read an event, by the tables as they are now.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn may_read(
    features: &[&Feature],
    rows: &dyn Rows,
    actor: &Actor,
    envelope: &Envelope,
) -> Result<bool, Fault> {
    let is_own = matches!(envelope.actor, ActorId::Account(id) if actor.account() == Some(id));
    if is_own || actor.has(Role::Administrator) {
        return Ok(true);
    }
    let declares = |feature: &&&Feature| feature.declares(&envelope.kind);
    match features.iter().find(declares) {
        Some(feature) => Ok((feature.audience)(rows, envelope)?.includes(actor)),
        // A newer version wrote it.
        None => Ok(false),
    }
}
