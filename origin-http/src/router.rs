//! From a request to an answer, the same for every protocol: finds the resource, waits where the standard says so, and says how long
//! the answer may be kept.
//!
//! RFC 8216bis 6.2.5 (delivery directives), its appendix B.1 (low-latency server profile: the lifetimes).

use std::{
    fmt, mem,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, request::Parts};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Limited, combinators::UnsyncBoxBody};
use media_core::{BroadcastId, ChannelName, TrackName};
use packager::{Changed, Live, Presentation, Presentations, Skip};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{Instant, timeout};
use tracing::{Level, debug, enabled};

use crate::{
    access_log::{AccessLog, Entry, Masked},
    answer::{self, Lifetime, refuse},
    audience::Audience,
    body::{Body, BoxError},
    clock,
    conditions::Conditions,
    config::{Config, ms},
    directives::{self, Directives, Reload},
    edge::Edge,
    media::{self, Found},
    metrics::{Counted, Kind, Metrics, Reason},
    notes::Notes,
    pages::Pages,
    path::{Listing, Object, Resource},
    posters::Posters,
    upload::Timed,
    urgency::{self, PRIORITY, Priority},
};

/// How long a request for a channel that has just begun waits for something to list.
const FIRST_WAIT: Duration = Duration::from_secs(15);
/// What is the API's.
const API: &str = "/api/";
/// Nothing is there, but something may be soon.
const SOON: Lifetime = Lifetime::Seconds(1);

/// A request's body, bounded in size and in how long it may pause.
pub type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// Who answers what is under `/api/`.
pub trait Fallback: Send + Sync {
    /// Answers one request of `peer`, of any method; CORS is its own matter.
    fn call(
        &self,
        request: Request<RequestBody>,
        peer: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + '_>>;
}

/// Answers all requests of all listeners.
pub struct Router {
    presentations: Presentations,
    pages: Pages,
    posters: Box<dyn Posters>,
    fallback: Box<dyn Fallback>,
    audience: Audience,
    metrics: Metrics,
    access_log: Option<AccessLog>,
    edge: Option<Arc<Edge>>,
    max_body_bytes: usize,
    body_pause: Duration,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) peer: SocketAddr,
    /// A process of ours, for others.
    pub(crate) ours: bool,
}

impl Router {
    /// A router over what is in `presentations`; `config` says how large an API request may be.
    pub fn new(
        config: &Config,
        presentations: Presentations,
        pages: Pages,
        posters: Box<dyn Posters>,
        fallback: Box<dyn Fallback>,
        audience: Audience,
        metrics: Metrics,
    ) -> Self {
        let (max_body_bytes, body_pause) = (config.max_body_bytes, ms(config.write_ms));
        Self {
            presentations,
            pages,
            posters,
            fallback,
            audience,
            metrics,
            access_log: None,
            edge: None,
            max_body_bytes,
            body_pause,
        }
    }

    /// Where each answer is written down from now on, if anywhere.
    pub fn log(&mut self, access_log: Option<AccessLog>) {
        self.access_log = access_log;
    }

    /// Who is asked for what is not here, if anybody.
    pub fn fetch_from(&mut self, edge: Option<Arc<Edge>>) {
        self.edge = edge;
    }

