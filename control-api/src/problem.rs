//! Errors of the API: RFC 9457 problem details. The type is always `about:blank`, so the title is
//! the status' own phrase (RFC 9457 4.2.1) and the detail gives the cause and the remedy.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

/// A problem as sent, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// `about:blank`: the status is the only type.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    /// The phrase of the status.
    #[schema(example = "Not Found")]
    title: &'static str,
    /// The HTTP status.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = u16, example = 404)]
    status: StatusCode,
    /// The cause, and the remedy.
    #[schema(example = "channel demo is not live")]
    detail: Cow<'static, str>,
    /// WWW-Authenticate of a 401 (RFC 6750 3).
    #[serde(skip)]
    challenge: Option<&'static str>,
}

impl Problem {
    /// A problem with this status. `detail` is one sentence for the developer of the client: the
    /// cause and the remedy.
    pub(crate) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { kind: "about:blank", title, status, detail: detail.into(), challenge: None }
    }

    /// 401 for a request without usable credentials: it has no error code (RFC 6750 3.1).
    pub(crate) fn unauthenticated(detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            challenge: Some("Bearer realm=\"streamforge\""),
            ..Self::new(StatusCode::UNAUTHORIZED, detail)
        }
    }

    /// 401 for a request with an invalid token. The error code is that of RFC 6750 3.1.
    pub(crate) fn invalid_token(detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            challenge: Some("Bearer realm=\"streamforge\", error=\"invalid_token\""),
            ..Self::new(StatusCode::UNAUTHORIZED, detail)
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // `Json` sets `application/json`, which is replaced: clients recognise a problem by its
        // content type (RFC 9457 3). A 401 must have a challenge (RFC 9110 15.5.2).
        let mut response = (self.status, axum::Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(challenge) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// Serialises the member `status`, which is a number (RFC 9457 3.1.2).
fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}
