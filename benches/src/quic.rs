//! HTTP/3 over quinn: a loader that requests one address repeatedly, and a server of one body in
//! memory that measures the cost of quinn and h3 alone. RFC 9114.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use h3_quinn::OpenStreams;
use http::{Request, Response, Uri};
use quinn::{
    Endpoint, EndpointConfig, TokioRuntime, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use tokio::task::JoinSet;

use crate::{Failure, certificate::NAME};

/// Socket buffer size; the kernel limits it to `net.core.rmem_max`.
const SOCKET_BYTES: usize = 8 << 20;
/// Limit of bytes that a peer has sent and that are not read, and of bytes sent and not
/// acknowledged.
const WINDOW_BYTES: u32 = 16 << 20;

/// The concurrency of requests.
#[derive(Debug, Clone, Copy)]
pub struct Breadth {
    /// Connections.
    pub connections: usize,
    /// Concurrent requests on each.
    pub streams: usize,
}

/// The responses.
#[derive(Debug, Default, Clone, Copy)]
pub struct Answered {
    /// Whole responses with status 200.
    pub whole: u64,
    /// From the first request to the end of the last response.
    pub took: Duration,
}

/// A client's endpoint on loopback, for many connections.
///
/// # Errors
/// There is no free port.
pub fn client(tls: rustls::ClientConfig) -> Result<Endpoint, Failure> {
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport()));
    let socket = free_socket()?;
    let mut endpoint =
        Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

/// A socket on a free port.
///
/// # Errors
/// There is no free port.
pub fn free_socket() -> Result<UdpSocket, Failure> {
    socket((Ipv4Addr::LOCALHOST, 0).into())
}

/// One connection, ready for requests. `tasks` drives it.
///
/// # Errors
/// The server cannot be reached, or has another certificate.
pub async fn connect(
    endpoint: &Endpoint,
    server: SocketAddr,
    tasks: &mut JoinSet<()>,
) -> Result<SendRequest<OpenStreams, Bytes>, Failure> {
    let connection = endpoint.connect(server, NAME)?.await?;
    let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(connection)).await?;
    tasks.spawn(async move {
        driver.wait_idle().await;
    });
    Ok(requests)
}

/// Requests `path` for a time on each stream, one request after the other; requests in progress are
/// finished. Each body must have `length` bytes.
///
/// # Errors
/// A response is not 200 or has another length, or a connection was closed.
pub async fn ask(
    endpoint: &Endpoint,
    server: SocketAddr,
    path: &str,
    length: u64,
    breadth: Breadth,
    seconds: Duration,
) -> Result<Answered, Failure> {
    let uri: Uri = format!("https://{NAME}:{}{path}", server.port()).parse()?;
    let (mut drivers, mut streams) = (JoinSet::new(), JoinSet::new());
    let mut connections = Vec::new();
    // Connections are opened before the count begins, so that handshakes are not measured.
    for _ in 0..breadth.connections {
        connections.push(connect(endpoint, server, &mut drivers).await?);
    }
    let begin = Instant::now();
    for requests in &connections {
        for _ in 0..breadth.streams {
            let (mut requests, uri) = (requests.clone(), uri.clone());
            streams.spawn(async move {
                let mut whole = 0;
                // The time is checked between requests only: each response is whole.
                while begin.elapsed() < seconds {
                    let got = get(&mut requests, uri.clone()).await?;
                    if got != (200, length) {
                        return Err(format!(
                            "{uri}: status {} and {} bytes, not 200 and {length}",
                            got.0, got.1
                        )
                        .into());
                    }
                    whole += 1;
                }
                Ok::<u64, Failure>(whole)
            });
        }
    }
    let mut answered = Answered::default();
    while let Some(stream) = streams.join_next().await {
        answered.whole += stream??;
    }
    answered.took = begin.elapsed();
    // The last handle closes the connection, so the drivers can end.
    drop(connections);
    drivers.shutdown().await;
    Ok(answered)
}

/// Status and length of a response, read to its end.
///
/// # Errors
/// The connection or the stream was closed.
async fn get(
    requests: &mut SendRequest<OpenStreams, Bytes>,
    uri: Uri,
) -> Result<(u16, u64), Failure> {
    let mut stream = requests.send_request(Request::get(uri).body(())?).await?;
    stream.finish().await?;
    let status = stream.recv_response().await?.status().as_u16();
    let mut length = 0;
    while let Some(data) = stream.recv_data().await? {
        length += data.remaining() as u64;
    }
    Ok((status, length))
}

/// Serves every request with `body`, until it is ended; `listening` gets the address.
///
/// # Errors
/// There is no free port.
pub async fn serve(
    tls: rustls::ServerConfig,
    body: Bytes,
    listening: impl FnOnce(SocketAddr),
) -> Result<(), Failure> {
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport()));
    let socket = free_socket()?;
    let endpoint =
        Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))?;
    listening(endpoint.local_addr()?);
    // A failed connection or request ends only its own task.
    while let Some(incoming) = endpoint.accept().await {
        let body = body.clone();
        tokio::spawn(async move {
            let connection = h3_quinn::Connection::new(incoming.await?);
            let mut connection = h3::server::Connection::new(connection).await?;
            while let Some(request) = connection.accept().await? {
                let body = body.clone();
                tokio::spawn(async move {
                    let (_, mut stream) = request.resolve_request().await?;
                    let head = Response::builder().header("content-length", body.len()).body(())?;
                    stream.send_response(head).await?;
                    stream.send_data(body).await?;
                    stream.finish().await?;
                    Ok::<(), Failure>(())
                });
            }
            Ok::<(), Failure>(())
        });
    }
    Ok(())
}

/// The flow control of both sides: windows that do not limit the rate on loopback.
fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(WINDOW_BYTES.into())
        .receive_window(VarInt::from_u32(WINDOW_BYTES * 2))
        .send_window(u64::from(WINDOW_BYTES));
    transport
}

/// A UDP socket with large buffers, because bursts are dropped otherwise.
fn socket(address: SocketAddr) -> Result<UdpSocket, Failure> {
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
    socket.set_recv_buffer_size(SOCKET_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