    /// Answers one request. May take as long as three target durations, where the client asked for what is yet to come; dropping the
    /// future gives up.
    pub fn handle<B>(&self, request: Request<B>, peer: SocketAddr) -> Answering<'_>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.respond(request, Asker { peer, ours: false })
    }

    pub(crate) fn respond<B>(&self, request: Request<B>, asker: Asker) -> Answering<'_>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let asked = Priority::of(request.headers());
        let access_log = self.access_log.as_ref().filter(|_| !asker.ours);
        let entry = access_log.map(|log| log.begin(&request, asker.peer));
        let mut notes = Notes::new(entry.is_some());
        let form = Form::of(&request);
        let (kind, step) = self.begin(request, asker, &mut notes);
        Answering {
            router: self,
            step,
            kind,
            form,
            asked,
            notes,
            entry,
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Does what can be done of an answer before anything is waited for.
    fn begin<B>(&self, request: Request<B>, asker: Asker, notes: &mut Notes) -> (Kind, Step<'_>)
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if is_ambiguous(&request) {
            let mut response = refuse(StatusCode::BAD_REQUEST, "one Host header, please\n", Lifetime::NoStore);
            close(request.version(), &mut response);
            return (Kind::Unknown, Step::Answer(response));
        }
        if request.uri().path().starts_with(API) {
            let request =
                request.map(|body| Limited::new(Timed::new(body, self.body_pause), self.max_body_bytes).boxed_unsync());
            let answer = self.fallback.call(request, asker.peer);
            let later = async move { (answer.await, Duration::ZERO) };
            return (Kind::Api, Step::Later(Box::pin(later)));
        }
        let has_body = !request.body().is_end_stream();
        let (head, _) = request.into_parts();
        let resource = Resource::parse(head.uri.path());
        let kind = resource.as_ref().map_or(Kind::Unknown, kind);
        if has_body {
            // Whoever put a body here may mean it as another request (RFC 9112 11.2).
            self.metrics.refuse(Reason::Body);
            let mut response = refuse(StatusCode::BAD_REQUEST, "no body here, please\n", Lifetime::NoStore);
            close(head.version, &mut response);
            return (kind, Step::Answer(response));
        }
        let step = match (&head.method, resource) {
            (&Method::GET | &Method::HEAD, Some(resource)) => self.read(head, resource, asker, notes),
            (&Method::GET | &Method::HEAD | &Method::OPTIONS, None) if head.uri.path() != "*" => {
                Step::Answer(refuse(StatusCode::NOT_FOUND, "there is nothing here\n", SOON))
            }
            (&Method::OPTIONS, _) => Step::Answer(answer::preflight()),
            _ => Step::Answer(answer::method_not_allowed()),
        };
        (kind, step)
    }

    fn read(&self, head: Parts, resource: Resource, asker: Asker, notes: &mut Notes) -> Step<'_> {
        match &resource {
            Resource::Live(channel, _) | Resource::Poster(channel) | Resource::Watch(channel) => notes.about(channel),
            Resource::Media(broadcast, ..) if notes.is_logged() => {
                if let Some(live) = self.presentations.broadcast(*broadcast) {
                    notes.about(live.channel());
                }
            }
            _ => {}
        }
        match self.edge.as_ref().filter(|_| !self.is_here(&resource)) {
            Some(edge) => Step::Later(Box::pin(self.elsewhere(edge, head, resource, asker))),
            None => self.here(head, resource, asker),
        }
    }

    /// What is made by this process.
    fn here(&self, head: Parts, resource: Resource, asker: Asker) -> Step<'_> {
        Step::Answer(match resource {
            Resource::Live(channel, listing) => return self.listing(head, &channel, listing, asker),
            Resource::Media(broadcast, track, object) => return self.media(&head, broadcast, &track, object, asker),
            Resource::Poster(channel) => {
                let conditions = Conditions::of(&head.method, &head.headers);
                return Step::Later(Box::pin(async move {
                    let response = match self.posters.poster(&channel).await {
                        Some(poster) => {
                            let lifetime = Lifetime::Seconds(poster.fresh.as_secs());
                            answer::picture(&conditions, &poster.jpeg, lifetime)
                        }
                        None => refuse(StatusCode::NOT_FOUND, "no picture\n", SOON),
                    };
                    (response, Duration::ZERO)
                }));
            }
            Resource::Watch(_) => answer::page(&Conditions::of_text(&head.method, &head.headers), &self.pages.watch),
            Resource::Asset(name) => match self.pages.assets.iter().find(|(known, _)| **known == *name) {
                Some((_, page)) => answer::page(&Conditions::of_text(&head.method, &head.headers), page),
                None => refuse(StatusCode::NOT_FOUND, "no such file\n", SOON),
            },
            Resource::Time => answer::time(clock::iso(SystemTime::now())),
            Resource::Api => refuse(StatusCode::NOT_FOUND, "there is nothing here\n", SOON),
        })
    }

    fn saw(&self, channel: &ChannelName, target_duration_s: u64, asker: Asker, head: &Parts) {
        if !asker.ours {
            self.audience
                .saw(channel, target_duration_s, asker.peer.ip(), &head.headers);
        }
    }

    /// Whether this process makes it, and has begun to.
    fn is_here(&self, resource: &Resource) -> bool {
        match self.made_here(resource) {
            Some(live) => live.is_some_and(|live| live.current().is_some()),
            None => true,
        }
    }

    /// Whose media these are, if of any channel: what this process has of it.
    fn made_here(&self, resource: &Resource) -> Option<Option<Arc<Live>>> {
        match resource {
            Resource::Live(channel, _) | Resource::Poster(channel) => Some(self.presentations.channel(channel)),
            Resource::Media(broadcast, ..) => Some(self.presentations.broadcast(*broadcast)),
            _ => None,
        }
    }

    /// What others make and is not here. Where something is about to begin here, they are asked first, and it is waited for if they do
    /// not have it.
    async fn elsewhere(
        &self,
        edge: &Arc<Edge>,
        head: Parts,
        resource: Resource,
        asker: Asker,
    ) -> (Response<Body>, Duration) {
        let here = self.made_here(&resource).flatten();
        let answer = edge.answer(&head, &resource, asker.peer).await;
        let theirs = |answer: &Response<Body>| {
            answer.status().is_success() || answer.status() == StatusCode::NOT_MODIFIED || here.is_none()
        };
        match answer.filter(theirs) {
            Some(answer) => (answer, Duration::ZERO),
            None => self.here(head, resource, asker).await,
        }
    }

    fn listing(&self, head: Parts, channel: &ChannelName, listing: Listing, asker: Asker) -> Step<'_> {
        let Some(live) = self.presentations.channel(channel) else {
            return Step::Answer(refuse(StatusCode::NOT_FOUND, "no such channel\n", SOON));
        };
        match live.current() {
            Some(presentation) => self.list(&head, live, presentation, listing, asker),
            None => Step::Later(Box::pin(async move {
                let (failed, held) = match self.held(FIRST_WAIT, live.first()).await {
                    (Some(Some(presentation)), held) => {
                        let step = self.list(&head, live, presentation, listing, asker);
                        let (response, more) = step.await;
                        return (response, held + more);
                    }
                    (Some(None), held) => (refuse(StatusCode::NOT_FOUND, "no such channel\n", SOON), held),
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
        asker: Asker,
    ) -> Step<'_> {
        self.saw(live.channel(), presentation.target_duration_s, asker, head);
        let conditions = Conditions::of_text(&head.method, &head.headers);
        let lifetime = Lifetime::Seconds((presentation.target_duration_s / 2).max(1));
        let (text, content_type) = match listing {
            Listing::Multivariant => (presentation.multivariant(), answer::HLS),
            Listing::Manifest => (presentation.manifest(), answer::DASH),
            Listing::PlainManifest => (presentation.plain_manifest(), answer::DASH),
            Listing::Playlist(track) => return playlist(self, head, conditions, live, &presentation, &track),
        };
        Step::Answer(answer::text(&conditions, text, content_type, lifetime))
    }

    fn media(&self, head: &Parts, broadcast: BroadcastId, track: &TrackName, object: Object, asker: Asker) -> Step<'_> {
        let live = self.presentations.broadcast(broadcast);
        let Some((live, presentation)) = live.and_then(|live| live.current().map(|current| (live, current))) else {
            return Step::Answer(refuse(StatusCode::NOT_FOUND, "no such broadcast\n", SOON));
        };
        let target = presentation.target_duration_s;
        let Some(index) = index(&presentation, track) else {
            let gone = Lifetime::Seconds(target);
            return Step::Answer(refuse(StatusCode::NOT_FOUND, "no such track\n", gone));
        };
        self.saw(live.channel(), target, asker, head);
        let media = Media {
            live,
            index,
            object,
            conditions: Conditions::of(&head.method, &head.headers),
        };
        match media::find(&presentation.tracks[index], object, presentation.ended) {
            Found::Hinted(msn, part) => {
                let changed = media.live.changed(index, msn, Some(part), hold(target));
                Step::Hold(Hold::new(self, changed, target, Then::Media(media)))
            }
            Found::Next(next) => Step::Later(Box::pin(async move {
                let come = media.come_to(next, Arc::clone(&presentation), target);
                let (come, held) = self.held(Duration::from_secs(target), come).await;
                let (now, found) = come.unwrap_or((presentation, Found::Future));
                (media.answer(&now, found, Lifetime::Unchanging(6 * target)), held)
            })),
            found => Step::Answer(media.answer(&presentation, found, Lifetime::Immutable)),
        }
    }

    /// Waits, counted, for `limit` at most; for how long it was.
    async fn held<T>(&self, limit: Duration, what: impl Future<Output = T>) -> (Option<T>, Duration) {
        let _waiting = Counted::new(&self.metrics.waiting);
        let begun = Instant::now();
        let come = timeout(limit, what).await.ok();
        (come, begun.elapsed())
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

/// An answer that is on its way; dropping it gives up. It holds what is left to do, and nothing of the request beside: thousands wait at
/// once, so there are no futures in futures here, each with its state in another line of memory.
#[must_use = "nothing is answered before it is awaited"]
pub struct Answering<'a> {
    router: &'a Router,
    step: Step<'a>,
    kind: Kind,
    form: Form,
    asked: Priority,
    notes: Notes,
    entry: Option<Entry>,
}

impl Future for Answering<'_> {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        let this = &mut *self;
        let (mut response, held) = ready!(Pin::new(&mut this.step).poll(cx));
        this.notes.held = held;
        if !this.form.is_api {
            if this.form.is_head {
                answer::without_body(&mut response);
            }
            answer::share(response.headers_mut());
            this.notes.tell(response.headers_mut());
            if let Some((method, uri)) = this.form.line.as_deref() {
                let path = Masked(uri.path());
                debug!(%method, %path, status = response.status().as_u16(), "answered");
            }
        }
        urgency::settle(this.asked, this.kind, &mut response);
        this.router.metrics.answered(this.kind, response.status());
        if let Some(mut entry) = this.entry.take() {
            entry.answered(this.kind, response.status().as_u16(), mem::take(&mut this.notes));
            response.body_mut().log(entry);
        }
        Poll::Ready(response)
    }
}

