//! The right to publish: the decision about a request, the refusals, and the revocation.

use std::{sync::Arc, time::Duration};

use media_core::{Error as HubError, hub::Hold};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Authorize, Grant, PublishRequest, Reason, Refusal, StreamKey},
    publisher,
};

/// Waits for the decision about a request to publish, for at most `limit`: the peer is not read
/// meanwhile, so the session's own limits do not apply.
pub(super) async fn decided(
    authorize: Arc<dyn Authorize>,
    request: PublishRequest,
    verbatim: Option<StreamKey>,
    limit: Duration,
) -> Result<Grant, Refusal> {
    match timeout(limit, authorized(authorize, request, verbatim)).await {
        Ok(decision) => decision,
        Err(_) => Err(Refusal::new(
            Reason::Failed,
            "the server could not check this stream key in time: try again in a moment",
        )),
    }
}

/// Waits for the decision about a request to publish. A key that is valid exactly as sent is
/// accepted, before its surroundings are stripped. If both forms are refused, that counts as one
/// refusal: it is one request, and twice as many attempts do not make a key guessable.
async fn authorized(
    authorize: Arc<dyn Authorize>,
    request: PublishRequest,
    verbatim: Option<StreamKey>,
) -> Result<Grant, Refusal> {
    if let Some(key) = verbatim {
        let request = PublishRequest { key, ..request.clone() };
        if let Ok(grant) = authorize.authorize(&request).await {
            return Ok(grant);
        }
    }
    authorize.authorize(&request).await
}

/// Waits until the right to publish is revoked. Returns the cause.
pub(super) async fn revoked(hold: Hold, withdrawn: CancellationToken) -> Refusal {
    tokio::select! {
        cause = hold.revocation().revoked() => publisher::ended(Some(&cause)),
        () = withdrawn.cancelled() => Refusal::new(
            Reason::Withdrawn,
            "this stream key has been withdrawn: ask the server's operator for another",
        ),
    }
}

/// Why a name could not be claimed, as a text for the streamer.
pub(super) fn unclaimed(err: &HubError) -> Refusal {
    match err {
        HubError::Busy { name } => Refusal::new(
            Reason::Name,
            format!(
                "{name} is live already: stop the other encoder first; if it is gone, try again in \
                 a second"
            ),
        ),
        HubError::Closed => going_down(),
        other => Refusal::new(Reason::Busy, other.to_string()),
    }
}

/// The refusal of all peers at shutdown.
pub(super) fn going_down() -> Refusal {
    Refusal::new(Reason::Shutdown, "the server is shutting down, try again in a moment")
}
