//! From a request to an answer, the same for every protocol: finds the resource, waits where the standard says so, and says how long
//! the answer may be kept.
//!
//! RFC 8216bis 6.2.5 (delivery directives), its appendix B.1 (low-latency server profile: the lifetimes).

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Limited, combinators::UnsyncBoxBody};
use media_core::{BroadcastId, ChannelName, TrackName};
use packager::{Live, Presentation, Presentations, Skip};
use tokio::time::{Instant, timeout};
use tracing::{Level, debug, enabled};

use crate::{
    access_log::{AccessLog, Masked},
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
struct Asker {
    peer: SocketAddr,
    /// A process of ours, for others.
    ours: bool,
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
    pub async fn handle<B>(&self, request: Request<B>, peer: SocketAddr) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.respond(request, Asker { peer, ours: false }).await
    }

    /// The same for a process of ours, which asks for what it was asked: it writes that down, and knows who watches.
    pub(crate) async fn handle_ours<B>(&self, request: Request<B>, peer: SocketAddr) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.respond(request, Asker { peer, ours: true }).await
    }

    async fn respond<B>(&self, request: Request<B>, asker: Asker) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let path = request.uri().path();
        let asked = Priority::of(request.headers());
        let access_log = self.access_log.as_ref().filter(|_| !asker.ours);
        let entry = access_log.map(|log| log.begin(&request, asker.peer));
        let mut notes = Notes::new(entry.is_some());
        let (kind, mut response) = if is_ambiguous(&request) {
            let mut response = refuse(StatusCode::BAD_REQUEST, "one Host header, please\n", Lifetime::NoStore);
            close(request.version(), &mut response);
            answer::share(response.headers_mut());
            (Kind::Unknown, response)
        } else if path.starts_with("/api/") {
            let request =
                request.map(|body| Limited::new(Timed::new(body, self.body_pause), self.max_body_bytes).boxed_unsync());
            (Kind::Api, self.fallback.call(request, asker.peer).await)
        } else {
            let is_head = request.method() == Method::HEAD;
            let line = enabled!(Level::DEBUG).then(|| (request.method().clone(), request.uri().clone()));
            let has_body = !request.body().is_end_stream();
            let (head, _) = request.into_parts();
            let (kind, mut response) = self.media_or_page(head, has_body, asker, &mut notes).await;
            if is_head {
                answer::without_body(&mut response);
            }
            answer::share(response.headers_mut());
            notes.tell(response.headers_mut());
            if let Some((method, uri)) = line {
                let path = Masked(uri.path());
                debug!(%method, %path, status = response.status().as_u16(), "answered");
            }
            (kind, response)
        };
        urgency::settle(asked, kind, &mut response);
        self.metrics.answered(kind, response.status());
        if let Some(mut entry) = entry {
            entry.answered(kind, response.status().as_u16(), notes);
            response.body_mut().log(entry);
        }
        response
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    async fn media_or_page(
        &self,
        head: Parts,
        has_body: bool,
        asker: Asker,
        notes: &mut Notes,
    ) -> (Kind, Response<Body>) {
        let resource = Resource::parse(head.uri.path());
        let kind = resource.as_ref().map_or(Kind::Unknown, kind);
        if has_body {
            // Whoever put a body here may mean it as another request (RFC 9112 11.2).
            self.metrics.refuse(Reason::Body);
            let mut response = refuse(StatusCode::BAD_REQUEST, "no body here, please\n", Lifetime::NoStore);
            close(head.version, &mut response);
            return (kind, response);
        }
        let response = match (&head.method, resource) {
            (&Method::GET | &Method::HEAD, Some(resource)) => self.read(head, resource, asker, notes).await,
            (&Method::GET | &Method::HEAD | &Method::OPTIONS, None) if head.uri.path() != "*" => {
                refuse(StatusCode::NOT_FOUND, "there is nothing here\n", SOON)
            }
            (&Method::OPTIONS, _) => answer::preflight(),
            _ => answer::method_not_allowed(),
        };
        (kind, response)
    }

    async fn read(&self, head: Parts, resource: Resource, asker: Asker, notes: &mut Notes) -> Response<Body> {
        if let Resource::Live(channel, _) | Resource::Poster(channel) | Resource::Watch(channel) = &resource {
            notes.about(channel);
        }
        if let Some(answer) = self.elsewhere(&head, &resource, asker.peer).await {
            return answer;
        }
        match resource {
            Resource::Live(channel, listing) => self.listing(head, &channel, listing, asker, notes).await,
            Resource::Poster(channel) => match self.posters.poster(&channel).await {
                Some(poster) => {
                    let lifetime = Lifetime::Seconds(poster.fresh.as_secs());
                    answer::picture(&Conditions::of(&head.method, &head.headers), &poster.jpeg, lifetime)
                }
                None => refuse(StatusCode::NOT_FOUND, "no picture\n", SOON),
            },
            Resource::Media(broadcast, track, object) => {
                self.media(head, broadcast, &track, object, asker, notes).await
            }
            Resource::Watch(_) => answer::page(&Conditions::of_text(&head.method, &head.headers), &self.pages.watch),
            Resource::Asset(name) => match self.pages.assets.iter().find(|(known, _)| **known == *name) {
                Some((_, page)) => answer::page(&Conditions::of_text(&head.method, &head.headers), page),
                None => refuse(StatusCode::NOT_FOUND, "no such file\n", SOON),
            },
            Resource::Time => answer::time(clock::iso(SystemTime::now())),
            Resource::Api => refuse(StatusCode::NOT_FOUND, "there is nothing here\n", SOON),
        }
    }

    fn saw(&self, channel: &ChannelName, target_duration_s: u64, asker: Asker, head: &Parts) {
        if !asker.ours {
            self.audience
                .saw(channel, target_duration_s, asker.peer.ip(), &head.headers);
        }
    }

    /// What others make and is not here. Where something is about to begin here, they are asked first, and it is waited for if they do
    /// not have it.
    async fn elsewhere(&self, head: &Parts, resource: &Resource, peer: SocketAddr) -> Option<Response<Body>> {
        let edge = self.edge.as_ref()?;
        let here = match resource {
            Resource::Live(channel, _) | Resource::Poster(channel) => self.presentations.channel(channel),
            Resource::Media(broadcast, ..) => self.presentations.broadcast(*broadcast),
            _ => return None,
        };
        if here.as_ref().is_some_and(|live| live.current().is_some()) {
            return None;
        }
        // Boxed, so that requests that wait here do not pay for it.
        let answer = Box::pin(edge.answer(head, resource, peer)).await?;
        let theirs = answer.status().is_success() || answer.status() == StatusCode::NOT_MODIFIED;
        (theirs || here.is_none()).then_some(answer)
    }

    async fn listing(
        &self,
        head: Parts,
        channel: &ChannelName,
        listing: Listing,
        asker: Asker,
        notes: &mut Notes,
    ) -> Response<Body> {
        let Some(live) = self.presentations.channel(channel) else {
            return refuse(StatusCode::NOT_FOUND, "no such channel\n", SOON);
        };
        let presentation = match live.current() {
            Some(presentation) => presentation,
            None => match self.held(FIRST_WAIT, live.first(), notes).await {
                Some(Some(presentation)) => presentation,
                Some(None) => return refuse(StatusCode::NOT_FOUND, "no such channel\n", SOON),
                None => return refuse(StatusCode::SERVICE_UNAVAILABLE, "not yet: it has just begun\n", SOON),
            },
        };
        self.saw(channel, presentation.target_duration_s, asker, &head);
        let conditions = Conditions::of_text(&head.method, &head.headers);
        let lifetime = Lifetime::Seconds((presentation.target_duration_s / 2).max(1));
        match listing {
            Listing::Multivariant => answer::text(&conditions, presentation.multivariant(), answer::HLS, lifetime),
            Listing::Manifest => answer::text(&conditions, presentation.manifest(), answer::DASH, lifetime),
            Listing::PlainManifest => answer::text(&conditions, presentation.plain_manifest(), answer::DASH, lifetime),
            Listing::Playlist(track) => {
                self.playlist(head, conditions, &live, presentation, &track, notes)
                    .await
            }
        }
    }

    async fn playlist(
        &self,
        head: Parts,
        conditions: Conditions,
        live: &Live,
        presentation: Arc<Presentation>,
        track: &TrackName,
        notes: &mut Notes,
    ) -> Response<Body> {
        let target = presentation.target_duration_s;
        // Appendix B.1: what a blocking request is answered holds for long, since the next one has another address.
        let (done, failed) = match directives::is_blocking(head.uri.query()) {
            true => (6 * target, 4 * target),
            false => ((target / 2).max(1), target),
        };
        let (done, failed) = (Lifetime::Seconds(done), Lifetime::Seconds(failed));
        let Some(index) = index(&presentation, track) else {
            return refuse(StatusCode::NOT_FOUND, "no such track\n", failed);
        };
        let directives = match Directives::parse(head.uri.query()) {
            Ok(directives) => directives,
            Err(bad) => return refuse(StatusCode::BAD_REQUEST, format!("{bad}\n"), failed),
        };
        let reload = match presentation.ended {
            true => Ok(Reload::Now),
            false => directives.reload(&presentation.tracks[index]),
        };
        drop(head);
        let presentation = match reload {
            Ok(Reload::Now) => presentation,
            Ok(Reload::Wait(msn, part)) => match self.held(hold(target), live.changed(index, msn, part), notes).await {
                Some(Some(presentation)) => presentation,
                _ => return refuse(StatusCode::SERVICE_UNAVAILABLE, "it did not come\n", failed),
            },
            Err(bad) => return refuse(StatusCode::BAD_REQUEST, format!("{bad}\n"), failed),
        };
        let skip = if presentation.ended { Skip::No } else { directives.skip };
        answer::text(&conditions, presentation.media_playlist(index, skip), answer::HLS, done)
    }

    async fn media(
        &self,
        head: Parts,
        broadcast: BroadcastId,
        track: &TrackName,
        object: Object,
        asker: Asker,
        notes: &mut Notes,
    ) -> Response<Body> {
        let live = self.presentations.broadcast(broadcast);
        let Some((live, presentation)) = live.and_then(|live| live.current().map(|current| (live, current))) else {
            return refuse(StatusCode::NOT_FOUND, "no such broadcast\n", SOON);
        };
        let target = presentation.target_duration_s;
        let Some(index) = index(&presentation, track) else {
            return refuse(StatusCode::NOT_FOUND, "no such track\n", Lifetime::Seconds(target));
        };
        notes.about(live.channel());
        self.saw(live.channel(), target, asker, &head);
        let conditions = Conditions::of(&head.method, &head.headers);
        drop(head);
        let track = &presentation.tracks[index];
        let content_type = match object {
            Object::Init(_) if track.config.is_video() => answer::VIDEO_HEADER,
            _ if track.config.is_video() => answer::VIDEO_SEGMENT,
            _ => answer::AUDIO,
        };
        let mut lifetime = Lifetime::Immutable;
        let mut found = media::find(track, object, presentation.ended);
        if let Found::Hinted(msn, part) = found {
            lifetime = Lifetime::Unchanging(6 * target);
            found = match self
                .held(hold(target), live.changed(index, msn, Some(part)), notes)
                .await
            {
                Some(Some(now)) => media::find(&now.tracks[index], object, now.ended),
                _ => {
                    return refuse(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "it did not come\n",
                        Lifetime::Seconds(target),
                    );
                }
            };
        }
        if let Found::Next(_) = found {
            lifetime = Lifetime::Unchanging(6 * target);
            // A rendition may be more than a segment behind the source, whose clock players go by.
            let come = async {
                while let Found::Next(msn) = found {
                    let Some(now) = live.changed(index, msn.saturating_sub(1), None).await else {
                        break;
                    };
                    found = media::find(&now.tracks[index], object, now.ended);
                    if matches!(found, Found::Next(next) if next == msn) {
                        break; // It will not come any nearer.
                    }
                }
            };
            let _ = self.held(Duration::from_secs(target), come, notes).await;
        }
        let mut response = match found {
            Found::Bytes(rope) => answer::media(&conditions, &rope, etag(object), content_type, lifetime),
            Found::Growing(msn) => {
                let body = Body::growing(live.follow(index, msn));
                answer::growing(body, content_type, Lifetime::Unchanging(6 * target))
            }
            Found::Next(_) | Found::Future => return refuse(StatusCode::NOT_FOUND, "not yet\n", SOON),
            Found::Hinted(..) | Found::Gone => {
                return refuse(StatusCode::NOT_FOUND, "no such media\n", Lifetime::Seconds(target));
            }
        };
        let urgency = urgency::of_media(presentation.tracks.iter().map(Arc::as_ref), track, object);
        response.headers_mut().insert(PRIORITY, urgency::value(urgency));
        response
    }

    /// Waits, counted and noted, for `limit` at most.
    async fn held<T>(&self, limit: Duration, what: impl Future<Output = T>, notes: &mut Notes) -> Option<T> {
        let _waiting = Counted::new(&self.metrics.waiting);
        let begun = Instant::now();
        let come = timeout(limit, what).await.ok();
        notes.held += begun.elapsed();
        come
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
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
