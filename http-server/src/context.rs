//! The state that the connections of a listener share.

use std::{fmt, net::SocketAddr, sync::Arc};

use http::HeaderValue;
use net_core::Shutdown;
use tokio_util::task::TaskTracker;

use crate::{config::Config, metrics::Metrics, service::Client};

/// The state that connections share.
pub(crate) struct Context<S> {
    pub(crate) service: Arc<S>,
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    /// Whether the peers are processes of this daemon.
    pub(crate) ours: bool,
    /// The tasks of connections and of HTTP/2 streams.
    pub(crate) tasks: TaskTracker,
    /// Asks peers to reconnect elsewhere, and serves them until they leave.
    pub(crate) retire: Shutdown,
    /// Finishes the requests in progress.
    pub(crate) drain: Shutdown,
    /// The address of HTTP/3 (RFC 7838), for responses over TLS.
    pub(crate) alt_svc: Option<HeaderValue>,
}

impl<S> Context<S> {
    /// The sender of a request from `peer`, over TLS if `secure`. `early`: it arrived before the
    /// handshake was complete.
    pub(crate) fn client(&self, peer: SocketAddr, secure: bool, early: bool) -> Client {
        Client { peer, ours: self.ours, secure, early }
    }

    /// The address of HTTP/3 that a response is to name.
    pub(crate) fn alt_svc(&self, secure: bool) -> Option<&HeaderValue> {
        self.alt_svc.as_ref().filter(|_| secure)
    }
}

impl<S> Clone for Context<S> {
    fn clone(&self) -> Self {
        Self {
            service: Arc::clone(&self.service),
            config: self.config.clone(),
            metrics: self.metrics.clone(),
            ours: self.ours,
            tasks: self.tasks.clone(),
            retire: self.retire.clone(),
            drain: self.drain.clone(),
            alt_svc: self.alt_svc.clone(),
        }
    }
}

impl<S> fmt::Debug for Context<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}
