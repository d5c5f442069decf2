//! The faults of the settings.

use opentelemetry_otlp::ExporterBuildError;

use crate::authorities;

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// `traces.ca` has no certificate authorities.
    #[error("traces.ca: {0}")]
    Authorities(#[from] authorities::Error),
    /// The TLS settings are not supported.
    #[error("traces: {0}")]
    Tls(#[from] rustls::Error),
    /// The settings are not accepted, or a variable OTEL_EXPORTER_OTLP_... of the environment.
    #[error("traces: {0}")]
    Exporter(#[from] ExporterBuildError),
}
