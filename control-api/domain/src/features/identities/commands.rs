//! Requests to link accounts to identities, and to unlink them.

use super::{
    events::{Linked, Unlinked},
    queries,
    subject::Subject,
    tables::MAX_OF_AN_ACCOUNT,
};
use crate::{
    actor::{Actor, Role},
    command::{Command, Context, Decision, Refusal},
    features::accounts::{self, events::Registered},
    id::{AccountId, IdentityId},
    permission::Who,
    rows::Rows,
    text::{DisplayName, Email},
};

/// Makes an account without a password for a person that signs in with an identity for the first
/// time.
#[derive(Debug)]
pub struct RegisterByIdentity {
    /// The name to show.
    pub name: DisplayName,
    /// The address that the provider names.
    pub email: Email,
    /// Whether the provider has verified the address.
    pub is_verified: bool,
    /// The provider's identifier in the configuration.
    pub provider: String,
    /// The person.
    pub subject: Subject,
}

impl Command for RegisterByIdentity {
    const NAME: &'static str = "identity.register";
    const WHO: Who = Who::System;

    type Done = AccountId;

    fn decide(&self, context: &Context<'_>) -> Result<Decision<AccountId>, Refusal> {
        unknown(context, &self.subject)?;
        let (rows, vault) = (context.rows, context.vault);
        accounts::queries::free_email(rows, vault, &self.email, None)?;
        accounts::queries::free_name(rows, vault, &self.name, None)?;
        let account = AccountId::new(context.ids.next());
        let registered = Registered {
            account,
            role: Role::Viewer,
            name: vault.seal(account, self.name.as_str())?,
            email: vault.seal(account, self.email.as_str())?,
            // No password has an empty hash.
            password: vault.seal(account, "")?,
            is_verified: self.is_verified,
        };
        let decision = Decision::event(registered, account)?;
        decision.and(linked(context, account, &self.provider, &self.subject)?)
    }
}

/// Links an account to an identity, which its owner has just used at the provider.
#[derive(Debug)]
pub struct Link {
    /// The account.
    pub account: AccountId,
    /// The provider's identifier in the configuration.
    pub provider: String,
    /// The person.
    pub subject: Subject,
}

impl Command for Link {
    const NAME: &'static str = "identity.link";
    /// Also an administrator does not act as somebody else.
    const WHO: Who = Who::SignedIn;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        if context.actor.account() != Some(self.account) {
            return Err(Refusal::Forbidden { command: Self::NAME, who: Self::WHO });
        }
        accounts::queries::present(context.rows, self.account)?;
        let owner = queries::by_subject(context.rows, context.vault, &self.subject)?;
        if owner == Some(self.account) {
            return Ok(Decision::nothing(()));
        }
        unknown(context, &self.subject)?;
        let present = queries::of_account(context.rows, self.account)?;
        if present.len() >= MAX_OF_AN_ACCOUNT {
            return Err(Refusal::Limit { things: "identities", limit: MAX_OF_AN_ACCOUNT as u64 });
        }
        Decision::event(linked(context, self.account, &self.provider, &self.subject)?, ())
    }
}

/// Unlinks an identity from its account.
#[derive(Debug)]
pub struct Unlink {
    /// The identity.
    pub identity: IdentityId,
}

impl Command for Unlink {
    const NAME: &'static str = "identity.unlink";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(Some(queries::identity(rows, self.identity)?.account))
    }

    /// Nobody but the owner knows an account's identities.
    fn is_visible(&self, _: &dyn Rows, _: &Actor) -> Result<bool, Refusal> {
        Ok(false)
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let identity = queries::identity(context.rows, self.identity)?;
        let account = accounts::queries::present(context.rows, identity.account)?;
        let person = account.open(context.vault)?;
        let has_password = person.is_some_and(|person| !person.password.is_empty());
        if !has_password && queries::of_account(context.rows, identity.account)?.len() == 1 {
            return Err(Refusal::Conflict {
                rule: "last_credential",
                reason: "nothing else signs in to this account: set a password first",
            });
        }
        Decision::event(Unlinked { identity: self.identity }, ())
    }
}

/// Refuses a person that an account has already.
fn unknown(context: &Context<'_>, subject: &Subject) -> Result<(), Refusal> {
    match queries::by_subject(context.rows, context.vault, subject)? {
        None => Ok(()),
        Some(_) => Err(Refusal::Conflict {
            rule: "identity_taken",
            reason: "another account is linked to this identity",
        }),
    }
}

fn linked(
    context: &Context<'_>,
    account: AccountId,
    provider: &str,
    subject: &Subject,
) -> Result<Linked, Refusal> {
    Ok(Linked {
        identity: IdentityId::new(context.ids.next()),
        account,
        provider: provider.to_owned(),
        issuer: subject.issuer.clone(),
        subject: context.vault.seal(account, &subject.subject)?,
    })
}
