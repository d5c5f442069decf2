//! From a request to a response, the same for every protocol: finds the resource, waits where the
//! standard requires it, and sets the lifetime of the response in caches.
//!
//! RFC 8216bis 6.2.5 (delivery directives) and its appendix B.1 (low-latency server profile: the
//! lifetimes).

mod admission;
mod listing;

use std::{
    fmt,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use http_body::Body as HttpBody;
use http_server::{Body, BoxError, Client, Mount, Reason, Refusal, Service, request};
use media_core::{BroadcastId, ChannelName, TrackIndex, TrackName};
use net_core::Counted;
use packager::{Live, Presentation, Presentations, Site};
use tokio::time::{Instant, timeout};

use crate::{
    access_log::AccessLog,
    audience::Audience,
    clock,
    conditions::Conditions,
    config::Config,
    cors::{Cors, Grant},
    edge::Edge,
    lookup::{self, Found},
    metrics::Metrics,
    pending::{Hold, Media, Pending, RequestContext, Shared, Step, Then, hold},
    playback::{self, Playback},
    posters::Posters,
    proxies::Proxies,
    resource::{Kind, Object, Resource, Subject, UNKNOWN},
    response::{self, Lifetime, SOON, refuse},
    sampler::{Sampled, Sampler},
    static_files::StaticFiles,
    text::Renders,
};

/// Serves all requests of all listeners: its own resources, and those of mounted services such as
/// the API.
pub struct Router {
    /// The broadcasts of this process.
    presentations: Presentations,
    /// The watch page and its files.
    pages: StaticFiles,
    /// The pictures of channels.
    posters: Box<dyn Posters>,
    /// Services below path prefixes, such as the API.
    mounts: Vec<Mount>,
    /// The kinds of their requests, in the same order.
    mount_kinds: Vec<Kind>,
    /// Counts viewers by their requests.
    audience: Audience,
    /// The parts that pending responses use.
    shared: Shared,
    /// Records responses, if configured.
    access_log: Option<AccessLog>,
    /// Fetches resources of other processes, if configured.
    edge: Option<Arc<Edge>>,
    /// Decides about tokens for private channels.
    playback: Arc<Playback>,
    /// Takes samples of delivered media, for the platform.
    sampler: Option<Sampler>,
    /// Longest wait for more of a request's body.
    body_pause: Duration,
    /// `http.public_url`, if set.
    public_site: Site,
    /// `http.trusted_proxies`.
    proxies: Proxies,
}

impl Router {
    /// Creates a router over `presentations`. `config`, which has been checked, lists the origins
    /// whose pages may read responses.
    ///
    /// `mounts` serve the paths below their prefixes. The router adds no CORS fields to their
    /// responses, and passes preflight requests on to them: a mounted service decides itself which
    /// pages may read it.
    pub fn new(
        config: &Config,
        presentations: Presentations,
        pages: StaticFiles,
        posters: Box<dyn Posters>,
        mounts: Vec<Mount>,
        audience: Audience,
        mut metrics: Metrics,
    ) -> Self {
        let mount_kinds = mounts.iter().map(|mount| metrics.add_mount(mount.settings())).collect();
        Self {
            presentations,
            pages,
            posters,
            mounts,
            mount_kinds,
            audience,
            shared: Shared {
                // An invalid list is refused earlier; here it permits no origin.
                cors: Cors::new(&config.cors_origins).unwrap_or(Cors::Listed(vec![])),
                metrics,
                renders: Renders::default(),
            },
            access_log: None,
            edge: None,
            playback: Arc::new(Playback::new(&playback::Config::default())),
            sampler: None,
            body_pause: config.body_pause(),
            public_site: config.public_url.site(),
            proxies: Proxies::new(&config.trusted_proxies),
        }
    }

    /// Sets the access log in which each response is recorded, if any.
    pub fn log(&mut self, access_log: Option<AccessLog>) {
        self.access_log = access_log;
    }

    /// Sets the edge that fetches resources that are not here, if any.
    pub fn fetch_from(&mut self, edge: Option<Arc<Edge>>) {
        self.edge = edge;
    }

    /// Sets the rules for playback tokens. Without them every channel is public.
    pub fn guard(&mut self, playback: Arc<Playback>) {
        self.playback = playback;
    }

    /// Sets the sampler of delivered media, if any. Without one they are not observed.
    pub fn sample(&mut self, sampler: Option<Sampler>) {
        self.sampler = sampler;
    }

    /// Serves one request as from a listener without TLS, and without the server's checks.
    pub fn handle<B>(&self, request: Request<B>, peer: SocketAddr) -> Pending<'_>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let client = Client { peer, ours: false, secure: false, early: false };
        self.call(request, client)
    }

    /// The metrics of this router and its server.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Begins to record a request of `client`.
    fn context(&self, head: &Parts, client: Client) -> RequestContext {
        // A process of this daemon forwards requests of its own clients, and logs them itself.
        let access_log = self.access_log.as_ref().filter(|_| !client.ours);
        let entry = access_log.map(|log| log.begin(head, client.peer));
        RequestContext::of(head, &self.shared.cors, entry)
    }

    /// The mounted service of a path, if any, and the kind of its requests.
    fn mount(&self, path: &str) -> Option<(&Mount, &Kind)> {
        let position = Mount::find(&self.mounts, path)?;
        Some((&self.mounts[position], &self.mount_kinds[position]))
    }

    /// Performs the part of a response that needs no waiting, and returns the rest as a step.
    fn begin<B>(
        &self,
        mut head: Parts,
        body: B,
        client: Client,
        context: &mut RequestContext,
    ) -> (&Kind, Step<'_>)
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if let Some((mount, kind)) = self.mount(head.uri.path()) {
            let pending = mount.call(Request::from_parts(head, body), client);
            return (kind, Step::Mounted(pending));
        }
        let mut resource = Resource::parse(head.uri.path());
        // No resource has the prefix of a token as its own path.
        if resource.is_none() && playback::take_from_path(&mut head) {
            resource = Resource::parse(head.uri.path());
        }
        let kind = resource.as_ref().map_or(UNKNOWN, Resource::kind);
        self.note(resource.as_ref(), context);
        let refusal = self.admit(&head, resource.as_ref(), client, context);
        // The usual case: the protocol already knows that there is no body.
        if body.is_end_stream() {
            return match refusal {
                None => (kind, self.route(head, resource, client)),
                Some(refusal) => (kind, Step::ready(refusal)),
            };
        }
        let reads = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
        // A body is certain, or the method is refused anyway.
        let refused = !reads || body.size_hint().lower() > 0;
        // In HTTP/1 the connection closes.
        let discards = head.version >= Version::HTTP_2;
        if refused && !discards {
            return (kind, Step::ready(self.refuse_body(&head)));
        }
        #[expect(
            clippy::async_yields_async,
            reason = "an exchange begins between the request's end and the next step"
        )]
        // HTTP/2 and HTTP/3 may report the end of a request after its head. Whether there is a body
        // is known only then.
        let step = Step::Body(Box::pin(async move {
            let mut body = pin!(body);
            if !refused && request::is_empty(body.as_mut(), self.body_pause).await {
                return match refusal {
                    None => self.route(head, resource, client),
                    Some(refusal) => Step::ready(refusal),
                };
            }
            if discards {
                request::discard(body, self.body_pause).await;
            }
            Step::ready(self.refuse_body(&head))
        }));
        (kind, step)
    }

    /// Records the channel of the resource, if the access log needs it.
    fn note(&self, resource: Option<&Resource>, context: &mut RequestContext) {
        // The channel of a broadcast is looked up only if it will be logged.
        match resource.map(Resource::subject) {
            Some(Subject::Channel(channel)) => context.set_channel(channel),
            Some(Subject::Broadcast(broadcast)) if context.is_logged() => {
                if let Some(live) = self.presentations.broadcast(broadcast) {
                    context.set_channel(live.channel());
                }
            }
            _ => {}
        }
    }

    /// Refuses every request with a body, because another reader may take the body for a request
    /// (RFC 9112 11.2).
    fn refuse_body(&self, head: &Parts) -> Response<Body> {
        self.shared.metrics.server.refuse(Reason::Body);
        // The methods of this router are known, so that their fault is the body; any other method
        // is refused for itself.
        let mut response = match head.method {
            Method::GET | Method::HEAD | Method::OPTIONS => refuse(
                StatusCode::BAD_REQUEST,
                "a request for this resource must not have a body\n",
                Lifetime::NoStore,
            ),
            ref other => response::other_method(other),
        };
        close(head.version, &mut response);
        response
    }

    /// Chooses the response by method and resource. `*` is the target of an OPTIONS request to the
    /// whole server (RFC 9110 9.3.7).
    fn route(&self, head: Parts, resource: Option<Resource>, client: Client) -> Step<'_> {
        Step::ready(match (&head.method, resource) {
            (&Method::GET | &Method::HEAD, Some(resource)) => {
                return self.read(head, resource, client);
            }
            (&Method::GET | &Method::HEAD | &Method::OPTIONS, None) if head.uri.path() != "*" => {
                refuse(StatusCode::NOT_FOUND, "no such resource\n", SOON)
            }
            (&Method::OPTIONS, _) => {
                let mut response = response::options();
                self.shared.cors.preflight(&head.headers, response.headers_mut());
                response
            }
            (method, _) => response::other_method(method),
        })
    }

    /// The response to GET or HEAD: from this process if it has the resource, otherwise from the
    /// edge.
    fn read(&self, head: Parts, resource: Resource, client: Client) -> Step<'_> {
        match self.edge.as_ref().filter(|_| !self.is_here(&resource)) {
            Some(edge) => Step::Later(Box::pin(self.elsewhere(edge, head, resource, client))),
            None => self.here(head, resource, client),
        }
    }

    /// A resource of this process.
    fn here(&self, head: Parts, resource: Resource, client: Client) -> Step<'_> {
        Step::ready(match resource {
            Resource::Live(channel, listing) => {
                return self.listing(head, &channel, listing, client);
            }
            Resource::Media(broadcast, track, object) => {
                return self.media(&head, broadcast, &track, object, client);
            }
            Resource::Poster(channel) => {
                let conditions = Conditions::of(&head.method, &head.headers);
                return Step::Later(Box::pin(async move {
                    let response = match self.posters.poster(&channel).await {
                        Some(poster) => {
                            let lifetime = Lifetime::Seconds(poster.fresh.as_secs());
                            response::picture(&conditions, &poster.jpeg, lifetime)
                        }
                        None => refuse(StatusCode::NOT_FOUND, "no picture\n", SOON),
                    };
                    (response, Duration::ZERO)
                }));
            }
            // The page itself is public; it plays with relative addresses, under the prefix.
            Resource::Watch(_) => playback::redirection(&head).unwrap_or_else(|| {
                self.pages.watch.respond(&Conditions::of_text(&head.method, &head.headers))
            }),
            Resource::Asset(name) => {
                match self.pages.assets.iter().find(|(known, _)| **known == *name) {
                    Some((_, page)) => {
                        page.respond(&Conditions::of_text(&head.method, &head.headers))
                    }
                    None => refuse(StatusCode::NOT_FOUND, "no such file\n", SOON),
                }
            }
            Resource::Time => response::time(clock::iso(SystemTime::now())),
        })
    }

    /// Counts the viewer of a request. A process of this daemon counts its own viewers.
    fn saw(&self, channel: &ChannelName, target_duration_s: u64, client: Client, head: &Parts) {
        if !client.ours {
            self.audience.saw(channel, target_duration_s, client.peer.ip(), &head.headers);
        }
    }

    /// Whether this process makes the resource, and has begun to.
    fn is_here(&self, resource: &Resource) -> bool {
        // A channel that has begun, but has no media yet, is requested from the origin first: it
        // may still have the previous broadcast.
        match self.made_here(resource) {
            Some(live) => live.is_some_and(|live| live.current().is_some()),
            None => true,
        }
    }

    /// For a resource that an edge fetches, its broadcast in this process, if any.
    fn made_here(&self, resource: &Resource) -> Option<Option<Arc<Live>>> {
        resource.kind().edge?;
        match resource.subject() {
            Subject::Channel(channel) => Some(self.presentations.channel(channel)),
            Subject::Broadcast(broadcast) => Some(self.presentations.broadcast(broadcast)),
            Subject::Daemon => None,
        }
    }

    /// The response for a resource that is not made here. If a broadcast is about to begin here,
    /// the resource is requested from the origin first; if the origin does not have it, the request
    /// waits for the broadcast.
    async fn elsewhere(
        &self,
        edge: &Arc<Edge>,
        head: Parts,
        resource: Resource,
        client: Client,
    ) -> (Response<Body>, Duration) {
        let here = self.made_here(&resource).flatten();
        let response = edge.respond(&head, &resource, client, &self.playback).await;
        // The origin has refused a request without a token; a first request has it in the query.
        let response = match response {
            Some(refused) if refused.status() == StatusCode::FORBIDDEN => {
                Some(playback::redirection(&head).unwrap_or(refused))
            }
            response => response,
        };
        // An error of the origin is final unless a broadcast begins here: it may have the resource
        // in a moment.
        let is_theirs = |response: &Response<Body>| {
            response.status().is_success()
                || response.status() == StatusCode::NOT_MODIFIED
                || here.is_none()
        };
        match response.filter(is_theirs) {
            Some(response) => (response, Duration::ZERO),
            None => self.here(head, resource, client).await,
        }
    }

    /// An init segment, a segment or a part.
    fn media(
        &self,
        head: &Parts,
        broadcast: BroadcastId,
        track: &TrackName,
        object: Object,
        client: Client,
    ) -> Step<'_> {
        let live = self.presentations.broadcast(broadcast);
        let Some((live, presentation)) =
            live.and_then(|live| live.current().map(|current| (live, current)))
        else {
            return Step::ready(refuse(StatusCode::NOT_FOUND, "no such broadcast\n", SOON));
        };
        let target = presentation.target_duration_s;
        // Tracks may be added to a broadcast, so that the refusal does not live longer than a
        // target duration.
        let Some(index) = index(&presentation, track) else {
            let gone = Lifetime::Seconds(target);
            return Step::ready(refuse(StatusCode::NOT_FOUND, "no such track\n", gone));
        };
        self.saw(live.channel(), target, client, head);
        let conditions = Conditions::of(&head.method, &head.headers);
        let sampled = match (&self.sampler, object) {
            (None, _) | (_, Object::Init(_)) => Sampled::NONE,
            (Some(sampler), _) => sampler.begin(head, client),
        };
        let media = Media { live, index, object, conditions, sampled };
        // Media that were awaited have the lifetime of blocking responses, six target durations
        // (appendix B.1); others are immutable.
        match lookup::find(&presentation.tracks[index.get()], object, presentation.ended) {
            Found::Hinted(msn, part) => {
                let changed = media.live.changed(index, msn, Some(part), hold(target));
                Step::Hold(Hold::new(&self.shared, changed, target, Then::Media(media)))
            }
            Found::Next(next) => Step::Later(Box::pin(async move {
                let come = media.wait_until_begun(next, Arc::clone(&presentation), target);
                let (come, held) = self.held(Duration::from_secs(target), come).await;
                let (now, found) = come.unwrap_or((presentation, Found::Future));
                (media.respond(&now, found, Lifetime::Unchanging(6 * target)), held)
            })),
            found => Step::ready(media.respond(&presentation, found, Lifetime::Immutable)),
        }
    }

    /// Waits for `awaited`, counted, for at most `limit`. Returns also the time waited.
    async fn held<T>(
        &self,
        limit: Duration,
        awaited: impl Future<Output = T>,
    ) -> (Option<T>, Duration) {
        let _waiting = Counted::new(&self.shared.metrics.waiting);
        let begun = Instant::now();
        let result = timeout(limit, awaited).await.ok();
        (result, begun.elapsed())
    }
}

