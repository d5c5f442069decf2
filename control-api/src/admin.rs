//! `/metrics`, `/healthz` and `/readyz`, on a listener for the operator's tools only. It has a
//! separate HTTP/1.1 server, so that it responds under any load of the viewers' listener. The
//! control socket has the same server.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use media_core::Hub;
use net_core::{ConnectionLimit, Listener, Permit, listener};
use prometheus_client::{encoding::text, registry::Registry};
use tokio::{
    net::{TcpListener, UnixListener},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use crate::{
    api::refused_method,
    health::{Health, Status},
    metrics::{Broadcasts, Process},
};

/// The content type of the output of [`text::encode`].
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Maximum number of connections of all listeners: a few tools. The oldest is closed for a new one,
/// so that a tool can always connect.
const MAX_CONNECTIONS: usize = 64;
/// Time for a request's head, and between two requests of a connection.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Maximum life of a connection, because a peer that does not read its response must not keep it
/// open.
const CONNECTION_LIMIT: Duration = Duration::from_secs(300);

/// Adds to `registry` the metrics that are read on demand: the process, and the broadcasts of
/// `hub`.
pub fn register(registry: &mut Registry, hub: Hub) {
    registry.register_collector(Box::new(Process));
    registry.register_collector(Box::new(Broadcasts(hub)));
}

/// The routes of the operator's tools. `/metrics` is in the OpenMetrics text format; `/healthz` is
/// 200 while the process runs; `/readyz` is 503 if a check of `health` has failed, and otherwise
/// 200, also if one is degraded. It lists the faults as text; `/readyz?verbose` lists all checks as
/// JSON.
pub fn router(registry: Registry, health: impl Into<Health>) -> Router {
    let health = health.into();
    let registry = Arc::new(registry);
    let metrics = move || async move {
        // Encoded for each request: the collectors read the process and the hub at that time.
        let mut body = String::new();
        match text::encode(&mut body, &registry) {
            Ok(()) => Ok(([(header::CONTENT_TYPE, OPENMETRICS)], body)),
            Err(_) => Err((StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written\n")),
        }
    };
    // Separate from health: a process that starts or stops is healthy, but must get no requests.
    let ready = move |uri: Uri| async move {
        let report = health.report();
        let status = match report.status {
            Status::Ok | Status::Degraded => StatusCode::OK,
            Status::Failed => StatusCode::SERVICE_UNAVAILABLE,
        };
        let is_verbose = |name: &str| name == "verbose" || name.starts_with("verbose=");
        match uri.query().is_some_and(|query| query.split('&').any(is_verbose)) {
            true => (status, Json(report)).into_response(),
            false => (status, report.text()).into_response(),
        }
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .method_not_allowed_fallback(|method: Method| async move { refused_method(&method) })
        .layer(axum::middleware::map_response(unsniffed))
}

/// Adds nosniff, so that browsers use the declared content type.
async fn unsniffed(response: Response) -> Response {
    let guard = [(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))];
    (guard, response).into_response()
}

/// The listeners, not yet serving.
#[derive(Debug)]
pub struct Server<L = TcpListener>(Vec<L>);

impl Server {
    /// A server for listening sockets, in any blocking mode. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// A socket cannot be registered with the runtime.
    pub fn new(listeners: Vec<std::net::TcpListener>) -> io::Result<Self> {
        listener::tcp(listeners).map(Self)
    }
}

impl Server<UnixListener> {
    /// The same for a Unix socket.
    ///
    /// # Errors
    /// The socket cannot be registered with the runtime.
    pub fn local(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener::unix(vec![listener]).map(Self)
    }
}

impl<L: Listener> Server<L> {
    /// Serves `router` until `shutdown`, then finishes the requests in progress.
    pub async fn serve(self, router: Router, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        // All tools may share one address, for example that of a proxy, so one address may use all
        // permits. Refusals are not counted, because there is no metric for them.
        let limit = ConnectionLimit::new(
            "admin connections",
            MAX_CONNECTIONS,
            MAX_CONNECTIONS,
            Arc::new(()),
        );
        for listener in self.0 {
            let (limit, router) = (Arc::clone(&limit), router.clone());
            tasks.spawn(accept(listener, limit, router, tasks.clone(), shutdown.clone()));
        }
        // A server without listeners must not end before the shutdown.
        shutdown.cancelled().await;
        tasks.close();
        tasks.wait().await;
    }
}

/// Accepts connections of one listener until `shutdown`, then waits until their requests are
/// finished.
async fn accept<L: Listener>(
    listener: L,
    limit: Arc<ConnectionLimit>,
    router: Router,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    // Each connection has a task of its own, which `tasks` counts and `graceful` notifies: at the
    // shutdown idle connections close at once, and others after their response.
    let graceful = GracefulShutdown::new();
    let serve = |socket, peer, permit: Permit| {
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        tasks.spawn(async move {
            // No exchange is ever begun, so that the oldest connection gives way whatever it does.
            let ended = tokio::select! {
                ended = timeout(CONNECTION_LIMIT, connection) => ended,
                () = permit.usage().closed() => {
                    debug!(%peer, "admin connection closed to make room");
                    return;
                }
            };
            // Operators' tools disconnect in many ways, none of which needs action.
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(err)) => debug!(%peer, %err, "admin connection failed"),
                Err(_) => debug!(%peer, "admin connection exceeded its time limit"),
            }
        });
    };
    net_core::accept(&listener, &limit, shutdown.cancelled(), serve).await;
    // The socket is closed first, so that no peer connects to a server that only drains.
    drop(listener);
    graceful.shutdown().await;
}

#[cfg(test)]
mod tests;
