//! The listener: accepts connections within the limits, and waits for all of them when it is told to stop.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use media_core::Hub;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, debug, debug_span, info, warn};

use crate::{
    auth::Authorize,
    config::Config,
    connection::{self, Context},
    metrics::{Cause, Counted, Metrics},
};

const BACKLOG: i32 = 1024;
/// Pause after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Players are silent: the kernel finds out which are gone.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// An RTMP server that is bound and not yet serving.
pub struct Server {
    listener: TcpListener,
    local: SocketAddr,
    context: Arc<Context>,
    places: Arc<Places>,
}

/// Connections in all and from each address.
struct Places {
    max: usize,
    max_per_address: usize,
    taken: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// One connection's place, given back when dropped.
struct Place {
    places: Arc<Places>,
    address: IpAddr,
    _counted: Counted,
}

impl Server {
    /// Binds `config.listen`, inside a tokio runtime. A `[::]` address takes IPv4 too, and becomes `0.0.0.0` where there is no IPv6.
    ///
    /// # Errors
    /// The address is taken or not allowed; `InvalidInput` if `listen` is off or a value is out of its range.
    pub fn bind(config: &Config, hub: Hub, authorize: Arc<dyn Authorize>, metrics: Metrics) -> io::Result<Self> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        config.check().map_err(invalid)?;
        let address = config.listen.ok_or_else(|| invalid("rtmp.listen is empty".into()))?;
        let listener = match listen(address) {
            Err(err)
                if address.is_ipv6() && address.ip().is_unspecified() && err.kind() != io::ErrorKind::AddrInUse =>
            {
                listen((IpAddr::from([0, 0, 0, 0]), address.port()).into())?
            }
            listener => listener?,
        };
        let listener = TcpListener::from_std(listener)?;
        let places = Places {
            max: config.max_connections,
            max_per_address: config.max_connections_per_address,
            taken: Mutex::default(),
        };
        let context = Context {
            hub,
            authorize,
            metrics,
            session: config.session(),
            write_limit: config.write_limit(),
        };
        Ok(Self {
            local: listener.local_addr()?,
            listener,
            context: Arc::new(context),
            places: Arc::new(places),
        })
    }

    /// Where it listens, with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `shutdown`, then tells all peers and returns when they are gone: within the write limit and a second.
    pub async fn serve(self, shutdown: CancellationToken) {
        let Self {
            listener,
            local,
            context,
            places,
        } = self;
        let tasks = TaskTracker::new();
        let mut serial: u64 = 0;
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
            context.metrics.accepted.inc();
            let Some(place) = places.take(peer.ip(), &context.metrics) else {
                context.metrics.close(Cause::Limit);
                debug!(%peer, "too many connections");
                continue;
            };
            if let Err(err) = tune(&socket) {
                debug!(%peer, %err, "socket options not set");
            }
            serial += 1;
            let span = debug_span!("rtmp", conn = serial, %peer);
            let (context, shutdown) = (Arc::clone(&context), shutdown.child_token());
            let connection = async move {
                connection::run(socket, peer, &context, shutdown).await;
                drop(place);
            };
            tasks.spawn(connection.instrument(span));
        }
        drop(listener);
        tasks.close();
        tasks.wait().await;
        info!(address = %local, "rtmp has stopped");
    }
}

impl Places {
    fn take(self: &Arc<Self>, address: IpAddr, metrics: &Metrics) -> Option<Place> {
        let address = address.to_canonical();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *taken;
        if *all >= self.max
            || by_address
                .get(&address)
                .is_some_and(|&here| here >= self.max_per_address)
        {
            return None;
        }
        *all += 1;
        *by_address.entry(address).or_default() += 1;
        Some(Place {
            places: Arc::clone(self),
            address,
            _counted: Counted::new(&metrics.connections),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *taken;
        *all -= 1;
        if let Some(here) = by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                by_address.remove(&self.address);
            }
        }
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
