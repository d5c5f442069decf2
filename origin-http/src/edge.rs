//! Edge mode: media of other processes are fetched from an origin over HTTP, kept for as long as
//! the origin allows, and served like our own.
//!
//! The path of a request: `key` identifies its object, `cache` finds that in memory or as a fetch
//! in progress, `fetch` requests it from the `origins` and reads the response into an `object`
//! while viewers read it, `respond` makes each viewer's response. However many viewers want an
//! object, one request for it is in progress, including a blocking playlist request; a viewer that
//! leaves does not end it for others.
//!
//! RFC 9110 (conditional requests, ranges, Via), RFC 9111 (a shared cache), RFC 8586 (loops), RFC
//! 8216bis 6.2.5 and its appendix B.1.

pub(crate) mod budget;
mod cache;
mod config;
mod content;
mod dial;
mod disk;
mod error;
mod fetch;
pub(crate) mod freshness;
mod hops;
mod key;
mod metrics;
mod object;
mod origins;
mod private;
mod respond;
mod upstream;

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    io,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use http::{HeaderValue, Response, StatusCode, header::RETRY_AFTER, request::Parts};
use http_server::{Body, Client};
use net_core::{Counted, Quota};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use crate::{
    playback::{self, MARK, Mark, Playback, REFUSAL, Refused, Seal},
    resource::Resource,
    response::{Lifetime, refuse},
    server_timing, site,
};
use budget::Budget;
use cache::{Cache, Failure, Found, Start};
use dial::{Dial, Tls};
use disk::Disk;
use hops::Hops;
use key::{Scope, Wanted};
use object::Object;
use origins::Origins;
use private::Private;
use upstream::Upstream;

pub use config::{BadOrigin, Config, Origin, OriginFault};
pub use error::Error;
pub use metrics::Metrics;
use metrics::Outcome;

/// Maximum number of fetches that one request waits for: others' of the same object whose responses
/// are not shared, and its own.
const MAX_FETCHES: usize = 3;

/// Fetches, caches and serves media of other processes. One for all listeners.
pub struct Edge {
    /// Objects in memory and fetches in progress.
    cache: Arc<Cache>,
    /// The memory of both.
    budget: Arc<Budget>,
    /// The origins, in the order of the configuration.
    origins: Origins,
    /// Immutable objects in files, if configured and usable.
    disk: Option<Disk>,
    /// The private presentations that origins have marked.
    private: Private,
    metrics: Metrics,
    /// Permits of requests that wait for an origin: `edge.max_waiting`.
    waiting: Arc<Semaphore>,
    /// Largest object in bytes.
    object_bytes: u64,
    /// Longest pause within a response.
    stall: Duration,
    /// The name of this edge in forwarded messages.
    identity: HeaderValue,
    /// The tasks of fetches and connections.
    tasks: TaskTracker,
    /// Ends them.
    stop: CancellationToken,
}

impl Edge {
    /// An edge of the origins in `config.origin`, at least one. Does not connect yet; a disk cache
    /// is scanned on a separate thread.
    ///
    /// # Errors
    /// `InvalidInput` with an [`Error`]. An unusable disk cache is no error: it is logged, and
    /// disabled.
    pub fn new(config: &Config, metrics: Metrics) -> io::Result<Arc<Self>> {
        Self::with(config, metrics, |origin, tls| Dial::new(origin, config.connect(), tls))
    }

    /// Like [`Edge::new`], with connections made by `dial`.
    fn with(
        config: &Config,
        metrics: Metrics,
        dial: impl Fn(&Origin, &Tls) -> Dial,
    ) -> io::Result<Arc<Self>> {
        config.check().map_err(Error::from)?;
        if config.origin.is_empty() {
            return Err(Error::NoOrigin.into());
        }
        let secure = |origin: &Origin| match origin {
            Origin::Remote(uri) => uri.scheme_str() == Some("https"),
            Origin::Local(_) => false,
        };
        let tls = Tls::new(&config.ca, config.origin.iter().any(secure))?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        // Each origin has connections, limits and a state of its own, so that a slow one does not
        // delay the others.
        let origins = Origins::new(config.origin.iter().map(|origin| {
            let upstream = Upstream::new(origin, config, &dial(origin, &tls), (&tasks, &stop));
            let name = origin.to_string();
            let up = metrics.origin(name.clone());
            (name, upstream, matches!(origin, Origin::Local(_)), up)
        }));
        let budget = Budget::new(config.memory_bytes(), metrics.cached.clone());
        // The limit of fetches holds for each origin, the limit of one address for all of them.
        let max_flights = usize::try_from(config.max_fetches)
            .unwrap_or(usize::MAX)
            .saturating_mul(config.origin.len());
        let max_flights_of_one =
            usize::try_from(config.max_fetches_per_address).unwrap_or(usize::MAX);
        let disk = (config.disk_mb > 0).then(|| {
            Disk::open(&config.disk_dir, config.disk_bytes(), config.object_bytes(), &metrics)
        });
        let identity = format!("streamforge-{:016x}", RandomState::new().hash_one(0));
        Ok(Arc::new(Self {
            cache: Cache::new(Arc::clone(&budget), Quota::new(max_flights, max_flights_of_one)),
            budget,
            origins,
            disk: disk.flatten(),
            private: Private::default(),
            metrics,
            waiting: Arc::new(Semaphore::new(
                usize::try_from(config.max_waiting).unwrap_or(usize::MAX),
            )),
            object_bytes: config.object_bytes(),
            stall: config.stall(),
            identity: HeaderValue::try_from(identity).map_err(io::Error::other)?,
            tasks,
            stop,
        }))
    }

