//! HTTP/3: an endpoint on a UDP socket, and who is let in (RFC 9114; RFC 9000 8 and 21 for what a stranger may cost).
//!
//! [`socket`](self::socket) is read and written, `connection` speaks the protocol, `request` answers by the router's word. quinn is QUIC and h3
//! reads requests; what they leave open is bounded in `frames`, `section`, `turns`, `budget` and `settings`. A client's other streams are read by
//! `unidirectional`.

mod budget;
mod connection;
mod exchanges;
mod frames;
mod head;
mod keys;
mod letter;
mod request;
mod section;
mod settings;
mod socket;
mod transport;
mod turns;
mod unidirectional;
mod upload;
mod varint;

#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use net_core::{ConnectionLimit, Limit, Shutdown, limit::CLOSING_WAIT};
use quinn::{Incoming, TokioRuntime, VarInt};
use rustls::server::ResolvesServerCert;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, debug_span, info};

use crate::{
    config::{Config, Https, ms},
    connection::Context,
};

use self::connection::{Entrance, Place};

pub use self::socket::{QuicHandover, QuicLegacy, QuicSocket};

/// Handshakes at once. Each holds some 30 KiB, for `http.first_byte_ms` at most.
const MAX_HANDSHAKES: usize = 1_024;
/// So many at once, and who connects has to show first that its address is its own (RFC 9000 8.1.2): a flood from invented ones costs
/// it a datagram each, and us nothing that lasts.
const RETRY_FROM: usize = 128;
/// Handshakes at once of an address that has shown to be its own: one that begins more loses its oldest.
const HANDSHAKES_PER_ADDRESS: usize = 128;
/// Connections that were closed to make room and wait for what they have sent to arrive; others close at once.
const MAX_FAREWELLS: usize = 256;
/// For what is said last to leave.
const FAREWELL: Duration = Duration::from_secs(1);

/// A QUIC endpoint that is bound and not yet serving.
#[derive(Debug)]
pub(crate) struct Endpoint {
    quic: quinn::Endpoint,
    retry_from: usize,
    handshakes_per_address: usize,
}

impl Endpoint {
    /// An endpoint on `socket`, inside a tokio runtime. It reads the socket from now on.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub(crate) fn new(
        socket: QuicSocket,
        config: &Config,
        https: &Https,
        certificates: Arc<dyn ResolvesServerCert>,
    ) -> io::Result<Self> {
        let server = settings::server(config, https, certificates, socket.keys())?;
        let endpoint = settings::endpoint(socket.keys());
        let runtime = Arc::new(TokioRuntime);
        let quic = quinn::Endpoint::new_with_abstract_socket(
            endpoint,
            Some(server),
            socket.open(ms(config.first_byte_ms))?,
            runtime,
        )?;
        Ok(Self {
            quic,
            retry_from: RETRY_FROM,
            handshakes_per_address: HANDSHAKES_PER_ADDRESS,
        })
    }
}

/// Serves until `retire` or `context.drain`; what has been let in by then is served on by tasks of `context`.
pub(crate) async fn serve(endpoint: Endpoint, context: &Arc<Context>, limit: &Arc<ConnectionLimit>, abort: &Shutdown) {
    let mut door = Door {
        connections: TaskTracker::new(),
        serial: 0,
        context: Arc::clone(context),
        limit: Arc::clone(limit),
        farewells: Arc::new(Semaphore::new(MAX_FAREWELLS)),
        abort: abort.clone(),
        handshakes: ConnectionLimit::new(
            "QUIC handshakes",
            MAX_HANDSHAKES,
            endpoint.handshakes_per_address,
            Arc::new(context.router.metrics().clone()),
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
        door.admit(incoming).await;
    }
    door.connections.close();
    let (abort, connections) = (abort.clone(), door.connections.clone());
    let rest = async move {
        tokio::select! {
            biased;
            () = door.late(&endpoint.quic) => {}
            () = connections.wait() => {}
            () = abort.triggered() => {}
        }
        endpoint.quic.close(VarInt::from_u32(0), b"");
        let _ = timeout(FAREWELL, endpoint.quic.wait_idle()).await;
        info!("http/3 has stopped");
    };
    context.tasks.spawn(rest);
}

/// Where connections come in.
struct Door {
    connections: TaskTracker,
    /// Of the last that came.
    serial: u64,
    context: Arc<Context>,
    limit: Arc<ConnectionLimit>,
    farewells: Arc<Semaphore>,
    abort: Shutdown,
    handshakes: Arc<ConnectionLimit>,
    retry_from: usize,
}

impl Door {
    /// Who came before the socket was another's to read is let in and told, like the others, to go elsewhere: a refusal might be remembered.
    /// When all ends it is refused.
    async fn late(&mut self, endpoint: &quinn::Endpoint) {
        while let Some(incoming) = endpoint.accept().await {
            match self.context.drain.is_triggered() {
                true => incoming.refuse(),
                false => self.admit(incoming).await,
            }
        }
    }

    async fn admit(&mut self, incoming: Incoming) {
        self.serial += 1;
        let (serial, token) = (self.serial, self.connections.token());
        let metrics = self.context.router.metrics();
        let peer = incoming.remote_address();
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let validated = incoming.remote_address_validated();
        if !validated && self.handshakes.open() >= self.retry_from {
            // It is what it says; else it is refused.
            let _ = incoming.retry();
            return;
        }
        // An address that may be forged must not use up the share of its owner.
        let address = validated.then(|| peer.ip());
        let admit = async {
            let handshake = self.handshakes.admit(address, CLOSING_WAIT).await?;
            let place = match address {
                Some(address) => Some(Place::take(&self.limit, address, metrics).await?),
                None => None,
            };
            Ok::<_, Limit>((handshake, place))
        };
        let Ok((handshake, place)) = admit.await else {
            debug!(%peer, "too many connections");
            return incoming.refuse();
        };
        let entrance = Entrance {
            handshake,
            place,
            limit: Arc::clone(&self.limit),
            farewells: Arc::clone(&self.farewells),
        };
        let span = debug_span!("http3", conn = serial, %peer);
        let (context, abort) = (Arc::clone(&self.context), self.abort.clone());
        let connection = async move {
            abort
                .run_until_triggered(connection::serve(incoming, peer, entrance, context))
                .await;
            drop(token);
        };
        self.context.tasks.spawn(connection.instrument(span));
    }
}
