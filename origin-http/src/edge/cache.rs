//! Objects in memory, and fetches in progress: one for each object. Room is made by the
//! second-chance rule: objects without a request since the last pass are removed first; an object
//! that is still being fetched stays, because its removal would free nothing.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use net_core::{Quota, Share};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    budget::{Budget, Claim},
    key::Key,
    metrics::Outcome,
    object::Object,
};

/// Number of locks, so that viewers seldom wait for each other.
const SHARDS: usize = 16;
/// Number of expired objects that are removed for each new one.
const SWEEP: usize = 4;
/// Objects with a longer lifetime are removed only to make room.
const SHORT: Duration = Duration::from_secs(900);
/// Minimum number of clock entries before those of removed objects are pruned.
const LEAST_PRUNED: usize = 256;

/// Why there is no response, in increasing order of relevance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// The origin of the object has ended permanently.
    Gone,
    /// No origin can be reached.
    Unreachable,
    /// An origin's response cannot be used.
    Invalid,
    /// There are too many fetches, or no memory for another one.
    Busy,
    /// An origin did not begin its response in time.
    TimedOut,
}

/// The result of a fetch: an object whose content may still be in progress, or the reason why there
/// is none.
pub(super) type Landed = Result<Arc<Object>, Failure>;

/// Objects in memory and fetches in progress.
#[derive(Debug)]
pub(super) struct Cache {
    shards: [Mutex<HashMap<Key, Entry>>; SHARDS],
    /// Selects the shard of a key. Its seed is random, so that clients cannot choose keys of one
    /// shard.
    hasher: RandomState,
    /// Objects in the order of inspection for room.
    clock: Mutex<Clock>,
    /// Objects that expire soon, by expiry.
    fading: Mutex<BTreeMap<Expiry, Candidate>>,
    budget: Arc<Budget>,
    /// Limits the fetches, in total and of one viewer.
    flights: Arc<Quota>,
}

/// An object that may be removed. It does not keep the object.
#[derive(Debug, Clone)]
struct Candidate {
    key: Key,
    object: Weak<Object>,
}

/// The position of an object in the order of expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Expiry {
    /// The end of its lifetime.
    at: Instant,
    /// Its number, because several objects may expire at the same time.
    serial: u64,
}

/// The list of the second-chance rule.
#[derive(Debug, Default)]
struct Clock {
    /// Stored objects; those to inspect first are in front. Some have been removed.
    objects: VecDeque<Candidate>,
    /// Length at which entries of removed objects are pruned: twice the length after the last time.
    prune_at: usize,
    /// The number of the last stored object.
    serial: u64,
}

/// The object with a key, and the fetch of its successor. At least one of them is present.
#[derive(Debug, Default)]
struct Entry {
    object: Option<Arc<Object>>,
    flight: Option<Arc<Flight>>,
}

/// A fetch until its response begins.
#[derive(Debug)]
pub(super) struct Flight {
    /// `None` until the response begins.
    landed: watch::Sender<Option<Landed>>,
    /// The handle that all waiting requests share; gone when there are none.
    awaited: Weak<Awaited>,
}

/// A request that waits for a flight. The token is cancelled when no request waits any more.
#[derive(Debug)]
pub(super) struct Awaited(CancellationToken);

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The result of a look-up.
#[derive(Debug)]
pub(super) enum Found {
    /// A fresh object: complete, or in progress.
    Here(Arc<Object>, Outcome),
    /// A fetch that another request began, and the previous object.
    Under(Arc<Flight>, Arc<Awaited>, Option<Arc<Object>>),
    /// No usable object: the caller must fetch it. The previous object may serve for revalidation.
    Nothing(Start, Arc<Flight>, Arc<Awaited>),
    /// No object, and too many fetches are in progress, in total or for this viewer.
    Full,
}

/// A fetch that its owner must perform.
#[derive(Debug)]
pub(super) struct Start {
    /// Publishes the result.
    pub(super) landing: Landing,
    /// Cancelled when no request waits any more.
    pub(super) abandoned: CancellationToken,
    /// The object that is no longer fresh, for revalidation.
    pub(super) previous: Option<Arc<Object>>,
}

