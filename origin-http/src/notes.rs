//! What became of a request on its way to its answer, for those who look into it: Server-Timing in the answer, the access log beside it.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use media_core::ChannelName;

use crate::answer;

/// W3C Server Timing; pages of any origin may read it, for all answers bear Timing-Allow-Origin.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// Less than this is nothing to tell.
const LEAST: Duration = Duration::from_micros(50);

/// Notes of one request.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// How long it waited for what was yet to come.
    pub(crate) held: Duration,
    /// Whose media or lists it asked for, where a log wants to know.
    pub(crate) channel: Option<ChannelName>,
    logged: bool,
}

impl Notes {
    /// None yet; `logged` if they are for an access log too.
    pub(crate) fn new(logged: bool) -> Self {
        Self {
            logged,
            ..Self::default()
        }
    }

    /// Whether a log wants them.
    pub(crate) fn is_logged(&self) -> bool {
        self.logged
    }

    /// It is about this channel.
    pub(crate) fn about(&mut self, channel: &ChannelName) {
        if self.logged {
            self.channel = Some(channel.clone());
        }
    }

    /// Tells in the answer's header what there is to tell.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        if self.held >= LEAST {
            timing(headers, "hold", None, Some(self.held));
        }
    }
}

/// Adds a metric to the answer's Server-Timing: its name, what it is, how long it took. The texts are ours: tokens.
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
