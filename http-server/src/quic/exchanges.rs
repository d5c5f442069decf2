//! The exchanges of one connection, which may begin before the connection has its permit among all.
//!
//! Early data arrive before the peer's address is validated, and thus before there is a [`Usage`]
//! to count their requests. They are counted together from the moment that there is one.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use net_core::{InFlight, Usage};

/// Begins exchanges of a connection.
#[derive(Debug)]
pub(super) struct Exchanges {
    /// The connection's usage, once it has its permit.
    usage: OnceLock<Arc<Usage>>,
    /// Shared by all exchanges that began before; `None` once there is a usage.
    early: Mutex<Option<Early>>,
}

/// One exchange for all early ones, begun when the connection gets its permit. It ends with the
/// last of them.
type Early = Arc<OnceLock<InFlight>>;

/// An exchange, which lasts until dropped.
#[derive(Debug)]
pub(super) enum Begun {
    /// Began before the connection had its permit.
    Early { _shared: Early },
    /// Counted by the connection's usage.
    Counted { _in_flight: InFlight },
}

impl Exchanges {
    /// `usage` belongs to a connection that has its permit already.
    pub(super) fn new(usage: Option<Arc<Usage>>) -> Self {
        let early = usage.is_none().then(Early::default);
        Self { usage: usage.map_or_else(OnceLock::new, OnceLock::from), early: Mutex::new(early) }
    }

    /// Begins an exchange; `None` if the connection is to close.
    pub(super) fn begin(&self) -> Option<Begun> {
        // The second check, under the lock, decides: `admit` may have set the usage since the first
        // one.
        if self.usage.get().is_none()
            && let Some(early) = &*self.early()
        {
            return Some(Begun::Early { _shared: Arc::clone(early) });
        }
        let in_flight = self.usage.get()?.exchange()?;
        Some(Begun::Counted { _in_flight: in_flight })
    }

    /// Records that the connection has its permit: exchanges in progress count from now on. Called
    /// once.
    pub(super) fn admit(&self, usage: &Arc<Usage>) {
        let mut early = self.early();
        self.usage.get_or_init(|| Arc::clone(usage));
        if let Some(shared) = early.take()
            && let Some(in_flight) = usage.exchange()
        {
            let _ = shared.set(in_flight);
        }
    }

    /// The lock is held for a clone or a `take` only.
    fn early(&self) -> MutexGuard<'_, Option<Early>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use net_core::ConnectionLimit;
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn exchanges_begun_before_admission_keep_the_connection_active() {
        let now = Instant::now();
        let limit = ConnectionLimit::new("connections", 1, 1, Arc::new(()));
        let exchanges = Exchanges::new(None);
        let early = [exchanges.begin(), exchanges.begin()];
        let permit = limit.try_admit(None, now).unwrap();
        exchanges.admit(permit.usage());
        let later = exchanges.begin();
        let [first, second] = early;
        drop((first, later));
        assert!(limit.try_admit(None, now).is_err());
        drop(second);
        assert!(limit.try_admit(None, now).is_ok());
        assert!(permit.usage().is_closed() && exchanges.begin().is_none());
    }

    #[test]
    fn a_connection_without_exchanges_is_idle_after_admission() {
        let now = Instant::now();
        for has_place in [false, true] {
            let limit = ConnectionLimit::new("connections", 1, 1, Arc::new(()));
            let permit = limit.try_admit(None, now).unwrap();
            let exchanges = Exchanges::new(has_place.then(|| Arc::clone(permit.usage())));
            if !has_place {
                drop(exchanges.begin());
                exchanges.admit(permit.usage());
            }
            assert!(limit.try_admit(None, now).is_ok());
        }
    }
}