/// The duty to end a flight. Dropping it ends the flight as failed.
#[derive(Debug)]
pub(super) struct Landing {
    /// The cache that gets the object.
    cache: Arc<Cache>,
    key: Key,
    flight: Arc<Flight>,
    /// Its share of all flights, until it has landed.
    share: Option<Share>,
    /// The flight has ended.
    done: bool,
}

impl Cache {
    /// `flights`: the limits of fetches, in total and for each viewer.
    pub(super) fn new(budget: Arc<Budget>, flights: Arc<Quota>) -> Arc<Self> {
        Arc::new(Self {
            shards: Default::default(),
            hasher: RandomState::new(),
            clock: Mutex::default(),
            fading: Mutex::default(),
            budget,
            flights,
        })
    }

    /// Looks a key up, and begins a flight if needed, which counts for `viewer`, if present. The
    /// lock of the key's shard makes the two one step: concurrent requests begin one flight.
    pub(super) fn find(self: &Arc<Self>, key: &Key, viewer: Option<IpAddr>, now: Instant) -> Found {
        let mut shard = self.shard(key);
        let mut previous = None;
        if let Some(entry) = shard.get(key) {
            // A truncated object counts as absent, although its readers still hold it.
            if let Some(object) = entry.object.as_ref().filter(|object| !object.content.is_short())
            {
                if object.freshness.is_fresh(now) {
                    object.used.store(true, Ordering::Relaxed);
                    let whole = object.content.rope().is_some();
                    let outcome = if whole { Outcome::Hit } else { Outcome::Shared };
                    return Found::Here(Arc::clone(object), outcome);
                }
                previous = Some(Arc::clone(object));
            }
            // A flight without waiting requests is being abandoned, so that a new one must begin.
            if let Some((flight, awaited)) =
                entry.flight.as_ref().and_then(|flight| Some((flight, flight.awaited.upgrade()?)))
            {
                return Found::Under(Arc::clone(flight), awaited, previous);
            }
        }
        let Ok(share) = self.flights.take(viewer) else {
            return Found::Full;
        };
        let abandoned = CancellationToken::new();
        let awaited = Arc::new(Awaited(abandoned.clone()));
        let flight = Arc::new(Flight {
            landed: watch::Sender::new(None),
            awaited: Arc::downgrade(&awaited),
        });
        shard.entry(key.clone()).or_default().flight = Some(Arc::clone(&flight));
        let landing = Landing {
            cache: Arc::clone(self),
            key: key.clone(),
            flight: Arc::clone(&flight),
            share: Some(share),
            done: false,
        };
        let start = Start { landing, abandoned, previous };
        Found::Nothing(start, flight, awaited)
    }

    /// Makes room for `bytes` bytes of a claim by removing objects. Returns `false` if that is
    /// impossible. No lock is held between two objects, so that look-ups proceed.
    pub(super) fn make_room(&self, bytes: u64, claim: Claim) -> bool {
        // Each object gets one second chance, so that two passes over the list suffice. If they
        // free too little, the memory is held by readers.
        let mut looks = 2 * self.clock().objects.len();
        while self.budget.is_short_of(bytes, claim) {
            // An object that is taken off the list is removed or returned to it, so that a failed
            // call leaves none that could never be removed.
            if looks == 0 {
                return false;
            }
            looks -= 1;
            let Some(candidate) = self.clock().objects.pop_front() else {
                return false;
            };
            let Some(object) = candidate.object.upgrade() else { continue };
            // The writer and the readers hold its content.
            let coming = Arc::strong_count(&object.content) > 1;
            if coming || object.used.swap(false, Ordering::Relaxed) {
                self.clock().objects.push_back(candidate);
            } else {
                self.forget(&candidate.key, &object);
            }
        }
        true
    }

    /// Removes an object, if it is still the one with this key.
    pub(super) fn forget(&self, key: &Key, object: &Arc<Object>) {
        let mut shard = self.shard(key);
        if let Some(entry) = shard.get_mut(key) {
            entry.object = entry.object.take().filter(|held| !Arc::ptr_eq(held, object));
            if entry.object.is_none() && entry.flight.is_none() {
                shard.remove(key);
            }
        }
    }

