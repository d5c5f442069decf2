//! Adapters between crates that do not depend on each other: the API under the origin's listener,
//! the audience and the ladder for the API, pictures for the origin.

use std::{convert::Infallible, net::SocketAddr, pin::Pin};

use control_api::{Renditions, Viewers, renditions::Doing, viewers::Count};
use http::{Request, Response};
use media_core::{BroadcastId, ChannelName, Hub, TrackName};
use origin_http::{Audience, Body, Fallback, Poster, Posters, RequestBody};
use tower::Service;
use transcoder::{
    Pictures,
    ladder::{State, Statuses},
};

/// The API as the origin's handler of `/api/`.
#[derive(Debug, Clone)]
pub(crate) struct ApiService(axum::Router);

impl ApiService {
    pub(crate) fn new(router: axum::Router) -> Self {
        Self(router)
    }
}

impl Fallback for ApiService {
    fn call(
        &self,
        request: Request<RequestBody>,
        _peer: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + '_>> {
        // A router is always ready, and cloning it is cheap.
        let answer = self.0.clone().call(request.map(axum::body::Body::new));
        Box::pin(async move {
            let response = answer.await.unwrap_or_else(|never: Infallible| match never {});
            response.map(Body::boxed)
        })
    }
}

/// The audience of both protocols.
#[derive(Debug)]
pub(crate) struct AudienceCount {
    pub(crate) http: Audience,
    pub(crate) rtmp: ingest_rtmp::Metrics,
}

impl Viewers for AudienceCount {
    fn count(&self, channel: &ChannelName, broadcast: BroadcastId) -> Count {
        Count {
            http: self.http.viewers(channel) as u64,
            rtmp: self.rtmp.viewers(broadcast),
        }
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
    pub(crate) hub: Hub,
    pub(crate) pictures: Pictures,
}

impl Posters for ChannelPosters {
    fn poster(&self, channel: &ChannelName) -> Pin<Box<dyn Future<Output = Option<Poster>> + Send + '_>> {
        let broadcast = self.hub.broadcast(channel);
        Box::pin(async move {
            let picture = self.pictures.newest(&broadcast?).await?;
            Some(Poster {
                jpeg: picture.jpeg,
                fresh: self.pictures.every(),
            })
        })
    }
}
