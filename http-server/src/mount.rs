//! Services below a path prefix of another service, each with a name, an urgency and limits of its
//! own. Their requests may have bodies, and their responses are boxed futures: they are few.

use std::{fmt, pin::Pin, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited, combinators::UnsyncBoxBody};

use crate::{
    body::{Body, BoxError},
    request_body::Timed,
    service::Client,
    upgrade,
};

/// The body of a request, within the limits of its mount. It fails when it exceeds them.
pub type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// A response in progress; dropping it cancels the request.
pub type BoxedResponse<'a> = Pin<Box<dyn Future<Output = Response<Body>> + Send + 'a>>;

/// Serves the requests of a [`Mount`]. Called concurrently, from all connections.
pub trait MountedService: Send + Sync {
    /// Serves one request, of any method.
    fn call(&self, request: Request<RequestBody>, client: Client) -> BoxedResponse<'_>;
}

/// The properties of one mount. A request's body that exceeds a limit fails with an error when it
/// is read; the service then forms the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The name of its requests in metrics and logs.
    pub name: &'static str,
    /// The urgency of its responses, 0 (first) to 7, unless the client or the response states one
    /// (RFC 9218 4.1).
    pub urgency: u8,
    /// Largest body in bytes.
    pub max_body_bytes: usize,
    /// Longest time without a byte of a body that has not ended.
    pub body_pause: Duration,
    /// Whether a request may change the protocol of its connection ([`upgrade`]). Otherwise its
    /// Upgrade field is ignored (RFC 9110 7.8).
    pub upgrades: bool,
}

/// A service below a path prefix.
pub struct Mount {
    prefix: &'static str,
    settings: Settings,
    service: Box<dyn MountedService>,
}

impl Mount {
    /// Mounts `service` below `prefix`, which begins and ends with a slash. The path without the
    /// last slash belongs to it too.
    pub fn new(
        prefix: &'static str,
        settings: Settings,
        service: impl MountedService + 'static,
    ) -> Self {
        Self { prefix, settings, service: Box::new(service) }
    }

    /// The position of the one of `mounts` that serves `path`, with the longest prefix.
    /// Prefixes are fixed at the start and do not depend on the order of `mounts`.
    pub fn find(mounts: &[Self], path: &str) -> Option<usize> {
        let serving = mounts.iter().enumerate().filter(|(_, mount)| mount.serves(path));
        serving.max_by_key(|(_, mount)| mount.prefix.len()).map(|(position, _)| position)
    }

    /// Its properties.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether `path` lies below the prefix, or is the prefix without its last slash.
    fn serves(&self, path: &str) -> bool {
        path.starts_with(self.prefix) || Some(path) == self.prefix.strip_suffix('/')
    }

    /// Serves one request of `client` within the limits.
    pub fn call<B>(&self, mut request: Request<B>, client: Client) -> BoxedResponse<'_>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Settings { max_body_bytes, body_pause, upgrades, .. } = self.settings;
        if !upgrades {
            request.extensions_mut().remove::<upgrade::Offer>();
        }
        // The limit of size is outermost: it fails at once, without a wait for the rest of the
        // body.
        let request = request
            .map(|body| Limited::new(Timed::new(body, body_pause), max_body_bytes).boxed_unsync());
        self.service.call(request, client)
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount")
            .field("prefix", &self.prefix)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use http::StatusCode;
    use http_body_util::{Channel, Full};

    use super::*;

    /// Responds with the length of the body, or with 413.
    struct Length;

    impl MountedService for Length {
        fn call(&self, request: Request<RequestBody>, _: Client) -> BoxedResponse<'_> {
            Box::pin(async {
                let body = request.into_body().collect().await;
                let length = body.map(|body| Bytes::from(body.to_bytes().len().to_string()));
                let mut response = Response::new(
                    length.as_ref().map_or_else(|_| Body::empty(), |text| text.clone().into()),
                );
                if length.is_err() {
                    *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
                }
                response
            })
        }
    }

    fn mount(prefix: &'static str, max_body_bytes: usize) -> Mount {
        let body_pause = Duration::from_secs(5);
        let settings =
            Settings { name: "length", urgency: 3, max_body_bytes, body_pause, upgrades: false };
        Mount::new(prefix, settings, Length)
    }

    const CLIENT: Client = Client {
        peer: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1),
        ours: false,
        secure: false,
        early: false,
    };

    #[tokio::test(start_paused = true)]
    async fn each_mount_has_limits_of_its_own() {
        let mounts = [mount("/small/", 3), mount("/large/", 100)];
        let ask = async |path: &str| {
            let request = Request::new(Full::new(Bytes::from_static(b"four")));
            let response = mounts[Mount::find(&mounts, path).unwrap()].call(request, CLIENT).await;
            response.status().as_u16()
        };
        assert_eq!((ask("/small/x").await, ask("/large/x").await), (413, 200));
        let (_sender, silent) = Channel::<Bytes>::new(1);
        let response = mounts[1].call(Request::new(silent), CLIENT).await;
        assert_eq!(response.status(), 413);
    }

    #[test]
    fn a_mount_matches_its_prefix_with_or_without_the_trailing_slash() {
        let mounts = [mount("/api/", 0), mount("/api/upload/", 0)];
        for (path, prefix) in [
            ("/api/", Some("/api/")),
            ("/api", Some("/api/")),
            ("/api/upload", Some("/api/upload/")),
            ("/apix", None),
            ("/", None),
            ("*", None),
        ] {
            assert_eq!(Mount::find(&mounts, path).map(|at| mounts[at].prefix), prefix, "{path}");
        }
    }
}