impl fmt::Debug for Answering<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answering")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// What an answer still takes; then the answer, and how long it was held.
enum Step<'a> {
    Answer(Response<Body>),
    Hold(Hold<'a>),
    /// What few ask for, or seldom.
    Later(Pin<Box<dyn Future<Output = (Response<Body>, Duration)> + Send + 'a>>),
    Over,
}

impl Future for Step<'_> {
    type Output = (Response<Body>, Duration);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let come = match &mut *self {
            Self::Hold(hold) => ready!(Pin::new(&mut hold.changed).poll(cx)),
            Self::Later(later) => return later.as_mut().poll(cx),
            Self::Answer(_) | Self::Over => None,
        };
        match mem::replace(&mut *self, Self::Over) {
            Self::Answer(response) => Poll::Ready((response, Duration::ZERO)),
            Self::Hold(hold) => {
                let held = hold.begun.elapsed();
                Poll::Ready((hold.answer(come), held))
            }
            Self::Later(_) | Self::Over => Poll::Pending,
        }
    }
}

/// What is answered when a part has come (RFC 8216bis 6.2.5.2, 6.2.6).
struct Hold<'a> {
    changed: Changed,
    begun: Instant,
    target_duration_s: u64,
    then: Then,
    _waiting: Counted<&'a Gauge>,
}

