//! Who may send a command. Each command names one row of this table.

use std::fmt;

use crate::{
    actor::{Actor, Role},
    id::AccountId,
    scope::Scope,
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
            _ if *actor == Actor::System => true,
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
    /// The command's name.
    pub command: &'static str,
    /// The actors that may send it.
    pub who: Who,
}

/// Whether an actor may send a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Permitted,
    /// It is not one of the actors that may.
    NotIncluded,
    /// The account may, but not with this API key. The scope that the key needs; `None` if no key
    /// may send it.
    OutOfScope(Option<Scope>),
}

impl Permission {
    /// Whether the actor may send the command about a thing of this owner.
    pub fn verdict(&self, actor: &Actor, owner: Option<AccountId>) -> Verdict {
        let scope = Scope::of(self.command);
        match self.who.includes(actor, owner) {
            false => Verdict::NotIncluded,
            true if actor.reaches(scope) => Verdict::Permitted,
            true => Verdict::OutOfScope(scope),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::ApiKeyId, scope::Scopes};

    const OWNER: AccountId = AccountId::new(uuid::Uuid::from_u128(1));
    const OTHER: AccountId = AccountId::new(uuid::Uuid::from_u128(2));

    fn key(id: AccountId, role: Role, scopes: &[Scope]) -> Actor {
        let scopes = scopes.iter().copied().collect::<Scopes>();
        Actor::Key { key: ApiKeyId::new(uuid::Uuid::nil()), id, role, scopes }
    }

    #[test]
    fn a_key_has_its_scopes_and_acts_on_own_things_unless_it_has_the_scope_admin() {
        let edit = Permission { command: "channel.edit", who: Who::OwnerOr(Role::Moderator) };
        let verdict = |actor: &Actor| edit.verdict(actor, Some(OWNER));
        let channels = [Scope::Channels];
        assert_eq!(verdict(&key(OWNER, Role::Creator, &channels)), Verdict::Permitted);
        let out = Verdict::OutOfScope(Some(Scope::Channels));
        assert_eq!(verdict(&key(OWNER, Role::Creator, &[Scope::Read, Scope::Admin])), out);
        let root = |scopes: &[Scope]| verdict(&key(OTHER, Role::Administrator, scopes));
        assert_eq!(root(&channels), Verdict::NotIncluded);
        assert_eq!(root(&[Scope::Channels, Scope::Admin]), Verdict::Permitted);
        assert_eq!(verdict(&key(OTHER, Role::Viewer, &Scope::ALL)), Verdict::NotIncluded);
    }

    #[test]
    fn no_key_sends_commands_about_credentials_also_not_one_of_an_administrator() {
        let add = Permission { command: "api_key.add", who: Who::OwnerOr(Role::Administrator) };
        let verdict = add.verdict(&key(OWNER, Role::Administrator, &Scope::ALL), Some(OWNER));
        assert_eq!(verdict, Verdict::OutOfScope(None));
        let person = Actor::Person { id: OWNER, role: Role::Viewer };
        assert_eq!(add.verdict(&person, Some(OWNER)), Verdict::Permitted);
    }
}
