//! Questions about second factors. They read tables only.

use serde_json::{Value, json};

use super::tables::{CONFIRMED, OWNERS, PENDING, Pending, SecondFactor};
use crate::{
    actor::{Actor, Role},
    audience::Audience,
    event::Envelope,
    export::ExportOf,
    id::AccountId,
    permission::{Permission, Who},
    refusal::Refusal,
    rows::{Fault, Rows},
};

/// The factor of an account that is in force; `None`: its password is enough.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn in_force(rows: &dyn Rows, account: AccountId) -> Result<Option<SecondFactor>, Fault> {
    CONFIRMED.get(rows, &account)
}

/// The factor of an account that waits for its first code.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn pending(rows: &dyn Rows, account: AccountId) -> Result<Option<Pending>, Fault> {
    PENDING.get(rows, &account)
}

/// The actors that may know whether an account has a second factor.
pub const SHOW: Permission =
    Permission { command: "second_factor.show", who: Who::OwnerOr(Role::Administrator) };

/// The factor of an account, for an actor.
///
/// # Errors
/// A refusal of [`SHOW`].
pub fn show(
    rows: &dyn Rows,
    actor: &Actor,
    account: AccountId,
) -> Result<Option<SecondFactor>, Refusal> {
    SHOW.check(actor, Some(account), false)?;
    Ok(in_force(rows, account)?)
}

/// The events of a factor are for the owner of its account.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn audience(rows: &dyn Rows, envelope: &Envelope) -> Result<Audience, Fault> {
    let id = envelope.subject.parse().ok();
    let account = id.map(|id| OWNERS.get(rows, &id)).transpose()?.flatten();
    Ok(account.map_or(Audience::Administrators, Audience::Owner))
}

/// Whether a person has a second factor, without its secret; null if there is none.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn export(person: &ExportOf<'_>) -> Result<Value, Fault> {
    let factor = in_force(person.rows, person.id)?;
    Ok(factor.map_or(Value::Null, |factor| {
        json!({ "confirmed": factor.confirmed, "recovery_codes_left": factor.recovery.len() })
    }))
}
