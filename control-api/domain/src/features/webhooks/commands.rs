//! Requests to make, change, disable and delete webhooks.

use super::{
    events::{Cause, Created, Deleted, Disabled, Edited, Enabled, SecretRotated},
    filter::TypeFilter,
    queries,
    secret::WebhookSecret,
    tables::{MAX_OF_AN_OWNER, OPERATOR},
    url::WebhookUrl,
};
use crate::{
    actor::{Actor, Role},
    command::{Command, Context, Decision, Refusal},
    features::accounts,
    id::{AccountId, WebhookId},
    permission::{Permission, Who},
    rows::Rows,
};

/// The actors that may have something delivered now: a test, or an event again. It is a request to
/// the daemon, which changes no table.
pub const DELIVER: Permission =
    Permission { command: "webhook.deliver", who: Who::OwnerOr(Role::Administrator) };

/// Makes a webhook.
#[derive(Debug)]
pub struct Create {
    /// The account that owns it; `None`: the operator.
    pub owner: Option<AccountId>,
    /// The address to which events are posted.
    pub url: WebhookUrl,
    /// The types of events that it receives.
    pub types: TypeFilter,
    /// The secret with which deliveries are signed.
    pub secret: WebhookSecret,
}

impl Command for Create {
    const NAME: &'static str = "webhook.create";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = WebhookId;

    fn owner(&self, _: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(self.owner)
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<WebhookId>, Refusal> {
        if let Some(owner) = self.owner {
            accounts::queries::present(context.rows, owner)?;
        }
        if queries::of_owner(context.rows, self.owner)?.len() >= MAX_OF_AN_OWNER {
            return Err(Refusal::Limit { things: "webhooks", limit: MAX_OF_AN_OWNER as u64 });
        }
        let person = self.owner.unwrap_or(OPERATOR);
        let webhook = WebhookId::new(context.ids.next());
        let event = Created {
            webhook,
            owner: self.owner,
            url: context.vault.seal(person, self.url.as_str())?,
            types: self.types.clone(),
            secret: context.vault.seal(person, self.secret.expose())?,
        };
        Decision::event(event, webhook)
    }
}

/// Changes of a webhook. Properties that are absent keep their value.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    /// The address to which events are posted.
    pub url: Option<WebhookUrl>,
    /// The types of events that it receives.
    pub types: Option<TypeFilter>,
}

/// Edits a webhook.
#[derive(Debug)]
pub struct Edit {
    /// The webhook.
    pub webhook: WebhookId,
    /// The changes.
    pub edits: Edits,
}

impl Command for Edit {
    const NAME: &'static str = "webhook.edit";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(queries::webhook(rows, self.webhook)?.owner)
    }

    fn is_visible(&self, _: &dyn Rows, _: &Actor) -> Result<bool, Refusal> {
        Ok(false)
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let webhook = queries::webhook(context.rows, self.webhook)?;
        let url = self.edits.url.as_ref().filter(|url| url.as_str() != webhook.url);
        let types = self.edits.types.clone().filter(|types| *types != webhook.types);
        if url.is_none() && types.is_none() {
            return Ok(Decision::nothing(()));
        }
        let person = webhook.owner.unwrap_or(OPERATOR);
        let url = url.map(|url| context.vault.seal(person, url.as_str())).transpose()?;
        Decision::event(Edited { webhook: self.webhook, url, types }, ())
    }
}

/// Gives a webhook another secret.
#[derive(Debug)]
pub struct RotateSecret {
    /// The webhook.
    pub webhook: WebhookId,
    /// The secret.
    pub secret: WebhookSecret,
}

impl Command for RotateSecret {
    const NAME: &'static str = "webhook.rotate_secret";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(queries::webhook(rows, self.webhook)?.owner)
    }

    fn is_visible(&self, _: &dyn Rows, _: &Actor) -> Result<bool, Refusal> {
        Ok(false)
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let webhook = queries::webhook(context.rows, self.webhook)?;
        let person = webhook.owner.unwrap_or(OPERATOR);
        let secret = context.vault.seal(person, self.secret.expose())?;
        Decision::event(SecretRotated { webhook: self.webhook, secret }, ())
    }
}

/// Takes a webhook into use again.
#[derive(Debug)]
pub struct Enable {
    /// The webhook.
    pub webhook: WebhookId,
}

impl Command for Enable {
    const NAME: &'static str = "webhook.enable";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(queries::webhook(rows, self.webhook)?.owner)
    }

    fn is_visible(&self, _: &dyn Rows, _: &Actor) -> Result<bool, Refusal> {
        Ok(false)
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        match queries::webhook(context.rows, self.webhook)?.disabled {
            Some(_) => Decision::event(Enabled { webhook: self.webhook }, ()),
            None => Ok(Decision::nothing(())),
        }
    }
}

/// Takes a webhook out of use.
#[derive(Debug)]
pub struct Disable {
    /// The webhook.
    pub webhook: WebhookId,
}

impl Command for Disable {
    const NAME: &'static str = "webhook.disable";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(queries::webhook(rows, self.webhook)?.owner)
    }

    fn is_visible(&self, _: &dyn Rows, _: &Actor) -> Result<bool, Refusal> {
        Ok(false)
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        disable(context, self.webhook, Cause::Owner)
    }
}

/// Takes a webhook out of use that no delivery reaches.
#[derive(Debug)]
pub struct GiveUp {
    /// The webhook.
    pub webhook: WebhookId,
    /// Why it is given up.
    pub cause: Cause,
}

impl Command for GiveUp {
    const NAME: &'static str = "webhook.give_up";
    const WHO: Who = Who::System;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        disable(context, self.webhook, self.cause)
    }
}

/// Deletes a webhook.
#[derive(Debug)]
pub struct Delete {
    /// The webhook.
    pub webhook: WebhookId,
}

impl Command for Delete {
    const NAME: &'static str = "webhook.delete";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(queries::webhook(rows, self.webhook)?.owner)
    }

    fn is_visible(&self, _: &dyn Rows, _: &Actor) -> Result<bool, Refusal> {
        Ok(false)
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        queries::webhook(context.rows, self.webhook)?;
        Decision::event(Deleted { webhook: self.webhook }, ())
    }
}

fn disable(
    context: &Context<'_>,
    webhook: WebhookId,
    cause: Cause,
) -> Result<Decision<()>, Refusal> {
    match queries::webhook(context.rows, webhook)?.disabled {
        None => Decision::event(Disabled { webhook, cause }, ()),
        Some(_) => Ok(Decision::nothing(())),
    }
}
