//! The tables of accounts, and the fold that writes them.

use serde::{Deserialize, Serialize};

use super::events::{Erased, Event, ProfileEdited, Registered};
use crate::{
    actor::Role,
    event::{Envelope, Events as _},
    feature::Folding,
    id::AccountId,
    rows::{Fault, RowsMut},
    table::Table,
    text::folded,
    time::Time,
    vault::Sealed,
};

/// An account, also an erased one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its role.
    pub role: Role,
    /// When it was made.
    pub registered: Time,
    /// When it was last changed, by any of its events.
    pub changed: Time,
    /// Whether mail to its address arrives.
    pub is_verified: bool,
    /// Whether the password must be replaced at the next sign-in.
    pub must_change_password: bool,
    /// The personal data; `None` once the account is erased.
    pub person: Option<Person>,
}

/// The personal data of an account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The name that it shows.
    pub name: String,
    /// The description of the person.
    pub about: String,
    /// The e-mail address.
    pub email: String,
    /// The password's hash in PHC format.
    pub password: String,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("role", &self.role)
            .field("is_verified", &self.is_verified)
            .field("is_erased", &self.person.is_none())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Person(***)")
    }
}

/// All accounts.
pub const ACCOUNTS: Table<AccountId, Account> = Table::new("accounts.accounts");
/// Accounts by the digest of their folded address.
pub const BY_EMAIL: Table<[u8; 32], AccountId> = Table::new("accounts.by_email");
/// Accounts by their folded name.
pub const BY_NAME: Table<String, AccountId> = Table::new("accounts.by_name");
/// The administrators.
pub const ADMINISTRATORS: Table<AccountId, ()> = Table::new("accounts.administrators");

/// Applies an event of an account.
///
/// # Errors
/// A [`Fault`] of the tables or the vault.
pub fn fold(folding: &mut Folding<'_>, envelope: &Envelope) -> Result<(), Fault> {
    let (time, rows) = (envelope.time, &mut *folding.rows);
    match Event::read(envelope)? {
        Event::Registered(event) => register(folding, time, &event),
        Event::ProfileEdited(event) => edit(folding, time, &event),
        Event::EmailChanged(event) => change_email(folding, time, event.account, &event.email),
        Event::Erased(event) => erase(folding, time, &event),
        Event::PasswordSet(event) => {
            let password = folding.vault.open(&event.password)?;
            ACCOUNTS.change(rows, &event.account, |account| {
                account.changed = time;
                account.must_change_password = false;
                if let (Some(person), Some(password)) = (&mut account.person, password) {
                    person.password = password;
                }
            })
        }
        Event::PasswordExpired(event) => ACCOUNTS.change(rows, &event.account, |account| {
            account.changed = time;
            account.must_change_password = true;
        }),
        Event::EmailVerified(event) => ACCOUNTS.change(rows, &event.account, |account| {
            account.changed = time;
            account.is_verified = true;
        }),
        Event::RoleChanged(event) => {
            list_administrator(rows, event.account, event.role)?;
            ACCOUNTS.change(rows, &event.account, |account| {
                account.changed = time;
                account.role = event.role;
            })
        }
    }
}

/// Keeps the list of administrators.
fn list_administrator(rows: &mut dyn RowsMut, id: AccountId, role: Role) -> Result<(), Fault> {
    match role {
        Role::Administrator => ADMINISTRATORS.put(rows, &id, &()),
        Role::Viewer | Role::Creator | Role::Moderator => ADMINISTRATORS.remove(rows, &id),
    }
}

fn register(folding: &mut Folding<'_>, time: Time, event: &Registered) -> Result<(), Fault> {
    let open = |sealed: &Sealed| folding.vault.open(sealed);
    let (name, email) = (open(&event.name)?, open(&event.email)?);
    let password = open(&event.password)?;
    let person = name.zip(email).zip(password).map(|((name, email), password)| Person {
        name,
        about: String::new(),
        email,
        password,
    });
    if let Some(person) = &person {
        let email = folding.vault.digest(&folded(&person.email));
        BY_EMAIL.put(folding.rows, &email, &event.account)?;
        BY_NAME.put(folding.rows, &folded(&person.name), &event.account)?;
    }
    let account = Account {
        role: event.role,
        registered: time,
        changed: time,
        is_verified: event.is_verified,
        must_change_password: false,
        person,
    };
    if account.person.is_some() {
        list_administrator(folding.rows, event.account, event.role)?;
    }
    ACCOUNTS.put(folding.rows, &event.account, &account)
}

fn edit(folding: &mut Folding<'_>, time: Time, event: &ProfileEdited) -> Result<(), Fault> {
    let id = event.account;
    let Some(mut account) = ACCOUNTS.get(folding.rows, &id)? else { return Ok(()) };
    account.changed = time;
    if let Some(person) = &mut account.person {
        let open = |field: &Option<Sealed>| match field {
            Some(sealed) => folding.vault.open(sealed),
            None => Ok(None),
        };
        let (name, about) = (open(&event.name)?, open(&event.about)?);
        if let Some(name) = name {
            BY_NAME.remove(folding.rows, &folded(&person.name))?;
            BY_NAME.put(folding.rows, &folded(&name), &id)?;
            person.name = name;
        }
        if let Some(about) = about {
            person.about = about;
        }
    }
    ACCOUNTS.put(folding.rows, &id, &account)
}

fn change_email(
    folding: &mut Folding<'_>,
    time: Time,
    id: AccountId,
    email: &Sealed,
) -> Result<(), Fault> {
    let Some(mut account) = ACCOUNTS.get(folding.rows, &id)? else { return Ok(()) };
    account.changed = time;
    account.is_verified = false;
    if let (Some(person), Some(email)) = (&mut account.person, folding.vault.open(email)?) {
        let digest = |email: &str| folding.vault.digest(&folded(email));
        let (before, after) = (digest(&person.email), digest(&email));
        BY_EMAIL.remove(folding.rows, &before)?;
        BY_EMAIL.put(folding.rows, &after, &id)?;
        person.email = email;
    }
    ACCOUNTS.put(folding.rows, &id, &account)
}

fn erase(folding: &mut Folding<'_>, time: Time, event: &Erased) -> Result<(), Fault> {
    let id = event.account;
    let Some(mut account) = ACCOUNTS.get(folding.rows, &id)? else { return Ok(()) };
    if let Some(person) = account.person.take() {
        let email = folding.vault.digest(&folded(&person.email));
        BY_EMAIL.remove(folding.rows, &email)?;
        BY_NAME.remove(folding.rows, &folded(&person.name))?;
    }
    ADMINISTRATORS.remove(folding.rows, &id)?;
    account.changed = time;
    account.must_change_password = false;
    // Whether an address was verified says nothing of a person that is gone.
    account.is_verified = false;
    ACCOUNTS.put(folding.rows, &id, &account)
}
