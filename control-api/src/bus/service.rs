//! The part of the daemon that keeps the connection and publishes or takes events, with delays
//! after faults.

use std::{sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    consumer,
    error::Error,
    link::{Link, Up},
    publisher,
    settings::Settings,
    shared::Shared,
    status::{self, BusHealth},
};
use crate::{
    identity::Identity,
    store::{NodeRole, Store},
};

/// The delay after the first fault. It doubles with each.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The greatest delay.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// The delay after a fault that needs an operator.
const LASTING_DELAY: Duration = Duration::from_secs(30);

/// The bus. Clones share it.
#[derive(Debug, Clone)]
pub struct Bus(Arc<Shared>);

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
            () = self.run() => {}
            () = ending.cancelled() => {}
            () = stop.cancelled() => {}
        }
        self.0.status.connected(false);
    }
}

impl Bus {
    async fn run(&self) {
        let mut link = None;
        let mut delay = FIRST_DELAY;
        loop {
            // Otherwise another process has it still, or this one has closed it.
            let Ok(store) = self.0.platform.store().await else {
                sleep(FIRST_DELAY).await;
                continue;
            };
            let before = self.0.status.resumptions();
            let Err(err) = self.session(&store, &mut link).await else {
                drop(store);
                sleep(FIRST_DELAY).await;
                continue;
            };
            drop(store);
            if self.0.status.resumptions() != before {
                delay = FIRST_DELAY;
            }
            let is_new = self.0.status.failed(&err);
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
                let status = Arc::clone(&self.0.status);
                let up: Up = Box::new(move |is_up| status.connected(is_up));
                let connected = Link::connect(&self.0.settings, up).await?;
                self.0.status.connected(true);
                info!(servers = self.0.settings.address.hosts().join(","), "connected to the bus");
                none.insert(connected)
            }
        };
        match self.0.platform.role() {
            NodeRole::Writer => publisher::publish(&self.0, store, link).await,
            NodeRole::Replica => consumer::consume(&self.0, store, link).await,
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
