//! The output of messages: stderr, as readable text or as JSON for collectors. `RUST_LOG` selects
//! them at the start, and the operator at run time; the default is `info`. No message is repeated
//! without limit (`limit`). A line of JSON names the request and the span in which it was logged
//! (`json`).
//!
//! Spans of the target [`TRACES`] are for the export of traces alone: without one they are
//! disabled, and no line has them.

mod json;
mod limit;

use std::{
    convert::Infallible,
    io::{self, IsTerminal},
    sync::{Mutex, OnceLock, PoisonError},
    time::Instant,
};

use net_core::TRACES;
use tokio::time::interval;
use tracing::{Subscriber, warn};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{LevelFilter, ParseError, filter_fn},
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

use self::{
    json::WithIds,
    limit::{Limit, WINDOW},
};
use crate::traces::Traces;

/// The limit of this process' messages.
static LIMIT: OnceLock<Limit> = OnceLock::new();

/// The filter of this process' messages.
static FILTER: OnceLock<Filter> = OnceLock::new();

/// A filter that can be replaced.
struct Filter {
    handle: reload::Handle<EnvFilter, Registry>,
    /// The filter in force, as the operator reads it.
    shown: Mutex<String>,
    /// The level of spans that are exported.
    traces: LevelFilter,
}

impl Filter {
    /// The filter that is applied for one of the operator.
    fn complete(filter: EnvFilter, traces: LevelFilter) -> EnvFilter {
        // The operator selects messages, and neither adds nor removes traces.
        match format!("{TRACES}={traces}").parse() {
            Ok(directive) => filter.add_directive(directive),
            Err(_) => filter,
        }
    }
}

/// The format of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Readable lines.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `RUST_LOG` is not a valid filter.
#[derive(Debug, thiserror::Error)]
#[error("RUST_LOG: {0}; such as info or info,packager=debug")]
pub(crate) struct BadFilter(#[from] ParseError);

/// The filter cannot be replaced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LevelError {
    /// It is not valid.
    #[error("{0}; such as info or info,packager=debug")]
    Invalid(#[from] ParseError),
    /// This process has no output of messages.
    #[error("the filter of this process cannot be replaced")]
    Fixed,
}

/// The filter in force.
pub(crate) fn level() -> String {
    let filter = FILTER.get();
    let shown = filter.map(|filter| filter.shown.lock().unwrap_or_else(PoisonError::into_inner));
    shown.map(|shown| shown.clone()).unwrap_or_default()
}

/// Replaces the filter.
///
/// # Errors
/// [`LevelError`]; the previous filter stays in force.
pub(crate) fn set_level(filter: &str) -> Result<(), LevelError> {
    // Values of fields are compared as texts, because a pattern could be expensive to match.
    let filter = EnvFilter::builder().with_regex(false).parse(filter)?;
    let own = FILTER.get().ok_or(LevelError::Fixed)?;
    let mut shown = own.shown.lock().unwrap_or_else(PoisonError::into_inner);
    let text = filter.to_string();
    let complete = Filter::complete(filter, own.traces);
    own.handle.reload(complete).map_err(|_| LevelError::Fixed)?;
    *shown = text;
    Ok(())
}

/// Sends the process' messages to stderr from now on, and spans to the export of traces, if there
/// is one.
///
/// # Errors
/// [`BadFilter`].
pub(crate) fn init(format: Format, traces: Option<&Traces>) -> Result<(), BadFilter> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => filter.parse::<EnvFilter>()?,
        _ => EnvFilter::new("info"),
    };
    let shown = Mutex::new(filter.to_string());
    let level = if traces.is_some() { LevelFilter::INFO } else { LevelFilter::OFF };
    // The limit is a separate layer: if it refuses an event, no other layer formats it.
    let limit = LIMIT.get_or_init(Limit::default).clone();
    let (filter, handle) = reload::Layer::new(Filter::complete(filter, level));
    FILTER.get_or_init(|| Filter { handle, shown, traces: level });
    let registry = tracing_subscriber::registry().with(filter).with(limit);
    let is_for_log = filter_fn(|metadata| metadata.target() != TRACES);
    match (format, traces) {
        (Format::Text, None) => registry.with(text()).init(),
        (Format::Json, None) => registry.with(json()).init(),
        (Format::Text, Some(traces)) => {
            registry.with(traces.layer()).with(text().with_filter(is_for_log)).init();
        }
        (Format::Json, Some(traces)) => {
            registry.with(traces.layer()).with(json().with_filter(is_for_log)).init();
        }
    }
    Ok(())
}

/// Readable lines.
fn text<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    // Colours only on a terminal: files and collectors would contain the escape sequences.
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    layer.with_ansi(io::stderr().is_terminal())
}

/// Lines of JSON.
fn json<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().json().with_writer(io::stderr);
    layer.event_format(WithIds::default())
}

/// Reports the number of suppressed messages at intervals.
pub(crate) async fn report_suppressed() -> Infallible {
    let mut pause = interval(WINDOW);
    loop {
        pause.tick().await;
        let Some(limit) = LIMIT.get() else { continue };
        // This message has one place in the source, so it is limited too.
        for suppressed in limit.take_suppressed(Instant::now()) {
            let (target, line, count) = (suppressed.target, suppressed.line, suppressed.count);
            warn!(from = target, line, count, "messages suppressed: limit of this place reached");
        }
    }
}
