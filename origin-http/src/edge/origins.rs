//! The order in which origins are tried: that of the list, but first the one where the channel or
//! broadcast was found last, and without those that failed a moment ago.
//!
//! Origins may have different publishers, with a channel on only one of them: so a 404 is no fault,
//! and the next is tried; a broadcast's objects are at one origin, and a channel stays with its
//! origin as long as that responds, because another origin's playlist belongs to another broadcast.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::gauge::Gauge;
use quick_cache::sync::Cache as Recent;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{key::Scope, upstream::Upstream};

/// Time for which a failed origin is skipped: initially, and at most.
///
/// If no other origin responds, it is always tried at the first interval, so that its return is
/// noticed at once, by one request at a time: the other requests fail immediately, without a wait.
const REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(10);
/// Time after which another request may try it, because the first may be held.
const PATIENCE: Duration = Duration::from_secs(1);
/// Maximum number of channels and broadcasts with a known origin.
const HOMES: usize = 8_192;

/// The origins of one edge.
#[derive(Debug)]
pub(super) struct Origins {
    origins: Vec<Arc<Origin>>,
    /// The index of the origin where each was found last. The least recently used are forgotten.
    homes: Recent<Scope, usize>,
}

/// An origin, and its state.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) upstream: Upstream,
    /// A process on this machine: when it has ended, its resources are gone.
    pub(super) local: bool,
    /// Its authority, for logs and metrics.
    name: String,
    /// Its position in the configuration.
    index: usize,
    health: Mutex<Health>,
    /// 1 while it responds.
    up: Gauge,
}

/// The results of the last requests to an origin.
#[derive(Debug, Default)]
struct Health {
    /// `None`: the last connection succeeded.
    failing: Option<Failing>,
    /// The request without a response since its last response.
    without_response: Option<Arc<str>>,
    /// Number of its responses.
    responses: u64,
}

/// An origin that could not be reached.
#[derive(Debug)]
struct Failing {
    /// Its last failure.
    since: Instant,
    /// Time for which it is skipped after that.
    rest: Duration,
    /// Time since which a request has been testing whether it is back.
    tried: Option<Instant>,
}

/// The right to send one request to an origin. The result must be reported; otherwise the request
/// counts as not sent.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) origin: Arc<Origin>,
    /// The request tests whether a failing origin is back.
    trying: bool,
    /// Number of the origin's responses before it.
    responses: u64,
}

impl Origins {
    /// The origins in the order of the configuration: name, connections, whether it is local,
    /// gauge.
    pub(super) fn new(origins: impl IntoIterator<Item = (String, Upstream, bool, Gauge)>) -> Self {
        let origins = origins.into_iter().enumerate();
        let origins = origins.map(|(index, (name, upstream, local, up))| {
            Arc::new(Origin { upstream, local, name, index, health: Mutex::default(), up })
        });
        Self { origins: origins.collect(), homes: Recent::new(HOMES) }
    }

    /// The order in which origins are tried for an object of `scope`.
    pub(super) fn order(&self, scope: &Scope) -> Vec<Arc<Origin>> {
        let mut order = self.origins.clone();
        if let Some(home) = self.homes.get(scope) {
            order.sort_by_key(|origin| origin.index != home);
        }
        order
    }

    /// The origin where an object of `scope` was found last.
    pub(super) fn home(&self, scope: &Scope) -> Option<Arc<Origin>> {
        self.origins.get(self.homes.get(scope)?).cloned()
    }

    /// Records that an object of `scope` was found at an origin.
    pub(super) fn found(&self, scope: &Scope, origin: &Origin) {
        if self.homes.get(scope) != Some(origin.index) {
            self.homes.insert(scope.clone(), origin.index);
        }
    }

    /// A turn at `origin`, unless it is skipped. One request at a time tests a failing origin;
    /// another one may after [`PATIENCE`], because the first may be held by a blocking reload.
    pub(super) fn turn(&self, origin: &Arc<Origin>, now: Instant) -> Option<Turn> {
        // Before the lock of this origin is taken: two locks at once could be taken in opposite
        // orders.
        let others = self
            .origins
            .iter()
            .any(|other| !Arc::ptr_eq(other, origin) && other.health().failing.is_none());
        let mut health = origin.health();
        // A failing origin gets one request after each interval, as a test; the others are not
        // delayed by it.
        let trying = match &mut health.failing {
            None => false,
            // A test costs nothing.
            Some(_) if origin.local => true,
            Some(failing) => {
                let rest = if others { failing.rest } else { REST.min(failing.rest) };
                let in_hand = failing.tried.is_some_and(|tried| now < tried + PATIENCE);
                if in_hand || now < failing.since + rest {
                    return None;
                }
                failing.tried = Some(now);
                true
            }
        };
        let responses = health.responses;
        drop(health);
        Some(Turn { origin: Arc::clone(origin), trying, responses })
    }
}

impl Origin {
    /// The lock is held for an update only.
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Reports a response, with any status.
    pub(super) fn responded(mut self) {
        self.trying = false;
        let origin = &self.origin;
        let was_failing = {
            let mut health = origin.health();
            health.responses += 1;
            health.without_response = None;
            health.failing.take().is_some()
        };
        if was_failing {
            origin.up.set(1);
            info!(origin = %origin.name, "origin responds again");
        }
    }

