//! The tables of webhooks, and the fold that writes them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    events::{Cause, Created, Event},
    filter::TypeFilter,
};
use crate::{
    event::{Envelope, Events as _},
    feature::Folding,
    features::accounts,
    id::{AccountId, WebhookId},
    rows::{Fault, Order, RowsMut},
    table::Table,
    time::Time,
    vault::Sealed,
};

/// A webhook. The secrets are sealed, because queries show the rest.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// The account that owns it; `None`: the operator.
    pub owner: Option<AccountId>,
    /// The address to which events are posted.
    pub url: String,
    /// The types of events that it receives.
    pub types: TypeFilter,
    /// The secret with which deliveries are signed.
    pub secret: Sealed,
    /// The secret before, and the end of its use.
    pub previous: Option<(Sealed, Time)>,
    /// Why it is not in use; `None`: it is.
    pub disabled: Option<Cause>,
    /// When it was made or last enabled: earlier events are not delivered.
    pub since: Time,
    /// When it was made.
    pub created: Time,
    /// When it was last changed.
    pub changed: Time,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("owner", &self.owner)
            .field("types", &self.types)
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
    }
}

/// All webhooks.
pub const WEBHOOKS: Table<WebhookId, Webhook> = Table::new("webhooks.webhooks");
/// The webhooks of an owner; the operator is [`OPERATOR`].
pub const BY_OWNER: Table<(AccountId, WebhookId), ()> = Table::new("webhooks.by_owner");

/// Stands for the operator, who has no account, in keys and in [`Sealed`]: no account has it.
pub const OPERATOR: AccountId = AccountId::new(uuid::Uuid::max());
/// The greatest number of webhooks of one owner.
pub const MAX_OF_AN_OWNER: usize = 20;
/// How long deliveries are also signed with the secret before.
pub const OVERLAP: Duration = Duration::from_secs(24 * 3600);

/// Applies an event of a webhook, or the end of an account.
///
/// # Errors
/// A [`Fault`] of the tables or the vault.
pub fn fold(folding: &mut Folding<'_>, envelope: &Envelope) -> Result<(), Fault> {
    let (time, vault) = (envelope.time, folding.vault);
    if envelope.kind == accounts::events::ERASED {
        let accounts::events::Event::Erased(event) = accounts::events::Event::read(envelope)?
        else {
            return Ok(());
        };
        let rows = &mut *folding.rows;
        let webhooks = BY_OWNER.page(rows, &event.account, None, Order::Up, MAX_OF_AN_OWNER)?;
        return webhooks.iter().try_for_each(|((_, webhook), ())| remove(rows, *webhook));
    }
    match Event::read(envelope)? {
        Event::Created(event) => create(folding, time, event),
        Event::Edited(event) => {
            let url = event.url.map(|url| vault.open(&url)).transpose()?.flatten();
            WEBHOOKS.change(folding.rows, &event.webhook, |webhook| {
                webhook.changed = time;
                webhook.url = url.unwrap_or_else(|| std::mem::take(&mut webhook.url));
                webhook.types = event.types.unwrap_or_else(|| webhook.types.clone());
            })
        }
        Event::SecretRotated(event) => WEBHOOKS.change(folding.rows, &event.webhook, |webhook| {
            webhook.changed = time;
            let before = std::mem::replace(&mut webhook.secret, event.secret);
            webhook.previous = Some((before, time.after(OVERLAP)));
        }),
        Event::Disabled(event) => WEBHOOKS.change(folding.rows, &event.webhook, |webhook| {
            webhook.changed = time;
            webhook.disabled = Some(event.cause);
        }),
        Event::Enabled(event) => WEBHOOKS.change(folding.rows, &event.webhook, |webhook| {
            webhook.changed = time;
            webhook.since = time;
            webhook.disabled = None;
        }),
        Event::Deleted(event) => remove(folding.rows, event.webhook),
    }
}

fn create(folding: &mut Folding<'_>, time: Time, event: Created) -> Result<(), Fault> {
    // Without the key the account is erased, and its webhooks with it, by a later event.
    let Some(url) = folding.vault.open(&event.url)? else { return Ok(()) };
    let webhook = Webhook {
        owner: event.owner,
        url,
        types: event.types,
        secret: event.secret,
        previous: None,
        disabled: None,
        since: time,
        created: time,
        changed: time,
    };
    let owner = event.owner.unwrap_or(OPERATOR);
    BY_OWNER.put(folding.rows, &(owner, event.webhook), &())?;
    WEBHOOKS.put(folding.rows, &event.webhook, &webhook)
}

fn remove(rows: &mut dyn RowsMut, id: WebhookId) -> Result<(), Fault> {
    let Some(webhook) = WEBHOOKS.get(rows, &id)? else { return Ok(()) };
    BY_OWNER.remove(rows, &(webhook.owner.unwrap_or(OPERATOR), id))?;
    WEBHOOKS.remove(rows, &id)
}
