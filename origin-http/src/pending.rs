//! A pending response: the remaining work after a request's head was dropped, and the response when
//! the awaited media exist.
//!
//! RFC 8216bis 6.2.5.2 (blocking reload), 6.2.6 (hinted parts), its appendix B.1 (lifetimes).

use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderValue, Method, Response, StatusCode, Uri, request::Parts};
use http_server::{
    Body, BoxError, Growing, PendingResponse,
    mount::BoxedResponse,
    priority::{self, PRIORITY, Priority},
};
use media_core::{ChannelName, TrackIndex};
use net_core::{Counted, Rope};
use packager::{Changed, Follow, Live, Presentation, Skip, Track};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;
use tracing::{Level, debug, enabled};

use crate::{
    access_log::{Entry, Masked},
    conditions::Conditions,
    cors::{Cors, Grant},
    lookup::{self, Found},
    metrics::Metrics,
    playback::Seal,
    resource::{Kind, Object},
    response::{self, Lifetime, SOON, refuse},
    sampler::{Delivery, Sampled},
    server_timing,
    text::{Renders, Text},
    urgency,
};

/// The parts of a router that its pending responses use.
pub(crate) struct Shared {
    /// The origins whose pages may read responses.
    pub(crate) cors: Cors,
    pub(crate) metrics: Metrics,
    /// Permits to render long texts.
    pub(crate) renders: Renders,
}

/// A pending response; dropping it aborts. It holds only the remaining work, and nothing else of
/// the request: thousands wait at once, so there are no nested futures, each of which would have
/// its state in another cache line.
#[must_use = "there is no response before it is awaited"]
pub struct Pending<'a> {
    /// The router's parts that complete the response.
    pub(crate) shared: &'a Shared,
    /// The remaining work.
    pub(crate) step: Step<'a>,
    /// For metrics and the urgency.
    pub(crate) kind: &'a Kind,
    /// The data of the request that complete the response.
    pub(crate) context: RequestContext,
}

impl PendingResponse for Pending<'_> {
    fn poll_request_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Step::Body(end) = &mut self.step {
            self.step = ready!(end.as_mut().poll(cx));
        }
        Poll::Ready(())
    }
}

impl Future for Pending<'_> {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        let this = &mut *self;
        // Determined before the step, which is `Over` afterwards.
        let ours = !matches!(this.step, Step::Mounted(_));
        let (mut response, held) = ready!(Pin::new(&mut this.step).poll(cx));
        if ours {
            this.context.share(&this.shared.cors, held, &mut response);
        }
        this.context.finish(this.kind, held, &this.shared.metrics, &mut response);
        Poll::Ready(response)
    }
}

impl fmt::Debug for Pending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("kind", &self.kind.name).finish_non_exhaustive()
    }
}

/// The remaining work of a response; then the response, and the time for which it was held.
pub(crate) enum Step<'a> {
    /// A response that is ready, and the time for which it was held.
    Ready(Response<Body>, Duration),
    /// Waits for media.
    Hold(Hold<'a>),
    /// The request's body has not ended; resolves to the next step.
    Body(Pin<Box<dyn Future<Output = Step<'a>> + Send + 'a>>),
    /// Work of rare requests.
    Later(Pin<Box<dyn Future<Output = (Response<Body>, Duration)> + Send + 'a>>),
    /// The response of a mounted service.
    Mounted(BoxedResponse<'a>),
    /// The response was taken.
    Over,
}

impl<'a> Step<'a> {
    /// A response without a wait.
    pub(crate) fn ready(response: Response<Body>) -> Self {
        Self::Ready(response, Duration::ZERO)
    }

    /// A text, at once if that does not take long. `held`: the time for which it has waited.
    pub(crate) fn text(text: Text, renders: &'a Renders, held: Duration) -> Self {
        // A thread for each short text would cost more than its rendering.
        match text.is_slow() {
            true => Self::Later(Box::pin(async move { (text.render(renders).await, held) })),
            false => Self::Ready(text.respond(), held),
        }
    }
}

impl Future for Step<'_> {
    type Output = (Response<Body>, Duration);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Self::Body(end) = &mut *self {
                *self = ready!(end.as_mut().poll(cx));
            }
            // First the step is polled in place; when it is ready, it is taken out and replaced.
            let presentation = match &mut *self {
                Self::Hold(hold) => ready!(Pin::new(&mut hold.changed).poll(cx)),
                Self::Later(later) => return later.as_mut().poll(cx),
                Self::Mounted(pending) => {
                    return pending.as_mut().poll(cx).map(|response| (response, Duration::ZERO));
                }
                Self::Ready(..) | Self::Body(_) | Self::Over => None,
            };
            // `Over` stays behind only after the last step: a future that has ended is not polled
            // again.
            match mem::replace(&mut *self, Self::Over) {
                Self::Ready(response, held) => return Poll::Ready((response, held)),
                Self::Hold(hold) => *self = hold.step(presentation),
                Self::Body(_) | Self::Later(_) | Self::Mounted(_) | Self::Over => {
                    return Poll::Pending;
                }
            }
        }
    }
}

