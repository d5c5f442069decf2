//! The policies and refusals of channels that accounts own.

use control_domain::features::channels::settings::PublishPolicy;
use ingest_rtmp::{Reason, Refusal};
use tracing::warn;

use crate::{config::Policy, directory::LookupError};

/// The refusal of a publisher whose right is not known. Not "denied": it may be right, and the
/// encoder tries again.
pub(super) fn not_looked_up(err: &LookupError) -> Refusal {
    warn!(%err, "right to publish not looked up");
    Refusal::new(Reason::Failed, "the server cannot look up stream keys now: try again")
}

/// The policy that the owner of a channel has chosen.
pub(super) fn chosen(publish: PublishPolicy) -> Policy {
    match publish {
        PublishPolicy::Open => Policy::Open,
        PublishPolicy::Keys => Policy::Keys,
        PublishPolicy::Jwt => Policy::Jwt,
        PublishPolicy::Webhook => Policy::Webhook,
    }
}

/// The refusal of a publisher that has no key of the channel.
pub(super) fn needs_key() -> Refusal {
    Refusal::denied("this channel belongs to an account of this server: use one of its stream keys")
}

/// The refusal where the owner has chosen a policy that this daemon does not have.
pub(super) fn not_configured(policy: Policy) -> Refusal {
    let what = if policy == Policy::Jwt { "tokens" } else { "a back end" };
    Refusal::denied(format!(
        "this channel's publishers are authorised by {what}, which the server's operator has not \
         configured: use one of its stream keys"
    ))
}
