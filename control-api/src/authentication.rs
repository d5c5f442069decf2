//! The credentials of a request: who sends it. A layer of all routes of the platform.
//!
//! `Authorization: Bearer` has the administrator's token of the configuration, an access token, or
//! an API key; a browser may have an access token in a cookie. The account of a session or key is
//! read at each request, so that one that has ended is refused at once.

use axum::{
    extract::{FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use control_domain::{Actor, Scope, id::SessionId};
use http::{HeaderMap, Method, header, request::Parts};

use crate::{
    Administrator,
    caller::{self, Operator},
    identity::{
        self, Identity,
        cookie::{self, Tls},
    },
    problem::{Kind, Problem},
};

/// The actor of a request, as an extractor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender(pub Actor);

impl<S: Send + Sync> FromRequestParts<S> for Sender {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // Without the layer, nobody is signed in.
        Ok(parts.extensions.get().copied().unwrap_or(Self(Actor::Anonymous)))
    }
}

/// The session of a request, as an extractor; `None` with other credentials than an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current(pub Option<SessionId>);

impl<S: Send + Sync> FromRequestParts<S> for Current {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get().copied().unwrap_or(Self(None)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Tls {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(tls(&parts.extensions))
    }
}

/// Whether a request arrived on TLS; no, if the listener does not say so.
fn tls(extensions: &http::Extensions) -> Tls {
    extensions.get().copied().unwrap_or(Tls(false))
}

/// Checks credentials.
#[derive(Debug, Clone)]
pub struct Authentication {
    /// The operator's token.
    administrator: Administrator,
    /// The accounts, if there are any.
    identity: Option<Identity>,
}

impl Authentication {
    /// Accepts the administrator's token.
    pub fn new(administrator: Administrator) -> Self {
        Self { administrator, identity: None }
    }

    /// Accepts the tokens and keys of accounts, too.
    #[must_use]
    pub fn with_identity(self, identity: Option<Identity>) -> Self {
        Self { identity, ..self }
    }

    /// The credentials of a request.
    ///
    /// # Errors
    /// 401 for a token that is not valid; 403 for a cookie that another site's page has sent.
    async fn check(&self, request: &Parts) -> Result<Checked, Problem> {
        match (bearer(&request.headers), &self.identity) {
            (Some(token), _) if self.administrator.has(token) => Ok(Checked::Operator),
            (Some(token), Some(identity)) => match identity.credentials(token).await? {
                Some(credentials) => Ok(Checked::Account(credentials)),
                None => Err(invalid()),
            },
            (Some(_), None) => Err(invalid()),
            (None, Some(identity)) => self.cookie(request, identity).await,
            (None, None) => Ok(Checked::Nobody),
        }
    }

    /// The credentials in a cookie. One that is not valid is none: a browser sends it also to
    /// routes for everybody, and to the one that replaces it.
    async fn cookie(&self, request: &Parts, identity: &Identity) -> Result<Checked, Problem> {
        let tls = tls(&request.extensions);
        let Some(token) = cookie::access(&request.headers, tls) else {
            return Ok(Checked::Nobody);
        };
        let Some(credentials) = identity.credentials(token).await? else {
            return Ok(Checked::Nobody);
        };
        // A key is for programs; a browser has no business with one in a cookie.
        if credentials.session.is_none() {
            return Ok(Checked::Nobody);
        }
        cookie::check_site(&request.method, &request.uri, &request.headers, tls)?;
        Ok(Checked::Account(credentials))
    }
}

/// The result of the check.
enum Checked {
    Nobody,
    Operator,
    Account(identity::Credentials),
}

fn invalid() -> Problem {
    let words = "this token is unknown, revoked or expired: sign in, or refresh it";
    Problem::new(Kind::InvalidToken, words)
}

/// A layer that adds the [`Sender`] to a request, or refuses it.
pub async fn authenticate(
    State(authentication): State<Authentication>,
    request: Request,
    next: Next,
) -> Response {
    let (mut head, body) = request.into_parts();
    let checked = match head.extensions.get() {
        Some(Operator) => Ok(Checked::Operator),
        None => authentication.check(&head).await,
    };
    let checked = match checked {
        Ok(checked) => checked,
        Err(problem) => return problem.into_response(),
    };
    let actor = match checked {
        Checked::Nobody => Actor::Anonymous,
        Checked::Operator => Actor::System,
        Checked::Account(identity::Credentials { actor, account, session }) => {
            // Keys of one account share its limits.
            head.extensions.insert(caller::Account(account.uuid()));
            head.extensions.insert(Current(session));
            actor
        }
    };
    if matches!(head.method, Method::GET | Method::HEAD) && !actor.reaches(Some(Scope::Read)) {
        let words = "reading is beyond the scopes of this API key: it needs the scope read";
        return Problem::new(Kind::InsufficientScope, words).into_response();
    }
    head.extensions.insert(Sender(actor));
    next.run(Request::from_parts(head, body)).await
}

/// The credentials of a request to a route of the media server, which are checked by the route.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    /// All headers.
    pub(crate) headers: HeaderMap,
    /// Whether the operator sends it through the control socket.
    pub(crate) is_operator: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Credentials {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let is_operator = parts.extensions.get::<Operator>().is_some();
        Ok(Self { headers: parts.headers.clone(), is_operator })
    }
}

/// The token of an `Authorization: Bearer` header (RFC 6750 2.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}
