//! The right to publish: the decision about a request, the refusals, and the revocation.

use std::{
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use media_core::{Error as HubError, hub::Hold};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Authorize, Grant, PublishRequest, Reason, Refusal},
    clock::now,
    publisher,
};

/// Longest single sleep until the end of a right.
const LONGEST_SLEEP: Duration = Duration::from_secs(86_400);

/// Waits for the decision about a request to publish, for at most `limit`: the peer is not read
/// meanwhile, so the session's own limits do not apply.
pub(super) async fn decided(
    authorize: Arc<dyn Authorize>,
    request: PublishRequest,
    limit: Duration,
) -> Result<Grant, Refusal> {
    match timeout(limit, authorize.authorize(&request)).await {
        Ok(decision) => decision,
        Err(_) => Err(Refusal::new(
            Reason::Failed,
            "the server could not check this stream key in time: try again in a moment",
        )),
    }
}

/// Waits until the right to publish is revoked or expires. Returns the cause.
pub(super) async fn revoked(
    hold: Hold,
    withdrawn: CancellationToken,
    expires: Option<Instant>,
) -> Refusal {
    tokio::select! {
        cause = hold.revocation().revoked() => publisher::ended(Some(&cause)),
        () = withdrawn.cancelled() => Refusal::new(
            Reason::Withdrawn,
            "this stream key has been withdrawn: ask the server's operator for another",
        ),
        () = reached(expires) => Refusal::new(
            Reason::Withdrawn,
            "the token of this stream has expired: get a new one, and publish again",
        ),
    }
}

/// Waits until `at`, or for ever.
async fn reached(at: Option<Instant>) {
    let Some(at) = at else { return pending().await };
    // One sleep may be shorter than requested if it is long: the runtime's timers end after two
    // years.
    while now() < at {
        sleep_until(at.min(now() + LONGEST_SLEEP).into()).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_right_of_many_years_ends_at_its_end() {
        let at = now() + Duration::from_secs(10 * 365 * 86_400);
        reached(Some(at)).await;
        assert!((at..at + Duration::from_secs(1)).contains(&now()));
        assert!(timeout(LONGEST_SLEEP, reached(None)).await.is_err());
    }
}
