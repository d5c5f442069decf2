//! Addresses for servers that a run starts.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use crate::Failure;

/// An address of loopback whose port is free in TCP and UDP.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<SocketAddr, Failure> {
    for _ in 0..100 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        if UdpSocket::bind(tcp).is_ok() {
            return Ok(tcp);
        }
    }
    Err("no port is free in TCP and UDP".into())
}
