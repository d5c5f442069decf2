//! Which origin is asked next: in the order of the list, but first where the channel or broadcast was found last, and not where nobody
//! answered a moment ago.
//!
//! Origins may be fed apart, with a channel on one of them only: so a 404 is no fault, and the next is asked; a broadcast's objects are
//! at one origin, and a channel stays with the one that has it as long as that answers, for another's playlist is of another broadcast.

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

/// How long a failed origin is left alone: at first, and at most. Where no other answers it is tried this often always, so that its
/// return is noticed at once, by one request at a time: the others are told that nobody answers, and need not wait to find out.
const REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(10);
/// After this, another may find out: the first may be one that is held.
const PATIENCE: Duration = Duration::from_secs(1);
/// Channels and broadcasts whose origin is known.
const HOMES: usize = 8_192;

/// The origins of one edge.
#[derive(Debug)]
pub(super) struct Origins {
    origins: Vec<Arc<Origin>>,
    homes: Recent<Scope, usize>,
}

/// One of them, and how it is.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) upstream: Upstream,
    /// A process on this machine: when it is gone, so is what it had.
    pub(super) local: bool,
    name: String,
    index: usize,
    health: Mutex<Health>,
    up: Gauge,
}

#[derive(Debug, Default)]
struct Health {
    /// `None`: it could be connected to last time.
    failing: Option<Failing>,
    /// What it was asked for without an answer, since its last answer.
    unanswered: Option<Arc<str>>,
    /// Its answers so far.
    answers: u64,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    rest: Duration,
    /// Since when a request has been finding out whether it is back.
    tried: Option<Instant>,
}

/// The right to ask an origin once, which has to be told how that went; else it counts as not asked.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) origin: Arc<Origin>,
    trying: bool,
    /// The origin's answers before it.
    answers: u64,
}

impl Origins {
    pub(super) fn new(origins: impl IntoIterator<Item = (String, Upstream, bool, Gauge)>) -> Self {
        let origins = origins.into_iter().enumerate();
        let origins = origins.map(|(index, (name, upstream, local, up))| {
            Arc::new(Origin {
                upstream,
                local,
                name,
                index,
                health: Mutex::default(),
                up,
            })
        });
        Self {
            origins: origins.collect(),
            homes: Recent::new(HOMES),
        }
    }

    /// The order in which origins are asked about something of `scope`.
    pub(super) fn order(&self, scope: &Scope) -> Vec<Arc<Origin>> {
        let mut order = self.origins.clone();
        if let Some(home) = self.homes.get(scope) {
            order.sort_by_key(|origin| origin.index != home);
        }
        order
    }

    /// Where something of `scope` was found last.
    pub(super) fn home(&self, scope: &Scope) -> Option<Arc<Origin>> {
        self.origins.get(self.homes.get(scope)?).cloned()
    }

    /// Something of `scope` was found at an origin.
    pub(super) fn found(&self, scope: &Scope, origin: &Origin) {
        if self.homes.get(scope) != Some(origin.index) {
            self.homes.insert(scope.clone(), origin.index);
        }
    }

    /// A turn to ask `origin`, if it is not left alone.
    pub(super) fn turn(&self, origin: &Arc<Origin>, now: Instant) -> Option<Turn> {
        let others = self
            .origins
            .iter()
            .any(|other| !Arc::ptr_eq(other, origin) && other.health().failing.is_none());
        let mut health = origin.health();
        let trying = match &mut health.failing {
            None => false,
            // Finding out costs nothing.
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
        let answers = health.answers;
        drop(health);
        Some(Turn {
            origin: Arc::clone(origin),
            trying,
            answers,
        })
    }
}

impl Origin {
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// It answered, whatever it said.
    pub(super) fn answered(mut self) {
        self.trying = false;
        let origin = &self.origin;
        let was_failing = {
            let mut health = origin.health();
            health.answers += 1;
            health.unanswered = None;
            health.failing.take().is_some()
        };
        if was_failing {
            origin.up.set(1);
            info!(origin = %origin.name, "origin answers again");
        }
    }

    /// It was connected to, and did not answer the request for `target`.
    ///
    /// That may be the fault of what was asked for: one address that hangs or breaks must not take the
    /// others with it. It counts as the origin's own if another address has no answer either, with no
    /// answer to anything in between.
    pub(super) fn unanswered(self, target: &Arc<str>, why: &dyn fmt::Display, now: Instant) {
        let is_origins = self.trying || {
            let mut health = self.origin.health();
            let silent = health.answers == self.answers;
            let known = health.unanswered.as_ref().is_some_and(|known| known != target);
            if silent && !known {
                health.unanswered = Some(Arc::clone(target));
            }
            silent && known
        };
        if is_origins {
            self.failed(why, now);
        }
    }