    /// Responds to a request for media, a playlist, manifest or picture; `None` if it is for a
    /// resource that origins do not have. `Server-Timing` has the outcome. `playback` checks the
    /// tokens of requests for private presentations.
    pub(crate) async fn respond(
        self: &Arc<Self>,
        head: &Parts,
        resource: &Resource,
        client: Client,
        playback: &Playback,
    ) -> Option<Response<Body>> {
        // The checks that cost nothing are first: directives that every origin would refuse, and
        // loops.
        let mut wanted = match Wanted::new(head, resource) {
            Ok(wanted) => wanted?,
            Err(bad) => {
                return Some(refuse(
                    StatusCode::BAD_REQUEST,
                    format!("{bad}\n"),
                    Lifetime::Seconds(1),
                ));
            }
        };
        let hops = Hops::of(head);
        if hops.include(&self.identity) {
            let target = &wanted.key.target;
            debug!(%target, "request loop: an origin of this edge requested from this edge");
            return Some(refuse(
                StatusCode::LOOP_DETECTED,
                "request loop: this edge is among its own origins\n",
                Lifetime::NoStore,
            ));
        }
        if hops.are_too_many() {
            let why = "the request was forwarded too often\n";
            return Some(refuse(StatusCode::LOOP_DETECTED, why, Lifetime::NoStore));
        }
        let viewer = Viewer { head, client, playback };
        // A fetch that the origin would refuse is not begun, if that is known here.
        if let Some(mark) = self.private.find(&wanted.scope, Instant::now())
            && let Err(refused) = viewer.check(&mark)
        {
            return Some(playback::refusal(head, refused));
        }
        if let Some(token) = playback.forwardable(head, client.peer.ip(), wanted.scope.channel()) {
            wanted.authorize(token);
        }
        let scope = wanted.scope.clone();
        // A peer without a port is a process of ours, which forwards for many viewers.
        let address = (client.peer.port() != 0).then(|| client.peer.ip());
        let (result, outcome) = self.object(wanted, hops, address).await;
        self.metrics.count(outcome);
        let mut response = match result {
            Ok(object) => match self.reveal(&object, &scope, viewer) {
                Ok(response) => response,
                Err(refused) => return Some(playback::refusal(head, refused)),
            },
            Err(failure) => {
                // The status distinguishes a fault of the origin (502, 504) from one of this edge
                // (503), for the next cache and for the operator's statistics.
                let (status, why) = match failure {
                    Failure::Unreachable => (StatusCode::BAD_GATEWAY, "no origin responds\n"),
                    Failure::Invalid => {
                        (StatusCode::BAD_GATEWAY, "the origin's response is invalid\n")
                    }
                    Failure::TimedOut => {
                        (StatusCode::GATEWAY_TIMEOUT, "the origin did not respond in time\n")
                    }
                    Failure::Gone => (StatusCode::NOT_FOUND, "no such resource\n"),
                    Failure::Busy => {
                        (StatusCode::SERVICE_UNAVAILABLE, "too many requests at once\n")
                    }
                };
                let lifetime =
                    if failure == Failure::Gone { Lifetime::Seconds(1) } else { Lifetime::NoStore };
                let mut response = refuse(status, why, lifetime);
                if failure == Failure::Busy {
                    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(1));
                }
                response
            }
        };
        server_timing::add(response.headers_mut(), "edge", Some(outcome.as_str()), None);
        Some(response)
    }

    /// The response with an object for a viewer, if that may see it.
    fn reveal(
        &self,
        object: &Arc<Object>,
        scope: &Scope,
        viewer: Viewer<'_>,
    ) -> Result<Response<Body>, Refused> {
        let now = Instant::now();
        let Some(mark) = object.mark() else {
            // A channel that is private here alone.
            let channel = scope.channel().filter(|channel| viewer.playback.is_private(channel));
            if let Some(channel) = channel.cloned() {
                viewer.check(&Mark { channel, broadcast: None })?;
            }
            let mut response = respond::respond(object, viewer.head, now);
            response.headers_mut().remove(MARK);
            return Ok(response);
        };
        self.private.saw(scope, &mark, now);
        // Whoever began the fetch had a token that the origin has accepted; this viewer may have
        // another one, or none, or it may have expired while it waited.
        viewer.check(&mark)?;
        let mut response = respond::respond(object, viewer.head, now);
        let edge = viewer.client.ours || site::is_of_edge(&viewer.head.headers);
        Seal::new(viewer.playback.is_shareable(viewer.head), &mark, edge)
            .apply(response.headers_mut());
        Ok(response)
    }

    /// Ends all fetches, and waits until the connections to origins are closed. Call it after the
    /// last request.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The requested object, from the cache or an origin. A response that may depend on another
    /// viewer's request is fetched again.
    async fn object(
        self: &Arc<Self>,
        wanted: Wanted,
        hops: Hops,
        viewer: Option<IpAddr>,
    ) -> (Result<Arc<Object>, Failure>, Outcome) {
        for _ in 0..MAX_FETCHES {
            let found = self.find(wanted.clone(), hops.clone(), viewer).await;
            // A shared response that may concern the other request, for example 429, is not passed
            // on: this request is made anew.
            match &found {
                (Ok(object), Outcome::Shared) if object.is_of_one_request() => {
                    // A refusal of a request without a token concerns all of them.
                    let refusal = object.headers.get(MARK) == Some(&REFUSAL);
                    if refusal && !wanted.key.under_token {
                        return found;
                    }
                }
                _ => return found,
            }
        }
        (Err(Failure::Busy), Outcome::Error)
    }

    /// The requested object: cached, from a fetch in progress, or from a new one. Returns the
    /// outcome for metrics.
    async fn find(
        self: &Arc<Self>,
        wanted: Wanted,
        hops: Hops,
        viewer: Option<IpAddr>,
    ) -> (Result<Arc<Object>, Failure>, Outcome) {
        // `_awaited` keeps the fetch alive until its response begins: without any such handle it is
        // abandoned.
        let (flight, _awaited, outcome, previous) =
            match self.cache.find(&wanted.key, viewer, Instant::now()) {
                Found::Here(object, outcome) => return (Ok(object), outcome),
                Found::Full => return (Err(Failure::Busy), Outcome::Error),
                Found::Under(flight, awaited, previous) => {
                    (flight, awaited, Outcome::Shared, previous)
                }
                Found::Nothing(start, flight, awaited) => {
                    let previous = start.previous.clone();
                    self.start(wanted, hops, start);
                    (flight, awaited, Outcome::Miss, previous)
                }
            };
        // Waiting viewers are limited too, because each holds a connection and a task.
        let Ok(_permit) = self.waiting.try_acquire() else {
            return (Err(Failure::Busy), Outcome::Error);
        };
        let _waiting = Counted::new(&self.metrics.waiting);
        let landed = flight.landed().await;
        let failed = match &landed {
            Ok(object) => object.status.is_server_error(),
            Err(failure) => *failure != Failure::Gone,
        };
        // A stale object is better than an error of the origin, if its lifetime permits it (RFC
        // 5861 4).
        match previous.filter(|previous| failed && previous.freshness.may_be_stale(Instant::now()))
        {
            Some(stale) => (Ok(stale), Outcome::Stale),
            None if landed.is_err() => (landed, Outcome::Error),
            None => (landed, outcome),
        }
    }

    /// Spawns a fetch. It is a task of its own, because the request that began it may be cancelled
    /// while others wait for it.
    fn start(self: &Arc<Self>, wanted: Wanted, hops: Hops, start: Start) {
        let (edge, stop) = (Arc::clone(self), self.stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = edge.fetch(wanted, hops, start) => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// A request, and the rules by which it may see an object.
#[derive(Clone, Copy)]
struct Viewer<'a> {
    head: &'a Parts,
    client: Client,
    playback: &'a Playback,
}

impl Viewer<'_> {
    /// Checks that it may see a presentation. A process of ours checks its own viewers.
    fn check(&self, mark: &Mark) -> Result<(), Refused> {
        match self.client.ours {
            true => Ok(()),
            false => self.playback.check(self.head, self.client.peer.ip(), mark.named()),
        }
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge").field("origins", &self.origins).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