impl Service for Router {
    type Pending<'a> = Pending<'a>;

    /// Serves one request. This may take up to three target durations, if the client requests a
    /// future part.
    fn call<B>(&self, request: Request<B>, client: Client) -> Pending<'_>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (head, body) = request.into_parts();
        let client = self.proxies.client(&head.headers, client);
        let mut context = self.context(&head, client);
        let (kind, step) = self.begin(head, body, client, &mut context);
        Pending { shared: &self.shared, step, kind, context }
    }

    fn refuse(
        &self,
        Refusal { status, reason }: Refusal,
        client: Client,
        head: Option<&Parts>,
    ) -> Response<Body> {
        // The server calls this instead of `call`, so the response is completed here: CORS,
        // metrics, access log.
        let text = || refuse(status, format!("{reason}\n"), Lifetime::NoStore);
        let Some(head) = head else {
            let mut response = text();
            self.shared.cors.share(Grant::None, response.headers_mut());
            return response;
        };
        // Clients of an API read problem details.
        let (kind, mut response) = match self.mount(head.uri.path()) {
            Some((_, kind)) => (kind, response::problem(status, reason)),
            None => (UNKNOWN, text()),
        };
        let client = self.proxies.client(&head.headers, client);
        let mut context = self.context(head, client);
        context.share(&self.shared.cors, Duration::ZERO, &mut response);
        context.finish(kind, Duration::ZERO, &self.shared.metrics, &mut response);
        response
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

/// Ends the connection after this response.
fn close(version: Version, response: &mut Response<Body>) {
    if version <= Version::HTTP_11 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// The position of a track.
fn index(presentation: &Presentation, track: &TrackName) -> Option<TrackIndex> {
    let index = presentation.tracks.iter().position(|known| known.name == *track);
    index.map(TrackIndex::new)
}

#[cfg(test)]
mod tests;
