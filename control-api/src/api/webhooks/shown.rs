//! Webhooks and deliveries as the API shows them.

use control_domain::{
    Time,
    features::webhooks::{
        events::Cause, filter::TypeFilter, queries::Webhook, secret::WebhookSecret, url::WebhookUrl,
    },
    id::{AccountId, EventId, WebhookId},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    described::described,
    store::{Delivery, DeliveryState},
};

/// A webhook without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(super) struct Shown {
    /// The webhook.
    #[schema(schema_with = described::<WebhookId>)]
    id: WebhookId,
    /// The account that owns it, and whose events it receives; null: the operator, who receives all
    /// events.
    #[schema(schema_with = described::<Option<AccountId>>)]
    owner: Option<AccountId>,
    /// The address to which events are posted.
    #[schema(schema_with = described::<WebhookUrl>)]
    url: String,
    /// The types of events that it receives, or their beginnings with `*` at the end.
    #[schema(schema_with = described::<TypeFilter>)]
    types: TypeFilter,
    /// Why it is not in use; null: it is.
    #[schema(schema_with = described::<Option<Cause>>)]
    disabled: Option<Cause>,
    /// When it was made.
    #[schema(schema_with = described::<Time>)]
    created: Time,
    /// When it was last changed.
    #[schema(schema_with = described::<Time>)]
    changed: Time,
}

impl Shown {
    pub(super) fn of(id: WebhookId, webhook: Webhook) -> Self {
        let Webhook { owner, url, types, disabled, created, changed, .. } = webhook;
        Self { id, owner, url, types, disabled, created, changed }
    }
}

/// The webhooks of an owner: at most 20, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhooks)]
pub(super) struct Listed {
    /// The webhooks.
    #[schema(max_items = 20)]
    pub(super) webhooks: Vec<Shown>,
}

/// A webhook with its secret, which is shown this once.
#[derive(Serialize, ToSchema)]
pub(super) struct WebhookWithSecret {
    #[serde(flatten)]
    pub(super) shown: Shown,
    /// The secret with which the receiver verifies deliveries.
    #[schema(schema_with = described::<WebhookSecret>)]
    pub(super) secret: String,
}

/// The delivery of an event to a webhook, with its last attempt.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(super) struct ShownDelivery {
    /// The event, and the header `webhook-id` of its deliveries.
    #[schema(schema_with = described::<EventId>)]
    id: EventId,
    /// The type of the event.
    #[serde(rename = "type")]
    kind: String,
    /// `delivered`: the receiver has accepted it; `waiting`: it is tried again; `failed`: it is
    /// not.
    #[schema(inline)]
    state: ShownState,
    /// The number of attempts.
    attempts: u32,
    /// The time of the first attempt.
    #[schema(schema_with = described::<Time>)]
    first: Time,
    /// The time of the last attempt.
    #[schema(schema_with = described::<Time>)]
    last: Time,
    /// How long the last attempt took, in milliseconds.
    duration_ms: u64,
    /// The status of the response; null: there was none.
    status: Option<u16>,
    /// Why there was no response.
    error: Option<String>,
    /// The time of the next attempt; null: there is none.
    #[schema(schema_with = described::<Option<Time>>)]
    next: Option<Time>,
}

/// The state of a delivery.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ShownState {
    /// The receiver has accepted it.
    Delivered,
    /// It is tried again.
    Waiting,
    /// It is not tried again.
    Failed,
}

impl ShownDelivery {
    pub(super) fn of((id, delivery): (EventId, Delivery)) -> Self {
        let Delivery { kind, attempts, first, last, duration_ms, status, error, next, .. } =
            delivery;
        let state = match delivery.state {
            DeliveryState::Delivered => ShownState::Delivered,
            DeliveryState::Waiting => ShownState::Waiting,
            DeliveryState::Failed => ShownState::Failed,
        };
        Self { id, kind, state, attempts, first, last, duration_ms, status, error, next }
    }
}

/// The last deliveries of a webhook, the newest event first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Deliveries {
    /// The deliveries.
    #[schema(max_items = 100)]
    pub(super) deliveries: Vec<ShownDelivery>,
}
