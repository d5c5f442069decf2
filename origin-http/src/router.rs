//! From a request to a response, the same for every protocol: finds the resource, waits where the
//! standard requires it, and sets the lifetime of the response in caches.
//!
//! RFC 8216bis 6.2.5 (delivery directives) and its appendix B.1 (low-latency server profile: the
//! lifetimes).

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
    directives::{self, Directives, Reload},
    edge::Edge,
    lookup::{self, Found},
    metrics::Metrics,
    pending::{Hold, Media, Pending, RequestContext, Shared, Step, Then, blocking, hold},
    posters::Posters,
    resource::{Kind, Listing, Object, Resource, Subject},
    response::{self, Lifetime, SOON, refuse},
    site,
    static_files::StaticFiles,
    text::{Renders, Text},
};

/// Limit of the wait of a request for a channel that has just begun and has no media to list.
const FIRST_WAIT: Duration = Duration::from_secs(15);

/// Serves all requests of all listeners: its own resources, and those of mounted services such as
/// the API.
pub struct Router {
    presentations: Presentations,
    pages: StaticFiles,
    posters: Box<dyn Posters>,
    mounts: Vec<Mount>,
    audience: Audience,
    shared: Shared,
    access_log: Option<AccessLog>,
    edge: Option<Arc<Edge>>,
    body_pause: Duration,
    public_site: Site,
}

