//! Requests to make and change accounts.

use super::{
    events::{
        EmailChanged, EmailVerified, Erased, PasswordExpired, PasswordSet, ProfileEdited,
        Registered, RoleChanged,
    },
    queries,
};
use crate::{
    actor::Role,
    command::{Command, Context, Decision, Refusal},
    id::AccountId,
    permission::Who,
    rows::Rows,
    text::{Description, DisplayName, Email},
};

pub use crate::password::PasswordHash;

/// Somebody makes an account for themselves, with the role of a viewer.
#[derive(Debug)]
pub struct Register {
    /// The name to show.
    pub name: DisplayName,
    /// The address, which must be verified.
    pub email: Email,
    /// The password.
    pub password: PasswordHash,
}

impl Command for Register {
    const NAME: &'static str = "account.register";
    const WHO: Who = Who::Anyone;

    type Done = AccountId;

    fn decide(&self, context: &Context<'_>) -> Result<Decision<AccountId>, Refusal> {
        register(context, &self.name, &self.email, &self.password, Role::Viewer, false)
    }
}

/// An administrator makes an account for somebody, with any role.
#[derive(Debug)]
pub struct Add {
    /// The name to show.
    pub name: DisplayName,
    /// The address.
    pub email: Email,
    /// The password.
    pub password: PasswordHash,
    /// The role.
    pub role: Role,
}

impl Command for Add {
    const NAME: &'static str = "account.add";
    const WHO: Who = Who::Role(Role::Administrator);

    type Done = AccountId;

    fn decide(&self, context: &Context<'_>) -> Result<Decision<AccountId>, Refusal> {
        register(context, &self.name, &self.email, &self.password, self.role, true)
    }
}

/// Makes the first administrator, with a password that must be replaced at the first sign-in.
/// Nothing happens if there is an administrator.
#[derive(Debug)]
pub struct Bootstrap {
    /// The name to show.
    pub name: DisplayName,
    /// The address.
    pub email: Email,
    /// The password.
    pub password: PasswordHash,
}

impl Command for Bootstrap {
    const NAME: &'static str = "account.bootstrap";
    const WHO: Who = Who::System;

    type Done = Option<AccountId>;

    fn decide(&self, context: &Context<'_>) -> Result<Decision<Option<AccountId>>, Refusal> {
        if !queries::administrators(context.rows, 1)?.is_empty() {
            return Ok(Decision::nothing(None));
        }
        let Self { name, email, password } = self;
        let Decision { events, done } =
            register(context, name, email, password, Role::Administrator, true)?;
        Decision { events, done: Some(done) }.and(PasswordExpired { account: done })
    }
}

fn register(
    context: &Context<'_>,
    name: &DisplayName,
    email: &Email,
    password: &PasswordHash,
    role: Role,
    is_verified: bool,
) -> Result<Decision<AccountId>, Refusal> {
    queries::free_email(context.rows, context.vault, email, None)?;
    queries::free_name(context.rows, context.vault, name, None)?;
    let account = AccountId::new(context.ids.next());
    let event = Registered {
        account,
        role,
        name: context.vault.seal(account, name.as_str())?,
        email: context.vault.seal(account, email.as_str())?,
        password: context.vault.seal(account, &password.0)?,
        is_verified,
    };
    Decision::event(event, account)
}

/// Changes the name and the description of a person.
#[derive(Debug)]
pub struct EditProfile {
    /// The account.
    pub account: AccountId,
    /// The name to show, if it changes.
    pub name: Option<DisplayName>,
    /// The description, if it changes.
    pub about: Option<Description>,
}

impl Command for EditProfile {
    const NAME: &'static str = "account.edit_profile";
    const WHO: Who = Who::OwnerOr(Role::Moderator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        own(rows, self.account)
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let account = queries::present(context.rows, self.account)?;
        let present = account.open(context.vault)?;
        let (name, about) = match &present {
            Some(person) => (person.name.as_str(), person.about.as_str()),
            None => ("", ""),
        };
        let name = self.name.as_ref().filter(|new| new.as_str() != name);
        let about = self.about.as_ref().filter(|new| new.as_str() != about);
        if name.is_none() && about.is_none() {
            return Ok(Decision::nothing(()));
        }
        if let Some(name) = name {
            queries::free_name(context.rows, context.vault, name, Some(self.account))?;
        }
        let seal = |text: &str| context.vault.seal(self.account, text);
        let event = ProfileEdited {
            account: self.account,
            name: name.map(|name| seal(name.as_str())).transpose()?,
            about: about.map(|about| seal(about.as_str())).transpose()?,
        };
        Decision::event(event, ())
    }
}