    /// Reports that it was connected to, and did not respond to the request for `target`.
    ///
    /// The cause may be the requested resource: one address that hangs or breaks must not affect
    /// the others. It counts as the origin's fault if another address has no response either,
    /// without any response in between.
    pub(super) fn failed_to_respond(self, target: &Arc<str>, why: &dyn fmt::Display, now: Instant) {
        // `known`: another address is without a response. `silent`: the origin has sent no response
        // since this request began.
        let is_origins = self.trying || {
            let mut health = self.origin.health();
            let silent = health.responses == self.responses;
            let known = health.without_response.as_ref().is_some_and(|known| known != target);
            if silent && !known {
                health.without_response = Some(Arc::clone(target));
            }
            silent && known
        };
        if is_origins {
            self.failed(why, now);
        }
    }

    /// Reports that it could not be reached.
    pub(super) fn failed(mut self, why: &dyn fmt::Display, now: Instant) {
        let trying = std::mem::take(&mut self.trying);
        let origin = &self.origin;
        let mut health = origin.health();
        let first = health.failing.is_none();
        // Requests that were in progress when it failed are no new evidence.
        let rest = match &health.failing {
            Some(failing) if trying => (failing.rest * 2).min(LONGEST_REST),
            Some(failing) => failing.rest,
            None => REST,
        };
        if first || trying {
            health.failing = Some(Failing { since: now, rest, tried: None });
        }
        drop(health);
        if first {
            origin.up.set(0);
            // The end of a local process is expected after an upgrade; the failure of a remote
            // origin is not.
            match origin.local {
                true => info!(%why, "the old process has ended"),
                false => warn!(origin = %origin.name, %why, "origin does not respond"),
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.trying
            && let Some(failing) = &mut self.origin.health().failing
        {
            failing.tried = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::{sync::CancellationToken, task::TaskTracker};

    use super::{
        super::{
            config::{Config, Origin as Address},
            dial::{Dial, Tls},
        },
        *,
    };

    fn origins(count: usize) -> Origins {
        let config = Config::default();
        let tls = Tls::new("".as_ref(), false).unwrap();
        Origins::new((0..count).map(|n| {
            let address: Address = format!("http://o{n}.invalid").parse().unwrap();
            let upstream = Upstream::new(
                &address,
                &config,
                &Dial::new(&address, config.connect(), &tls),
                (&TaskTracker::new(), &CancellationToken::new()),
            );
            (address.to_string(), upstream, false, Gauge::default())
        }))
    }

    fn tried(origins: &Origins, scope: &Scope, now: Instant) -> Vec<usize> {
        let turns =
            origins.order(scope).into_iter().filter_map(|origin| origins.turn(&origin, now));
        turns.map(|turn| turn.origin.index).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_backoff_of_a_failed_origin_grows_while_another_responds() {
        let origins = origins(2);
        let scope = Scope::Channel("demo".parse().unwrap());
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(tried(&origins, &scope, at(0)), [0, 1]);
        let first = Arc::clone(&origins.origins[0]);
        let mut now = 0;
        origins.turn(&first, at(now)).unwrap().failed(&"x", at(now));
        for rest in [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            assert_eq!(tried(&origins, &scope, at(now + rest - 1)), [1]);
            now += rest;
            // One request tests it; concurrent ones continue without it.
            let turn = origins.turn(&first, at(now)).unwrap();
            assert!(origins.turn(&first, at(now)).is_none());
            turn.failed(&"x", at(now));
        }
        now += 10_000;
        origins.turn(&first, at(now)).unwrap().responded();
        assert_eq!(tried(&origins, &scope, at(now)), [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_origin_is_down_after_two_different_targets_in_a_row_without_a_response() {
        let origins = origins(1);
        let origin = Arc::clone(&origins.origins[0]);
        let now = Instant::now();
        let turn = || origins.turn(&origin, now).unwrap();
        let [one, other] = ["/one", "/other"].map(Arc::<str>::from);
        for _ in 0..3 {
            turn().failed_to_respond(&one, &"x", now);
        }
        turn().responded();
        turn().failed_to_respond(&other, &"x", now);
        // The request was sent before the response to another request.
        let early = turn();
        turn().responded();
        turn().failed_to_respond(&one, &"x", now);
        early.failed_to_respond(&other, &"x", now);
        turn().failed_to_respond(&other, &"x", now);
        assert!(origins.turn(&origin, now).is_none());
        // Only the request that tests the origin decides.
        let later = now + REST;
        origins.turn(&origin, later).unwrap().failed_to_respond(&other, &"x", later);
        assert!(origins.turn(&origin, later + REST / 2).is_none());
        origins.turn(&origin, later + REST).unwrap().responded();
        assert!(origins.turn(&origin, later + REST).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn when_no_origin_responds_each_is_tried_four_times_a_second() {
        let origins = origins(2);
        let scope = Scope::Channel("demo".parse().unwrap());
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        for round in 0..20 {
            let now = at(250 * round);
            for origin in origins.order(&scope) {
                origins.turn(&origin, now).unwrap().failed(&"x", now);
            }
            assert_eq!(tried(&origins, &scope, now + Duration::from_millis(249)), [0; 0]);
        }
        // A turn that is returned unused is available to another request.
        assert_eq!(tried(&origins, &scope, at(5_000)), [0, 1]);
        assert_eq!(tried(&origins, &scope, at(5_000)), [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_is_requested_first_from_the_origin_where_it_was_found() {
        let origins = origins(3);
        let (demo, other) = ("demo", "other");
        let [demo, other] = [demo, other].map(|name| Scope::Channel(name.parse().unwrap()));
        origins.found(&demo, &origins.origins[2]);
        assert_eq!(tried(&origins, &demo, Instant::now()), [2, 0, 1]);
        assert_eq!(tried(&origins, &other, Instant::now()), [0, 1, 2]);
        let home = Arc::clone(&origins.origins[2]);
        origins.turn(&home, Instant::now()).unwrap().failed(&"x", Instant::now());
        assert_eq!(tried(&origins, &demo, Instant::now()), [0, 1]);
    }
}
