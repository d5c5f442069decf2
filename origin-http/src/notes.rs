//! The processing of a request, for diagnosis: Server-Timing in the response, and fields of the
//! access log.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use media_core::ChannelName;

use crate::answer;

/// W3C Server Timing; pages of any origin may read it, because all responses have
/// Timing-Allow-Origin.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// Shorter times are not reported.
const LEAST: Duration = Duration::from_micros(50);

/// Notes of one request.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Time for which it waited for media.
    pub(crate) held: Duration,
    /// The channel of the request, if a log needs it.
    pub(crate) channel: Option<ChannelName>,
    logged: bool,
}

impl Notes {
    /// Empty notes; `logged` if there is an access log.
    pub(crate) fn new(logged: bool) -> Self {
        Self {
            logged,
            ..Self::default()
        }
    }

    /// Whether a log needs them.
    pub(crate) fn is_logged(&self) -> bool {
        self.logged
    }

    /// Records the channel.
    pub(crate) fn about(&mut self, channel: &ChannelName) {
        if self.logged {
            self.channel = Some(channel.clone());
        }
    }

    /// Adds the notes to the response's header.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        if self.held >= LEAST {
            timing(headers, "hold", None, Some(self.held));
        }
    }
}

/// Adds a metric to the response's Server-Timing: its name, description and duration. The texts are
/// ours, and valid tokens.
pub(crate) fn timing(headers: &mut HeaderMap, name: &str, description: Option<&str>, duration: Option<Duration>) {
    let told = headers.get(&SERVER_TIMING).and_then(|told| told.to_str().ok());
    let (told, comma) = told.map_or(("", ""), |told| (told, ", "));
    let (desc, description) = description.map_or(("", ""), |description| (";desc=", description));
    let metric = match duration.map(|duration| (duration.as_micros() + 50) / 100) {
        Some(tenths) => {
            let (ms, tenth) = (tenths / 10, tenths % 10);
            answer::value(format_args!("{told}{comma}{name}{desc}{description};dur={ms}.{tenth}"))
        }
        None => answer::value(format_args!("{told}{comma}{name}{desc}{description}")),
    };
    headers.insert(SERVER_TIMING, metric);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_stand_in_one_field_in_the_order_in_which_they_are_told() {
        let mut headers = HeaderMap::new();
        Notes::default().tell(&mut headers);
        assert!(headers.is_empty());
        timing(&mut headers, "edge", Some("hit"), None);
        let held = Notes {
            held: Duration::from_micros(12_340),
            ..Notes::default()
        };
        held.tell(&mut headers);
        timing(&mut headers, "origin", Some("first"), Some(Duration::from_millis(5)));
        assert_eq!(
            headers[&SERVER_TIMING],
            "edge;desc=hit, hold;dur=12.3, origin;desc=first;dur=5.0"
        );
    }
}
