//! The router behind the server, with clients of all protocols.

mod quic;
mod tcp;

use std::sync::Arc;

use http_server::{Server, Sockets, testing::Shared};
use rustls::server::ResolvesServerCert;

use crate::{Config, Https, Router, stage::Stage};

/// A server of the stage's router.
pub(crate) fn server(
    stage: &Stage,
    config: &Config,
    sockets: Sockets,
    certificates: Option<Arc<dyn ResolvesServerCert>>,
) -> Server<Router> {
    let settings = config.server(&Https::default());
    let (router, metrics) = (Arc::clone(&stage.router), stage.metrics.server.clone());
    Server::new(settings, sockets, certificates, router, metrics).unwrap()
}

/// The state of connections that the stage's router serves.
fn shared(stage: &Stage, config: &Config) -> Shared<Router> {
    let settings = config.server(&Https::default());
    Shared::new(settings, Arc::clone(&stage.router), stage.metrics.server.clone())
}
