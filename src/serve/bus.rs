//! The bus as a part of the daemon. Without the cargo feature `nats` there is none.

#[cfg(feature = "nats")]
pub(super) use with_nats::BusPart;
#[cfg(not(feature = "nats"))]
pub(super) use without::BusPart;

#[cfg(feature = "nats")]
mod with_nats {
    use control_api::{
        bus::{Bus, Settings},
        health::Check,
        identity::Identity,
    };
    use prometheus_client::registry::Registry;
    use rustls::RootCertStore;
    use tokio_util::sync::CancellationToken;

    use crate::{authorities, blocking, config::Config, serve::error::Error};

    /// The bus.
    pub(in crate::serve) struct BusPart(Bus);

    impl BusPart {
        /// The bus of a configuration; `None` if it is off. Connects to nothing yet.
        ///
        /// # Errors
        /// The certificate authorities cannot be read.
        pub(in crate::serve) async fn new(
            config: &Config,
            identity: &Identity,
        ) -> Result<Option<Self>, Error> {
            let bus = &config.bus;
            let Some(address) = bus.url.clone() else { return Ok(None) };
            let ca = bus.ca.clone();
            let roots = match address.is_encrypted() {
                true => {
                    let roots = blocking::run(move || authorities::load(&ca)).await;
                    roots.map_err(Error::BusAuthorities)?
                }
                false => RootCertStore::empty(),
            };
            let settings = Settings {
                address,
                credentials: bus.credentials.clone(),
                token: bus.token.clone(),
                roots,
                stream: bus.stream.clone(),
                prefix: bus.subject_prefix.clone(),
                copies: bus.copies(),
            };
            Ok(Some(Self(Bus::new(settings, identity.clone()))))
        }

        /// Adds the metrics.
        pub(in crate::serve) fn register(&self, registry: &mut Registry) {
            self.0.register(registry);
        }

        /// The health check.
        pub(in crate::serve) fn health(&self) -> Box<dyn Check> {
            Box::new(self.0.health())
        }

        /// Publishes or takes events until `stop`.
        pub(in crate::serve) async fn serve(self, stop: CancellationToken) {
            self.0.serve(stop.clone()).await;
            // It ends earlier in a process that has handed over the database.
            stop.cancelled().await;
        }
    }
}

#[cfg(not(feature = "nats"))]
mod without {
    use control_api::{health::Check, identity::Identity};
    use prometheus_client::registry::Registry;
    use tokio_util::sync::CancellationToken;

    use crate::{config::Config, serve::error::Error};

    /// There is none.
    pub(in crate::serve) enum BusPart {}

    impl BusPart {
        pub(in crate::serve) async fn new(_: &Config, _: &Identity) -> Result<Option<Self>, Error> {
            Ok(None)
        }

        pub(in crate::serve) fn register(&self, _: &mut Registry) {
            match *self {}
        }

        pub(in crate::serve) fn health(&self) -> Box<dyn Check> {
            match *self {}
        }

        pub(in crate::serve) async fn serve(self, _: CancellationToken) {
            match self {}
        }
    }
}
