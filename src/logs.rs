//! Where messages go: stderr, as text for people or as JSON for collectors. `RUST_LOG` says which; `info` if it does not.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// How a message is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Sends the process' messages to stderr from here on.
///
/// # Errors
/// `RUST_LOG` is not a filter.
pub(crate) fn init(format: Format) -> Result<(), String> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => filter
            .parse::<EnvFilter>()
            .map_err(|err| format!("RUST_LOG: {err}; such as info or info,packager=debug"))?,
        _ => EnvFilter::new("info"),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match format {
        Format::Text => registry.with(layer.with_ansi(io::stderr().is_terminal())).init(),
        Format::Json => registry.with(layer.json()).init(),
    }
    Ok(())
}
