//! Spans of requests, commands, queries, deliveries of webhooks and mails, which the daemon exports
//! as traces, and the header that joins them with the traces of others (W3C Trace Context).
//!
//! Names and attributes follow the semantic conventions of OpenTelemetry for HTTP
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>), version 1.37, as far as they
//! have no secret and no personal data: a span has no query, no header, no address of a person, and
//! the path of a known route alone.
//!
//! Without the feature `otel` nothing is exported and no trace is continued.

#[cfg_attr(not(feature = "otel"), path = "traces/absent.rs")]
mod context;
mod identifiers;
mod networks;

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use http::StatusCode;
use net_core::TRACES;
use tracing::{Span, field::Empty, info_span};

pub use self::{
    context::{current, traceparent},
    identifiers::{Ids, TRACEPARENT},
    networks::Networks,
};
use crate::caller::Caller;

/// Longest path in a span, in bytes.
const MAX_PATH: usize = 200;

/// The span of a request. It continues the trace of a caller that is trusted to name one, because
/// others could make this daemon export their requests.
pub(crate) fn request(request: &Request, id: &str, trusted: &Networks) -> Span {
    let span = info_span!(
        target: TRACES,
        "request",
        otel.name = Empty,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = Empty,
        http.response.status_code = Empty,
        http.route = Empty,
        url.path = Empty,
        "error.type" = Empty,
        request.id = Empty,
    );
    if span.is_disabled() {
        return span;
    }
    let method = method(request.method().as_str());
    match request.extensions().get::<MatchedPath>() {
        Some(route) => {
            let (route, path) = (route.as_str(), request.uri().path());
            span.record("otel.name", format!("{method} {route}"));
            span.record("http.route", route);
            // The path of another route may be anything, such as one with a token.
            span.record("url.path", &path[..path.floor_char_boundary(MAX_PATH)]);
        }
        None => {
            span.record("otel.name", method);
        }
    }
    span.record("http.request.method", method);
    span.record("request.id", id);
    let caller = request.extensions().get::<Caller>();
    if caller.is_some_and(|caller| caller.ours || trusted.contains(caller.address)) {
        context::continue_trace(&span, request.headers());
    }
    span
}

/// Adds the status of the response to the span of a request or a delivery.
pub(crate) fn respond(span: &Span, status: StatusCode, is_fault: bool) {
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if is_fault {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", status.as_str());
    }
}

/// A method of HTTP, or `_OTHER`, as the conventions want it.
fn method(method: &str) -> &'static str {
    match method {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "_OTHER",
    }
}

/// The span of a command, from its sender's side of the queue to the commit.
#[derive(Debug)]
pub(crate) struct CommandSpan {
    span: Span,
    /// When it was sent, and when it was decided. `None` if nobody looks.
    sent: Option<Instant>,
    decided: Option<Instant>,
}

impl CommandSpan {
    /// The span of a command that is sent now.
    pub(crate) fn new(name: &'static str) -> Self {
        let span = info_span!(
            target: TRACES,
            "command",
            otel.name = name,
            otel.status_code = Empty,
            "error.type" = Empty,
            command.name = name,
            command.wait_us = Empty,
            command.commit_us = Empty,
            command.events = Empty,
            command.outcome = Empty,
        );
        let sent = (!span.is_disabled()).then(Instant::now);
        Self { span, sent, decided: None }
    }

    /// The span itself.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// It was decided: the time since it was sent is the wait for the thread that writes.
    pub(crate) fn decided(&mut self, events: usize) {
        let Some(sent) = self.sent else { return };
        let now = Instant::now();
        self.decided = Some(now);
        self.span.record("command.wait_us", micros(sent, now));
        self.span.record("command.events", i64::try_from(events).unwrap_or(i64::MAX));
    }

    /// It is durable, or refused: the time since it was decided is that of the group's commit.
    pub(crate) fn ended(&self, outcome: &'static str, is_fault: bool) {
        if self.sent.is_none() {
            return;
        }
        if let Some(decided) = self.decided {
            self.span.record("command.commit_us", micros(decided, Instant::now()));
        }
        self.span.record("command.outcome", outcome);
        if is_fault {
            self.span.record("otel.status_code", "ERROR");
            self.span.record("error.type", outcome);
        }
    }
}

fn micros(from: Instant, to: Instant) -> i64 {
    i64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(i64::MAX)
}

/// The span of a query: the name of its function.
pub(crate) fn query<Q>(_: &Q) -> Span {
    let span = info_span!(
        target: TRACES,
        "query",
        otel.name = Empty,
        code.function.name = Empty,
    );
    if !span.is_disabled() {
        let function = function::<Q>();
        span.record("otel.name", format!("query {function}"));
        span.record("code.function.name", function);
    }
    span
}

/// The function in which a closure is written: its last module and its name.
fn function<Q>() -> &'static str {
    // For example `control_api::api::tags::list_tags::{{closure}}::{{closure}}`. Types in the name
    // of a generic function are not wanted.
    let name = std::any::type_name::<Q>();
    let name = name.split(['<', '{']).next().unwrap_or(name).trim_end_matches(':');
    let parts = name.rmatch_indices("::").nth(1).map_or(0, |(at, _)| at + 2);
    &name[parts..]
}

/// The span of one delivery of a webhook.
pub(crate) fn delivery(event: &str) -> Span {
    info_span!(
        target: TRACES,
        "webhook delivery",
        otel.name = "POST webhook",
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = "POST",
        http.response.status_code = Empty,
        "error.type" = Empty,
        event.id = event,
    )
}

/// The span of one attempt to send a mail.
pub(crate) fn mail(kind: &'static str, attempt: u32) -> Span {
    info_span!(
        target: TRACES,
        "mail",
        otel.name = "send mail",
        otel.kind = "client",
        otel.status_code = Empty,
        "error.type" = Empty,
        mail.kind = kind,
        mail.attempt = i64::from(attempt),
    )
}

/// Marks a span as failed, with a short name of the reason.
pub(crate) fn fail(span: &Span, reason: &'static str) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", reason);
}

#[cfg(test)]
mod tests;
