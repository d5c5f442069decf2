//! Sockets to accept connections from.

use std::{
    io,
    net::{self, Ipv4Addr, SocketAddr},
    os::unix,
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use tracing::debug;

/// The kernel probes a silent peer after this time, to detect whether it is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A socket to accept connections from.
pub trait Listener: Send + Sync + 'static {
    /// A connection.
    type Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and the address of its peer. Cancel-safe.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Socket, SocketAddr)>> + Send;

    /// Limits the unsent bytes in the kernel's buffer, so that urgent bytes do not wait behind
    /// them.
    fn limit_unsent(_socket: &Self::Socket, _bytes: u32) {}
}

/// An IPv4 peer of an IPv6 listener has its IPv4 address.
impl Listener for TcpListener {
    type Socket = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        // Options that cannot be set only cost performance: the connection is served without them.
        let (socket, peer) = self.accept().await?;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        if let Err(err) = tune(&socket) {
            debug!(%peer, %err, "socket options not set");
        }
        Ok((socket, peer))
    }

    /// tcp(7), TCP_NOTSENT_LOWAT.
    fn limit_unsent(socket: &TcpStream, bytes: u32) {
        if let Err(err) = SockRef::from(socket).set_tcp_notsent_lowat(bytes) {
            debug!(%err, "socket options not set");
        }
    }
}

/// Its peers are processes of this machine: each has the address 127.0.0.1:0.
impl Listener for UnixListener {
    type Socket = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (socket, _) = self.accept().await?;
        Ok((socket, (Ipv4Addr::LOCALHOST, 0).into()))
    }
}

fn tune(socket: &TcpStream) -> io::Result<()> {
    // Media are written in large pieces; a small last one must not wait for an acknowledgement.
    socket.set_nodelay(true)?;
    SockRef::from(socket)
        .set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))
}

/// Registers listening sockets, in any blocking mode, with the current runtime.
///
/// # Errors
/// A socket cannot be registered.
pub fn tcp(listeners: Vec<net::TcpListener>) -> io::Result<Vec<TcpListener>> {
    let adopt = |listener: net::TcpListener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    listeners.into_iter().map(adopt).collect()
}

/// The same as [`tcp`], for Unix sockets.
///
/// # Errors
/// A socket cannot be registered.
pub fn unix(listeners: Vec<unix::net::UnixListener>) -> io::Result<Vec<UnixListener>> {
    let adopt = |listener: unix::net::UnixListener| {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    listeners.into_iter().map(adopt).collect()
}
