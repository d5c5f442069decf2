//! Refusals of commands and queries.

use crate::{
    actor::Actor,
    id::AccountId,
    permission::{Permission, Who},
    rows::Fault,
    scope::Scope,
};

/// Why a command was not carried out, or a query not allowed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The command needs an account.
    #[error("sign in first")]
    SignIn,
    /// The actor may not do this.
    #[error("this is not permitted to you: {command} is for {who}")]
    Forbidden {
        /// The command's name.
        command: &'static str,
        /// The actors that may send it.
        who: Who,
    },
    /// The account may do this, but the API key may not.
    #[error("{command} is beyond the scopes of this API key{}", needed(.scope))]
    Scope {
        /// The command's name.
        command: &'static str,
        /// The scope that the key needs; `None` if no key may do it.
        scope: Option<Scope>,
    },
    /// The thing does not exist, or the actor may not know of it.
    #[error("there is no such {thing}")]
    NotFound {
        /// The kind of thing.
        thing: &'static str,
    },
    /// A rule over what exists forbids it.
    #[error("{reason}")]
    Conflict {
        /// A short name of the rule, which does not change: `name_taken`.
        rule: &'static str,
        /// The rule in a sentence.
        reason: &'static str,
    },
    /// The thing is no longer as the sender has read it.
    #[error("the {thing} has changed since it was read")]
    Changed {
        /// The kind of thing.
        thing: &'static str,
    },
    /// There is no room: a limit on a number of things.
    #[error("at most {limit} {things} are allowed")]
    Limit {
        /// The kind of things.
        things: &'static str,
        /// The greatest number.
        limit: u64,
    },
    /// The tables or keys could not be read.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The end of the sentence about a scope.
fn needed(scope: &Option<Scope>) -> String {
    match scope {
        Some(scope) => format!(": it needs the scope {scope}"),
        None => ": sign in with the password".to_owned(),
    }
}

impl Permission {
    /// Whether the actor is one of those that may do this to a thing of `owner`, with the
    /// credentials that it has.
    pub fn permits(&self, actor: &Actor, owner: Option<AccountId>) -> bool {
        self.who.includes(actor, owner) && actor.reaches(Scope::of(self.command))
    }

    /// Checks that the actor may do this to a thing of `owner`. `is_visible`: whether the actor may
    /// know that the thing exists.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] if the actor may not know of the thing, [`Refusal::SignIn`] if it may
    /// and is anonymous, [`Refusal::Scope`] if its account may do it but its API key may not,
    /// otherwise [`Refusal::Forbidden`].
    pub fn check(
        &self,
        actor: &Actor,
        owner: Option<AccountId>,
        is_visible: bool,
    ) -> Result<(), Refusal> {
        let (command, who) = (self.command, self.who);
        match actor {
            _ if self.permits(actor, owner) => Ok(()),
            // The account itself may know of it.
            _ if who.includes(actor, owner) => {
                Err(Refusal::Scope { command, scope: Scope::of(command) })
            }
            _ if !is_visible => {
                Err(Refusal::NotFound { thing: command.split('.').next().unwrap_or(command) })
            }
            Actor::Anonymous => Err(Refusal::SignIn),
            _ => Err(Refusal::Forbidden { command, who }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{actor::Role, id::ApiKeyId, scope::Scopes};

    const OWNER: AccountId = AccountId::new(uuid::Uuid::from_u128(1));
    const OTHER: AccountId = AccountId::new(uuid::Uuid::from_u128(2));

    fn key(id: AccountId, role: Role, scopes: &[Scope]) -> Actor {
        let scopes = scopes.iter().copied().collect::<Scopes>();
        Actor::Key { key: ApiKeyId::new(uuid::Uuid::nil()), id, role, scopes }
    }

    #[test]
    fn a_key_has_its_scopes_and_acts_on_own_things_unless_it_has_the_scope_admin() {
        let edit = Permission { command: "channel.edit", who: Who::OwnerOr(Role::Moderator) };
        let result = |actor: &Actor| match edit.check(actor, Some(OWNER), true) {
            Ok(()) => "permitted",
            Err(Refusal::Scope { scope: Some(Scope::Channels), .. }) => "out of scope",
            Err(Refusal::Forbidden { .. }) => "forbidden",
            Err(other) => panic!("{other}"),
        };
        let channels = [Scope::Channels];
        assert_eq!(result(&key(OWNER, Role::Creator, &channels)), "permitted");
        let others = [Scope::Read, Scope::Admin];
        assert_eq!(result(&key(OWNER, Role::Creator, &others)), "out of scope");
        let root = |scopes: &[Scope]| result(&key(OTHER, Role::Administrator, scopes));
        assert_eq!(root(&channels), "forbidden");
        assert_eq!(root(&[Scope::Channels, Scope::Admin]), "permitted");
        assert_eq!(result(&key(OTHER, Role::Viewer, &Scope::ALL)), "forbidden");
    }

    #[test]
    fn no_key_sends_commands_about_credentials_also_not_one_of_an_administrator() {
        let add = Permission { command: "api_key.add", who: Who::OwnerOr(Role::Administrator) };
        let refused = add.check(&key(OWNER, Role::Administrator, &Scope::ALL), Some(OWNER), true);
        assert!(matches!(refused, Err(Refusal::Scope { scope: None, .. })), "{refused:?}");
        let person = Actor::Person { id: OWNER, role: Role::Viewer };
        assert!(add.check(&person, Some(OWNER), true).is_ok());
    }
}
