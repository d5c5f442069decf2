//! The revocation of a publisher's right to its name, and its cause.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Why a publisher is disconnected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// An operator ended the broadcast, or the daemon stops.
    Operator,
    /// The broadcast cannot continue. One sentence for the streamer: the reason, and the remedy.
    Failed(String),
    /// The publisher was silent for [`TAKEOVER`](super::TAKEOVER), and another one has claimed its
    /// name.
    TakenOver,
}

/// Watches a publisher's right to its name. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Revocation(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    revoked: CancellationToken,
    cause: OnceLock<Cause>,
}

impl Revocation {
    /// Revokes the right. Only the first cause is kept.
    pub(super) fn revoke(&self, cause: Cause) {
        // A second cause is irrelevant, because the publisher is being disconnected already.
        let _ = self.0.cause.set(cause);
        self.0.revoked.cancel();
    }

    /// Whether the right is revoked.
    pub fn is_revoked(&self) -> bool {
        self.0.revoked.is_cancelled()
    }

    /// The cause, once the right is revoked.
    pub fn cause(&self) -> Option<&Cause> {
        self.0.cause.get()
    }

    /// Waits until the right is revoked. Cancel-safe.
    pub async fn revoked(&self) -> Cause {
        self.0.revoked.cancelled().await;
        self.cause().cloned().unwrap_or(Cause::Operator)
    }
}
