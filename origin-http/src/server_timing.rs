//! The field Server-Timing of a response (W3C Server Timing), for diagnosis.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::response;

/// Pages may read it that may read the response's timings (`cors`, Timing-Allow-Origin).
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// Shorter times are not reported.
const LEAST: Duration = Duration::from_micros(50);

/// Adds the time for which a request waited for media.
pub(crate) fn add_hold(headers: &mut HeaderMap, held: Duration) {
    if held >= LEAST {
        add(headers, "hold", None, Some(held));
    }
}

/// Adds a metric to the response's Server-Timing: its name, description and duration. The texts are
/// ours, and valid tokens.
pub(crate) fn add(
    headers: &mut HeaderMap,
    name: &str,
    description: Option<&str>,
    duration: Option<Duration>,
) {
    // An edge adds its metric to that of its own wait; the origin's field is not forwarded.
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
        add_hold(&mut headers, Duration::ZERO);
        assert!(headers.is_empty());
        add(&mut headers, "edge", Some("hit"), None);
        add_hold(&mut headers, Duration::from_micros(12_340));
        add(&mut headers, "origin", Some("first"), Some(Duration::from_millis(5)));
        assert_eq!(
            headers[&SERVER_TIMING],
            "edge;desc=hit, hold;dur=12.3, origin;desc=first;dur=5.0"
        );
    }
}
