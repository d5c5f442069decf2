//! The header `traceparent` (W3C Trace Context, 3.2): read from requests, written into deliveries.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::identifiers::{Ids, TRACEPARENT};

/// Further data of the caller's tracing system (W3C Trace Context, 3.3).
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Longest accepted text of it, in bytes; the standard asks for at least 512.
const MAX_STATE: usize = 512;
/// The only version that is known.
const VERSION: &str = "00";

/// The identifiers of the active span, if there is one.
pub fn current() -> Option<Ids> {
    let context = active()?;
    let (trace, span) = (context.trace_id().to_string(), context.span_id().to_string());
    Some(Ids { trace, span })
}

/// The header that names the active span, for a request to others.
pub fn traceparent() -> Option<HeaderValue> {
    let context = active()?;
    let flags = u8::from(context.is_sampled());
    let text = format!("{VERSION}-{}-{}-{flags:02x}", context.trace_id(), context.span_id());
    HeaderValue::from_str(&text).ok()
}

fn active() -> Option<SpanContext> {
    let context = Context::current();
    let span = context.span();
    Some(span.span_context().clone()).filter(SpanContext::is_valid)
}

/// Makes the span a child of the one that the headers name.
pub(super) fn continue_trace(span: &Span, headers: &HeaderMap) {
    if let Some(caller) = caller(headers) {
        // It fails only for a span that is not exported.
        let _ = span.set_parent(Context::new().with_remote_span_context(caller));
    }
}

/// The span that the headers name. A header that is not valid is ignored (3.2.2.3).
fn caller(headers: &HeaderMap) -> Option<SpanContext> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let (Some(parent), None) = (given.next(), given.next()) else { return None };
    let (trace, span, flags) = parse(parent.to_str().ok()?)?;
    // It may be given in several lines, which are one list (3.3.1).
    let state = headers.get_all(TRACESTATE).iter().filter_map(|state| state.to_str().ok());
    let state = state.collect::<Vec<_>>().join(",");
    let state = Some(state).filter(|state| state.len() <= MAX_STATE);
    let state = state.and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    let context = SpanContext::new(trace, span, flags, true, state);
    Some(context).filter(SpanContext::is_valid)
}

/// Parses `version-trace-span-flags`. A later version may have more behind the flags.
fn parse(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut parts = text.splitn(5, '-');
    let mut part = |digits: usize| {
        let part = parts.next()?;
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (part.len() == digits && part.bytes().all(is_hex)).then_some(part)
    };
    let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    let has_more = parts.next().is_some();
    if version == "ff" || (version == VERSION && has_more) {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).ok()?;
    let trace = TraceId::from(u128::from_str_radix(trace, 16).ok()?);
    let span = SpanId::from(u64::from_str_radix(span, 16).ok()?);
    Some((trace, span, TraceFlags::new(flags) & TraceFlags::SAMPLED))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&str, &str)| {
            let name = name.parse::<HeaderName>().expect("a name");
            (name, value.parse::<HeaderValue>().expect("a value"))
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn a_valid_header_names_the_callers_span() {
        for (flags, is_sampled) in [("01", true), ("00", false), ("ff", true)] {
            let parent = format!("00-{TRACE}-{SPAN}-{flags}");
            let state = [("tracestate", "a=1"), ("tracestate", "b=2")];
            let lines = [&[("traceparent", parent.as_str())][..], &state].concat();
            let caller = caller(&headers(&lines)).expect("a span");
            assert_eq!(caller.trace_id().to_string(), TRACE);
            assert_eq!(caller.span_id().to_string(), SPAN);
            assert_eq!((caller.is_sampled(), caller.is_remote()), (is_sampled, true));
            assert_eq!(caller.trace_state().header(), "a=1,b=2");
        }
        // A later version.
        let parent = format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like");
        assert!(caller(&headers(&[("traceparent", &parent)])).is_some());
    }

    #[test]
    fn a_header_that_is_not_valid_names_none() {
        let valid = format!("00-{TRACE}-{SPAN}-01");
        for parent in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
            format!(" {valid} "),
            "x".repeat(10_000),
        ] {
            assert!(caller(&headers(&[("traceparent", &parent)])).is_none(), "{parent}");
        }
        let twice = [("traceparent", valid.as_str()), ("traceparent", valid.as_str())];
        assert!(caller(&headers(&twice)).is_none());
        // The state alone is dropped.
        let long = format!("a={}", "x".repeat(600));
        let lines = [("traceparent", valid.as_str()), ("tracestate", long.as_str())];
        let found = caller(&headers(&lines)).expect("a span");
        assert_eq!(found.trace_state().header(), "");
    }

    #[test]
    fn without_a_span_there_is_no_header() {
        assert_eq!(current(), None);
        assert_eq!(traceparent(), None);
    }
}