/// Sets another password. Whether the person knows the old one, or has a mailed token, is checked
/// before.
#[derive(Debug)]
pub struct SetPassword {
    /// The account.
    pub account: AccountId,
    /// The password.
    pub password: PasswordHash,
}

impl Command for SetPassword {
    const NAME: &'static str = "account.set_password";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        own(rows, self.account)
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        queries::present(context.rows, self.account)?;
        let password = context.vault.seal(self.account, &self.password.0)?;
        Decision::event(PasswordSet { account: self.account, password }, ())
    }
}

/// Makes the password of an account one that must be replaced at the next sign-in.
#[derive(Debug)]
pub struct ExpirePassword {
    /// The account.
    pub account: AccountId,
}

impl Command for ExpirePassword {
    const NAME: &'static str = "account.expire_password";
    const WHO: Who = Who::Role(Role::Administrator);

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        match queries::present(context.rows, self.account)?.must_change_password {
            true => Ok(Decision::nothing(())),
            false => Decision::event(PasswordExpired { account: self.account }, ()),
        }
    }
}

/// Records that mail to an account's address arrives, because a mailed token was returned.
#[derive(Debug)]
pub struct VerifyEmail {
    /// The account.
    pub account: AccountId,
}

impl Command for VerifyEmail {
    const NAME: &'static str = "account.verify_email";
    const WHO: Who = Who::System;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        match queries::present(context.rows, self.account)?.is_verified {
            true => Ok(Decision::nothing(())),
            false => Decision::event(EmailVerified { account: self.account }, ()),
        }
    }
}

/// Gives an account another address, which must be verified.
#[derive(Debug)]
pub struct ChangeEmail {
    /// The account.
    pub account: AccountId,
    /// The address.
    pub email: Email,
}

impl Command for ChangeEmail {
    const NAME: &'static str = "account.change_email";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        own(rows, self.account)
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let account = queries::present(context.rows, self.account)?;
        if account.open(context.vault)?.is_some_and(|person| person.email == self.email.as_str()) {
            return Ok(Decision::nothing(()));
        }
        queries::free_email(context.rows, context.vault, &self.email, Some(self.account))?;
        let email = context.vault.seal(self.account, self.email.as_str())?;
        Decision::event(EmailChanged { account: self.account, email }, ())
    }
}

/// Gives an account another role.
#[derive(Debug)]
pub struct ChangeRole {
    /// The account.
    pub account: AccountId,
    /// The role.
    pub role: Role,
}

impl Command for ChangeRole {
    const NAME: &'static str = "account.change_role";
    const WHO: Who = Who::Role(Role::Administrator);

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let account = queries::present(context.rows, self.account)?;
        if account.role == self.role {
            return Ok(Decision::nothing(()));
        }
        // An administrator cannot leave the platform without one by mistake; the operator can.
        if context.actor.account() == Some(self.account) {
            return Err(Refusal::Conflict {
                rule: "own_role",
                reason: "nobody changes their own role; another administrator must do it",
            });
        }
        Decision::event(RoleChanged { account: self.account, role: self.role }, ())
    }
}

/// Deletes an account and its personal data for ever.
#[derive(Debug)]
pub struct Erase {
    /// The account.
    pub account: AccountId,
}

impl Command for Erase {
    const NAME: &'static str = "account.erase";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        // Erasing again is no error.
        Ok(queries::account(rows, self.account)?.map(|_| self.account))
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        match queries::account(context.rows, self.account)? {
            None => Err(Refusal::NotFound { thing: "account" }),
            Some(account) if account.person.is_none() => Ok(Decision::nothing(())),
            // The operator can: the next start makes an administrator.
            Some(_) if !context.actor.is_unlimited() && is_last_administrator(context, self)? => {
                Err(Refusal::Conflict {
                    rule: "last_administrator",
                    reason: "this is the only administrator; make another one first",
                })
            }
            Some(_) => Decision::event(Erased { account: self.account }, ()),
        }
    }
}

/// Whether nobody else is an administrator.
fn is_last_administrator(context: &Context<'_>, erase: &Erase) -> Result<bool, Refusal> {
    Ok(queries::administrators(context.rows, 2)? == [erase.account])
}

/// A person owns their account.
fn own(rows: &dyn Rows, account: AccountId) -> Result<Option<AccountId>, Refusal> {
    queries::present(rows, account).map(|_| Some(account))
}
