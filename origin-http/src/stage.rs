//! A hub, a packager and a router for tests: 25 pictures a second, a key frame and a segment each
//! second, five parts in each. The publisher's clock is that of its frames, not the wall clock.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use http_server::{
    Body, BoxError, Client, Mount, MountedService,
    mount::{self, BoxedResponse, RequestBody},
    priority,
    testing::Shared,
};
use media_core::{
    AccessUnit, BroadcastId, ChannelName, Hub, MediaSpan, TrackIndex, TrackName,
    broadcast::Limits,
    codec::{Config as Codec, avc},
    hub::{Producer, Settings},
};
use packager::Packager;
use tokio_util::sync::CancellationToken;

use crate::{
    Audience, Config, Https, Metrics, Playback, Poster, Posters, PublicUrl, Router, Sampler,
    StaticFile, StaticFiles,
};

/// Number of frames in a segment, and in a part.
pub(crate) const SEGMENT: usize = 25;
pub(crate) const PART: usize = 5;
/// ceil(2T), T being one second.
pub(crate) const TARGET: Duration = Duration::from_secs(2);

pub(crate) const AVC: &[u8] =
    b"\x01\x64\x00\x1e\xff\xe1\x00\x19\x67\x64\x00\x1e\xac\xd9\x40\xa0\x2f\xf9\x70\x11\
    \x00\x00\x03\x03\xe9\x00\x00\
    \xea\x60\x0f\x16\x2d\x96\x01\x00\x06\x68\xeb\xe3\xcb\x22\xc0\xfd\xf8\xf8\x00";

pub(crate) struct Stage {
    pub(crate) router: Arc<Router>,
    pub(crate) metrics: Metrics,
    pub(crate) audience: Audience,
    pub(crate) playback: Arc<Playback>,
    pub(crate) sampler: Sampler,
    pub(crate) id: BroadcastId,
    /// Number of the first segment.
    pub(crate) first: u64,
    pub(crate) payloads: Vec<Bytes>,
    pub(crate) frame_bytes: usize,
    producer: Option<Producer>,
    start: Instant,
    _stop: tokio_util::sync::DropGuard,
}

impl Stage {
    /// The channel `demo` with one video track and no frame yet. Its address for players is
    /// `https://live.example`.
    pub(crate) async fn new() -> Self {
        let public_url = PublicUrl::try_from("https://live.example".to_owned()).unwrap();
        let config = Config { public_url, ..Config::default() };
        Self::with(&config).await
    }

    pub(crate) async fn with(config: &Config) -> Self {
        Self::guarded(config, &crate::playback::Config::default()).await
    }