enum Then {
    Playlist {
        track: usize,
        skip: Skip,
        conditions: Conditions,
    },
    Media(Media),
}

/// A request for an init segment, a segment or a part.
struct Media {
    live: Arc<Live>,
    /// Of its track.
    index: usize,
    object: Object,
    conditions: Conditions,
}

/// What the answer to a request depends on after its head has gone.
struct Form {
    is_head: bool,
    is_api: bool,
    /// For the log of a developer.
    line: Option<Box<(Method, Uri)>>,
}

impl Form {
    fn of<B>(request: &Request<B>) -> Self {
        let line = || Box::new((request.method().clone(), request.uri().clone()));
        Self {
            is_head: request.method() == Method::HEAD,
            is_api: request.uri().path().starts_with(API),
            line: enabled!(Level::DEBUG).then(line),
        }
    }
}

impl<'a> Hold<'a> {
    fn new(router: &'a Router, changed: Changed, target_duration_s: u64, then: Then) -> Self {
        Self {
            changed,
            begun: Instant::now(),
            target_duration_s,
            then,
            _waiting: Counted::new(&router.metrics.waiting),
        }
    }

    fn answer(self, come: Option<Arc<Presentation>>) -> Response<Body> {
        let target = self.target_duration_s;
        match (come, self.then) {
            (
                Some(presentation),
                Then::Playlist {
                    track,
                    skip,
                    conditions,
                },
            ) => playlist_of(&presentation, track, skip, &conditions, blocking(target).0),
            (Some(presentation), Then::Media(media)) => {
                let found = media::find(&presentation.tracks[media.index], media.object, presentation.ended);
                media.answer(&presentation, found, Lifetime::Unchanging(6 * target))
            }
            (None, then) => {
                let lifetime = match then {
                    Then::Playlist { .. } => blocking(target).1,
                    Then::Media(_) => Lifetime::Seconds(target),
                };
                refuse(StatusCode::SERVICE_UNAVAILABLE, "it did not come\n", lifetime)
            }
        }
    }
}

