//! Adapters between crates that do not depend on each other: the API under the origin's listener,
//! the audience and the ladder for the API, pictures for the origin.

use std::{convert::Infallible, pin::Pin, sync::Arc};

use bytes::Bytes;
use control_api::{
    Caller, Privacy, Renditions, Viewers,
    identity::cookie::Tls,
    pictures::{self, MakeError, Making, PictureMaker},
    renditions::Doing,
    viewers::Count,
};
use http::Request;
use http_server::{
    Body, Client, MountedService, Refusal,
    mount::{BoxedResponse, RequestBody},
    request,
};
use media_core::{BroadcastId, ChannelName, Hub, TrackName};
use origin_http::{Audience, Playback, Poster, Posters};
use tower::Service;
use transcoder::{
    Images, Pictures,
    images::{ImageError, Size},
    ladder::{State, Statuses},
};

/// The API as a service that is mounted in the origin's router.
#[derive(Debug, Clone)]
pub(crate) struct ApiService(axum::Router);

impl ApiService {
    /// The service of these routes.
    pub(crate) fn new(router: axum::Router) -> Self {
        Self(router)
    }
}

impl MountedService for ApiService {
    fn call(&self, mut request: Request<RequestBody>, client: Client) -> BoxedResponse<'_> {
        let caller = Caller { address: client.peer.ip(), ours: client.ours };
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(Tls(client.secure));
        // A router is always ready, and cloning it is cheap.
        let answer = self.0.clone().call(request.map(axum::body::Body::new));
        Box::pin(async move {
            let response = answer.await.unwrap_or_else(|never: Infallible| match never {});
            response.map(Body::boxed)
        })
    }
}

/// The operator's routes, which refuse the requests that viewers' listeners refuse.
pub(crate) fn strict(router: axum::Router, max_headers: usize) -> axum::Router {
    use axum::{extract::Request, middleware, response::IntoResponse};
    // Axum accepts requests whose target or framing is ambiguous, so they are refused before it.
    let check = move |request: Request, next: middleware::Next| async move {
        match request::refusal(&request, max_headers, false) {
            Some(Refusal { status, reason }) => (status, format!("{reason}\n")).into_response(),
            None => next.run(request).await,
        }
    };
    router.layer(middleware::from_fn(check))
}

/// The audience of both protocols.
#[derive(Debug)]
pub(crate) struct AudienceCount {
    /// Players over HTTP, by channel.
    pub(crate) http: Audience,
    /// Players over RTMP, by broadcast.
    pub(crate) rtmp: ingest_rtmp::Metrics,
}

impl Viewers for AudienceCount {
    fn count(&self, channel: &ChannelName, broadcast: BroadcastId) -> Count {
        Count { http: self.http.viewers(channel) as u64, rtmp: self.rtmp.viewers(broadcast) }
    }
}

/// The private channels.
#[derive(Debug)]
pub(crate) struct PrivateChannels(pub(crate) Arc<Playback>);

impl Privacy for PrivateChannels {
    fn is_private(&self, channel: &ChannelName) -> bool {
        self.0.is_private(channel)
    }
}

/// The states of renditions.
#[derive(Debug)]
pub(crate) struct LadderStatus(pub(crate) Statuses);

impl Renditions for LadderStatus {
    fn of(&self, broadcast: BroadcastId) -> Vec<(TrackName, Doing)> {
        let doing = |state| match state {
            State::Made => Doing::Made,
            State::Shed => Doing::Shed,
            State::Refused => Doing::Refused,
            State::Failed => Doing::Failed,
        };
        let renditions = self.0.of(broadcast).into_iter();
        renditions.map(|status| (status.name, doing(status.state))).collect()
    }
}

/// The posters of channels.
#[derive(Debug)]
pub(crate) struct ChannelPosters {
    /// Finds the broadcast of a channel.
    pub(crate) hub: Hub,
    /// The pictures of broadcasts.
    pub(crate) pictures: Pictures,
}

impl Posters for ChannelPosters {
    fn poster(
        &self,
        channel: &ChannelName,
    ) -> Pin<Box<dyn Future<Output = Option<Poster>> + Send + '_>> {
        // Looked up now, because the future must not borrow the channel's name.
        let broadcast = self.hub.broadcast(channel);
        Box::pin(async move {
            let picture = self.pictures.newest(&broadcast?).await?;
            Some(Poster { jpeg: picture.jpeg, fresh: self.pictures.every() })
        })
    }
}

/// Small pictures of uploaded ones.
#[derive(Debug)]
pub(crate) struct Makers(Images);

impl Makers {
    /// Processes of this program, with this niceness.
    pub(crate) fn new(nice: u8) -> Self {
        // The running program, even if another version has been installed in its place.
        Self(Images::new("/proc/self/exe".into(), nice))
    }
}

impl PictureMaker for Makers {
    fn make<'a>(&'a self, picture: Bytes, sizes: &'static [pictures::Size]) -> Making<'a> {
        let sizes = sizes.iter().map(|(width, height)| Size { width: *width, height: *height });
        let sizes = sizes.collect::<Vec<_>>();
        Box::pin(async move {
            self.0.make(picture, &sizes).await.map_err(|error| match error {
                ImageError::Refused(reason) => MakeError::Refused(reason),
                ImageError::Busy => MakeError::Busy,
                ImageError::Unavailable(reason) => MakeError::Unavailable(reason),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use http::header::HOST;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn the_api_gets_the_address_of_its_caller() {
        let show = |axum::Extension(Caller { address, ours }): axum::Extension<Caller>| async move {
            format!("{address} {ours}")
        };
        let service = ApiService::new(axum::Router::new().route("/", get(show)));
        let peer = std::net::SocketAddr::from(([192, 0, 2, 1], 7));
        for ours in [false, true] {
            let client = Client { peer, ours, secure: false, early: false };
            let body = http_body_util::Empty::new().map_err(|never| match never {});
            let response = service.call(Request::new(body.boxed_unsync()), client).await;
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, format!("192.0.2.1 {ours}"));
        }
    }

    #[tokio::test]
    async fn the_operators_listener_refuses_invalid_hosts() {
        let status = async |hosts: &[&str]| {
            let mut request = Request::get("/healthz");
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let router = strict(axum::Router::new().route("/healthz", get(|| async { "ok" })), 8);
            let request = request.body(axum::body::Body::empty()).unwrap();
            router.oneshot(request).await.unwrap().status().as_u16()
        };
        for host in ["127.0.0.1:9090", "localhost", "[::1]:9090", "metrics.example"] {
            assert_eq!(status(&[host]).await, 200, "{host}");
        }
        for host in ["###", "a b", "u@a", "", "a:99999"] {
            assert_eq!(status(&[host]).await, 400, "{host}");
        }
        assert_eq!(status(&[]).await, 400);
        assert_eq!(status(&["a", "a"]).await, 400);
    }
}