    /// Like [`Stage::with`], with rules for playback tokens.
    pub(crate) async fn guarded(config: &Config, rules: &crate::playback::Config) -> Self {
        let second = Duration::from_secs(1);
        // Limits beyond anything that a test publishes.
        let broadcast =
            Limits { bytes: 1 << 26, age: second * 60, segment: second, stall: second * 60 };
        let hub = Hub::new(Settings { broadcast, reconnect: second * 10, max_channels: 4 });
        let settings = packager::Config {
            part: Duration::from_millis(200),
            window: second * 60,
            window_mb: 64,
        };
        let packager = Packager::new(hub.clone(), settings).unwrap();
        let presentations = packager.presentations();
        let stop = CancellationToken::new();
        tokio::spawn(packager.serve(stop.clone()));
        let start = Instant::now();
        let tracks =
            vec![(TrackName::source_video(), Codec::Avc(avc::Config::parse(AVC).unwrap()))];
        let claim = hub.claim("demo".parse().unwrap()).unwrap();
        let producer = claim.start(tracks, start, SystemTime::now()).unwrap();
        let (id, first) = (producer.broadcast().id(), producer.broadcast().first_msn());
        let (metrics, audience) = (Metrics::default(), Audience::default());
        let page = |text: &'static str| {
            StaticFile::new("text/html; charset=utf-8", Bytes::from_static(text.as_bytes()), None)
        };
        let script = StaticFile::new(
            "text/javascript",
            Bytes::from_static(b"script"),
            Some(Bytes::from_static(b"gzipped")),
        );
        let pages =
            StaticFiles { watch: page("<!doctype html>"), assets: vec![("player.js", script)] };
        let upload = mount::Settings { name: "upload", urgency: 6, ..config.api() };
        let mut router = Router::new(
            config,
            presentations,
            pages,
            Box::new(OnePoster),
            vec![Mount::new("/api/", config.api(), Echo), Mount::new("/upload/", upload, Echo)],
            audience.clone(),
            metrics.clone(),
        );
        let playback = Arc::new(Playback::new(rules));
        router.guard(Arc::clone(&playback));
        let sampler = Sampler::new([7; 16]);
        router.sample(Some(sampler.clone()));
        let (payloads, frame_bytes) = (Vec::new(), 1_000);
        let (router, producer, _stop) = (Arc::new(router), Some(producer), stop.drop_guard());
        let stage = Self {
            router,
            metrics,
            audience,
            playback,
            sampler,
            id,
            first,
            payloads,
            frame_bytes,
            producer,
            start,
            _stop,
        };
        stage.settle().await;
        stage
    }

    /// Like [`Stage::new`], with three complete segments and one with two parts.
    pub(crate) async fn live() -> Self {
        Self::new().await.begun().await
    }

    /// Three complete segments, and one with two parts.
    pub(crate) async fn begun(self) -> Self {
        let mut stage = self;
        stage.push(3 * SEGMENT + 2 * PART + 1).await;
        stage
    }

    /// Publishes `count` frames.
    pub(crate) async fn push(&mut self, count: usize) {
        for _ in 0..count {
            let n = self.payloads.len();
            let at = 40 * u64::try_from(n).unwrap();
            let stamp = 90 * i64::try_from(at).unwrap();
            let mut payload = n.to_be_bytes().to_vec();
            payload.resize(self.frame_bytes, 0);
            let payload = Bytes::from(payload);
            self.payloads.push(payload.clone());
            let (key, arrived) =
                (n.is_multiple_of(SEGMENT), self.start + Duration::from_millis(at));
            let unit = AccessUnit {
                dts: MediaSpan::from_ticks(stamp),
                pts: MediaSpan::from_ticks(stamp),
                key,
                independent: key,
                arrived,
                payload,
            };
            self.producer.as_ref().unwrap().push(TrackIndex::new(0), unit).unwrap();
        }
        self.settle().await;
    }

    /// Ends the broadcast.
    pub(crate) async fn end(&mut self) {
        self.producer.take().unwrap().end();
        self.settle().await;
    }

    /// Lets every task run as far as it can.
    pub(crate) async fn settle(&self) {
        // The longest chain of tasks, from a push to a woken request, is shorter.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    /// `/media/{broadcast}/v0/{file}`.
    pub(crate) fn media(&self, file: &str) -> String {
        format!("/media/{}/v0/{file}", self.id)
    }

    pub(crate) async fn get(&self, path: &str) -> Received {
        self.request("GET", path, &[]).await
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Received {
        fetch(&self.router, method, path, headers).await
    }
}

pub(crate) async fn fetch(
    router: &Arc<Router>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Received {
    let mut request = Request::builder().method(method).uri(path).header("host", "origin");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let (head, body) = respond(router, request).await.into_parts();
    Received {
        status: head.status,
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

/// The response of a server, without a connection.
pub(crate) async fn respond<B>(router: &Arc<Router>, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let settings = Config::default().server(&Https::default());
    let server = Shared::new(settings, Arc::clone(router), router.metrics().server.clone());
    let peer = SocketAddr::from(([192, 0, 2, 1], 1234));
    server.respond(request, peer).await
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// An API that returns the request.
struct Echo;

/// A picture of the channel `demo`.
struct OnePoster;

impl Posters for OnePoster {
    fn poster(
        &self,
        channel: &ChannelName,
    ) -> Pin<Box<dyn Future<Output = Option<Poster>> + Send + '_>> {
        let jpeg = Bytes::from_static(b"a picture");
        let fresh = Duration::from_secs(5);
        let poster = (channel.as_str() == "demo").then_some(Poster { jpeg, fresh });
        Box::pin(async { poster })
    }
}

impl MountedService for Echo {
    fn call(&self, request: Request<RequestBody>, client: Client) -> BoxedResponse<'_> {
        Box::pin(async move {
            // `/api/urgent/{urgency}/{size}`: `size` bytes with the urgency of media.
            if let Some((urgency, size)) = request
                .uri()
                .path()
                .strip_prefix("/api/urgent/")
                .and_then(|path| path.split_once('/'))
            {
                let mut response =
                    Response::new(Body::from(Bytes::from(vec![0; size.parse().unwrap()])));
                let value = priority::value(urgency.parse().unwrap());
                response.headers_mut().insert(priority::PRIORITY, value);
                return response;
            }
            let line = format!(
                "{} {} of {} sent ",
                request.method(),
                request.uri().path(),
                client.peer.ip()
            );
            match request.into_body().collect().await {
                Ok(body) => Response::new(Body::boxed(http_body_util::Full::new(Bytes::from(
                    [line.as_bytes(), &body.to_bytes()].concat(),
                )))),
                Err(_) => {
                    let mut response = Response::new(Body::empty());
                    *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
                    response
                }
            }
        })
    }
}
