//! Refusals of commands and queries.

use crate::{
    actor::Actor,
    id::AccountId,
    permission::{Permission, Who},
    rows::Fault,
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

impl Permission {
    /// Checks that the actor may do this to a thing of `owner`. `is_visible`: whether the actor may
    /// know that the thing exists.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] if the actor may not know of the thing, [`Refusal::SignIn`] if it may
    /// and is anonymous, otherwise [`Refusal::Forbidden`].
    pub fn check(
        &self,
        actor: &Actor,
        owner: Option<AccountId>,
        is_visible: bool,
    ) -> Result<(), Refusal> {
        match actor {
            _ if self.who.includes(actor, owner) => Ok(()),
            _ if !is_visible => {
                let thing = self.command.split('.').next().unwrap_or(self.command);
                Err(Refusal::NotFound { thing })
            }
            Actor::Anonymous => Err(Refusal::SignIn),
            _ => Err(Refusal::Forbidden { command: self.command, who: self.who }),
        }
    }
}
