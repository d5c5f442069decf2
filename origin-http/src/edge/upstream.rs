//! One origin: its requests, with limits for concurrency, connections and time.

use std::{fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Empty;
use http_server::BoxError;
use hyper::{body::Incoming, rt::Executor};
use hyper_util::{
    client::{
        self,
        legacy::{
            Client,
            connect::{CaptureConnection, capture_connection},
        },
    },
    rt::TokioTimer,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    config::{Config, Origin},
    dial::{Dial, PING},
};

/// Maximum number of requests on one HTTP/2 connection. A server allows some 100, and further
/// requests would block others.
const LANE: u32 = 80;
/// Less than the time after which servers close idle connections.
const IDLE: Duration = Duration::from_secs(30);
/// Maximum number of HTTP/1 headers of a response.
const MAX_HEADERS: usize = 100;
/// Flow-control windows in bytes of a stream and of a connection for an HTTP/2 origin: a segment
/// must not wait for a window update. The edge reads at once.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// The minimum that hyper needs for HTTP/1.
const LEAST_BUFFER: usize = 8 << 10;

/// An origin's connections.
pub(super) struct Upstream {
    /// `https` or `http`.
    scheme: &'static str,
    /// Host and port.
    authority: String,
    /// As many connections as `edge.max_fetches` requests need.
    lanes: Vec<Lane>,
    /// Permits of requests: `edge.max_fetches`.
    requests: Arc<Semaphore>,
    /// Time until a response must begin.
    first_byte: Duration,
}

/// A client with one HTTP/2 connection, and its permits.
struct Lane {
    client: Client<Dial, Empty<Bytes>>,
    permits: Arc<Semaphore>,
}

/// A response that has begun, and its permits.
#[derive(Debug)]
pub(super) struct Response {
    /// Its head, and the rest of the connection's bytes as its body.
    pub(super) message: http::Response<Incoming>,
    /// Held until its body is complete.
    pub(super) permits: [OwnedSemaphorePermit; 2],
    /// The connection that it arrives on.
    connection: CaptureConnection,
}

impl Response {
    /// Prevents further requests on its connection, because its end is ambiguous.
    pub(super) fn close(&self) {
        if let Some(connection) = &*self.connection.connection_metadata() {
            connection.poison();
        }
    }
}

/// Why there is no response. The first two concern the origin, the others may concern only the
/// request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// No process listens there.
    #[error("{0}")]
    Absent(BoxError),
    /// It cannot be connected to.
    #[error("{0}")]
    Unreachable(BoxError),
    /// The connection ended, or the request was reset, before the response; also the second time.
    #[error("{0}")]
    Broken(BoxError),
    /// The response is not HTTP, or its head is too large.
    #[error("{0}")]
    Malformed(BoxError),
    /// It did not begin in time.
    #[error("no response within {0:?}")]
    TimedOut(Duration),
    /// The limit of concurrent requests is reached.
    #[error("too many requests at once")]
    Busy,
}

impl Upstream {
    /// The origin at `origin`, connected by `dial`; nothing is connected yet.
    pub(super) fn new(origin: &Origin, config: &Config, dial: &Dial, tasks: Tasks<'_>) -> Self {
        // A Unix socket has no authority; the name only appears in Host.
        let (scheme, authority) = match origin {
            Origin::Remote(uri) => {
                let scheme = if uri.scheme_str() == Some("https") { "https" } else { "http" };
                let authority = uri.authority().map(|authority| authority.as_str().to_owned());
                (scheme, authority.unwrap_or_default())
            }
            Origin::Local(_) => ("http", "local".to_owned()),
        };
        let max = config.max_fetches.max(1);
        let lane = |_| Lane {
            client: client_of(origin, dial, config, tasks),
            permits: Arc::new(Semaphore::new(LANE as usize)),
        };
        Self {
            scheme,
            authority,
            lanes: (0..max.div_ceil(LANE)).map(lane).collect(),
            requests: Arc::new(Semaphore::new(max as usize)),
            first_byte: config.first_byte(),
        }
    }

