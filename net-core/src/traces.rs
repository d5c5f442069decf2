//! The target of spans that are exported as traces: requests of the API, commands, deliveries,
//! publishers. Spans of other targets, and all events, are for the log alone.
//!
//! A span of this target is created for work that is rare beside media: never for a part, a segment
//! or a playlist. Its fields must have no secret and no personal data. Without an exporter such
//! spans are disabled, and cost one load of an atomic number.

/// The target of exported spans: `info_span!(target: TRACES, ...)`.
pub const TRACES: &str = "traces";
