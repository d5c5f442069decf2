//! HTTP/3: an endpoint on a UDP socket, and the admission of connections (RFC 9114; RFC 9000 8 and
//! 21 for the limits of what unknown peers can cost).
//!
//! [`socket`](self::socket) reads and writes datagrams, `connection` implements the protocol,
//! `request` writes the responses. quinn implements QUIC, and h3 reads requests; `frames`,
//! `field_section`, `send_order`, `budget` and `settings` limit what the two leave unlimited.
//! `unidirectional` reads a client's other streams.

mod budget;
mod connection;
mod exchanges;
pub(crate) mod field_section;
mod forward;
pub(crate) mod frames;
mod head;
mod keys;
mod request;
mod request_body;
mod send_order;
mod settings;
mod socket;
mod transport;
pub(crate) mod unidirectional;
pub(crate) mod varint;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use net_core::{ConnectionLimit, Limit, Shutdown, limit::CLOSING_WAIT};
use quinn::{Incoming, TokioRuntime, VarInt};
use rustls::server::ResolvesServerCert;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, debug_span, info};

use crate::{config::Config, context::Context, service::Service};

use self::connection::{CountedPermit, Permits};

pub use self::socket::{QuicHandover, QuicLegacy, QuicSocket};

/// Limit of concurrent handshakes. Each holds about 30 KiB, for `http.first_byte_ms` at most.
const MAX_HANDSHAKES: usize = 1_024;
/// From this number of concurrent handshakes on, a client must first validate its address (RFC 9000
/// 8.1.2): a flood from spoofed addresses costs one datagram for each, and no memory.
const RETRY_FROM: usize = 128;
/// Limit of concurrent handshakes of a validated address: an address that begins more loses its
/// oldest.
const HANDSHAKES_PER_ADDRESS: usize = 128;
/// Limit of connections that were closed for others and wait until their data have arrived; beyond
/// it they close at once.
const MAX_GOAWAYS: usize = 256;
/// Time for the last data of a connection that ends.
const CLOSING: Duration = Duration::from_secs(1);

/// A QUIC endpoint that is bound and not serving yet.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// quinn's endpoint on the socket.
    pub(crate) quic: quinn::Endpoint,
    /// [`RETRY_FROM`], or another number in tests.
    pub(crate) retry_from: usize,
    /// [`HANDSHAKES_PER_ADDRESS`], or another number in tests.
    pub(crate) handshakes_per_address: usize,
}

impl Endpoint {
    /// Creates an endpoint on `socket`; call it inside a tokio runtime. It reads the socket from
    /// now on.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub(crate) fn new(
        socket: QuicSocket,
        config: &Config,
        certificates: Arc<dyn ResolvesServerCert>,
    ) -> io::Result<Self> {
        let server = settings::server(config, certificates, socket.keys())?;
        let endpoint = settings::endpoint(socket.keys());
        let runtime = Arc::new(TokioRuntime);
        let quic = quinn::Endpoint::new_with_abstract_socket(
            endpoint,
            Some(server),
            socket.open(config.first_byte)?,
            runtime,
        )?;
        Ok(Self { quic, retry_from: RETRY_FROM, handshakes_per_address: HANDSHAKES_PER_ADDRESS })
    }
}

