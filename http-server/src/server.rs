//! The listeners: accept connections within the limits, and wait at shutdown until all have closed.

use std::{
    fmt,
    future::pending,
    io,
    net::SocketAddr,
    os::unix,
    panic,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::HeaderValue;
use net_core::{ConnectionLimit, Counted, Listener, Permit, Shutdown, listener};
use rustls::server::ResolvesServerCert;
use tokio::{
    net::{TcpListener, UnixListener},
    task::JoinSet,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, debug_span, info, level_filters::LevelFilter};

use crate::{
    config::Config,
    connection,
    context::Context,
    metrics::Metrics,
    quic::{self, QuicSocket},
    service::Service,
    tls,
};

/// Unsent bytes that the kernel may hold for a connection with HTTP/2.
const NOT_SENT: u32 = 128 << 10;
/// Limits of connections from this daemon's own processes, and of HTTP/2 requests on each. They are
/// outside the other limits, because each stands for many players.
const MAX_LOCAL: usize = 256;
const LOCAL_STREAMS: u32 = 100;

/// Listening sockets, in any blocking mode.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For plain HTTP.
    pub http: Vec<std::net::TcpListener>,
    /// For HTTP over TLS.
    pub https: Vec<std::net::TcpListener>,
    /// For HTTP/3.
    pub quic: Vec<QuicSocket>,
    /// For plain HTTP from this daemon's own processes. Served until `shutdown`, even after
    /// `retire`.
    pub local: Vec<unix::net::UnixListener>,
}

/// An HTTP server that has its sockets and is not serving yet.
pub struct Server<S> {
    http: Vec<TcpListener>,
    https: Vec<TcpListener>,
    local: Vec<UnixListener>,
    tls: Option<tls::Acceptor>,
    quic: Vec<quic::Endpoint>,
    /// The value of Alt-Svc, if there is an HTTP/3 socket.
    alt_svc: Option<HeaderValue>,
    service: Arc<S>,
    config: Config,
    metrics: Metrics,
}

/// A kind of listener, `https` or `http3`, has no certificate to present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoCertificate(pub &'static str);

impl fmt::Display for NoCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: there is no certificate", self.0)
    }
}

impl std::error::Error for NoCertificate {}

impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl<S: Service> Server<S> {
    /// Creates a server of `service` on `sockets`; call it inside a tokio runtime. TLS listeners
    /// present a certificate of `certificates`. [`Self::serve`] accepts connections; until
    /// then they wait in the kernel's queue.
    ///
    /// # Errors
    /// A socket cannot be used; `InvalidInput` with [`NoCertificate`] if there is a socket for TLS
    /// or HTTP/3 but no certificate.
    pub fn new(
        config: Config,
        sockets: Sockets,
        certificates: Option<Arc<dyn ResolvesServerCert>>,
        service: Arc<S>,
        metrics: Metrics,
    ) -> io::Result<Self> {
        let none = |listener| io::Error::new(io::ErrorKind::InvalidInput, NoCertificate(listener));
        let alt_svc = match sockets.quic.first() {
            Some(quic) => Some(alt_svc(quic.local_addr()?.port())),
            None => None,
        };
        let mut quic = Vec::with_capacity(sockets.quic.len());
        for socket in sockets.quic {
            let certificates = certificates.clone().ok_or_else(|| none("http3"))?;
            quic.push(quic::Endpoint::new(socket, &config, certificates)?);
        }
        let tls = certificates
            .map(|certificates| tls::Acceptor::new(certificates, config.early_data))
            .transpose()?;
        if tls.is_none() && !sockets.https.is_empty() {
            return Err(none("https"));
        }
        Ok(Self {
            http: listener::tcp(sockets.http)?,
            https: listener::tcp(sockets.https)?,
            local: listener::unix(sockets.local)?,
            tls,
            quic,
            alt_svc,
            service,
            config,
            metrics,
        })
    }

    /// Serves until the end.
    ///
    /// `retire`: accepts no more connections and asks peers to reconnect elsewhere (`Connection:
    /// close`, GOAWAY), but serves them until they leave. `shutdown`: finishes the requests in
    /// progress, and returns when all connections are closed, after `drain_ms` at the latest.
    pub async fn serve(self, retire: CancellationToken, shutdown: CancellationToken) {
        let (retired, drained) = (Shutdown::default(), Shutdown::default());
        // Connections check for shutdown at each response. A `Shutdown` is checked with one load,
        // so the callers' tokens trigger one here.
        let pass_on = async {
            let retire = async {
                retire.cancelled().await;
                retired.trigger();
            };
            let shutdown = async {
                shutdown.cancelled().await;
                drained.trigger();
            };
            tokio::join!(retire, shutdown);
            pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = pass_on => {}
            () = self.run(retired.clone(), drained.clone()) => {}
        }
    }

    /// Starts the listeners, and ends in the order: listeners, connections, the rest after
    /// `Config::drain`.
    async fn run(self, retire: Shutdown, drain: Shutdown) {
        let (tasks, drain_for) = (TaskTracker::new(), self.config.drain);
        // Triggered when the time to drain is over, or when this future is dropped.
        let abort = Shutdown::default();
        let aborted = abort.trigger_on_drop();
        let listeners = self.listen(&tasks, abort, &retire, &drain);
        either(retire, drain.clone()).await;
        join(listeners).await;
        tasks.close();
        tokio::select! {
            () = tasks.wait() => {}
            () = drain.triggered() => {}
        }
        if timeout(drain_for, tasks.wait()).await.is_err() {
            info!(connections = tasks.len(), "not drained in time: closing connections");
        }
        drop(aborted);
        tasks.wait().await;
        info!("http stopped");
    }

    /// Starts a task for each listener. Their connections are in `tasks`, and end with `abort`.
    fn listen(
        self,
        tasks: &TaskTracker,
        abort: Shutdown,
        retire: &Shutdown,
        drain: &Shutdown,
    ) -> JoinSet<()> {
        // One limit for all listeners: otherwise a client could use up each of them in turn.
        let (max, max_per_address) =
            (self.config.max_connections, self.config.max_connections_per_address);
        let events = Arc::new(self.metrics.clone());
        let limit = ConnectionLimit::new("http connections", max, max_per_address, events);
        let context = Arc::new(Context {
            service: self.service,
            config: self.config,
            metrics: self.metrics,
            ours: false,
            tasks: tasks.clone(),
            retire: retire.clone(),
            drain: drain.clone(),
            alt_svc: self.alt_svc,
        });
        let acceptor = Acceptor { context, limit, abort, tls: None, serial: Arc::default() };
        let stop = || either(retire.clone(), drain.clone());
        let mut listeners = JoinSet::new();
        for listener in self.http {
            listeners.spawn(acceptor.clone().accept(listener, stop()));
        }
        for listener in self.https {
            let acceptor = Acceptor { tls: self.tls.clone(), ..acceptor.clone() };
            listeners.spawn(acceptor.accept(listener, stop()));
        }
        for endpoint in self.quic {
            let Acceptor { context, limit, abort, .. } = acceptor.clone();
            listeners.spawn(async move { quic::serve(endpoint, &context, &limit, &abort).await });
        }
        // The socket of the process after this one: its players must still reach this process's
        // broadcasts while it drains, so `retire` does not end it.
        for listener in self.local {
            let drain = drain.clone();
            let stop = async move { drain.triggered().await };
            listeners.spawn(acceptor.for_local().accept(listener, stop));
        }
        listeners
    }
}

