//! The listeners: accept connections within the limits, and wait at shutdown until all have closed.

use std::{io, net::SocketAddr, sync::Arc};

use media_core::Hub;
use net_core::{ConnectionLimit, Counted, Permit, Quota, listener};
use rustls::server::ResolvesServerCert;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, debug, debug_span, info};

use crate::{
    auth::Authorize,
    clock::now,
    config::Config,
    connection::{self, Context},
    metrics::{Cause, Metrics},
    reports::Reports,
    tls::Tls,
};

/// The sockets to accept from; they listen, in any blocking mode.
#[derive(Debug, Default)]
pub struct Listeners {
    /// RTMP without TLS.
    pub rtmp: Vec<std::net::TcpListener>,
    /// RTMP over TLS.
    pub rtmps: Vec<std::net::TcpListener>,
}

/// An RTMP server that is not serving yet.
pub struct Server {
    rtmp: Vec<TcpListener>,
    /// Listeners of RTMPS, which share one TLS configuration.
    rtmps: Vec<(TcpListener, Arc<Tls>)>,
    context: Arc<Context>,
    /// The limit of connections, shared by all listeners.
    limit: Arc<ConnectionLimit>,
}

impl Server {
    /// Creates a server on `listeners`; call it inside a tokio runtime. RTMPS presents
    /// `certificates`.
    ///
    /// # Errors
    /// `InvalidInput` if a value of `config` is out of range, or if there are sockets for RTMPS and
    /// no certificates.
    pub fn new(
        config: &Config,
        listeners: Listeners,
        certificates: Option<Arc<dyn ResolvesServerCert>>,
        hub: Hub,
        authorize: Arc<dyn Authorize>,
        metrics: Metrics,
    ) -> io::Result<Self> {
        let invalid = io::ErrorKind::InvalidInput;
        config.check().map_err(|err| io::Error::new(invalid, err))?;
        let tls = certificates.map(|certificates| Tls::new(certificates, config.handshake_limit()));
        let tls = tls.transpose()?.map(Arc::new);
        // An error at the start and not at the first connection, so that an operator notices it.
        let private = |listener| {
            let tls =
                tls.clone().ok_or_else(|| io::Error::new(invalid, "rtmps needs a certificate"))?;
            Ok((listener, tls))
        };
        let limit = ConnectionLimit::new(
            "rtmp connections",
            config.max_connections,
            config.max_connections_per_address,
            Arc::new(metrics.clone()),
        );
        let context = Context {
            hub,
            authorize,
            metrics,
            // The reserve is kept for addresses without a connection, which may become publishers.
            players: Quota::new(limit.unreserved(), usize::MAX),
            reports: Reports::default(),
            session: config.session(),
            write_limit: config.write_limit(),
        };
        Ok(Self {
            rtmp: listener::tcp(listeners.rtmp)?,
            rtmps: listener::tcp(listeners.rtmps)?
                .into_iter()
                .map(private)
                .collect::<io::Result<_>>()?,
            context: Arc::new(context),
            limit,
        })
    }

    /// Serves until `retire` or `shutdown`.
    ///
    /// After `retire` no connection is accepted, and publishers that support it are asked to
    /// reconnect; all are served until they leave. After `shutdown` all peers are disconnected.
    /// Returns when all connections have closed: after `shutdown`, within the write limit and a
    /// second.
    pub async fn serve(self, retire: CancellationToken, shutdown: CancellationToken) {
        let Self { rtmp, rtmps, context, limit } = self;
        let rtmp = rtmp.into_iter().map(|listener| (listener, None));
        let rtmps = rtmps.into_iter().map(|(listener, tls)| (listener, Some(tls)));
        let tasks = TaskTracker::new();
        for (listener, tls) in rtmp.chain(rtmps) {
            let acceptor = Acceptor {
                listener,
                tls,
                context: Arc::clone(&context),
                limit: Arc::clone(&limit),
                tasks: tasks.clone(),
            };
            tasks.spawn(acceptor.accept(retire.clone(), shutdown.clone()));
        }
        // Without listeners the server still runs until it is stopped.
        tokio::select! {
            () = retire.cancelled() => {}
            () = shutdown.cancelled() => {}
        }
        tasks.close();
        tasks.wait().await;
        info!("rtmp server stopped");
    }
}

/// One socket to accept from.
struct Acceptor {
    listener: TcpListener,
    /// Present for RTMPS.
    tls: Option<Arc<Tls>>,
    context: Arc<Context>,
    limit: Arc<ConnectionLimit>,
    tasks: TaskTracker,
}

impl Acceptor {
    /// Accepts connections until `retire` or `shutdown`; each has a task and a span of its own.
    async fn accept(self, retire: CancellationToken, shutdown: CancellationToken) {
        let stop = async {
            tokio::select! {
                () = retire.cancelled() => {}
                () = shutdown.cancelled() => {}
            }
        };
        // Numbers the connections of this listener in the log.
        let mut serial: u64 = 0;
        let serve = |socket, peer, permit| {
            serial += 1;
            let protocol = if self.tls.is_some() { "rtmps" } else { "rtmp" };
            let span = debug_span!("rtmp", protocol, conn = serial, %peer);
            let connection = self.serve(socket, peer, permit, retire.clone(), shutdown.clone());
            self.tasks.spawn(connection.instrument(span));
        };
        net_core::accept(&self.listener, &self.limit, stop, serve).await;
    }

    /// Serves a connection from its start to its end.
    fn serve(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        permit: Permit,
        retire: CancellationToken,
        shutdown: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        self.context.metrics.accepted.inc();
        // Counted until the task ends, however it ends.
        let counted = Counted::new(self.context.metrics.connections.clone());
        let (context, tls) = (Arc::clone(&self.context), self.tls.clone());
        async move {
            let _counted = counted;
            match tls {
                None => connection::run(socket, peer, permit, &context, retire, shutdown).await,
                Some(tls) => {
                    if let Some(socket) =
                        shake_hands(socket, peer, &tls, &context, &permit, &shutdown).await
                    {
                        connection::run(socket, peer, permit, &context, retire, shutdown).await;
                    }
                }
            }
        }
    }
}

/// Performs the TLS handshake of a connection. `None` if it failed, which is counted and logged
/// here.
async fn shake_hands(
    socket: TcpStream,
    peer: SocketAddr,
    tls: &Tls,
    context: &Context,
    permit: &Permit,
    shutdown: &CancellationToken,
) -> Option<TlsStream<TcpStream>> {
    // A handshake has no state worth keeping, so at an eviction or a shutdown it is simply dropped.
    let shaken = tokio::select! {
        shaken = tls.accept(socket, peer.ip(), &context.metrics) => shaken,
        () = permit.usage().closed() => {
            context.metrics.close(Cause::Evicted);
            return None;
        }
        () = shutdown.cancelled() => {
            context.metrics.close(Cause::Tls);
            return None;
        }
    };
    let err = match shaken {
        Ok(socket) => return Some(socket),
        Err(err) => err,
    };
    context.metrics.close(Cause::Tls);
    match err.kind() {
        // The peer closed the connection, as a check for an open port does.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            debug!(%err, "tls handshake failed")
        }
        _ => context.reports.failed(peer, None, Cause::Tls, &err, now()),
    }
    None
}

#[cfg(test)]
mod tests;