/// The response when a part is complete (RFC 8216bis 6.2.5.2, 6.2.6).
pub(crate) struct Hold<'a> {
    /// The router's parts that form the response.
    shared: &'a Shared,
    /// Ready with the first snapshot that has the media, or the broadcast's last one; `None` when
    /// the time is over.
    changed: Changed,
    /// Start of the wait.
    begun: Instant,
    /// The broadcast's target duration in seconds, which determines lifetimes.
    target_duration_s: u64,
    /// The response to form.
    then: Then,
    _waiting: Counted<&'a Gauge>,
}

/// The response after a wait: a media playlist, or the bytes of an object.
pub(crate) enum Then {
    Playlist { track: TrackIndex, skip: Skip, conditions: Conditions },
    Media(Media),
}

/// A request for an init segment, a segment or a part.
pub(crate) struct Media {
    /// The broadcast.
    pub(crate) live: Arc<Live>,
    /// Index of its track.
    pub(crate) index: TrackIndex,
    pub(crate) object: Object,
    pub(crate) conditions: Conditions,
    /// The sample of its delivery.
    pub(crate) sampled: Sampled,
}

/// The data of a request with which its response is completed, after its head was dropped.
pub(crate) struct RequestContext {
    /// The pages that may read the response.
    grant: Grant,
    /// The client's priority (RFC 9218).
    priority: Priority,
    /// Its entry in the access log.
    entry: Option<Entry>,
    /// The channel of the request, if the access log has an entry for it.
    channel: Option<ChannelName>,
    /// Completes the response if it belongs to a private channel.
    seal: Option<Box<Seal>>,
    /// For the debug log.
    line: Option<Box<(Method, Uri)>>,
}

impl RequestContext {
    /// The data of a request with this head. `entry`: its entry in the access log, if there is one.
    pub(crate) fn of(head: &Parts, cors: &Cors, entry: Option<Entry>) -> Self {
        let line = || Box::new((head.method.clone(), head.uri.clone()));
        Self {
            grant: cors.grant(&head.headers),
            priority: Priority::of(&head.headers),
            entry,
            channel: None,
            seal: None,
            line: enabled!(Level::DEBUG).then(line),
        }
    }

    /// Whether the access log has an entry for the request.
    pub(crate) fn is_logged(&self) -> bool {
        self.entry.is_some()
    }

    /// Records the request's channel for the access log, if it has an entry there.
    pub(crate) fn set_channel(&mut self, channel: &ChannelName) {
        if self.is_logged() {
            self.channel = Some(channel.clone());
        }
    }

    /// Records that the response belongs to a private channel.
    pub(crate) fn seal(&mut self, seal: Seal) {
        self.seal = Some(Box::new(seal));
    }

    /// Completes a response of this router: the fields of CORS and Server-Timing, and the debug
    /// log. Mounted services complete their own.
    pub(crate) fn share(&self, cors: &Cors, held: Duration, response: &mut Response<Body>) {
        cors.share(self.grant, response.headers_mut());
        if let Some(seal) = &self.seal {
            seal.apply(response.headers_mut());
        }
        server_timing::add_hold(response.headers_mut(), held);
        if let Some((method, uri)) = self.line.as_deref() {
            let path = Masked(uri.path());
            debug!(%method, %path, status = response.status().as_u16(), "request served");
        }
    }