/// Waits for the tasks of listeners that end.
async fn join(mut listeners: JoinSet<()>) {
    // A panic of a listener is a bug of this program, and must not leave a server that accepts
    // nothing.
    while let Some(ended) = listeners.join_next().await {
        if let Err(err) = ended
            && let Ok(panic) = err.try_into_panic()
        {
            panic::resume_unwind(panic);
        }
    }
}

/// Accepts the connections of a listener.
struct Acceptor<S> {
    context: Arc<Context<S>>,
    limit: Arc<ConnectionLimit>,
    abort: Shutdown,
    /// For listeners with TLS.
    tls: Option<tls::Acceptor>,
    /// Numbers the connections of all listeners.
    serial: Arc<AtomicU64>,
}

impl<S: Service> Acceptor<S> {
    /// One for a socket of this daemon's own processes, with limits of its own.
    fn for_local(&self) -> Self {
        let mut context = Context::clone(&self.context);
        context.config.max_streams = LOCAL_STREAMS;
        context.ours = true;
        let name = "connections of the process after this one";
        let events = Arc::new(context.metrics.clone());
        let limit = ConnectionLimit::new(name, MAX_LOCAL, MAX_LOCAL, events);
        Self { context: Arc::new(context), limit, ..self.clone() }
    }

    /// Accepts connections until `stop`.
    async fn accept<L: Listener>(self, listener: L, stop: impl Future<Output = ()>) {
        let serve = |socket, peer, permit| self.serve::<L>(socket, peer, permit);
        net_core::accept(&listener, &self.limit, stop, serve).await;
    }

    /// Spawns the task of a connection. Its permit and its count last until the task ends.
    fn serve<L: Listener>(&self, socket: L::Socket, peer: SocketAddr, permit: Permit) {
        let counted = Counted::new(self.context.metrics.connections.clone());
        // Unsent bytes in the kernel cannot be overtaken by a more urgent response. Browsers use
        // HTTP/2 over TLS only, and HTTP/1.1 has one response at a time.
        if self.tls.is_some() {
            L::limit_unsent(&socket, NOT_SENT);
        }
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let span = debug_span!("http", conn = serial, %peer);
        let (context, tls, abort) =
            (Arc::clone(&self.context), self.tls.clone(), self.abort.clone());
        let connection = async move {
            let usage = Arc::clone(permit.usage());
            abort.run_until_triggered(connection::serve(socket, peer, tls, context, usage)).await;
            drop((permit, counted));
        };
        // Without a reader of the log no span is created: thousands of connections are woken at
        // once.
        match LevelFilter::current() < LevelFilter::DEBUG {
            true => self.context.tasks.spawn(connection),
            false => self.context.tasks.spawn(connection.instrument(span)),
        };
    }
}

impl<S> Clone for Acceptor<S> {
    fn clone(&self) -> Self {
        Self {
            context: Arc::clone(&self.context),
            limit: Arc::clone(&self.limit),
            abort: self.abort.clone(),
            tls: self.tls.clone(),
            serial: Arc::clone(&self.serial),
        }
    }
}

/// Waits for one of the two.
async fn either(retire: Shutdown, drain: Shutdown) {
    tokio::select! {
        () = retire.triggered() => {}
        () = drain.triggered() => {}
    }
}

/// HTTP/3 on this port of the same host (RFC 7838 3), for a day.
fn alt_svc(port: u16) -> HeaderValue {
    let value = format!("h3=\":{port}\"; ma=86400");
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static("clear"))
}
