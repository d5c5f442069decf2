//! The output of messages: stderr, as readable text or as JSON for collectors. `RUST_LOG` selects
//! them at the start, and the operator at run time; the default is `info`. No message is repeated
//! without limit (`limit`).

mod limit;

use std::{
    convert::Infallible,
    io::{self, IsTerminal},
    sync::OnceLock,
    time::Instant,
};

use tokio::time::interval;
use tracing::warn;
use tracing_subscriber::{
    EnvFilter, Registry, filter::ParseError, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use self::limit::{Limit, WINDOW};

/// The limit of this process' messages.
static LIMIT: OnceLock<Limit> = OnceLock::new();

/// Replaces the filter of this process' messages.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

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
    let filter = FILTER.get().and_then(|handle| handle.with_current(ToString::to_string).ok());
    filter.unwrap_or_default()
}

/// Replaces the filter.
///
/// # Errors
/// [`LevelError`]; the previous filter stays in force.
pub(crate) fn set_level(filter: &str) -> Result<(), LevelError> {
    // Values of fields are compared as texts, because a pattern could be expensive to match.
    let filter = EnvFilter::builder().with_regex(false).parse(filter)?;
    let handle = FILTER.get().ok_or(LevelError::Fixed)?;
    handle.reload(filter).map_err(|_| LevelError::Fixed)
}

/// Sends the process' messages to stderr from now on.
///
/// # Errors
/// [`BadFilter`].
pub(crate) fn init(format: Format) -> Result<(), BadFilter> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => filter.parse::<EnvFilter>()?,
        _ => EnvFilter::new("info"),
    };
    // The limit is a separate layer: if it refuses an event, no other layer formats it.
    let limit = LIMIT.get_or_init(Limit::default).clone();
    let (filter, handle) = reload::Layer::new(filter);
    FILTER.get_or_init(|| handle);
    let registry = tracing_subscriber::registry().with(filter).with(limit);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match format {
        // Colours only on a terminal: files and collectors would contain the escape sequences.
        Format::Text => registry.with(layer.with_ansi(io::stderr().is_terminal())).init(),
        Format::Json => registry.with(layer.json()).init(),
    }
    Ok(())
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
