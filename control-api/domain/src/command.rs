//! Commands: requests to change something, decided by pure functions.

pub use crate::refusal::Refusal;
use crate::{
    actor::{Actor, Authority, Role},
    event::NewEvent,
    id::AccountId,
    permission::{Permission, Who},
    rows::{Fault, Rows},
    time::Time,
    vault::Vault,
};

/// A request to change something.
///
/// A command is decided within the write transaction, on the tables as they are at that moment.
/// Therefore rules over several things, such as unique names, need no versions and no retries. It
/// is decided quickly: a password is hashed before.
pub trait Command: Send {
    /// The name in the table of permissions: `feature.verb`.
    const NAME: &'static str;
    /// The actors that may send it.
    const WHO: Who;

    /// The row in the table of permissions.
    const PERMISSION: Permission = Permission { command: Self::NAME, who: Self::WHO };

    /// The result for the sender, such as the identifier of the thing that was made.
    type Done: Send;

    /// The account that owns the thing that this is about.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] if the thing does not exist.
    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        let _ = rows;
        Ok(None)
    }

    /// Whether the actor may know that the thing exists. If not, a command that is not permitted is
    /// refused as if it did not exist.
    ///
    /// # Errors
    /// [`Refusal::Fault`].
    fn is_visible(&self, rows: &dyn Rows, actor: &Actor) -> Result<bool, Refusal> {
        let _ = (rows, actor);
        Ok(true)
    }

    /// The events that follow from the command. None if it changes nothing, because it was sent
    /// before.
    ///
    /// # Errors
    /// A [`Refusal`]; then nothing happens.
    fn decide(&self, context: &Context<'_>) -> Result<Decision<Self::Done>, Refusal>;
}

/// Events, and the result for the sender.
#[derive(Debug)]
pub struct Decision<Done> {
    /// In the order in which they happen.
    pub events: Vec<NewEvent>,
    /// The result.
    pub done: Done,
}

impl<Done> Decision<Done> {
    /// No event.
    pub fn nothing(done: Done) -> Self {
        Self { events: Vec::new(), done }
    }

    /// One event.
    ///
    /// # Errors
    /// [`Fault::Event`] if its data cannot be written.
    pub fn event<E: TryInto<NewEvent, Error = Fault>>(
        event: E,
        done: Done,
    ) -> Result<Self, Refusal> {
        Ok(Self { events: vec![event.try_into()?], done })
    }

    /// Adds an event.
    ///
    /// # Errors
    /// [`Fault::Event`] if its data cannot be written.
    pub fn and<E: TryInto<NewEvent, Error = Fault>>(mut self, event: E) -> Result<Self, Refusal> {
        self.events.push(event.try_into()?);
        Ok(self)
    }
}

/// Everything that a decision may depend on.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The tables, as they are now.
    pub rows: &'a dyn Rows,
    /// The time of the decision.
    pub now: Time,
    /// The sender.
    pub actor: &'a Actor,
    /// Makes identifiers.
    pub ids: &'a dyn Ids,
    /// Seals and opens personal data.
    pub vault: &'a dyn Vault,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("now", &self.now).field("actor", &self.actor).finish()
    }
}

impl Context<'_> {
    /// The account of the sender.
    ///
    /// # Errors
    /// [`Refusal::SignIn`] if there is none.
    pub fn account(&self) -> Result<AccountId, Refusal> {
        self.actor.account().ok_or(Refusal::SignIn)
    }
}

/// Makes identifiers: UUIDs of version 7 in the daemon, a sequence in tests.
pub trait Ids {
    /// Another identifier, greater than all before.
    fn next(&self) -> uuid::Uuid;
}

/// Decides a command: first whether the actor may send it, then what follows.
///
/// # Errors
/// A [`Refusal`]; then nothing happens.
pub fn decide<C: Command>(
    command: &C,
    context: &Context<'_>,
) -> Result<Decision<C::Done>, Refusal> {
    let owner = command.owner(context.rows)?;
    if !C::PERMISSION.permits(context.actor, owner) {
        let is_visible = command.is_visible(context.rows, context.actor)?;
        C::PERMISSION.check(context.actor, owner, is_visible)?;
    }
    let mut decision = command.decide(context)?;
    let authority = authority(C::WHO, context.actor, owner);
    decision.events.iter_mut().for_each(|event| event.authority = authority);
    Ok(decision)
}

/// The right without which the actor could not have sent the command: a role, because the thing is
/// somebody else's or the command is for a role alone. `None` for an own thing, and for the daemon.
fn authority(who: Who, actor: &Actor, owner: Option<AccountId>) -> Option<Authority> {
    let (id, role) = match *actor {
        Actor::Anonymous | Actor::System => return None,
        Actor::Operator(_) => return Some(Authority::Operator),
        Actor::Person { id, role } | Actor::Key { id, role, .. } => (id, role),
    };
    let needs_role = match who {
        Who::Role(role) if role >= Role::Moderator => true,
        Who::OwnerOr(_) => owner != Some(id),
        Who::Anyone | Who::SignedIn | Who::System | Who::Role(_) => {
            owner.is_some_and(|owner| owner != id)
        }
    };
    needs_role.then_some(match role {
        Role::Administrator => Authority::Administrator,
        Role::Viewer | Role::Creator | Role::Moderator => Authority::Moderator,
    })
}
