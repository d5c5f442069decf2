//! Lines of JSON with the members `request_id`, `trace_id` and `span_id`, if the message was logged
//! within a request or an exported span, so that a line, a response and a trace are found from each
//! other.

use std::fmt;

use control_api::{request_id::RequestId, traces};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{self, Format, Json, Writer},
    },
    registry::LookupSpan,
};

/// The format of a line.
#[derive(Debug)]
pub(super) struct WithIds(Format<Json>);

impl Default for WithIds {
    fn default() -> Self {
        Self(format::format().json())
    }
}

impl<S, N> FormatEvent<S, N> for WithIds
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (request, ids) = (RequestId::current(), traces::current());
        if request.is_none() && ids.is_none() {
            return self.0.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        // The members are added to the end of the line's object.
        let Some(object) = line.trim_end().strip_suffix('}') else {
            return writer.write_str(&line);
        };
        writer.write_str(object)?;
        // All three are of characters that JSON need not escape.
        if let Some(request) = request {
            write!(writer, r#","request_id":"{request}""#)?;
        }
        if let Some(traces::Ids { trace, span }) = ids {
            write!(writer, r#","trace_id":"{trace}","span_id":"{span}""#)?;
        }
        writer.write_str("}\n")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing::info;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_line_within_a_request_names_it_and_others_are_as_before() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().json().with_writer(move || writer.clone());
        let subscriber =
            tracing_subscriber::registry().with(layer.event_format(WithIds::default()));
        let _guard = tracing::subscriber::set_default(subscriber);
        info!(n = 1, "outside");
        let headers = [("x-request-id", "request-7")].into_iter().map(|(name, id)| {
            let name = name.parse::<http::HeaderName>().unwrap();
            (name, id.parse::<http::HeaderValue>().unwrap())
        });
        RequestId::of(&headers.collect()).scope(async { info!(n = 2, "inside }}") }).await;
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let [outside, inside] = &lines.collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert_eq!(outside.get("request_id"), None);
        assert_eq!(
            (&inside["request_id"], &inside["fields"]["n"]),
            (&"request-7".into(), &2.into())
        );
        assert_eq!(inside["fields"]["message"], "inside }");
    }
}
