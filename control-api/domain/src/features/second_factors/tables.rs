//! The tables of second factors, and the fold that writes them.

use serde::{Deserialize, Serialize};

use super::events::Event;
use crate::{
    event::{Envelope, Events as _},
    feature::Folding,
    features::accounts,
    id::{AccountId, SecondFactorId},
    rows::{Fault, RowsMut},
    table::Table,
    time::Time,
    vault::Sealed,
};

/// A second factor that waits for its first code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The factor.
    pub factor: SecondFactorId,
    /// The secret, sealed under the person's key.
    pub secret: Sealed,
    /// When its secret was made.
    pub begun: Time,
}

/// A second factor in force.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondFactor {
    /// The factor.
    pub factor: SecondFactorId,
    /// The secret, sealed under the person's key.
    pub secret: Sealed,
    /// Since when it is in force.
    pub confirmed: Time,
    /// The time step of the last code that was accepted.
    pub last_step: u64,
    /// The digests of the recovery codes that are left.
    pub recovery: Vec<[u8; 32]>,
}

impl std::fmt::Debug for SecondFactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecondFactor")
            .field("factor", &self.factor)
            .field("confirmed", &self.confirmed)
            .field("recovery", &self.recovery.len())
            .finish_non_exhaustive()
    }
}

/// Factors that wait for their first code: at most one of an account.
pub const PENDING: Table<AccountId, Pending> = Table::new("second_factors.pending");
/// Factors in force: at most one of an account.
pub const CONFIRMED: Table<AccountId, SecondFactor> = Table::new("second_factors.confirmed");
/// The accounts of both.
pub const OWNERS: Table<SecondFactorId, AccountId> = Table::new("second_factors.owners");

/// Applies an event of a second factor, or the end of an account.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn fold(folding: &mut Folding<'_>, envelope: &Envelope) -> Result<(), Fault> {
    let rows = &mut *folding.rows;
    if envelope.kind == accounts::events::ERASED {
        let accounts::events::Event::Erased(event) = accounts::events::Event::read(envelope)?
        else {
            return Ok(());
        };
        remove_pending(rows, event.account)?;
        return remove_confirmed(rows, event.account);
    }
    match Event::read(envelope)? {
        Event::Begun(event) => {
            remove_pending(rows, event.account)?;
            OWNERS.put(rows, &event.factor, &event.account)?;
            let (factor, secret, begun) = (event.factor, event.secret, envelope.time);
            PENDING.put(rows, &event.account, &Pending { factor, secret, begun })
        }
        Event::Confirmed(event) => {
            let Some(account) = OWNERS.get(rows, &event.factor)? else { return Ok(()) };
            let Some(pending) = PENDING.get(rows, &account)? else { return Ok(()) };
            let confirmed = SecondFactor {
                factor: event.factor,
                secret: pending.secret,
                confirmed: envelope.time,
                last_step: event.step,
                recovery: event.recovery.iter().map(|digest| digest.0).collect(),
            };
            PENDING.remove(rows, &account)?;
            CONFIRMED.put(rows, &account, &confirmed)
        }
        Event::CodeUsed(event) => change(rows, event.factor, |row| row.last_step = event.step),
        Event::RecoveryCodeUsed(event) => change(rows, event.factor, |row| {
            row.recovery.retain(|digest| *digest != event.code.0);
        }),
        Event::Removed(event) => {
            let Some(account) = OWNERS.get(rows, &event.factor)? else { return Ok(()) };
            remove_confirmed(rows, account)
        }
    }
}

/// Changes a factor in force.
fn change(
    rows: &mut dyn RowsMut,
    factor: SecondFactorId,
    change: impl FnOnce(&mut SecondFactor),
) -> Result<(), Fault> {
    let Some(account) = OWNERS.get(rows, &factor)? else { return Ok(()) };
    CONFIRMED.change(rows, &account, change)
}

fn remove_pending(rows: &mut dyn RowsMut, account: AccountId) -> Result<(), Fault> {
    let Some(pending) = PENDING.get(rows, &account)? else { return Ok(()) };
    OWNERS.remove(rows, &pending.factor)?;
    PENDING.remove(rows, &account)
}

fn remove_confirmed(rows: &mut dyn RowsMut, account: AccountId) -> Result<(), Fault> {
    let Some(confirmed) = CONFIRMED.get(rows, &account)? else { return Ok(()) };
    OWNERS.remove(rows, &confirmed.factor)?;
    CONFIRMED.remove(rows, &account)
}