impl Media {
    /// Waits until the segment that follows the open one has begun, or will not come any nearer.
    async fn come_to(
        &self,
        mut next: u64,
        mut presentation: Arc<Presentation>,
        target_duration_s: u64,
    ) -> (Arc<Presentation>, Found) {
        let limit = hold(target_duration_s);
        loop {
            let Some(now) = self.live.changed(self.index, next.saturating_sub(1), None, limit).await else {
                return (presentation, Found::Future);
            };
            presentation = now;
            match media::find(&presentation.tracks[self.index], self.object, presentation.ended) {
                Found::Next(again) if again != next => next = again,
                found => return (presentation, found),
            }
        }
    }

    fn answer(&self, presentation: &Presentation, found: Found, lifetime: Lifetime) -> Response<Body> {
        let (target, track) = (presentation.target_duration_s, &presentation.tracks[self.index]);
        let content_type = match self.object {
            Object::Init(_) if track.config.is_video() => answer::VIDEO_HEADER,
            _ if track.config.is_video() => answer::VIDEO_SEGMENT,
            _ => answer::AUDIO,
        };
        let mut response = match found {
            Found::Bytes(rope) => answer::media(&self.conditions, &rope, etag(self.object), content_type, lifetime),
            Found::Growing(msn) => {
                let body = Body::growing(self.live.follow(self.index, msn));
                answer::growing(body, content_type, Lifetime::Unchanging(6 * target))
            }
            Found::Next(_) | Found::Future => return refuse(StatusCode::NOT_FOUND, "not yet\n", SOON),
            Found::Hinted(..) | Found::Gone => {
                return refuse(StatusCode::NOT_FOUND, "no such media\n", Lifetime::Seconds(target));
            }
        };
        let urgency = urgency::of_media(presentation.tracks.iter().map(Arc::as_ref), track, self.object);
        response.headers_mut().insert(PRIORITY, urgency::value(urgency));
        response
    }
}

