//! The part of the daemon that keeps the connection and publishes or takes events, with delays after
//! faults.

use std::{path::PathBuf, sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use rustls::RootCertStore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    Address, StreamName, SubjectPrefix, Token, consumer,
    error::Error,
    link::{Link, Up},
    publisher,
    status::{self, BusHealth, Status},
};
use crate::{
    Platform,
    identity::Identity,
    store::{NodeRole, Store},
};

/// The delay after the first fault. It doubles with each.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The greatest delay.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// The delay after a fault that needs an operator.
const LASTING_DELAY: Duration = Duration::from_secs(30);

/// The settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The servers.
    pub address: Address,
    /// A file with credentials (a JSON Web Token and its key); empty for none.
    pub credentials: PathBuf,
    /// A token; it is used in place of the credentials in the address.
    pub token: Option<Token>,
    /// The certificate authorities that are trusted.
    pub roots: RootCertStore,
    /// The stream.
    pub stream: StreamName,
    /// The first words of all subjects.
    pub prefix: SubjectPrefix,
    /// Servers that hold the stream, of those that the writer makes: 1, 3 or 5.
    pub copies: usize,
}

/// The bus. Clones share it.
#[derive(Debug, Clone)]
pub struct Bus(Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) status: Arc<Status>,
    platform: Platform,
    identity: Identity,
}

impl Shared {
    /// The public keys of the access tokens that this node issues.
    pub(super) fn token_keys(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(&self.identity.jwks()).ok()
    }

    /// Takes the public keys of the writer's access tokens.
    pub(super) fn learn_token_keys(&self, keys: &[u8]) {
        self.identity.learn(keys);
    }
}

impl Bus {
    /// The bus of a platform, which publishes its events, or takes them if it is a replica. Nothing
    /// happens until [`Bus::serve`].
    pub fn new(settings: Settings, identity: Identity) -> Self {
        let platform = identity.platform().clone();
        Self(Arc::new(Shared { settings, status: Arc::default(), platform, identity }))
    }

    /// Adds the metrics to a registry whose prefix is the product's name.
    pub fn register(&self, registry: &mut Registry) {
        status::register(&self.0.platform, &self.0.status, registry);
    }

    /// The check of its health.
    pub fn health(&self) -> BusHealth {
        BusHealth::new(self.0.platform.clone(), Arc::clone(&self.0.status))
    }

    /// Publishes or takes events until `stop`, or until the platform's database closes.
    pub async fn serve(self, stop: CancellationToken) {
        let ending = self.0.platform.ending();
        tokio::select! {
            () = self.0.run() => {}
            () = ending.cancelled() => {}
            () = stop.cancelled() => {}
        }
        self.0.status.connected(false);
    }
}

impl Shared {
    async fn run(&self) {
        let mut link = None;
        let mut delay = FIRST_DELAY;
        loop {
            // Otherwise another process has it still, or this one has closed it.
            let Ok(store) = self.platform.store().await else {
                sleep(FIRST_DELAY).await;
                continue;
            };
            let before = self.status.resumptions();
            let Err(err) = self.session(&store, &mut link).await else {
                drop(store);
                sleep(FIRST_DELAY).await;
                continue;
            };
            drop(store);
            if self.status.resumptions() != before {
                delay = FIRST_DELAY;
            }
            let is_new = self.status.failed(&err);
            match (is_new, err.is_lasting()) {
                (true, true) => error!(%err, "the bus has stopped: it is tried again in a while"),
                (true, false) => warn!(%err, "the bus is interrupted: trying again"),
                (false, _) => {}
            }
            if err.is_lasting() {
                sleep(LASTING_DELAY).await;
            } else {
                sleep(delay).await;
                delay = (delay * 2).min(MAX_DELAY);
            }
        }
    }

    /// Connects if there is no connection, and publishes or takes events until a fault.
    async fn session(&self, store: &Store, link: &mut Option<Link>) -> Result<(), Error> {
        let link = match link {
            Some(link) => link,
            none => {
                let status = Arc::clone(&self.status);
                let up: Up = Box::new(move |is_up| status.connected(is_up));
                let connected = Link::connect(&self.settings, up).await?;
                self.status.connected(true);
                info!(servers = self.settings.address.hosts().join(","), "connected to the bus");
                none.insert(connected)
            }
        };
        match self.platform.role() {
            NodeRole::Writer => publisher::publish(self, store, link).await,
            NodeRole::Replica => consumer::consume(self, store, link).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bus_can_be_a_part_of_the_daemon() {
        fn is_part<F: Future<Output = ()> + Send + 'static>(_: fn(Bus, CancellationToken) -> F) {}
        is_part(Bus::serve);
    }
}
