//! The machine's capacity for encoding, and its reservations. In macroblocks a second, as measured
//! by a trial encode.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{Notify, futures::Notified};

/// Maximum share of a core that one thread of an encoder may need.
const BUSY: f64 = 0.7;

/// The machine's capacity. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Capacity(Arc<Shared>);

/// The capacity and its reservations, in macroblocks encoded a second.
#[derive(Debug)]
struct Shared {
    /// The capacity that can be reserved.
    whole: f64,
    /// The capacity of one core, which limits one thread of an encoder.
    one_core: f64,
    /// The reserved capacity.
    used: Mutex<f64>,
    /// Number of releases so far.
    releases: AtomicU64,
    /// Wakes the ladders that wait for a release.
    released: Notify,
}

/// A reservation of capacity, until dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    capacity: Capacity,
    cost: f64,
}

impl Capacity {
    /// The capacity of `cores` cores, of which each does `macroblocks_per_s`.
    pub(crate) fn new(macroblocks_per_s: f64, cores: f64) -> Self {
        Self(Arc::new(Shared {
            whole: macroblocks_per_s * cores,
            one_core: macroblocks_per_s,
            used: Mutex::new(0.0),
            releases: AtomicU64::new(0),
            released: Notify::new(),
        }))
    }

    /// Reserves those of `costs`, the most expensive first, that fit together beside `overhead`,
    /// which they all need. The most expensive ones are refused first.
    pub(crate) fn admit_all(
        &self,
        overhead: f64,
        costs: &[f64],
    ) -> (Option<Permit>, Vec<Option<Permit>>) {
        let mut permits: Vec<_> = costs.iter().map(|_| None).collect();
        // An attempt that fails reserves nothing meanwhile: it would be a release, and those that
        // wait for one would wake each other.
        let mut used = self.used();
        let mut reserved = *used + overhead;
        // From the cheapest on. The first one that does not fit ends the loop, because the
        // remaining ones are more expensive.
        for (permit, cost) in permits.iter_mut().zip(costs).rev() {
            if reserved + cost > self.0.whole {
                break;
            }
            reserved += cost;
            *permit = Some(self.permit(*cost));
        }
        // Decoding alone would produce nothing.
        if permits.iter().all(Option::is_none) {
            return (None, permits);
        }
        *used = reserved;
        (Some(self.permit(overhead)), permits)
    }

    /// A permit for capacity that the caller adds to `used`.
    fn permit(&self, cost: f64) -> Permit {
        Permit { capacity: self.clone(), cost }
    }

    /// Waits for the next release of a reservation; enabled when it is first polled.
    pub(crate) fn released(&self) -> Notified<'_> {
        self.0.released.notified()
    }

    /// Number of releases so far. Nothing that was refused fits before it changes.
    pub(crate) fn releases(&self) -> u64 {
        self.0.releases.load(Ordering::Relaxed)
    }

    /// Number of threads that an encoder needs for `cost`: one, as long as one core suffices with a
    /// margin.
    pub(crate) fn threads(&self, cost: f64) -> u32 {
        /// Maximum number of threads of one encoder.
        const MOST: f64 = 16.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 16")]
        let threads = (cost / (self.0.one_core.max(1.0) * BUSY)).ceil().clamp(1.0, MOST) as u32;
        threads
    }

    /// The reserved share of the capacity.
    pub(crate) fn load(&self) -> f64 {
        *self.used() / self.0.whole.max(1.0)
    }

    fn used(&self) -> MutexGuard<'_, f64> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // The lock is released at the end of this statement, before the waiters are woken.
        *self.capacity.used() -= self.cost;
        self.capacity.0.releases.fetch_add(1, Ordering::Relaxed);
        self.capacity.0.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(capacity: &Capacity, cost: f64) -> Option<Permit> {
        let (_, mut permits) = capacity.admit_all(0.0, &[cost]);
        permits.pop().flatten()
    }

    #[test]
    fn the_most_expensive_renditions_are_refused_first_and_dropped_permits_are_released() {
        let capacity = Capacity::new(50.0, 2.0);
        let (base, permits) = capacity.admit_all(10.0, &[60.0, 30.0, 20.0]);
        assert!(base.is_some());
        assert_eq!(permits.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, true]);
        assert_eq!(capacity.load(), 0.6);
        assert!(admit(&capacity, 41.0).is_none());
        drop(permits);
        assert!(admit(&capacity, 60.0).is_some());
        drop(base);
        assert_eq!(capacity.load(), 0.0);
    }

    #[test]
    fn an_encoder_too_expensive_for_one_core_gets_more_threads() {
        let capacity = Capacity::new(100.0, 8.0);
        assert_eq!([10.0, 70.0, 71.0, 1e9].map(|cost| capacity.threads(cost)), [1, 1, 2, 16]);
    }

    #[test]
    fn decoding_is_not_admitted_without_any_rendition() {
        let capacity = Capacity::new(50.0, 2.0);
        let (base, permits) = capacity.admit_all(95.0, &[10.0]);
        assert!(base.is_none() && permits[0].is_none());
        assert_eq!(capacity.load(), 0.0);
        assert_eq!(capacity.releases(), 0, "nothing was released");
    }

    #[tokio::test]
    async fn a_task_waits_for_released_capacity() {
        let capacity = Capacity::new(50.0, 2.0);
        let held = admit(&capacity, 80.0).unwrap();
        let waiting = capacity.clone();
        let waiter = tokio::spawn(async move {
            let released = waiting.released();
            assert!(admit(&waiting, 30.0).is_none());
            released.await;
            admit(&waiting, 30.0).is_some()
        });
        tokio::task::yield_now().await;
        drop(held);
        assert!(waiter.await.unwrap());
    }
}
