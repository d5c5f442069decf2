//! One origin: the requests it is asked, how many at once and on how many connections, and how long it may take to answer.

use std::{fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Empty;
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
use crate::body::BoxError;

/// Requests on one HTTP/2 connection; a server takes some 100, and those that wait would keep others from being asked.
const LANE: u32 = 80;
/// Below the time after which servers close idle connections.
const IDLE: Duration = Duration::from_secs(30);
/// HTTP/1 headers of an answer.
const MAX_HEADERS: usize = 100;
/// What an HTTP/2 origin may send ahead of us on a stream and on a connection. We read as it comes.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// The least that hyper needs for HTTP/1.
const LEAST_BUFFER: usize = 8 << 10;

/// An origin's connections.
pub(super) struct Upstream {
    scheme: &'static str,
    authority: String,
    lanes: Vec<Lane>,
    requests: Arc<Semaphore>,
    first_byte: Duration,
}

/// Clients of their own: each has one HTTP/2 connection.
struct Lane {
    client: Client<Dial, Empty<Bytes>>,
    places: Arc<Semaphore>,
}

/// An answer that has begun, and its places.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    /// To be kept until its body has come.
    pub(super) places: [OwnedSemaphorePermit; 2],
    connection: CaptureConnection,
}

impl Answer {
    /// Takes care that its connection carries no further request: where it ends is in doubt.
    pub(super) fn close(&self) {
        if let Some(connection) = &*self.connection.connection_metadata() {
            connection.poison();
        }
    }
}

/// Why there is no answer. The first two are about the origin, the others may be about the one request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Nobody listens there.
    #[error("{0}")]
    Absent(BoxError),
    /// It cannot be connected to.
    #[error("{0}")]
    Unreachable(BoxError),
    /// The connection ended, or the request was reset, before the answer; a second time too.
    #[error("{0}")]
    Broken(BoxError),
    /// The answer is no HTTP, or its head is too large.
    #[error("{0}")]
    Malformed(BoxError),
    /// It did not begin in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// So many requests are under way that this one found no place.
    #[error("too many requests at once")]
    Busy,
}

impl Upstream {
    /// The origin at `origin`, reached by `dial`; nothing is connected yet.
    pub(super) fn new(origin: &Origin, config: &Config, dial: &Dial, tasks: Tasks<'_>) -> Self {
        let (scheme, authority) = match origin {
            Origin::Remote(uri) => {
                let scheme = if uri.scheme_str() == Some("https") {
                    "https"
                } else {
                    "http"
                };
                let authority = uri.authority().map(|authority| authority.as_str().to_owned());
                (scheme, authority.unwrap_or_default())
            }
            Origin::Local(_) => ("http", "local".to_owned()),
        };
        let max = config.max_fetches.max(1);
        let lane = |_| Lane {
            client: client_of(origin, dial, config, tasks),
            places: Arc::new(Semaphore::new(LANE as usize)),
        };
        Self {
            scheme,
            authority,
            lanes: (0..max.div_ceil(LANE)).map(lane).collect(),
            requests: Arc::new(Semaphore::new(max as usize)),
            first_byte: config.first_byte(),
        }
    }

    /// Sends a request, whose URI is a path and query, and waits until the answer begins.
    pub(super) async fn send(&self, mut request: Request<Empty<Bytes>>) -> Result<Answer, Error> {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let uri = Uri::builder()
            .scheme(self.scheme)
            .authority(self.authority.as_str())
            .path_and_query(target);
        *request.uri_mut() = uri.build().map_err(|err| Error::Broken(err.into()))?;
        let place = Arc::clone(&self.requests)
            .try_acquire_owned()
            .map_err(|_| Error::Busy)?;
        // The first with a place, so that few connections carry much.
        let in_lane = |lane: &Lane| Some((lane.client.clone(), Arc::clone(&lane.places).try_acquire_owned().ok()?));
        let (client, lane) = self.lanes.iter().find_map(in_lane).ok_or(Error::Busy)?;
        let connection = capture_connection(&mut request);
        // What idles may be closed by the other side just as it is taken, so a connection that breaks is no news of the origin: a request
        // that changes nothing may be sent again (RFC 9110 9.2.2).
        let asking = async {
            match client.request(request.clone()).await.map_err(Error::of) {
                Err(Error::Broken(_)) => client.request(request).await.map_err(Error::of),
                asked => asked,
            }
        };
        let response = timeout(self.first_byte, asking)
            .await
            .map_err(|_| Error::TimedOut(self.first_byte))??;
        Ok(Answer {
            response,
            places: [place, lane],
            connection,
        })
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

impl Error {
    /// Sorts hyper's errors. Its own message says little: the innermost cause says more.
    fn of(err: client::legacy::Error) -> Self {
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
        match err.is_connect() {
            true if absent => Self::Absent(why),
            true => Self::Unreachable(why),
            false if malformed => Self::Malformed(why),
            false => Self::Broken(why),
        }
    }
}

fn client_of(origin: &Origin, dial: &Dial, config: &Config, tasks: Tasks<'_>) -> Client<Dial, Empty<Bytes>> {
    let max_header_bytes = usize::try_from(config.max_header_bytes).unwrap_or(usize::MAX);
    Client::builder(Spawn(tasks.0.clone(), tasks.1.clone()))
        .timer(TokioTimer::new())
        // A process of ours speaks HTTP/2 without being asked (RFC 9113 3.3): the requests that wait there share connections.
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

/// Where connections run, and what ends them.
pub(super) type Tasks<'a> = (&'a TaskTracker, &'a CancellationToken);

/// Runs connections where they are waited for.
#[derive(Clone)]
struct Spawn(TaskTracker, CancellationToken);

impl<F> Executor<F> for Spawn
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, connection: F) {
        let stop = self.1.clone();
        self.0
            .spawn(async move { stop.run_until_cancelled(connection).await.map(drop) });
    }
}
