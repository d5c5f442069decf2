//! Questions about identities. They read tables only.

use serde_json::json;

use super::{
    subject::Subject,
    tables::{BY_ACCOUNT, BY_SUBJECT, IDENTITIES, Identity, MAX_OF_AN_ACCOUNT},
};
use crate::{
    actor::{Actor, Role},
    audience::Audience,
    event::Envelope,
    export::{ExportOf, Portion},
    id::{AccountId, IdentityId},
    permission::{Permission, Who},
    refusal::Refusal,
    rows::{Fault, Order, Rows},
    vault::Vault,
};

/// An identity, or [`Refusal::NotFound`].
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::Fault`].
pub fn identity(rows: &dyn Rows, id: IdentityId) -> Result<Identity, Refusal> {
    IDENTITIES.get(rows, &id)?.ok_or(Refusal::NotFound { thing: "identity" })
}

/// The account of a person at a provider.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn by_subject(
    rows: &dyn Rows,
    vault: &dyn Vault,
    subject: &Subject,
) -> Result<Option<AccountId>, Fault> {
    let Some(id) = BY_SUBJECT.get(rows, &subject.digest(vault))? else { return Ok(None) };
    Ok(IDENTITIES.get(rows, &id)?.map(|identity| identity.account))
}

/// The identities of an account, the oldest first: at most [`MAX_OF_AN_ACCOUNT`].
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn of_account(
    rows: &dyn Rows,
    account: AccountId,
) -> Result<Vec<(IdentityId, Identity)>, Fault> {
    let ids = BY_ACCOUNT.page(rows, &account, None, Order::Up, MAX_OF_AN_ACCOUNT)?;
    let mut identities = Vec::with_capacity(ids.len());
    for ((_, id), ()) in ids {
        identities.extend(IDENTITIES.get(rows, &id)?.map(|identity| (id, identity)));
    }
    Ok(identities)
}

/// The actors that may list the identities of an account.
pub const LIST: Permission =
    Permission { command: "identity.list", who: Who::OwnerOr(Role::Administrator) };

/// The identities of an account for an actor, the oldest first: at most [`MAX_OF_AN_ACCOUNT`].
///
/// # Errors
/// A refusal of [`LIST`].
pub fn list(
    rows: &dyn Rows,
    actor: &Actor,
    account: AccountId,
) -> Result<Vec<(IdentityId, Identity)>, Refusal> {
    LIST.check(actor, Some(account), false)?;
    Ok(of_account(rows, account)?)
}

/// The events of an identity are for the owner of its account.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn audience(rows: &dyn Rows, envelope: &Envelope) -> Result<Audience, Fault> {
    let id = envelope.subject.parse().ok();
    let identity = id.map(|id| IDENTITIES.get(rows, &id)).transpose()?.flatten();
    Ok(identity.map_or(Audience::Administrators, |identity| Audience::Owner(identity.account)))
}

/// The identities of a person at foreign providers.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn export(person: &ExportOf<'_>, _: Option<&[u8]>) -> Result<Portion, Fault> {
    let all = of_account(person.rows, person.id)?.into_iter().map(|(id, identity)| {
        json!({
            "id": id,
            "provider": identity.provider,
            "issuer": identity.issuer,
            "linked": identity.linked,
        })
    });
    Ok(Portion::whole(all.collect()))
}
