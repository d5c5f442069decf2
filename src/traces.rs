//! The export of traces by OTLP over HTTP. Spans of the target [`TRACES`] that have ended wait in a
//! bounded queue (`queue`), and one task posts them in batches (`export`) with a client of its own
//! (`client`). A collector that is slow or down costs spans, which are counted, and nothing else.
//!
//! Without a configured collector there is no layer: the spans are disabled where they are created.

mod client;
mod error;
mod export;
mod metrics;
mod queue;

use std::collections::HashMap;

use net_core::TRACES;
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider, SpanExporter as _},
};
use tracing::Subscriber;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use self::{client::Client, metrics::Metrics, queue::Queue};
pub(crate) use self::{error::Error, export::Export};
use crate::config;

/// Greatest number of attributes of a span.
const MAX_ATTRIBUTES: u32 = 32;

/// The source of exported spans.
#[derive(Debug)]
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// The source and the export of spans, if a collector is configured. Blocks for the certificate
    /// authorities.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn new(config: &config::Traces) -> Result<Option<(Self, Export)>, Error> {
        let Some(endpoint) = config.endpoint() else { return Ok(None) };
        let resource = Resource::builder_empty()
            .with_service_name(config.service.as_str().to_owned())
            .with_attributes([KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))])
            .build();
        let client = Client::new(&endpoint, &config.ca)?;
        let status = client.status();
        let headers = config.headers.iter().filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        });
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(endpoint.to_string())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(client::LIMIT)
            .with_headers(headers.collect::<HashMap<_, _>>())
            .build()?;
        exporter.set_resource(&resource);
        let metrics = Metrics::default();
        let (queue, waiting) = Queue::new(metrics.clone());
        // A caller that has decided is followed: traces are whole, or not there.
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.ratio())));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue)
            .with_sampler(sampler)
            .with_resource(resource)
            .with_max_attributes_per_span(MAX_ATTRIBUTES)
            .build();
        Ok(Some((Self(provider), Export::new(exporter, status, waiting, metrics))))
    }

    /// The layer that makes traces of spans. Events are no part of them.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("streamforge"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target() == TRACES))
    }
}

#[cfg(test)]
mod tests;
