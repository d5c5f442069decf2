//! Access to the inside of the server for tests of a service: connections over any stream, an
//! endpoint of QUIC with other limits, and TLS certificates.

#[cfg(test)]
use std::time::Duration;
use std::{io, net::SocketAddr, sync::Arc};

use bytes::{BufMut, Bytes};
use http::{Request, Response};
use net_core::{ConnectionLimit, Shutdown};
use rustls::{
    ClientConfig, RootCertStore, SupportedCipherSuite,
    crypto::{CryptoProvider, ring::default_provider},
    pki_types::PrivatePkcs8KeyDer,
    server::ResolvesServerCert,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use crate::{
    body::{Body, BoxError},
    config::Config,
    connection,
    context::Context,
    metrics::Metrics,
    pending,
    quic::{self, QuicSocket, varint},
    service::Service,
    tls,
};

/// The state that connections share.
#[derive(Debug)]
pub struct Shared<S>(Arc<Context<S>>);

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Service> Shared<S> {
    /// Makes the state of connections that `service` serves.
    pub fn new(config: Config, service: Arc<S>, metrics: Metrics) -> Self {
        Self(Arc::new(make_context(config, service, metrics)))
    }

    /// Serves one request of `peer` without a connection, as over plain HTTP.
    pub async fn respond<B>(&self, request: Request<B>, peer: SocketAddr) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        pending::begin(&self.0, request, self.0.client(peer, false, false)).await
    }

    /// Asks peers to reconnect elsewhere.
    pub fn retire(&self) -> &Shutdown {
        &self.0.retire
    }

    /// Finishes the requests in progress.
    pub fn drain(&self) -> &Shutdown {
        &self.0.drain
    }

    /// The tasks of connections.
    pub fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// Serves one connection, which is not closed for another. Over TLS if there are
    /// `certificates`.
    pub fn serve<T>(
        &self,
        socket: T,
        peer: SocketAddr,
        certificates: Option<Arc<dyn ResolvesServerCert>>,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let early_data = self.0.config.early_data;
        let tls = certificates
            .map(|shown| tls::Acceptor::new(shown, early_data).expect("usable cipher suites"));
        let limit = ConnectionLimit::new("connections", 1, 1, Arc::new(()));
        let permit = limit.try_admit(None, Instant::now()).expect("a free permit");
        let usage = Arc::clone(permit.usage());
        connection::serve(socket, peer, tls, Arc::clone(&self.0), usage)
    }
}

/// An endpoint of HTTP/3 that is not serving yet.
#[derive(Debug)]
pub struct Endpoint {
    quic: quic::Endpoint,
    /// The limit of connections, unless it is that of the configuration.
    limit: Option<Arc<ConnectionLimit>>,
}

impl Endpoint {
    /// Makes an endpoint on `socket`.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn new(
        socket: QuicSocket,
        config: &Config,
        certificates: Arc<dyn ResolvesServerCert>,
    ) -> io::Result<Self> {
        Ok(Self { quic: quic::Endpoint::new(socket, config, certificates)?, limit: None })
    }

    /// Sets the number of concurrent handshakes from which on a client must validate its address.
    pub fn retry_from(&mut self, handshakes: usize) {
        self.quic.retry_from = handshakes;
    }

    /// Limits the concurrent handshakes of an address.
    pub fn handshakes_per_address(&mut self, handshakes: usize) {
        self.quic.handshakes_per_address = handshakes;
    }

    /// Sets the limit of connections.
    pub fn limit(&mut self, limit: &Arc<ConnectionLimit>) {
        self.limit = Some(Arc::clone(limit));
    }

    /// quinn's endpoint.
    pub fn quic(&self) -> quinn::Endpoint {
        self.quic.quic.clone()
    }

    /// Serves until `shared` is retired or drained; `abort` ends its connections.
    pub async fn serve<S: Service>(self, shared: &Shared<S>, abort: &Shutdown) {
        let (config, events) = (&shared.0.config, Arc::new(shared.0.metrics.clone()));
        let (max, max_per_address) = (config.max_connections, config.max_connections_per_address);
        let limit = self.limit.unwrap_or_else(|| {
            ConnectionLimit::new("http connections", max, max_per_address, events)
        });
        quic::serve(self.quic, &shared.0, &limit, abort).await;
    }
}

fn make_context<S>(config: Config, service: Arc<S>, metrics: Metrics) -> Context<S> {
    Context {
        service,
        config,
        metrics,
        ours: false,
        tasks: TaskTracker::new(),
        retire: Shutdown::default(),
        drain: Shutdown::default(),
        alt_svc: None,
    }
}

/// The state of connections that `service` serves.
#[cfg(test)]
pub(crate) fn context<S>(service: S) -> Context<S> {
    let second = Duration::from_secs(1);
    let config = Config {
        max_connections: 16,
        max_connections_per_address: 16,
        max_streams: 16,
        max_header_bytes: 16 << 10,
        max_headers: 64,
        first_byte: second,
        header: second,
        idle: second,
        write: second,
        drain: second,
        early_data: true,
    };
    make_context(config, Arc::new(service), Metrics::default())
}

/// Appends an integer in QUIC's encoding (RFC 9000 16).
pub fn write_varint(value: u64, into: &mut impl BufMut) {
    varint::write(value, into);
}

/// An integer at the start of `bytes`, and its length.
pub fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    varint::read(bytes)
}

/// A certificate for `origin`, and the roots that trust it.
pub fn certificate() -> (Arc<dyn ResolvesServerCert>, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(["origin".to_owned()]).expect("a certificate");
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let chain = vec![made.cert.der().clone()];
    let certified =
        CertifiedKey::from_der(chain, key.into(), &default_provider()).expect("a usable key");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root certificate");
    (Arc::new(SingleCertAndKey::from(certified)), roots)
}

/// A client's configuration: its cipher suites in order of preference, and its protocols.
pub fn client(
    roots: RootCertStore,
    suites: &[SupportedCipherSuite],
    alpn: &[&str],
) -> ClientConfig {
    let provider = CryptoProvider { cipher_suites: suites.to_vec(), ..default_provider() };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("usable cipher suites")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.enable_early_data = true;
    config
}
