//! `/metrics`, `/healthz` and `/readyz`, on a listener that only the operator's tools reach. It has an HTTP/1.1 server of its own, so that
//! it answers whatever load the viewers' listener is under.

use std::{
    io,
    net::SocketAddr,
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

/// The listener, bound and not yet serving.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local: SocketAddr,
}

impl Server {
    /// Binds `address`, inside a tokio runtime.
    ///
    /// # Errors
    /// The address is taken or not allowed.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self {
            local: listener.local_addr()?,
            listener,
        })
    }

    /// Where it listens, with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves `router` until `shutdown`, then finishes the requests it has.
    pub async fn serve(self, router: Router, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let (graceful, tasks) = (GracefulShutdown::new(), TaskTracker::new());
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
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
        drop(self.listener);
        graceful.shutdown().await;
        tasks.close();
        tasks.wait().await;
    }
}

#[cfg(test)]
mod tests;
