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
    vault::{Sealed, Vault},
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
    pub person: Option<SealedPerson>,
}

/// The personal data of an account, sealed as in its events. No row may hold them in plain text,
/// because the database keeps the bytes of removed rows until it uses their pages again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedPerson {
    /// The name that it shows.
    name: Sealed,
    /// The description of the person; `None` if it is empty.
    about: Option<Sealed>,
    /// The e-mail address.
    email: Sealed,
    /// The password's hash in PHC format.
    password: Sealed,
}

impl Account {
    /// The personal data; `None` once the account is erased.
    ///
    /// # Errors
    /// A [`Fault`] of the vault.
    pub fn open(&self, vault: &dyn Vault) -> Result<Option<Person>, Fault> {
        let Some(person) = &self.person else { return Ok(None) };
        let about = match &person.about {
            Some(about) => vault.open(about)?,
            None => Some(String::new()),
        };
        let (name, email) = (vault.open(&person.name)?, vault.open(&person.email)?);
        let all = name.zip(about).zip(email).zip(vault.open(&person.password)?);
        Ok(all.map(|(((name, about), email), password)| Person { name, about, email, password }))
    }
}

/// The personal data of an account.
#[derive(Clone, PartialEq, Eq)]
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

impl std::fmt::Debug for SealedPerson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealedPerson")
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
/// Accounts by the digest of their folded name.
pub const BY_NAME: Table<[u8; 32], AccountId> = Table::new("accounts.by_name");
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
        Event::PasswordSet(event) => ACCOUNTS.change(rows, &event.account, |account| {
            account.changed = time;
            account.must_change_password = false;
            if let Some(person) = &mut account.person {
                person.password = event.password;
            }
        }),
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
    let (name, email) = (folding.vault.open(&event.name)?, folding.vault.open(&event.email)?);
    // Without the key the account has been erased since.
    let person = name.zip(email).map(|(name, email)| {
        let (name, email) = (digest(folding.vault, &name), digest(folding.vault, &email));
        let person = SealedPerson {
            name: event.name.clone(),
            about: None,
            email: event.email.clone(),
            password: event.password.clone(),
        };
        (name, email, person)
    });
    if let Some((name, email, _)) = &person {
        BY_EMAIL.put(folding.rows, email, &event.account)?;
        BY_NAME.put(folding.rows, name, &event.account)?;
        list_administrator(folding.rows, event.account, event.role)?;
    }
    let account = Account {
        role: event.role,
        registered: time,
        changed: time,
        is_verified: event.is_verified,
        must_change_password: false,
        person: person.map(|(_, _, person)| person),
    };
    ACCOUNTS.put(folding.rows, &event.account, &account)
}

fn edit(folding: &mut Folding<'_>, time: Time, event: &ProfileEdited) -> Result<(), Fault> {
    let id = event.account;
    let Some(mut account) = ACCOUNTS.get(folding.rows, &id)? else { return Ok(()) };
    account.changed = time;
    if let Some(person) = &mut account.person {
        if let Some(name) = &event.name {
            move_index(folding, &BY_NAME, id, &person.name, name)?;
            person.name = name.clone();
        }
        if let Some(about) = &event.about {
            person.about = Some(about.clone());
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
    if let Some(person) = &mut account.person {
        move_index(folding, &BY_EMAIL, id, &person.email, email)?;
        person.email = email.clone();
    }
    ACCOUNTS.put(folding.rows, &id, &account)
}

/// Lists an account under another value. Without the person's key it was not listed.
fn move_index(
    folding: &mut Folding<'_>,
    index: &Table<[u8; 32], AccountId>,
    id: AccountId,
    before: &Sealed,
    after: &Sealed,
) -> Result<(), Fault> {
    let vault = folding.vault;
    if let (Some(before), Some(after)) = (vault.open(before)?, vault.open(after)?) {
        index.remove(folding.rows, &digest(vault, &before))?;
        index.put(folding.rows, &digest(vault, &after), &id)?;
    }
    Ok(())
}

/// The key of an account in an index: it tells nothing without the vault.
fn digest(vault: &dyn Vault, value: &str) -> [u8; 32] {
    vault.digest(&folded(value))
}

fn erase(folding: &mut Folding<'_>, time: Time, event: &Erased) -> Result<(), Fault> {
    let id = event.account;
    let Some(mut account) = ACCOUNTS.get(folding.rows, &id)? else { return Ok(()) };
    // The key is deleted after this event was folded.
    if let Some(person) = account.open(folding.vault)? {
        BY_EMAIL.remove(folding.rows, &digest(folding.vault, &person.email))?;
        BY_NAME.remove(folding.rows, &digest(folding.vault, &person.name))?;
    }
    account.person = None;
    ADMINISTRATORS.remove(folding.rows, &id)?;
    account.changed = time;
    account.must_change_password = false;
    // Whether an address was verified says nothing of a person that is gone.
    account.is_verified = false;
    ACCOUNTS.put(folding.rows, &id, &account)
}
