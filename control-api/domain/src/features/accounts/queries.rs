//! Questions about accounts. They read tables only.

use serde_json::{Value, json};

pub use super::tables::Account;
use super::tables::{ACCOUNTS, ADMINISTRATORS, BY_EMAIL, BY_NAME};
use crate::{
    actor::{Actor, Role},
    audience::Audience,
    event::Envelope,
    export::{self, ExportOf},
    id::AccountId,
    permission::{Permission, Who},
    refusal::Refusal,
    rows::{Fault, Order, Rows},
    text::{DisplayName, Email, folded},
    vault::Vault,
};

/// An account, also an erased one.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn account(rows: &dyn Rows, id: AccountId) -> Result<Option<Account>, Fault> {
    ACCOUNTS.get(rows, &id)
}

/// An account that is not erased.
///
/// # Errors
/// [`Refusal::NotFound`].
pub fn present(rows: &dyn Rows, id: AccountId) -> Result<Account, Refusal> {
    let account = account(rows, id)?.filter(|account| account.person.is_some());
    account.ok_or(Refusal::NotFound { thing: "account" })
}

/// The account with an e-mail address, in any case.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn by_email(
    rows: &dyn Rows,
    vault: &dyn Vault,
    email: &Email,
) -> Result<Option<AccountId>, Fault> {
    BY_EMAIL.get(rows, &vault.digest(&email.folded()))
}

/// The account that shows a name, in any case.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn by_name(
    rows: &dyn Rows,
    vault: &dyn Vault,
    name: &DisplayName,
) -> Result<Option<AccountId>, Fault> {
    BY_NAME.get(rows, &vault.digest(&folded(name.as_str())))
}

/// Refuses an address that another account than `own` has.
///
/// # Errors
/// [`Refusal::Conflict`] of the rule `email_taken`.
pub fn free_email(
    rows: &dyn Rows,
    vault: &dyn Vault,
    email: &Email,
    own: Option<AccountId>,
) -> Result<(), Refusal> {
    match by_email(rows, vault, email)? {
        Some(other) if Some(other) != own => Err(Refusal::Conflict {
            rule: "email_taken",
            reason: "another account has this e-mail address",
        }),
        _ => Ok(()),
    }
}

/// Refuses a name that another account than `own` shows.
///
/// # Errors
/// [`Refusal::Conflict`] of the rule `name_taken`.
pub fn free_name(
    rows: &dyn Rows,
    vault: &dyn Vault,
    name: &DisplayName,
    own: Option<AccountId>,
) -> Result<(), Refusal> {
    match by_name(rows, vault, name)? {
        Some(other) if Some(other) != own => Err(Refusal::Conflict {
            rule: "name_taken",
            reason: "another account has this name, or one that looks alike",
        }),
        _ => Ok(()),
    }
}

/// At most `limit` accounts behind `after`, the oldest first.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn page(
    rows: &dyn Rows,
    after: Option<AccountId>,
    limit: usize,
) -> Result<Vec<(AccountId, Account)>, Fault> {
    ACCOUNTS.page(rows, &(), after.as_ref(), Order::Up, limit)
}

/// At most `limit` administrators, the oldest first.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn administrators(rows: &dyn Rows, limit: usize) -> Result<Vec<AccountId>, Fault> {
    let page = ADMINISTRATORS.page(rows, &(), None, Order::Up, limit)?;
    Ok(page.into_iter().map(|(id, ())| id).collect())
}

/// The actors that may list all accounts.
pub const LIST: Permission =
    Permission { command: "account.list", who: Who::Role(Role::Administrator) };

/// The actors that may see an account with its address and all that belongs to it. Others see its
/// name and description.
pub const SHOW: Permission =
    Permission { command: "account.show", who: Who::OwnerOr(Role::Administrator) };

/// The actors that may export all that belongs to an account.
pub const EXPORT: Permission =
    Permission { command: "account.export", who: Who::OwnerOr(Role::Administrator) };

/// At most `limit` accounts behind `after` that are not erased, the oldest first.
///
/// # Errors
/// A refusal of [`LIST`].
pub fn list(
    rows: &dyn Rows,
    actor: &Actor,
    after: Option<AccountId>,
    limit: usize,
) -> Result<Vec<(AccountId, Account)>, Refusal> {
    LIST.check(actor, None, true)?;
    let (mut listed, mut after) = (Vec::new(), after);
    // Erased accounts leave room for others. Each pass reads at least one page.
    while listed.len() < limit {
        let found = page(rows, after, limit)?;
        let Some((last, _)) = found.last() else { break };
        after = Some(*last);
        let is_last = found.len() < limit;
        listed.extend(found.into_iter().filter(|(_, account)| account.person.is_some()));
        if is_last {
            break;
        }
    }
    listed.truncate(limit);
    Ok(listed)
}

/// An account's events are for its owner.
///
/// # Errors
/// None.
pub fn audience(_: &dyn Rows, envelope: &Envelope) -> Result<Audience, Fault> {
    Ok(envelope.subject.parse().map_or(Audience::Administrators, Audience::Owner))
}

/// The account and its profile.
///
/// # Errors
/// A [`Fault`] of the tables or the vault.
pub fn export(of: &ExportOf<'_>) -> Result<Value, Fault> {
    let Some(account) = account(of.rows, of.id)? else { return Ok(Value::Null) };
    let Some(person) = account.open(of.vault)? else { return Ok(Value::Null) };
    export::json(&json!({
        "id": of.id,
        "name": person.name,
        "about": person.about,
        "email": person.email,
        "email_verified": account.is_verified,
        "role": account.role,
        "must_change_password": account.must_change_password,
        "registered": account.registered,
        "changed": account.changed,
    }))
}
