//! In place of `traces` in a program without the feature `otel`: there are no traces. The
//! configuration refuses a collector.

use std::convert::Infallible;

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tracing::Subscriber;
use tracing_subscriber::{Layer, layer::Identity, registry::LookupSpan};

use crate::config;

/// Never happens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {}

/// The source of spans, which does not exist.
#[derive(Debug)]
pub(crate) struct Traces(Infallible);

/// Their export, which does not exist.
#[derive(Debug)]
pub(crate) struct Export(Infallible);

impl Traces {
    pub(crate) fn new(_: &config::Traces) -> Result<Option<(Self, Export)>, Error> {
        Ok(None)
    }

    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        Identity::new()
    }
}

impl Export {
    pub(crate) fn register(&self, _: &mut Registry) {
        match self.0 {}
    }

    pub(crate) async fn serve(self, _: CancellationToken) {
        match self.0 {}
    }
}
