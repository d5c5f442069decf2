//! The listeners: accept connections within the limits, and wait for all of them when told to stop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use media_core::Hub;
use rustls::server::ResolvesServerCert;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, debug, debug_span, info, warn};

use crate::{
    auth::Authorize,
    config::Config,
    connection::{self, Context},
    metrics::{Cause, Metrics},
    places::{Place, Places},
    reports::Reports,
    tls::Tls,
};

/// Pause after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The errors of accept(2) where the process, or the system, has no descriptor left; the same on
/// all platforms of Linux.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
/// Players are silent: the kernel finds out which are gone.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The sockets to accept from; they listen, in any blocking mode.
#[derive(Debug, Default)]
pub struct Listeners {
    /// RTMP in the clear.
    pub rtmp: Vec<std::net::TcpListener>,
    /// RTMP in TLS.
    pub rtmps: Vec<std::net::TcpListener>,
}

/// An RTMP server that is not yet serving.
pub struct Server {
    rtmp: Vec<TcpListener>,
    rtmps: Vec<(TcpListener, Arc<Tls>)>,
    context: Arc<Context>,
    places: Arc<Places>,
}

impl Server {
    /// A server on `listeners`, inside a tokio runtime. `certificates` are what RTMPS shows.
    ///
    /// # Errors
    /// `InvalidInput` if a value of `config` is out of its range, or there are sockets for RTMPS and no certificates.
    pub fn new(
        config: &Config,
        listeners: Listeners,
        certificates: Option<Arc<dyn ResolvesServerCert>>,
        hub: Hub,
        authorize: Arc<dyn Authorize>,
        metrics: Metrics,
    ) -> io::Result<Self> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        config.check().map_err(invalid)?;
        let tls = certificates.map(|certificates| Tls::new(certificates, config.handshake_limit()));
        let tls = tls.transpose()?.map(Arc::new);
        let private = |listener| {
            let tls = tls.clone().ok_or_else(|| invalid("rtmps needs a certificate".into()))?;
            Ok((asynchronous(listener)?, tls))
        };
        let context = Context {
            hub,
            authorize,
            metrics,
            reports: Reports::default(),
            session: config.session(),
            write_limit: config.write_limit(),
        };
        Ok(Self {
            rtmp: listeners
                .rtmp
                .into_iter()
                .map(asynchronous)
                .collect::<io::Result<_>>()?,
            rtmps: listeners.rtmps.into_iter().map(private).collect::<io::Result<_>>()?,
            context: Arc::new(context),
            places: Places::new(config),
        })
    }

    /// Serves until `retire` or `shutdown`.
    ///
    /// After `retire` nothing more is accepted, publishers that understand it are asked to connect again, and all are served as long as they
    /// stay. After `shutdown` all peers are told to go. Returns when they have: after `shutdown`, within the write limit and a second.
    pub async fn serve(self, retire: CancellationToken, shutdown: CancellationToken) {
        let Self {
            rtmp,
            rtmps,
            context,
            places,
        } = self;
        let rtmp = rtmp.into_iter().map(|listener| (listener, None));
        let rtmps = rtmps.into_iter().map(|(listener, tls)| (listener, Some(tls)));
        let tasks = TaskTracker::new();
        for (listener, tls) in rtmp.chain(rtmps) {
            let acceptor = Acceptor {
                listener,
                tls,
                context: Arc::clone(&context),
                places: Arc::clone(&places),
                tasks: tasks.clone(),
            };
            tasks.spawn(acceptor.accept(retire.clone(), shutdown.clone()));
        }
        // There may be no listener, which is no reason to end.
        tokio::select! {
            () = retire.cancelled() => {}
            () = shutdown.cancelled() => {}
        }
        tasks.close();
        tasks.wait().await;
        info!("rtmp has stopped");
    }
}

/// One socket that is accepted from.
struct Acceptor {
    listener: TcpListener,
    /// If its connections are private.
    tls: Option<Arc<Tls>>,
    context: Arc<Context>,
    places: Arc<Places>,
    tasks: TaskTracker,
}

impl Acceptor {
    async fn accept(self, retire: CancellationToken, shutdown: CancellationToken) {
        let (metrics, protocol) = (&self.context.metrics, if self.tls.is_some() { "rtmps" } else { "rtmp" });
        let mut serial: u64 = 0;
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = retire.cancelled() => break,
                () = shutdown.cancelled() => break,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => {
                    failing = false;
                    accepted
                }
                Err(err) => {
                    // Once for each time it starts: a peer must not fill the log.
                    if !failing {
                        warn!(%err, "connections are not accepted");
                    }
                    failing = true;
                    if matches!(err.raw_os_error(), Some(EMFILE | ENFILE)) {
                        self.places.free_descriptors();
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            metrics.accepted.inc();
            let Ok(place) = self.places.take(peer.ip(), connection::now(), metrics) else {
                metrics.close(Cause::Limit);
                debug!(%peer, "too many connections");
                continue;
            };
            if let Err(err) = tune(&socket) {
                debug!(%peer, %err, "socket options not set");
            }
            serial += 1;
            let span = debug_span!("rtmp", protocol, conn = serial, %peer);
            let (context, tls) = (Arc::clone(&self.context), self.tls.clone());
            let (retire, shutdown) = (retire.clone(), shutdown.clone());
            let connection = async move {
                match tls {
                    None => connection::run(socket, peer, place, &context, retire, shutdown).await,
                    Some(tls) => {
                        if let Some(socket) = shake_hands(socket, peer, &tls, &context, &place, &shutdown).await {
                            connection::run(socket, peer, place, &context, retire, shutdown).await;
                        }
                    }
                }
            };
            self.tasks.spawn(connection.instrument(span));
        }
    }
}

/// The TLS handshake of a connection; none if there was none, which is counted and logged here.
async fn shake_hands(
    socket: TcpStream,
    peer: SocketAddr,
    tls: &Tls,
    context: &Context,
    place: &Place,
    shutdown: &CancellationToken,
) -> Option<TlsStream<TcpStream>> {
    let shaken = tokio::select! {
        shaken = tls.accept(socket, &context.metrics) => shaken,
        () = place.evicted().cancelled() => {
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
        // It went away, as what only looks whether the port is open does.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => debug!(%err, "no TLS handshake"),
        _ => context.reports.failed(peer, None, Cause::Tls, &err, connection::now()),
    }
    None
}

fn asynchronous(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    SockRef::from(socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))
}

#[cfg(test)]
mod tests;
