//! The events of a webhook.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filter::TypeFilter;
use crate::{
    events,
    id::{AccountId, WebhookId},
    vault::Sealed,
};

/// A webhook is there, and receives the events that happen from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Created {
    /// The webhook.
    pub webhook: WebhookId,
    /// The account that owns it; absent: the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<AccountId>,
    /// The address to which events are posted.
    pub url: Sealed,
    /// The types of events that it receives.
    pub types: TypeFilter,
    /// The secret with which deliveries are signed.
    pub secret: Sealed,
}

/// A webhook has another address or filter. Fields that are absent keep their value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Edited {
    /// The webhook.
    pub webhook: WebhookId,
    /// The address to which events are posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Sealed>,
    /// The types of events that it receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<TypeFilter>,
}

/// A webhook has another secret. Deliveries are also signed with the one before for a day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRotated {
    /// The webhook.
    pub webhook: WebhookId,
    /// The secret.
    pub secret: Sealed,
}

/// Why a webhook is not in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// Its owner wants it.
    Owner,
    /// No delivery has succeeded for days.
    Failing,
    /// The receiver has responded with status 410: it is gone for ever.
    Gone,
}

/// A webhook receives no events any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Disabled {
    /// The webhook.
    pub webhook: WebhookId,
    /// The cause.
    pub cause: Cause,
}

/// A webhook receives the events that happen from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Enabled {
    /// The webhook.
    pub webhook: WebhookId,
}

/// A webhook is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {
    /// The webhook.
    pub webhook: WebhookId,
}

events! {
    /// An event of a webhook.
    pub enum Event {
        Created = "streamforge.webhook.created.v1" on webhook,
        Edited = "streamforge.webhook.edited.v1" on webhook,
        SecretRotated = "streamforge.webhook.secret_rotated.v1" on webhook,
        Disabled = "streamforge.webhook.disabled.v1" on webhook,
        Enabled = "streamforge.webhook.enabled.v1" on webhook,
        Deleted = "streamforge.webhook.deleted.v1" on webhook,
    }
}

/// The type of [`Created`].
pub const CREATED: &str = "streamforge.webhook.created.v1";
/// The type of [`Enabled`].
pub const ENABLED: &str = "streamforge.webhook.enabled.v1";
