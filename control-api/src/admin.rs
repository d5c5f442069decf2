//! `/metrics`, `/healthz` and `/readyz`, on a listener that only the operator's tools reach. It has an HTTP/1.1 server of its own, so that
//! it answers whatever load the viewers' listener is under.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use http::{StatusCode, header};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use media_core::Hub;
use prometheus_client::{encoding::text, registry::Registry};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::metrics::{Broadcasts, Process};

/// The content type of what [`text::encode`] writes.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Connections at once: a few tools.
const MAX_CONNECTIONS: usize = 64;
/// Time for a request's head, and between two requests of a connection.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// A connection's life: whoever does not read its answer must not keep a place.
const CONNECTION_LIMIT: Duration = Duration::from_secs(300);
/// Pause after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether the daemon takes work: from the moment that all its listeners are bound until it drains. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says whether it does.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// Whether it does.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Adds to `registry` what is read when it is asked for: the process, and the broadcasts of `hub`.
pub fn register(registry: &mut Registry, hub: Hub) {
    registry.register_collector(Box::new(Process));
    registry.register_collector(Box::new(Broadcasts(hub)));
}

/// The routes of the operator's tools.
pub fn router(registry: Registry, readiness: Readiness) -> Router {
    let registry = Arc::new(registry);
    let metrics = move || async move {
        let mut body = String::new();
        match text::encode(&mut body, &registry) {
            Ok(()) => Ok(([(header::CONTENT_TYPE, OPENMETRICS)], body)),
            Err(_) => Err((StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written\n")),
        }
    };
    let ready = move || async move {
        match readiness.is_ready() {
            true => (StatusCode::OK, "ready\n"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n"),
        }
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
}

/// The listeners, not yet serving.
#[derive(Debug)]
pub struct Server(Vec<TcpListener>);

impl Server {
    /// A server on sockets that listen, in any blocking mode; inside a tokio runtime.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn new(listeners: Vec<std::net::TcpListener>) -> io::Result<Self> {
        let adopt = |listener: std::net::TcpListener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        listeners.into_iter().map(adopt).collect::<io::Result<_>>().map(Self)
    }

    /// Serves `router` until `shutdown`, then finishes the requests it has.
    pub async fn serve(self, router: Router, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let tasks = TaskTracker::new();
        for listener in self.0 {
            tasks.spawn(accept(
                listener,
                router.clone(),
                Arc::clone(&places),
                tasks.clone(),
                shutdown.clone(),
            ));
        }
        // There may be no listener, which is no reason to end.
        shutdown.cancelled().await;
        tasks.close();
        tasks.wait().await;
    }
}

async fn accept(
    listener: TcpListener,
    router: Router,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(err) => {
                warn!(%err, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            debug!(%peer, "too many connections");
            continue;
        };
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        tasks.spawn(async move {
            match tokio::time::timeout(CONNECTION_LIMIT, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(err)) => debug!(%peer, %err, "admin connection failed"),
                Err(_) => debug!(%peer, "admin connection outlived its limit"),
            }
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

#[cfg(test)]
mod tests;