/// Serves until `retire` or `context.drain`. Tasks of `context` continue to serve the connections
/// admitted by then.
///
/// The endpoint is closed when its last connection has ended, or at `abort`. Until then it also
/// admits connections that were late (see [`Acceptor::late`]).
pub(crate) async fn serve<S: Service>(
    endpoint: Endpoint,
    context: &Arc<Context<S>>,
    limit: &Arc<ConnectionLimit>,
    abort: &Shutdown,
) {
    let mut acceptor = Acceptor {
        connections: TaskTracker::new(),
        serial: 0,
        context: Arc::clone(context),
        limit: Arc::clone(limit),
        goaways: Arc::new(Semaphore::new(MAX_GOAWAYS)),
        abort: abort.clone(),
        handshakes: ConnectionLimit::new(
            "QUIC handshakes",
            MAX_HANDSHAKES,
            endpoint.handshakes_per_address,
            Arc::new(context.metrics.clone()),
        ),
        retry_from: endpoint.retry_from,
    };
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.quic.accept() => incoming,
            () = context.retire.triggered() => break,
            () = context.drain.triggered() => break,
        };
        let Some(incoming) = incoming else { break };
        acceptor.admit(incoming).await;
    }
    // This future ends here, so that the server sees that no listener accepts any more. The
    // endpoint is kept in a task of its own, because quinn's connections need it.
    acceptor.connections.close();
    let (abort, connections) = (abort.clone(), acceptor.connections.clone());
    let rest = async move {
        tokio::select! {
            biased;
            () = acceptor.late(&endpoint.quic) => {}
            () = connections.wait() => {}
            () = abort.triggered() => {}
        }
        endpoint.quic.close(VarInt::from_u32(0), b"");
        let _ = timeout(CLOSING, endpoint.quic.wait_idle()).await;
        info!("http/3 stopped");
    };
    context.tasks.spawn(rest);
}

/// Admits connections: first to the limit of handshakes, then to the limit of all connections.
struct Acceptor<S> {
    /// A token for each connection that has not ended.
    connections: TaskTracker,
    /// The number of the last connection.
    serial: u64,
    context: Arc<Context<S>>,
    limit: Arc<ConnectionLimit>,
    goaways: Arc<Semaphore>,
    abort: Shutdown,
    /// Limits the incomplete handshakes, in total and of an address.
    handshakes: Arc<ConnectionLimit>,
    retry_from: usize,
}

impl<S: Service> Acceptor<S> {
    /// Admits the connections that arrived before another process began to read the socket, and
    /// asks them, like the others, to reconnect elsewhere: a refusal might be remembered. At
    /// `drain` they are refused.
    async fn late(&mut self, endpoint: &quinn::Endpoint) {
        while let Some(incoming) = endpoint.accept().await {
            // After `drain` no request would be served, so the handshake is refused.
            match self.context.drain.is_triggered() {
                true => incoming.refuse(),
                false => self.admit(incoming).await,
            }
        }
    }

    /// Admits one connection and spawns its task, or refuses it, or asks for a validated address.
    ///
    /// Source: RFC 9000 8.1.2 (Retry), 5.2.2 (refusal).
    async fn admit(&mut self, incoming: Incoming) {
        self.serial += 1;
        let (serial, token) = (self.serial, self.connections.token());
        let metrics = &self.context.metrics;
        let peer = incoming.remote_address();
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let validated = incoming.remote_address_validated();
        if !validated && self.handshakes.open() >= self.retry_from {
            // On an error it is refused.
            let _ = incoming.retry();
            return;
        }
        // An address that may be spoofed must not use up the share of its owner.
        let address = validated.then(|| peer.ip());
        // The connection limit counts validated addresses only. A peer without a Retry token enters
        // it after its handshake, which validates its address (`connection::Connection::run`).
        let admit = async {
            let handshake = self.handshakes.admit(address, CLOSING_WAIT).await?;
            let admitted = match address {
                Some(address) => Some(CountedPermit::admit(&self.limit, address, metrics).await?),
                None => None,
            };
            Ok::<_, Limit>((handshake, admitted))
        };
        let Ok((handshake, admitted)) = admit.await else {
            debug!(%peer, "connection refused: limit reached");
            return incoming.refuse();
        };
        let permits = Permits {
            handshake,
            admitted,
            limit: Arc::clone(&self.limit),
            goaways: Arc::clone(&self.goaways),
        };
        let span = debug_span!("http3", conn = serial, %peer);
        let (context, abort) = (Arc::clone(&self.context), self.abort.clone());
        let connection = async move {
            abort.run_until_triggered(connection::serve(incoming, peer, permits, context)).await;
            drop(token);
        };
        self.context.tasks.spawn(connection.instrument(span));
    }
}