/// A media playlist, now or when what is asked for has come.
fn playlist<'a>(
    router: &'a Router,
    head: &Parts,
    conditions: Conditions,
    live: Arc<Live>,
    presentation: &Presentation,
    track: &TrackName,
) -> Step<'a> {
    let target = presentation.target_duration_s;
    let (done, failed) = match directives::is_blocking(head.uri.query()) {
        true => blocking(target),
        false => (Lifetime::Seconds((target / 2).max(1)), Lifetime::Seconds(target)),
    };
    let Some(track) = index(presentation, track) else {
        return Step::Answer(refuse(StatusCode::NOT_FOUND, "no such track\n", failed));
    };
    let bad = |bad: directives::Bad| Step::Answer(refuse(StatusCode::BAD_REQUEST, format!("{bad}\n"), failed));
    let directives = match Directives::parse(head.uri.query()) {
        Ok(directives) => directives,
        Err(reason) => return bad(reason),
    };
    let reload = match presentation.ended {
        true => Ok(Reload::Now),
        false => directives.reload(&presentation.tracks[track]),
    };
    let skip = directives.skip;
    match reload {
        Ok(Reload::Now) => Step::Answer(playlist_of(presentation, track, skip, &conditions, done)),
        Ok(Reload::Wait(msn, part)) => {
            let then = Then::Playlist {
                track,
                skip,
                conditions,
            };
            let changed = live.changed(track, msn, part, hold(target));
            Step::Hold(Hold::new(router, changed, target, then))
        }
        Err(reason) => bad(reason),
    }
}

fn playlist_of(
    presentation: &Presentation,
    track: usize,
    skip: Skip,
    conditions: &Conditions,
    lifetime: Lifetime,
) -> Response<Body> {
    let skip = if presentation.ended { Skip::No } else { skip };
    let text = presentation.media_playlist(track, skip);
    answer::text(conditions, text, answer::HLS, lifetime)
}

/// How long what a blocking request is answered holds, done and failed: for long, since the next one has another address (appendix B.1).
fn blocking(target_duration_s: u64) -> (Lifetime, Lifetime) {
    (
        Lifetime::Seconds(6 * target_duration_s),
        Lifetime::Seconds(4 * target_duration_s),
    )
}

/// HTTP/1.1 with no Host or several (RFC 9112 3.2): who else has read this request may have read another.
fn is_ambiguous<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11 && request.headers().get_all(header::HOST).iter().count() != 1
}

/// No further request is read from this connection.
fn close(version: Version, response: &mut Response<Body>) {
    if version <= Version::HTTP_11 {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

fn kind(resource: &Resource) -> Kind {
    match resource {
        Resource::Live(_, Listing::Multivariant | Listing::Playlist(_)) => Kind::Playlist,
        Resource::Live(_, Listing::Manifest | Listing::PlainManifest) => Kind::Manifest,
        Resource::Media(_, _, Object::Init(_)) => Kind::Init,
        Resource::Media(_, _, Object::Segment(_)) => Kind::Segment,
        Resource::Media(_, _, Object::Part(..)) => Kind::Part,
        Resource::Poster(_) => Kind::Poster,
        Resource::Watch(_) | Resource::Asset(_) => Kind::Page,
        Resource::Time => Kind::Time,
        Resource::Api => Kind::Api,
    }
}

fn index(presentation: &Presentation, track: &TrackName) -> Option<usize> {
    presentation.tracks.iter().position(|known| known.name == *track)
}

/// How long a request may be held (6.2.5.2).
fn hold(target_duration_s: u64) -> Duration {
    Duration::from_secs(3 * target_duration_s)
}

/// An address has one representation for ever, so its name is its validator.
fn etag(object: Object) -> HeaderValue {
    match object {
        Object::Init(number) => answer::value(format_args!("\"init.{number}\"")),
        Object::Segment(msn) => answer::value(format_args!("\"{msn}\"")),
        Object::Part(msn, part) => answer::value(format_args!("\"{msn}.{part}\"")),
    }
}

#[cfg(test)]
mod tests;
