//! The daemon's path of a frame inside this process, wired as in the daemon under the shipped
//! configuration: an RTMP listener, the hub and its clock, the packager, and the origin's router,
//! which is called without a socket.

use std::{
    future::ready,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use http_server::{Body, Data};
use ingest_rtmp::{Authorization, Authorize, Grant, PublishRequest, Reason, Refusal};
use media_core::{
    ChannelName, Hub, TrackIndex,
    broadcast::Limits,
    hub::{Events, Settings},
};
use origin_http::{Audience, NoPosters, Router, StaticFile, StaticFiles};
use packager::{Live, LiveEdge, Packager, Presentations};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Failure;

/// `live.segment_ms`, `live.part_ms`, `live.window_s`.
pub const SEGMENT: Duration = Duration::from_secs(2);
/// See [`SEGMENT`].
pub const PART: Duration = Duration::from_millis(200);
/// See [`SEGMENT`].
pub const WINDOW: Duration = Duration::from_secs(60);
/// Time limit for every wait.
const LIMIT: Duration = Duration::from_secs(3_600);

/// A hub with the limits of the default configuration.
pub fn hub() -> Hub {
    Hub::new(Settings {
        broadcast: Limits {
            bytes: 64 << 20,
            age: Duration::from_secs(10),
            segment: SEGMENT,
            stall: SEGMENT,
        },
        reconnect: Duration::from_secs(10),
        max_channels: 1_000,
    })
}

/// A router over `presentations`, with neither pages nor an API.
pub fn router(presentations: Presentations) -> Router {
    let pages =
        StaticFiles { watch: StaticFile::new("text/html", Bytes::new(), None), assets: Vec::new() };
    let config = origin_http::Config::default();
    Router::new(
        &config,
        presentations,
        pages,
        Box::new(NoPosters),
        Vec::new(),
        Audience::default(),
        origin_http::Metrics::default(),
    )
}

/// The running path. Must be made and dropped inside a tokio runtime.
#[derive(Debug)]
pub struct Path {
    /// The address for publishers; their stream keys are channel names.
    pub rtmp: SocketAddr,
    /// The hub between its ends.
    pub hub: Hub,
    /// The presentations that it serves.
    pub presentations: Presentations,
    /// The origin's router, called without a socket.
    router: Arc<Router>,
    /// Stops the tasks when the path is dropped.
    _stop: DropGuard,
}

impl Path {
    /// Starts the path. Playlists reach back `window`.
    ///
    /// # Errors
    /// No port is available.
    pub fn start(window: Duration) -> Result<Self, Failure> {
        let hub = hub();
        let packager = Packager::new(
            hub.clone(),
            packager::Config { part: PART, window, window_mb: 1 << 16 },
        )?;
        let presentations = packager.presentations();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let rtmp = listener.local_addr()?;
        let listeners =
            ingest_rtmp::Listeners { rtmp: vec![listener], ..ingest_rtmp::Listeners::default() };
        let (config, metrics) = (ingest_rtmp::Config::default(), ingest_rtmp::Metrics::default());
        let server = ingest_rtmp::Server::new(
            &config,
            listeners,
            None,
            hub.clone(),
            Arc::new(Open),
            metrics,
        )?;
        // The same tasks as in the daemon: the RTMP server, the packager and the hub's clock.
        // Nothing retires, so the first token of the server is never cancelled.
        let stop = CancellationToken::new();
        tokio::spawn(server.serve(CancellationToken::new(), stop.clone()));
        tokio::spawn(packager.serve(stop.clone()));
        let (clock, stopped) = (hub.clone(), stop.clone());
        tokio::spawn(async move {
            while !stopped.is_cancelled() {
                clock.advance(Instant::now());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let router = Arc::new(router(presentations.clone()));
        Ok(Self { rtmp, hub, presentations, router, _stop: stop.drop_guard() })
    }

    /// Waits for the next broadcast's publisher. Returns its presentation.
    pub async fn live(&self, events: &mut Events) -> Arc<Live> {
        let broadcast = events.began().await;
        loop {
            if let Some(live) = self.presentations.broadcast(broadcast.id()) {
                return live;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Requests every part of a track once, as it is completed, from the oldest held one on; `each`
    /// gets the frames of its body. Returns when the broadcast ends, or `each` returns `false`.
    pub async fn follow(
        &self,
        live: &Arc<Live>,
        track: TrackIndex,
        mut each: impl AsyncFnMut(Vec<Data>) -> bool,
    ) {
        let Some(first) = live.first().await else { return };
        let name = first.tracks[track.get()].name.clone();
        let Some(oldest) = first.tracks[track.get()].segments.first() else {
            return;
        };
        // The oldest held segment is complete, so its parts are available at once.
        let (mut msn, mut part) = (oldest.msn, 0);
        drop(first);
        while let Some(presentation) =
            live.changed(track, msn, Some(part), LIMIT).await.filter(|now| !now.ended)
        {
            let Some(segment) = presentation.tracks[track.get()].segment(msn) else {
                return;
            };
            // The segment is complete with fewer parts: the awaited one is the first of the next
            // segment.
            if part >= segment.parts.len() {
                (msn, part) = (msn + 1, 0);
                continue;
            }
            // Not held during the request: a snapshot keeps its segments in memory, which would
            // distort measurements of memory.
            drop(presentation);
            let address = format!("/media/{}/{name}/{msn}.{part}.m4s", live.broadcast());
            if !each(frames(self.get(&address).await.into_body()).await).await {
                return;
            }
            part += 1;
        }
    }

    /// Requests every segment once, as soon as it has opened, and reads its body as it grows;
    /// otherwise like [`Path::follow`].
    pub async fn follow_segments(
        &self,
        live: &Arc<Live>,
        track: TrackIndex,
        mut each: impl AsyncFnMut(Data) -> bool,
    ) {
        let Some(first) = live.first().await else { return };
        let name = first.tracks[track.get()].name.clone();
        let Some(LiveEdge { mut msn, .. }) = first.tracks[track.get()].edge() else {
            return;
        };
        drop(first);
        // A segment is requested when its first part is complete; its body then grows until the
        // segment ends.
        while live.changed(track, msn, Some(0), LIMIT).await.is_some_and(|now| !now.ended) {
            let address = format!("/media/{}/{name}/{msn}.m4s", live.broadcast());
            let mut body = self.get(&address).await.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                if let Ok(data) = frame.into_data()
                    && !each(data).await
                {
                    return;
                }
            }
            msn += 1;
        }
    }

    /// The router.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// The response to a GET.
    pub async fn get(&self, path: &str) -> Response<Body> {
        get(&self.router, path).await
    }
}

/// The router's response to a GET of `path`, as over HTTP/1.1.
pub async fn get(router: &Router, path: &str) -> Response<Body> {
    get_as(router, path, "identity").await
}

/// The same from a client that accepts these encodings.
pub async fn get_as(router: &Router, path: &str, encodings: &'static str) -> Response<Body> {
    let mut request = Request::new(Empty::<Bytes>::new());
    let headers = request.headers_mut();
    headers.insert(http::header::HOST, http::HeaderValue::from_static("origin"));
    headers.insert(http::header::ACCEPT_ENCODING, http::HeaderValue::from_static(encodings));
    // A path that is not valid leaves the default, `/`.
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
    router.handle(request, (Ipv4Addr::LOCALHOST, 9).into()).await
}

/// The frames of a body as a protocol implementation would poll them.
pub async fn frames(mut body: Body) -> Vec<Data> {
    let mut frames = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        frames.extend(frame.into_data());
    }
    frames
}

/// Anyone may publish.
#[derive(Debug)]
struct Open;

impl Authorize for Open {
    fn authorize<'a>(&'a self, request: &'a PublishRequest) -> Authorization<'a> {
        let name = request.key.expose().parse::<ChannelName>();
        let decision =
            name.map(Grant::from).map_err(|err| Refusal::new(Reason::Name, err.to_string()));
        Box::pin(ready(decision))
    }
}
