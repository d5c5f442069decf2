//! The listener: accepts connections within the limits, and waits for all of them when it is told to stop.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, debug, debug_span, info, warn};

use crate::{
    config::{Config, ms},
    connection::{self, Context},
    metrics::{Counted, Metrics, Reason},
    router::Router,
};

const BACKLOG: i32 = 4096;
/// Pause after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The kernel finds out which silent peers are gone.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// An HTTP server that is bound and not yet serving.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local: SocketAddr,
    router: Arc<Router>,
    config: Config,
}

impl Server {
    /// Binds `config.listen`, inside a tokio runtime. A `[::]` address takes IPv4 too, and becomes `0.0.0.0` where there is no IPv6.
    ///
    /// # Errors
    /// The address is taken or not allowed; `InvalidInput` if `listen` is off or a value is out of its range.
    pub fn bind(config: &Config, router: Arc<Router>) -> io::Result<Self> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        config.check().map_err(invalid)?;
        let address = config.listen.ok_or_else(|| invalid("http.listen is empty".into()))?;
        let any = address.is_ipv6() && address.ip().is_unspecified();
        let listener = match listen(address) {
            Err(err) if any && err.kind() != io::ErrorKind::AddrInUse => {
                listen((IpAddr::from([0, 0, 0, 0]), address.port()).into())?
            }
            listener => listener?,
        };
        let listener = TcpListener::from_std(listener)?;
        Ok(Self {
            local: listener.local_addr()?,
            listener,
            router,
            config: config.clone(),
        })
    }

    /// Where it listens, with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `shutdown`, then lets requests finish, and returns when all connections are closed: after `drain_ms` at the latest.
    pub async fn serve(self, shutdown: CancellationToken) {
        let Self {
            listener,
            local,
            router,
            config,
        } = self;
        let tasks = TaskTracker::new();
        let places = Places::new(&config);
        let drain = ms(config.drain_ms);
        let context = Context {
            router,
            config,
            tasks: tasks.clone(),
            drain: shutdown.clone(),
        };
        let context = Arc::new(context);
        // Cancelled when the time to drain is over, or this future is dropped.
        let abort = CancellationToken::new();
        let aborted = abort.clone().drop_guard();
        accept(&listener, &context, &places, &abort, &shutdown).await;
        drop(listener);
        tasks.close();
        if timeout(drain, tasks.wait()).await.is_err() {
            info!(connections = tasks.len(), "not drained in time, closing");
        }
        drop(aborted);
        tasks.wait().await;
        info!(address = %local, "http has stopped");
    }
}

async fn accept(
    listener: &TcpListener,
    context: &Arc<Context>,
    places: &Arc<Places>,
    abort: &CancellationToken,
    shutdown: &CancellationToken,
) {
    let metrics = context.router.metrics();
    let mut serial: u64 = 0;
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let (socket, peer) = match accepted {
            Ok((socket, peer)) => {
                failing = false;
                (socket, SocketAddr::new(peer.ip().to_canonical(), peer.port()))
            }
            Err(err) => {
                // Once for each time it starts: a peer must not fill the log.
                if !failing {
                    warn!(%err, "connections are not accepted");
                }
                failing = true;
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = match places.take(peer.ip(), metrics) {
            Ok(place) => place,
            Err(reason) => {
                metrics.refuse(reason);
                debug!(%peer, "too many connections");
                continue;
            }
        };
        if let Err(err) = tune(&socket) {
            debug!(%peer, %err, "socket options not set");
        }
        serial += 1;
        let span = debug_span!("http", conn = serial, %peer);
        let (context, abort) = (Arc::clone(context), abort.clone());
        let tasks = context.tasks.clone();
        let connection = async move {
            tokio::select! {
                () = connection::serve(socket, peer, context) => {}
                () = abort.cancelled() => {}
            }
            drop(place);
        };
        tasks.spawn(connection.instrument(span));
    }
}

/// Connections in all and from each address.
#[derive(Debug)]
struct Places {
    max: usize,
    max_per_address: usize,
    taken: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    host: IpAddr,
    _counted: Counted,
}

impl Places {
    fn new(config: &Config) -> Arc<Self> {
        let (max, max_per_address) = (config.max_connections, config.max_connections_per_address);
        Arc::new(Self {
            max,
            max_per_address,
            taken: Mutex::default(),
        })
    }

    fn take(self: &Arc<Self>, address: IpAddr, metrics: &Metrics) -> Result<Place, Reason> {
        let host = host(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_host) = &mut *taken;
        if *all >= self.max {
            return Err(Reason::Connections);
        }
        if by_host.get(&host).is_some_and(|&here| here >= self.max_per_address) {
            return Err(Reason::Address);
        }
        *all += 1;
        *by_host.entry(host).or_default() += 1;
        Ok(Place {
            places: Arc::clone(self),
            host,
            _counted: Counted::new(&metrics.connections),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_host) = &mut *taken;
        *all -= 1;
        if let Some(here) = by_host.get_mut(&self.host) {
            *here -= 1;
            if *here == 0 {
                by_host.remove(&self.host);
            }
        }
    }
}

/// Who is behind an address: with IPv6 one host has a /64.
fn host(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        v4 => v4,
    }
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    SockRef::from(socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))
}

#[cfg(test)]
mod tests;