impl Router {
    /// Creates a router over `presentations`. `config`, which has been checked, lists the origins
    /// that may read responses. `mounts` are served on their paths, and handle CORS themselves.
    pub fn new(
        config: &Config,
        presentations: Presentations,
        pages: StaticFiles,
        posters: Box<dyn Posters>,
        mounts: Vec<Mount>,
        audience: Audience,
        metrics: Metrics,
    ) -> Self {
        Self {
            presentations,
            pages,
            posters,
            mounts,
            audience,
            shared: Shared {
                // An invalid list is refused earlier; here it permits no origin.
                cors: Cors::new(&config.cors_origins).unwrap_or(Cors::Listed(vec![])),
                metrics,
                renders: Renders::default(),
            },
            access_log: None,
            edge: None,
            body_pause: config.body_pause(),
            public_site: config.public_url.site(),
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
        let access_log = self.access_log.as_ref().filter(|_| !client.ours);
        let entry = access_log.map(|log| log.begin(head, client.peer));
        RequestContext::of(head, &self.shared.cors, entry)
    }

    /// Performs the part of a response that needs no waiting.
    fn begin<B>(
        &self,
        head: Parts,
        body: B,
        client: Client,
        context: &mut RequestContext,
    ) -> (Kind, Step<'_>)
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if let Some(mount) = Mount::find(&self.mounts, head.uri.path()) {
            let pending = mount.call(Request::from_parts(head, body), client);
            return (Kind::Api, Step::Mounted(pending));
        }
        let resource = Resource::parse(head.uri.path());
        let kind = resource.as_ref().map_or(Kind::Unknown, Resource::kind);
        self.note(resource.as_ref(), context);
        // The usual case: the protocol already knows that there is no body.
        if body.is_end_stream() {
            return (kind, self.route(head, resource, client));
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
        let step = Step::Body(Box::pin(async move {
            let mut body = pin!(body);
            if !refused && request::is_empty(body.as_mut(), self.body_pause).await {
                return self.route(head, resource, client);
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
        let mut response = match head.method {
            Method::GET | Method::HEAD | Method::OPTIONS => refuse(
                StatusCode::BAD_REQUEST,
                "a request for this has no body\n",
                Lifetime::NoStore,
            ),
            ref other => response::other_method(other),
        };
        close(head.version, &mut response);
        response
    }

    fn route(&self, head: Parts, resource: Option<Resource>, client: Client) -> Step<'_> {
        Step::ready(match (&head.method, resource) {
            (&Method::GET | &Method::HEAD, Some(resource)) => {
                return self.read(head, resource, client);
            }
            (&Method::GET | &Method::HEAD | &Method::OPTIONS, None) if head.uri.path() != "*" => {
                refuse(StatusCode::NOT_FOUND, "there is nothing here\n", SOON)
            }
            (&Method::OPTIONS, _) => {
                let mut response = response::options();
                self.shared.cors.preflight(&head.headers, response.headers_mut());
                response
            }
            (method, _) => response::other_method(method),
        })
    }

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
            Resource::Watch(_) => {
                self.pages.watch.respond(&Conditions::of_text(&head.method, &head.headers))
            }
            Resource::Asset(name) => {
                match self.pages.assets.iter().find(|(known, _)| **known == *name) {
                    Some((_, page)) => {
                        page.respond(&Conditions::of_text(&head.method, &head.headers))
                    }
                    None => refuse(StatusCode::NOT_FOUND, "no such file\n", SOON),
                }
            }
            Resource::Time => response::time(clock::iso(SystemTime::now())),
            Resource::Api => refuse(StatusCode::NOT_FOUND, "there is nothing here\n", SOON),
        })
    }

    fn saw(&self, channel: &ChannelName, target_duration_s: u64, client: Client, head: &Parts) {
        if !client.ours {
            self.audience.saw(channel, target_duration_s, client.peer.ip(), &head.headers);
        }
    }

    /// Whether this process makes the resource, and has begun to.
    fn is_here(&self, resource: &Resource) -> bool {
        match self.made_here(resource) {
            Some(live) => live.is_some_and(|live| live.current().is_some()),
            None => true,
        }
    }

    /// For a resource that an edge fetches, its broadcast in this process, if any.
    fn made_here(&self, resource: &Resource) -> Option<Option<Arc<Live>>> {
        resource.kind().edge()?;
        match resource.subject() {
            Subject::Channel(channel) => Some(self.presentations.channel(channel)),
            Subject::Broadcast(broadcast) => Some(self.presentations.broadcast(broadcast)),
            Subject::Daemon => None,
        }
    }

    /// A resource that is not made here. If a broadcast is about to begin here, the origin is asked
    /// first, and the broadcast is waited for if the origin does not have the resource.
    async fn elsewhere(
        &self,
        edge: &Arc<Edge>,
        head: Parts,
        resource: Resource,
        client: Client,
    ) -> (Response<Body>, Duration) {
        let here = self.made_here(&resource).flatten();
        let response = edge.respond(&head, &resource, client.peer).await;
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

    fn listing(
        &self,
        head: Parts,
        channel: &ChannelName,
        listing: Listing,
        client: Client,
    ) -> Step<'_> {
        let Some(live) = self.presentations.channel(channel) else {
            return Step::ready(refuse(StatusCode::NOT_FOUND, "no such channel\n", SOON));
        };
        match live.current() {
            Some(presentation) => self.list(&head, live, presentation, listing, client),
            None => Step::Later(Box::pin(async move {
                let (failed, held) = match self.held(FIRST_WAIT, live.first()).await {
                    (Some(Some(presentation)), held) => {
                        let step = self.list(&head, live, presentation, listing, client);
                        let (response, more) = step.await;
                        return (response, held + more);
                    }
                    (Some(None), held) => {
                        (refuse(StatusCode::NOT_FOUND, "no such channel\n", SOON), held)
                    }
                    (None, held) => {
                        let why = "not yet: it has just begun\n";
                        (refuse(StatusCode::SERVICE_UNAVAILABLE, why, SOON), held)
                    }
                };
                (failed, held)
            })),
        }
    }

    fn list(
        &self,
        head: &Parts,
        live: Arc<Live>,
        presentation: Arc<Presentation>,
        listing: Listing,
        client: Client,
    ) -> Step<'_> {
        self.saw(live.channel(), presentation.target_duration_s, client, head);
        let conditions = Conditions::of_text(&head.method, &head.headers);
        let lifetime = Lifetime::Seconds((presentation.target_duration_s / 2).max(1));
        let listing = match listing {
            Listing::Multivariant => packager::Listing::Multivariant,
            Listing::Manifest => packager::Listing::Manifest(self.site(head, client)),
            Listing::PlainManifest => packager::Listing::PlainManifest(self.site(head, client)),
            Listing::Playlist(track) => {
                return playlist(self, head, conditions, live, presentation, &track);
            }
        };
        let is_manifest =
            matches!(listing, packager::Listing::Manifest(_) | packager::Listing::PlainManifest(_));
        let varies = is_manifest && self.public_site.is_none();
        let text = Text { presentation, listing, conditions, lifetime, varies };
        Step::text(text, &self.shared.renders, Duration::ZERO)
    }

    /// The address of the clock in manifests.
    fn site(&self, head: &Parts, client: Client) -> Site {
        match &self.public_site {
            Some(site) => Some(Arc::clone(site)),
            None if client.ours => None,
            None => site::of(head, client.secure),
        }
    }

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
        let Some(index) = index(&presentation, track) else {
            let gone = Lifetime::Seconds(target);
            return Step::ready(refuse(StatusCode::NOT_FOUND, "no such track\n", gone));
        };
        self.saw(live.channel(), target, client, head);
        let media =
            Media { live, index, object, conditions: Conditions::of(&head.method, &head.headers) };
        match lookup::find(&presentation.tracks[index.get()], object, presentation.ended) {
            Found::Hinted(msn, part) => {
                let changed = media.live.changed(index, msn, Some(part), hold(target));
                Step::Hold(Hold::new(&self.shared, changed, target, Then::Media(media)))
            }
            Found::Next(next) => Step::Later(Box::pin(async move {
                let come = media.come_to(next, Arc::clone(&presentation), target);
                let (come, held) = self.held(Duration::from_secs(target), come).await;
                let (now, found) = come.unwrap_or((presentation, Found::Future));
                (media.respond(&now, found, Lifetime::Unchanging(6 * target)), held)
            })),
            found => Step::ready(media.respond(&presentation, found, Lifetime::Immutable)),
        }
    }