    /// Sends a request, whose URI is a path and query, and waits until the response begins.
    ///
    /// # Errors
    /// There is no response within `edge.first_byte_ms`, or no permit. Dropping the future cancels
    /// the request.
    pub(super) async fn send(&self, mut request: Request<Empty<Bytes>>) -> Result<Response, Error> {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let uri = Uri::builder()
            .scheme(self.scheme)
            .authority(self.authority.as_str())
            .path_and_query(target);
        *request.uri_mut() = uri.build().map_err(|err| Error::Broken(err.into()))?;
        let permit = Arc::clone(&self.requests).try_acquire_owned().map_err(|_| Error::Busy)?;
        // The first connection with a free permit, so that few connections are used.
        let in_lane = |lane: &Lane| {
            Some((lane.client.clone(), Arc::clone(&lane.permits).try_acquire_owned().ok()?))
        };
        let (client, lane) = self.lanes.iter().find_map(in_lane).ok_or(Error::Busy)?;
        let connection = capture_connection(&mut request);
        // The other side may close an idle connection just as it is taken, so a broken connection
        // is no evidence against the origin, and a safe request may be sent again (RFC 9110 9.2.2).
        let sent = async {
            match client.request(request.clone()).await.map_err(Error::of) {
                Err(Error::Broken(_)) => client.request(request).await.map_err(Error::of),
                result => result,
            }
        };
        let message = timeout(self.first_byte, sent)
            .await
            .map_err(|_| Error::TimedOut(self.first_byte))??;
        Ok(Response { message, permits: [permit, lane], connection })
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

impl Error {
    /// Maps hyper's errors. The innermost cause has the useful message.
    fn of(err: client::legacy::Error) -> Self {
        // hyper-util wraps the errors of hyper and of the system; only their types distinguish a
        // missing listener and a malformed response from other faults.
        let mut cause: &dyn std::error::Error = &err;
        let mut malformed = false;
        while let Some(source) = cause.source() {
            cause = source;
            malformed |= cause.downcast_ref().is_some_and(hyper::Error::is_parse);
        }
        let absent = cause.downcast_ref::<io::Error>().is_some_and(|err| {
            use io::ErrorKind::{ConnectionRefused, NotFound};
            matches!(err.kind(), NotFound | ConnectionRefused)
        });
        let why = cause.to_string().into();
        // A failure before the connection is one of the origin; a later one may concern the request
        // alone.
        match err.is_connect() {
            true if absent => Self::Absent(why),
            true => Self::Unreachable(why),
            false if malformed => Self::Malformed(why),
            false => Self::Broken(why),
        }
    }
}

/// A client with connections of its own, for one lane.
fn client_of(
    origin: &Origin,
    dial: &Dial,
    config: &Config,
    tasks: Tasks<'_>,
) -> Client<Dial, Empty<Bytes>> {
    let max_header_bytes = usize::try_from(config.max_header_bytes).unwrap_or(usize::MAX);
    Client::builder(Spawn(tasks.0.clone(), tasks.1.clone()))
        .timer(TokioTimer::new())
        // A process of ours supports HTTP/2 by prior knowledge (RFC 9113 3.3), so that waiting
        // requests share connections.
        .http2_only(matches!(origin, Origin::Local(_)))
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(LANE as usize)
        .http1_max_headers(MAX_HEADERS)
        .http1_max_buf_size((4 * max_header_bytes).max(LEAST_BUFFER))
        .http2_max_header_list_size(config.max_header_bytes)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PING)
        .build(dial.clone())
}

/// The tracker of connection tasks, and the token that ends them.
pub(super) type Tasks<'a> = (&'a TaskTracker, &'a CancellationToken);

/// Spawns connection tasks into the tracker.
#[derive(Clone)]
struct Spawn(TaskTracker, CancellationToken);

impl<F> Executor<F> for Spawn
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, connection: F) {
        let stop = self.1.clone();
        self.0.spawn(async move { stop.run_until_cancelled(connection).await.map(drop) });
    }
}
