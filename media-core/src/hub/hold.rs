//! A publisher's hold on its name, shared by the publisher and the hub: it reports the publisher's
//! activity, and its revocation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Cause, Revocation};

/// Silence of a publisher after which another one that claims its name takes over at once.
pub const TAKEOVER: Duration = Duration::from_secs(1);

/// One publisher's hold on a name. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Hold(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    serial: u64,
    revocation: Revocation,
    /// Time of the claim; `None` if the publisher does not report its activity.
    since: Option<Instant>,
    /// Last activity of the publisher, in milliseconds after `since`.
    active_ms: AtomicU64,
}

impl Hold {
    pub(super) fn new(serial: u64, since: Option<Instant>) -> Self {
        Self(Arc::new(Inner {
            serial,
            revocation: Revocation::default(),
            since,
            active_ms: AtomicU64::new(0),
        }))
    }

    /// Records activity of the publisher at `now`. One relaxed store.
    pub fn touch(&self, now: Instant) {
        if let Some(since) = self.0.since {
            let ms = now.saturating_duration_since(since).as_millis();
            self.0.active_ms.store(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Reports the revocation of the right.
    pub fn revocation(&self) -> &Revocation {
        &self.0.revocation
    }

    /// The claim's number. No two claims of a hub have the same, and none has 0.
    pub(super) fn serial(&self) -> u64 {
        self.0.serial
    }

    /// Whether a claim at `now` takes over the name: the publisher is revoked, or has been silent
    /// for [`TAKEOVER`].
    pub(super) fn gives_way(&self, now: Option<Instant>) -> bool {
        // The silence of a publisher that does not report its activity is not known: it keeps the
        // name.
        let silence = || {
            let active =
                self.0.since? + Duration::from_millis(self.0.active_ms.load(Ordering::Relaxed));
            Some(now?.saturating_duration_since(active))
        };
        self.0.revocation.is_revoked() || silence().is_some_and(|silence| silence >= TAKEOVER)
    }

    pub(super) fn revoke(&self, cause: Cause) {
        self.0.revocation.revoke(cause);
    }
}

impl PartialEq for Hold {
    fn eq(&self, other: &Self) -> bool {
        self.0.serial == other.0.serial
    }
}
