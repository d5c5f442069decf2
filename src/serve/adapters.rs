//! Where the crates meet that do not know each other: the API under the origin's listener, the audience under the API.

use std::{convert::Infallible, net::SocketAddr, pin::Pin};

use control_api::{Viewers, viewers::Count};
use http::{Request, Response};
use media_core::{BroadcastId, ChannelName};
use origin_http::{Audience, Body, Fallback, RequestBody};
use tower::Service;

/// The API as the origin's answer to what is under `/api/`.
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
        // A router is always ready, and a clone of it is a pointer.
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
