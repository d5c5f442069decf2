//! The tables of identities, and the fold that writes them.

use serde::{Deserialize, Serialize};

use super::{events::Event, subject::Subject};
use crate::{
    event::{Envelope, Events as _},
    feature::Folding,
    features::accounts,
    id::{AccountId, IdentityId},
    rows::{Fault, Order, RowsMut},
    table::Table,
    time::Time,
};

/// An identity that belongs to an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The account.
    pub account: AccountId,
    /// The provider's identifier in the configuration.
    pub provider: String,
    /// The provider's issuer identifier.
    pub issuer: String,
    /// The digest of issuer and subject.
    pub subject: [u8; 32],
    /// When it was linked.
    pub linked: Time,
}

/// All identities.
pub const IDENTITIES: Table<IdentityId, Identity> = Table::new("identities.identities");
/// Identities by the digest of issuer and subject.
pub const BY_SUBJECT: Table<[u8; 32], IdentityId> = Table::new("identities.by_subject");
/// The identities of an account.
pub const BY_ACCOUNT: Table<(AccountId, IdentityId), ()> = Table::new("identities.by_account");

/// The greatest number of identities of an account.
pub const MAX_OF_AN_ACCOUNT: usize = 10;

/// Applies an event of an identity, or the end of an account.
///
/// # Errors
/// A [`Fault`] of the tables or the vault.
pub fn fold(folding: &mut Folding<'_>, envelope: &Envelope) -> Result<(), Fault> {
    if envelope.kind == accounts::events::ERASED {
        let accounts::events::Event::Erased(event) = accounts::events::Event::read(envelope)?
        else {
            return Ok(());
        };
        let rows = &mut *folding.rows;
        let own = BY_ACCOUNT.page(rows, &event.account, None, Order::Up, MAX_OF_AN_ACCOUNT)?;
        return own.iter().try_for_each(|((_, identity), ())| remove(rows, *identity));
    }
    match Event::read(envelope)? {
        Event::Linked(event) => {
            // Without the person's key the account is erased.
            let Some(subject) = folding.vault.open(&event.subject)? else { return Ok(()) };
            let subject = Subject { issuer: event.issuer.clone(), subject };
            let identity = Identity {
                account: event.account,
                provider: event.provider,
                issuer: event.issuer,
                subject: subject.digest(folding.vault),
                linked: envelope.time,
            };
            let rows = &mut *folding.rows;
            BY_SUBJECT.put(rows, &identity.subject, &event.identity)?;
            BY_ACCOUNT.put(rows, &(identity.account, event.identity), &())?;
            IDENTITIES.put(rows, &event.identity, &identity)
        }
        Event::Unlinked(event) => remove(&mut *folding.rows, event.identity),
    }
}

fn remove(rows: &mut dyn RowsMut, id: IdentityId) -> Result<(), Fault> {
    let Some(identity) = IDENTITIES.get(rows, &id)? else { return Ok(()) };
    BY_SUBJECT.remove(rows, &identity.subject)?;
    BY_ACCOUNT.remove(rows, &(identity.account, id))?;
    IDENTITIES.remove(rows, &id)
}
