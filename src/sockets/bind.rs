//! Binds one socket. socket(2), ip(7), ipv6(7).

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
};

use http_server::QuicSocket;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    open::{Any, Bound},
    wanted::{Kind, Wanted},
};

/// Maximum number of connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 4096;
/// Checks that a socket can be bound now; it is closed at once.
///
/// # Errors
/// Why it cannot.
pub(crate) fn try_bind(wanted: Wanted) -> io::Result<()> {
    bind(wanted).map(drop)
}

/// Whether an address could not be bound because this machine lacks it, or its family. socket(2),
/// ip(7).
pub(crate) fn is_absent(err: &io::Error) -> bool {
    let absent = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(err).is_some_and(|errno| absent.contains(&errno))
}

/// A `[::]` address accepts IPv4 too, and becomes `0.0.0.0` without IPv6.
pub(super) fn bind(wanted: Wanted) -> io::Result<Bound> {
    let bind = |address: SocketAddr| match wanted.purpose.kind() {
        Kind::Tcp => {
            let listener = listen(address)?;
            Ok((listener.local_addr()?, Any::Tcp(listener)))
        }
        Kind::Udp => quic(datagrams(address)?),
    };
    let address = wanted.address;
    let any = address.is_ipv6() && address.ip().is_unspecified();
    // Without IPv6 `[::]` fails in several ways; a port in use is in use for IPv4 too.
    match bind(address) {
        Err(err) if any && err.kind() != io::ErrorKind::AddrInUse => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        bound => bound,
    }
}

/// A UDP socket as a QUIC socket without former owners.
pub(super) fn quic(socket: UdpSocket) -> io::Result<Bound> {
    Ok((socket.local_addr()?, Any::Quic(QuicSocket::new(socket)?)))
}

/// A TCP listener on this address.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    // Connections of a previous process that linger do not block the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The HTTP server sets its buffers.
fn datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket that does not block, and accepts IPv4 too if its family is IPv6. ipv6(7), IPV6_V6ONLY.
fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), Some(protocol))?;
    // The default depends on a setting of the kernel (net.ipv6.bindv6only), so it is set for each
    // socket.
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}
