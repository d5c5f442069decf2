//! Questions about webhooks. They read tables only.

use serde_json::json;

pub use super::tables::Webhook;
use super::tables::{BY_OWNER, MAX_OF_AN_OWNER, OPERATOR, WEBHOOKS};
use crate::{
    actor::{Actor, Role},
    audience::Audience,
    command::Refusal,
    event::Envelope,
    export::{self, ExportOf, Portion},
    features::accounts,
    id::{AccountId, WebhookId},
    permission::{Permission, Who},
    rows::{Fault, Order, Rows},
};

/// The actors that may list the webhooks of an owner, and their deliveries.
pub const LIST: Permission =
    Permission { command: "webhook.list", who: Who::OwnerOr(Role::Administrator) };

/// The webhooks of an account, or of the operator, for an actor, the oldest first: at most
/// [`MAX_OF_AN_OWNER`].
///
/// # Errors
/// A refusal of [`LIST`].
pub fn list(
    rows: &dyn Rows,
    actor: &Actor,
    owner: Option<AccountId>,
) -> Result<Vec<(WebhookId, Webhook)>, Refusal> {
    LIST.check(actor, owner, true)?;
    Ok(of_owner(rows, owner)?)
}

/// A webhook for an actor.
///
/// # Errors
/// [`Refusal::NotFound`], also for the webhook of another.
pub fn shown(rows: &dyn Rows, actor: &Actor, id: WebhookId) -> Result<Webhook, Refusal> {
    let webhook = webhook(rows, id)?;
    LIST.check(actor, webhook.owner, false)?;
    Ok(webhook)
}

/// A webhook.
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::Fault`].
pub fn webhook(rows: &dyn Rows, id: WebhookId) -> Result<Webhook, Refusal> {
    WEBHOOKS.get(rows, &id)?.ok_or(Refusal::NotFound { thing: "webhook" })
}

/// The webhooks of an account, or of the operator, the oldest first: at most [`MAX_OF_AN_OWNER`].
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn of_owner(
    rows: &dyn Rows,
    owner: Option<AccountId>,
) -> Result<Vec<(WebhookId, Webhook)>, Fault> {
    let owner = owner.unwrap_or(OPERATOR);
    let ids = BY_OWNER.page(rows, &owner, None, Order::Up, MAX_OF_AN_OWNER)?;
    let mut webhooks = Vec::with_capacity(ids.len());
    for ((_, id), ()) in ids {
        webhooks.extend(WEBHOOKS.get(rows, &id)?.map(|webhook| (id, webhook)));
    }
    Ok(webhooks)
}

/// At most `limit` webhooks of all owners behind `after`.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn page(
    rows: &dyn Rows,
    after: Option<WebhookId>,
    limit: usize,
) -> Result<Vec<(WebhookId, Webhook)>, Fault> {
    WEBHOOKS.page(rows, &(), after.as_ref(), Order::Up, limit)
}

/// The actor that may see what a webhook receives: its owner with the role that the account has
/// now. `None` if the account is gone.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn reader(rows: &dyn Rows, owner: Option<AccountId>) -> Result<Option<Actor>, Fault> {
    let Some(id) = owner else { return Ok(Some(Actor::System)) };
    let account = accounts::queries::account(rows, id)?;
    let present = account.filter(|account| account.person.is_some());
    Ok(present.map(|account| Actor::Person { id, role: account.role }))
}

/// The events of a webhook are for its owner.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn audience(rows: &dyn Rows, envelope: &Envelope) -> Result<Audience, Fault> {
    let id = envelope.subject.parse().ok();
    let webhook = id.map(|id| WEBHOOKS.get(rows, &id)).transpose()?.flatten();
    let owner = webhook.and_then(|webhook| webhook.owner);
    Ok(owner.map_or(Audience::Administrators, Audience::Owner))
}

/// The webhooks of a person, without their secrets.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn export(person: &ExportOf<'_>, _: Option<&[u8]>) -> Result<Portion, Fault> {
    let mut items = Vec::new();
    for (id, webhook) in of_owner(person.rows, Some(person.id))? {
        items.push(json!({
            "id": id,
            "url": webhook.url,
            "types": export::json(&webhook.types)?,
            "disabled": export::json(&webhook.disabled)?,
            "created": webhook.created,
            "changed": webhook.changed,
        }));
    }
    Ok(Portion::whole(items))
}
