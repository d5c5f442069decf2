//! Questions about accounts. They read tables only.

use super::tables::{ACCOUNTS, Account, BY_EMAIL, BY_NAME};
use crate::{
    audience::Audience,
    command::Refusal,
    event::Envelope,
    id::AccountId,
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
pub fn by_name(rows: &dyn Rows, name: &DisplayName) -> Result<Option<AccountId>, Fault> {
    BY_NAME.get(rows, &folded(name.as_str()))
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

/// An account's events are for its owner.
///
/// # Errors
/// None.
pub fn audience(_: &dyn Rows, envelope: &Envelope) -> Result<Audience, Fault> {
    Ok(envelope.subject.parse().map_or(Audience::Administrators, Audience::Owner))
}
