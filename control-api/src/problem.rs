//! Errors of the API: RFC 9457 problem details. The `type` is a path of this server with a page
//! that explains it. `kind` is the table of all types, `description` their part of the OpenAPI
//! document; `documentation::problems` has their pages.
//!
//! The request's id is the extension member `request_id` and not `instance`, because `instance` is
//! a URI reference (RFC 9457 3.1.5), and the id, which a client may choose, is none: a client would
//! resolve it to an address of this server that does not exist.

mod description;
mod kind;

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use self::description::{common, problems, responses};
pub use self::kind::{Kind, Row};
use crate::{identity::ticket::Ticket, request_id::RequestId};

/// Maximum number of faults in one problem: a body of many faults must not have a larger response.
const MAX_FAULTS: usize = 32;

/// A problem, which is a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    kind: Kind,
    detail: Cow<'static, str>,
    errors: Vec<Fault>,
    /// The short name of the rule that a conflict violates.
    rule: Option<&'static str>,
    /// Retry-After in seconds.
    retry_after: Option<u64>,
    /// The ticket for the next step.
    ticket: Option<Box<Ticket>>,
    /// WWW-Authenticate of a 401 (RFC 6750 3).
    challenge: Option<&'static str>,
}

/// One fault of a request's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// The member at fault, as a JSON Pointer (RFC 6901).
    #[schema(example = "/title")]
    pub pointer: Cow<'static, str>,
    /// The rule that it violates.
    #[schema(example = "a title has 1 to 120 characters")]
    pub detail: Cow<'static, str>,
}

/// A problem as sent, `application/problem+json` (RFC 9457 3).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Sent<'a> {
    /// The type of the problem, as the path of the page that explains it.
    #[serde(rename = "type")]
    #[schema(example = "/problems/not-found")]
    kind: String,
    /// The phrase of the type.
    #[schema(example = "Not found")]
    title: &'a str,
    /// The HTTP status.
    #[schema(example = 404)]
    status: u16,
    /// The cause, and the remedy.
    #[schema(example = "channel demo is not live")]
    detail: &'a str,
    /// The id of the request, as in the header X-Request-Id and in the daemon's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String, example = "0199f3a2-7c1e-7d90-8a3b-5d1c2f4e6a70")]
    request_id: Option<String>,
    /// The faults of the body, if it is well-formed.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false, max_items = 32)]
    errors: &'a [Fault],
    /// The short name of the rule that a conflict violates, which does not change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String, example = "name_taken")]
    rule: Option<&'a str>,
    /// Of second-factor-required: the proof of the right password, for the next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String)]
    challenge: Option<&'a str>,
}

impl Problem {
    /// A problem of this kind. `detail` is one sentence for the developer of the client: the cause
    /// and the remedy.
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        // A 401 must have a challenge (RFC 9110 15.5.2). The error code is only for a request with
        // credentials (RFC 6750 3.1).
        let challenge = match kind {
            Kind::Unauthenticated | Kind::WrongCredentials | Kind::WrongCode => {
                Some("Bearer realm=\"streamforge\"")
            }
            Kind::InvalidToken => Some("Bearer realm=\"streamforge\", error=\"invalid_token\""),
            Kind::InsufficientScope => {
                Some("Bearer realm=\"streamforge\", error=\"insufficient_scope\"")
            }
            _ => None,
        };
        let (detail, errors) = (detail.into(), Vec::new());
        Self { kind, detail, errors, rule: None, retry_after: None, ticket: None, challenge }
    }

    /// Names the rule that a conflict violates.
    #[must_use]
    pub fn of_rule(self, rule: &'static str) -> Self {
        Self { rule: Some(rule), ..self }
    }

    /// Adds the ticket for the next step.
    #[must_use]
    pub(crate) fn with_ticket(self, ticket: Ticket) -> Self {
        Self { ticket: Some(Box::new(ticket)), ..self }
    }

    /// Names faults of the body. The first 32 are kept.
    #[must_use]
    pub fn with_errors(mut self, errors: impl IntoIterator<Item = Fault>) -> Self {
        self.errors.extend(errors);
        self.errors.truncate(MAX_FAULTS);
        self
    }

    /// Adds Retry-After.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// The cause, and the remedy.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The short name of the rule that a conflict violates.
    pub(crate) fn rule(&self) -> Option<&'static str> {
        self.rule
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.kind.row().status
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let row = self.kind.row();
        let sent = Sent {
            kind: self.kind.uri(),
            title: row.title,
            status: row.status.as_u16(),
            detail: &self.detail,
            request_id: RequestId::current().map(|id| id.to_string()),
            errors: &self.errors,
            rule: self.rule,
            challenge: self.ticket.as_deref().map(Ticket::expose),
        };
        // `Json` sets `application/json`, which is replaced: clients recognise a problem by its
        // content type (RFC 9457 3).
        let mut response = (row.status, axum::Json(sent)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(challenge) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        // For the metrics.
        response.extensions_mut().insert(self.kind);
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;

    async fn body(response: Response) -> Value {
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    #[tokio::test]
    async fn a_problem_has_the_members_of_rfc_9457_and_the_id_of_its_request() {
        let mut headers = http::HeaderMap::new();
        headers.insert(crate::request_id::HEADER, HeaderValue::from_static("abc"));
        let problem = Problem::new(Kind::Unavailable, "the store is busy").retry_after(3);
        let make = async { problem.into_response() };
        let response = RequestId::of(&headers).scope(make).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "3");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let expected = json!({
            "type": "/problems/unavailable", "title": "Unavailable", "status": 503,
            "detail": "the store is busy", "request_id": "abc",
        });
        assert_eq!(body(response).await, expected);
    }

    #[tokio::test]
    async fn the_faults_of_a_problem_are_listed_and_bounded() {
        let fault = Fault { pointer: "/title".into(), detail: "it is empty".into() };
        let problem = Problem::new(Kind::InvalidContent, "one member is invalid");
        let response = problem.with_errors(vec![fault; 100]).into_response();
        let body = body(response).await;
        assert_eq!(body["errors"][0], json!({ "pointer": "/title", "detail": "it is empty" }));
        assert_eq!(body["errors"].as_array().unwrap().len(), MAX_FAULTS);
    }

    #[test]
    fn every_401_has_a_challenge() {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.row().status == 401) {
            let response = Problem::new(kind, "no").into_response();
            assert!(response.headers().contains_key(header::WWW_AUTHENTICATE), "{kind:?}");
        }
    }
}
