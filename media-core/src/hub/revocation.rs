//! The end of a publisher's right to its name, before the publisher has given it up, and the cause.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Why a publisher is sent off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// An operator ended the broadcast, or the daemon stops.
    Operator,
    /// The broadcast cannot go on. One sentence for the person at the encoder: the reason, and the
    /// remedy.
    Failed(String),
    /// The publisher was silent for [`TAKEOVER`](super::TAKEOVER), and another has claimed its name.
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
    /// Revokes the right. The first cause counts.
    pub(super) fn revoke(&self, cause: Cause) {
        // A second cause is of no interest: the publisher is being sent off already.
        let _ = self.0.cause.set(cause);
        self.0.revoked.cancel();
    }

    /// Whether the publisher must go.
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
