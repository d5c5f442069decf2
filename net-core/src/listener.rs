//! Sockets that connections are accepted from.

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

/// The kernel probes a silent peer after this time, and finds out whether it is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A socket that connections are accepted from.
pub trait Listener: Send + Sync + 'static {
    /// A connection.
    type Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and the address of its peer. Cancel-safe.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Socket, SocketAddr)>> + Send;

    /// Limits the bytes that the kernel holds and has not sent, so that urgent bytes need not wait behind them.
    fn limit_unsent(_socket: &Self::Socket, _bytes: u32) {}
}

/// An IPv4 peer of an IPv6 listener has its IPv4 address.
impl Listener for TcpListener {
    type Socket = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
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
    socket.set_nodelay(true)?;
    SockRef::from(socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))
}

/// Sockets that listen, in any blocking mode, for the runtime that this is called in.
///
/// # Errors
/// One of them cannot be used.
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
/// One of them cannot be used.
pub fn unix(listeners: Vec<unix::net::UnixListener>) -> io::Result<Vec<UnixListener>> {
    let adopt = |listener: unix::net::UnixListener| {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    listeners.into_iter().map(adopt).collect()
}