    /// Removes a flight, and stores its object if that is permitted.
    fn land(&self, key: &Key, flight: &Arc<Flight>, landed: &Landed) {
        let stored = landed.as_ref().ok().filter(|object| object.freshness.storable);
        {
            let mut shard = self.shard(key);
            let entry = shard.entry(key.clone()).or_default();
            entry.flight = entry.flight.take().filter(|held| !Arc::ptr_eq(held, flight));
            // The new response replaces the old object even if it must not be stored; only a fault
            // of the origin leaves the old one.
            match (stored, landed) {
                (Some(object), _) => entry.object = Some(Arc::clone(object)),
                // The previous object is outdated. After a failure it may still be useful.
                (None, Ok(object)) if !object.status.is_server_error() => entry.object = None,
                _ => {}
            }
            if entry.object.is_none() && entry.flight.is_none() {
                shard.remove(key);
            }
        }
        // Outside the lock of the shard: `note` and `sweep` take others.
        let now = Instant::now();
        if let Some(object) = stored {
            self.note(key, object, now);
        }
        self.sweep(now);
    }

    /// Records the object as a candidate for removal.
    fn note(&self, key: &Key, object: &Arc<Object>, now: Instant) {
        let candidate = || Candidate { key: key.clone(), object: Arc::downgrade(object) };
        // Entries of removed objects stay in the list until it has doubled, so that a removal costs
        // no search.
        let mut clock = self.clock();
        clock.objects.push_back(candidate());
        if clock.objects.len() >= clock.prune_at.max(LEAST_PRUNED) {
            clock.objects.retain(Candidate::is_stored);
            clock.prune_at = 2 * clock.objects.len();
        }
        clock.serial += 1;
        let (serial, many) = (clock.serial, 2 * clock.objects.len().max(LEAST_PRUNED));
        drop(clock);
        let left = object.freshness.left(now);
        // Objects with a short lifetime, mostly playlists, are removed when they expire; others
        // only for lack of room.
        if left < SHORT {
            let mut fading = self.fading();
            if fading.len() >= many {
                // Most have been removed already.
                fading.retain(|_, candidate| candidate.is_stored());
            }
            fading.insert(Expiry { at: now + left, serial }, candidate());
        }
    }

    /// Removes some objects that can no longer be used.
    fn sweep(&self, now: Instant) {
        for _ in 0..SWEEP {
            let faded = {
                let mut fading = self.fading();
                fading
                    .first_entry()
                    .filter(|first| first.key().at <= now)
                    .map(|first| first.remove())
            };
            let Some(candidate) = faded else { return };
            if let Some(object) = candidate.object.upgrade() {
                self.forget(&candidate.key, &object);
            }
        }
    }

    /// The shard of a key, locked for a look-up or a change of one entry.
    fn shard(&self, key: &Key) -> MutexGuard<'_, HashMap<Key, Entry>> {
        let shard = usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or_default() % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The list of objects, locked for one step.
    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The objects by expiry, locked for one step.
    fn fading(&self) -> MutexGuard<'_, BTreeMap<Expiry, Candidate>> {
        self.fading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}

impl Candidate {
    /// Whether the object is still stored or read.
    fn is_stored(&self) -> bool {
        self.object.strong_count() > 0
    }
}

impl Flight {
    /// Waits until the flight has landed.
    pub(super) async fn landed(&self) -> Landed {
        // Does not fail: the flight holds the sender, and is borrowed here.
        let mut landed = self.landed.subscribe();
        match landed.wait_for(Option::is_some).await {
            Ok(landed) => landed.clone().unwrap_or(Err(Failure::Unreachable)),
            Err(_) => Err(Failure::Unreachable),
        }
    }
}

impl Landing {
    /// Publishes that the response begins, or that there is none.
    pub(super) fn land(mut self, landed: Landed) {
        self.end(landed);
    }

    /// Ends the flight once. The share is returned before waiting requests are woken, because they
    /// may need it.
    fn end(&mut self, landed: Landed) {
        self.done = true;
        self.share = None;
        self.cache.land(&self.key, &self.flight, &landed);
        self.flight.landed.send_replace(Some(landed));
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if !self.done {
            self.end(Err(Failure::Unreachable));
        }
    }
}

#[cfg(test)]
mod tests;