    /// Completes any response: its priority, metrics, and the access log, whose line is written
    /// when the body has been sent.
    pub(crate) fn finish(
        &mut self,
        kind: &Kind,
        held: Duration,
        metrics: &Metrics,
        response: &mut Response<Body>,
    ) {
        urgency::settle(self.priority, kind, response);
        metrics.responded(kind, response.status());
        if let Some(mut entry) = self.entry.take() {
            entry.responded(kind.name, response.status().as_u16(), self.channel.take(), held);
            response.body_mut().on_finish(Box::new(entry));
        }
    }
}

impl<'a> Hold<'a> {
    /// Begins to wait for `changed`.
    pub(crate) fn new(
        shared: &'a Shared,
        changed: Changed,
        target_duration_s: u64,
        then: Then,
    ) -> Self {
        Self {
            shared,
            changed,
            begun: Instant::now(),
            target_duration_s,
            then,
            _waiting: Counted::new(&shared.metrics.waiting),
        }
    }

    /// The response to form after the wait; `None`: the media did not appear.
    fn step(self, presentation: Option<Arc<Presentation>>) -> Step<'a> {
        let (target, held) = (self.target_duration_s, self.begun.elapsed());
        // The response to a held request lives long in caches, because the next request has another
        // address (appendix B.1).
        let response = match (presentation, self.then) {
            (Some(presentation), Then::Playlist { track, skip, conditions }) => {
                let text =
                    Text::playlist(presentation, track, skip, conditions, blocking(target).0);
                return Step::text(text, &self.shared.renders, held);
            }
            (Some(presentation), Then::Media(media)) => {
                // The snapshot may have moved on: the object may be complete, or have left the
                // window.
                let found = lookup::find(
                    &presentation.tracks[media.index.get()],
                    media.object,
                    presentation.ended,
                );
                media.respond(&presentation, found, Lifetime::Unchanging(6 * target))
            }
            (None, then) => {
                let lifetime = match then {
                    Then::Playlist { .. } => blocking(target).1,
                    Then::Media(_) => Lifetime::Seconds(target),
                };
                refuse(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the media did not appear in time\n",
                    lifetime,
                )
            }
        };
        Step::Ready(response, held)
    }
}

impl Media {
    /// Waits until segment `next`, the one after the open one, has begun, or cannot begin. Returns
    /// the snapshot in which the object was found. Each wait takes at most [`hold`]; the caller
    /// limits the total.
    pub(crate) async fn wait_until_begun(
        &self,
        mut next: u64,
        mut presentation: Arc<Presentation>,
        target_duration_s: u64,
    ) -> (Arc<Presentation>, Found) {
        let limit = hold(target_duration_s);
        loop {
            let Some(now) =
                self.live.changed(self.index, next.saturating_sub(1), None, limit).await
            else {
                return (presentation, Found::Future);
            };
            presentation = now;
            match lookup::find(
                &presentation.tracks[self.index.get()],
                self.object,
                presentation.ended,
            ) {
                Found::Next(again) if again != next => next = again,
                found => return (presentation, found),
            }
        }
    }

    /// The response for an object in the state `found`. `lifetime`: that of complete bytes.
    pub(crate) fn respond(
        self,
        presentation: &Presentation,
        found: Found,
        lifetime: Lifetime,
    ) -> Response<Body> {
        let (target, track) =
            (presentation.target_duration_s, &presentation.tracks[self.index.get()]);
        // A precondition is evaluated only for an object that exists (RFC 9110 13.2.1).
        let exists = matches!(found, Found::Bytes(_) | Found::Growing(_));
        if exists
            && self.conditions.is_modified(|| lookup::published(presentation, track, self.object))
        {
            return response::precondition_failed();
        }
        // Segments of video have the type that DASH registers; their header is an ordinary MP4
        // file.
        let content_type = match self.object {
            Object::Init(_) if track.config.is_video() => response::VIDEO_HEADER,
            _ if track.config.is_video() => response::VIDEO_SEGMENT,
            _ => response::AUDIO,
        };
        let mut response = match found {
            Found::Bytes(rope) => {
                let etag = etag(self.object);
                let mut response =
                    response::media(&self.conditions, &rope, etag, content_type, lifetime);
                // Nothing more for a server that takes no samples.
                if self.sampled.is_some() {
                    sample(self.sampled, &self.live, track, self.object, &mut response);
                }
                response
            }
            // It has no entity tag yet.
            Found::Growing(_) if self.conditions.excludes(None) => {
                return response::precondition_failed();
            }
            Found::Growing(msn) => {
                let body = Body::growing(Following::new(&self.live, self.index, msn, self.sampled));
                response::growing(body, content_type, Lifetime::Unchanging(6 * target))
            }
            Found::Next(_) | Found::Future => {
                return refuse(StatusCode::NOT_FOUND, "not yet\n", SOON);
            }
            Found::Hinted(..) | Found::Gone => {
                return refuse(StatusCode::NOT_FOUND, "no such media\n", Lifetime::Seconds(target));
            }
        };
        // Set here for media only, because it depends on the track's bit rate. `urgency::settle`
        // sets all others.
        let urgency =
            urgency::of_media(presentation.tracks.iter().map(Arc::as_ref), track, self.object);
        response.headers_mut().insert(PRIORITY, priority::value(urgency));
        response
    }
}