    /// It could not be asked.
    pub(super) fn failed(mut self, why: &dyn fmt::Display, now: Instant) {
        let trying = std::mem::take(&mut self.trying);
        let origin = &self.origin;
        let mut health = origin.health();
        let first = health.failing.is_none();
        // Requests that were under way when it failed say nothing new.
        let rest = match &health.failing {
            Some(failing) if trying => (failing.rest * 2).min(LONGEST_REST),
            Some(failing) => failing.rest,
            None => REST,
        };
        if first || trying {
            health.failing = Some(Failing {
                since: now,
                rest,
                tried: None,
            });
        }
        drop(health);
        if first {
            origin.up.set(0);
            match origin.local {
                true => info!(%why, "the process that was here before is gone"),
                false => warn!(origin = %origin.name, %why, "origin does not answer"),
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

    fn asked(origins: &Origins, scope: &Scope, now: Instant) -> Vec<usize> {
        let turns = origins
            .order(scope)
            .into_iter()
            .filter_map(|origin| origins.turn(&origin, now));
        turns.map(|turn| turn.origin.index).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_origin_rests_longer_each_time_while_another_answers() {
        let origins = origins(2);
        let scope = Scope::Channel("demo".parse().unwrap());
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(asked(&origins, &scope, at(0)), [0, 1]);
        let first = Arc::clone(&origins.origins[0]);
        let mut now = 0;
        origins.turn(&first, at(now)).unwrap().failed(&"x", at(now));
        for rest in [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            assert_eq!(asked(&origins, &scope, at(now + rest - 1)), [1]);
            now += rest;
            // One request tries it; those beside go on without.
            let turn = origins.turn(&first, at(now)).unwrap();
            assert!(origins.turn(&first, at(now)).is_none());
            turn.failed(&"x", at(now));
        }
        now += 10_000;
        origins.turn(&first, at(now)).unwrap().answered();
        assert_eq!(asked(&origins, &scope, at(now)), [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_without_an_answer_says_nothing_of_its_origin_and_two_in_a_row_do() {
        let origins = origins(1);
        let origin = Arc::clone(&origins.origins[0]);
        let now = Instant::now();
        let turn = || origins.turn(&origin, now).unwrap();
        let [one, other] = ["/one", "/other"].map(Arc::<str>::from);
        for _ in 0..3 {
            turn().unanswered(&one, &"x", now);
        }
        turn().answered();
        turn().unanswered(&other, &"x", now);
        // It was asked before another's answer came.
        let early = turn();
        turn().answered();
        turn().unanswered(&one, &"x", now);
        early.unanswered(&other, &"x", now);
        turn().unanswered(&other, &"x", now);
        assert!(origins.turn(&origin, now).is_none());
        // The request that finds out whether it is back decides alone.
        let later = now + REST;
        origins.turn(&origin, later).unwrap().unanswered(&other, &"x", later);
        assert!(origins.turn(&origin, later + REST / 2).is_none());
        origins.turn(&origin, later + REST).unwrap().answered();
        assert!(origins.turn(&origin, later + REST).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn when_none_answers_each_is_tried_four_times_a_second() {
        let origins = origins(2);
        let scope = Scope::Channel("demo".parse().unwrap());
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        for round in 0..20 {
            let now = at(250 * round);
            for origin in origins.order(&scope) {
                origins.turn(&origin, now).unwrap().failed(&"x", now);
            }
            assert_eq!(asked(&origins, &scope, now + Duration::from_millis(249)), [0; 0]);
        }
        // A turn that is given back unused is another's.
        assert_eq!(asked(&origins, &scope, at(5_000)), [0, 1]);
        assert_eq!(asked(&origins, &scope, at(5_000)), [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_found_at_an_origin_is_asked_for_there_first() {
        let origins = origins(3);
        let (demo, other) = ("demo", "other");
        let [demo, other] = [demo, other].map(|name| Scope::Channel(name.parse().unwrap()));
        origins.found(&demo, &origins.origins[2]);
        assert_eq!(asked(&origins, &demo, Instant::now()), [2, 0, 1]);
        assert_eq!(asked(&origins, &other, Instant::now()), [0, 1, 2]);
        let home = Arc::clone(&origins.origins[2]);
        origins
            .turn(&home, Instant::now())
            .unwrap()
            .failed(&"x", Instant::now());
        assert_eq!(asked(&origins, &demo, Instant::now()), [0, 1]);
    }
}
