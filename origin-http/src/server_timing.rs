//! The processing of a request, for diagnosis: Server-Timing in the response, and fields of the
//! access log.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use media_core::ChannelName;

use crate::response;

/// W3C Server Timing; pages of any origin may read it, because all responses have
/// Timing-Allow-Origin.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// Shorter times are not reported.
const LEAST: Duration = Duration::from_micros(50);

/// The measured times of one request.
#[derive(Debug, Default)]
pub(crate) struct ServerTiming {
    /// Time for which it waited for media.
    pub(crate) held: Duration,
    /// The channel of the request, if a log needs it.
    pub(crate) channel: Option<ChannelName>,
    logged: bool,
}

impl ServerTiming {
    /// No times yet; `logged` if there is an access log.
    pub(crate) fn new(logged: bool) -> Self {
        Self {
            logged,
            ..Self::default()
        }
    }

    /// Whether a log needs the channel.
    pub(crate) fn is_logged(&self) -> bool {
        self.logged
    }

    /// Records the channel.
    pub(crate) fn set_channel(&mut self, channel: &ChannelName) {
        if self.logged {
            self.channel = Some(channel.clone());
        }
    }

    /// Adds them to the response's header.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if self.held >= LEAST {
            add(headers, "hold", None, Some(self.held));
        }
    }
}

/// Adds a metric to the response's Server-Timing: its name, description and duration. The texts are
/// ours, and valid tokens.
pub(crate) fn add(headers: &mut HeaderMap, name: &str, description: Option<&str>, duration: Option<Duration>) {
    let before = headers.get(&SERVER_TIMING).and_then(|before| before.to_str().ok());
    let (before, comma) = before.map_or(("", ""), |before| (before, ", "));
    let (desc, description) = description.map_or(("", ""), |description| (";desc=", description));
    let metric = match duration.map(|duration| (duration.as_micros() + 50) / 100) {
        Some(tenths) => {
            let (ms, tenth) = (tenths / 10, tenths % 10);
            response::value(format_args!(
                "{before}{comma}{name}{desc}{description};dur={ms}.{tenth}"
            ))
        }
        None => response::value(format_args!("{before}{comma}{name}{desc}{description}")),
    };
    headers.insert(SERVER_TIMING, metric);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_in_one_field_in_the_order_in_which_they_are_added() {
        let mut headers = HeaderMap::new();
        ServerTiming::default().write(&mut headers);
        assert!(headers.is_empty());
        add(&mut headers, "edge", Some("hit"), None);
        let held = ServerTiming {
            held: Duration::from_micros(12_340),
            ..ServerTiming::default()
        };
        held.write(&mut headers);
        add(&mut headers, "origin", Some("first"), Some(Duration::from_millis(5)));
        assert_eq!(
            headers[&SERVER_TIMING],
            "edge;desc=hit, hold;dur=12.3, origin;desc=first;dur=5.0"
        );
    }
}
