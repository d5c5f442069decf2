//! The bodies and queries of requests about webhooks.

use control_domain::{
    features::webhooks::{filter::TypeFilter, secret::WebhookSecret, url::WebhookUrl},
    id::AccountId,
    patch,
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::described::described;

/// A webhook to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewWebhook {
    /// The address to which events are posted: https, and a host of the public internet.
    #[schema(schema_with = described::<WebhookUrl>)]
    pub(super) url: WebhookUrl,
    /// The types of events that it receives, or their beginnings with `*` at the end. Default: all.
    #[serde(default)]
    #[schema(schema_with = described::<TypeFilter>, required = false)]
    pub(super) types: TypeFilter,
    /// The secret with which deliveries are signed. Default: one is made.
    #[serde(default)]
    #[schema(schema_with = described::<WebhookSecret>, required = false)]
    pub(super) secret: Option<WebhookSecret>,
    /// The account that owns it: the sender's own, or any for an administrator. Default: the
    /// sender's own; the operator's for the operator.
    #[serde(default)]
    #[schema(schema_with = described::<AccountId>, required = false)]
    pub(super) owner: Option<AccountId>,
}

/// Changes of a webhook, as a merge patch: members that are absent keep their value.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookPatch {
    /// The address to which events are posted.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<WebhookUrl>, required = false)]
    pub(super) url: Option<WebhookUrl>,
    /// The types of events that it receives.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<TypeFilter>, required = false)]
    pub(super) types: Option<TypeFilter>,
}

/// Another secret.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSecret {
    /// The secret. Default: one is made.
    #[serde(default)]
    #[schema(schema_with = described::<WebhookSecret>, required = false)]
    pub(super) secret: Option<WebhookSecret>,
}

/// Whose webhooks to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// The account. Default: the sender's own; the operator's webhooks for the operator.
    #[param(schema_with = described::<AccountId>)]
    pub(super) owner: Option<AccountId>,
}