    /// Waits for `what`, counted, for at most `limit`. Returns also the time waited.
    async fn held<T>(
        &self,
        limit: Duration,
        what: impl Future<Output = T>,
    ) -> (Option<T>, Duration) {
        let _waiting = Counted::new(&self.shared.metrics.waiting);
        let begun = Instant::now();
        let come = timeout(limit, what).await.ok();
        (come, begun.elapsed())
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
        let text = || refuse(status, format!("{reason}\n"), Lifetime::NoStore);
        let Some(head) = head else {
            let mut response = text();
            self.shared.cors.share(Grant::None, response.headers_mut());
            return response;
        };
        // Clients of an API read problem details.
        let mut response = match Mount::find(&self.mounts, head.uri.path()) {
            Some(_) => response::problem(status, reason),
            None => text(),
        };
        let mut context = self.context(head, client);
        context.share(&self.shared.cors, Duration::ZERO, &mut response);
        context.finish(Kind::Unknown, Duration::ZERO, &self.shared.metrics, &mut response);
        response
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

/// A media playlist, at once or when the requested part has appeared.
fn playlist<'a>(
    router: &'a Router,
    head: &Parts,
    conditions: Conditions,
    live: Arc<Live>,
    presentation: Arc<Presentation>,
    track: &TrackName,
) -> Step<'a> {
    let target = presentation.target_duration_s;
    let (done, failed) = match directives::is_blocking(head.uri.query()) {
        true => blocking(target),
        false => (Lifetime::Seconds((target / 2).max(1)), Lifetime::Seconds(target)),
    };
    let Some(track) = index(&presentation, track) else {
        return Step::ready(refuse(StatusCode::NOT_FOUND, "no such track\n", failed));
    };
    let bad = |bad: directives::Bad| {
        Step::ready(refuse(StatusCode::BAD_REQUEST, format!("{bad}\n"), failed))
    };
    let directives = match Directives::parse(head.uri.query()) {
        Ok(directives) => directives,
        Err(reason) => return bad(reason),
    };
    // An ended playlist has no further parts, so a blocking request is answered at once.
    let reload = match presentation.ended {
        true => Ok(Reload::Now),
        false => directives.reload(&presentation.tracks[track.get()]),
    };
    let skip = directives.skip;
    match reload {
        Ok(Reload::Now) => {
            let text = Text::playlist(presentation, track, skip, conditions, done);
            Step::text(text, &router.shared.renders, Duration::ZERO)
        }
        Ok(Reload::Wait(msn, part)) => {
            let then = Then::Playlist { track, skip, conditions };
            let changed = live.changed(track, msn, part, hold(target));
            Step::Hold(Hold::new(&router.shared, changed, target, then))
        }
        Err(reason) => bad(reason),
    }
}

/// Ends the connection after this response.
fn close(version: Version, response: &mut Response<Body>) {
    if version <= Version::HTTP_11 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

fn index(presentation: &Presentation, track: &TrackName) -> Option<TrackIndex> {
    let index = presentation.tracks.iter().position(|known| known.name == *track);
    index.map(TrackIndex::new)
}

#[cfg(test)]
mod tests;