/// A segment from its first part to its last.
struct Following {
    follow: Follow,
    /// The sample of its delivery, with the address of the segment.
    sampled: Option<(Sampled, Arc<Live>, TrackIndex, u64)>,
    /// Bytes of its parts so far.
    bytes: u64,
}

impl Following {
    fn new(live: &Arc<Live>, index: TrackIndex, msn: u64, sampled: Sampled) -> Self {
        let follow = live.follow(index, msn);
        let sampled = sampled.is_some().then(|| (sampled, Arc::clone(live), index, msn));
        Self { follow, sampled, bytes: 0 }
    }

    /// The body has ended: its media were delivered.
    fn end(&mut self) {
        let Some((sampled, live, index, msn)) = self.sampled.take() else { return };
        let presentation = live.current();
        let track = presentation.as_ref().and_then(|now| now.tracks.get(index.get()));
        let object = Object::Segment(msn);
        let media = track.and_then(|track| Delivery::of(&live, track, object, self.bytes, true));
        if let Some(media) = media {
            sampled.delivered(media);
        }
    }
}

impl Growing for Following {
    // An error cuts the body: a broadcast that fails must not leave a segment that looks complete.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Rope, BoxError>>> {
        let next = ready!(self.follow.poll_next(cx));
        match &next {
            Some(Ok(parts)) => self.bytes += parts.len() as u64,
            Some(Err(_)) => self.sampled = None,
            None => self.end(),
        }
        Poll::Ready(next.map(|parts| parts.map_err(Into::into)))
    }
}

/// Makes the sample of a request observe the delivery of its response, if that has media.
fn sample(
    sampled: Sampled,
    live: &Arc<Live>,
    track: &Track,
    object: Object,
    response: &mut Response<Body>,
) {
    let whole = response.status() == StatusCode::OK;
    if !whole && response.status() != StatusCode::PARTIAL_CONTENT {
        return;
    }
    let bytes = response.body().len().unwrap_or(0);
    let media = Delivery::of(live, track, object, bytes, whole);
    if let Some(observer) = media.and_then(|media| sampled.observer(media)) {
        response.body_mut().on_arrival(observer);
    }
}

/// Lifetimes of the response to a blocking request, after success and failure: long, since the next
/// request has another address (appendix B.1).
pub(crate) fn blocking(target_duration_s: u64) -> (Lifetime, Lifetime) {
    (Lifetime::Seconds(6 * target_duration_s), Lifetime::Seconds(4 * target_duration_s))
}

/// Maximum time for which a request is held (6.2.5.2).
pub(crate) fn hold(target_duration_s: u64) -> Duration {
    Duration::from_secs(3 * target_duration_s)
}

/// The strong entity tag of an object. An address has one immutable representation, so its name is
/// its validator (RFC 9110 8.8.3).
fn etag(object: Object) -> HeaderValue {
    match object {
        Object::Init(number) => response::value(format_args!("\"init.{number}\"")),
        Object::Segment(msn) => response::value(format_args!("\"{msn}\"")),
        Object::Part(msn, part) => response::value(format_args!("\"{msn}.{part}\"")),
    }
}
