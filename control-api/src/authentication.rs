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
use control_domain::{Actor, Door, Scope, id::SessionId};
use http::{HeaderMap, HeaderName, Method, header, request::Parts};

use crate::{
    Administrator,
    caller::{self, Caller, Operator},
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

    /// The actor of a request to a route without the layer.
    ///
    /// # Errors
    /// As of the layer.
    pub(crate) async fn actor(&self, request: &Parts) -> Result<Actor, Problem> {
        Ok(self.checked(request).await?.actor())
    }

    /// The credentials of a request, or the operator's socket.
    async fn checked(&self, request: &Parts) -> Result<Checked, Problem> {
        match request.extensions.get() {
            Some(Operator) => Ok(Checked::Operator(Door::Socket)),
            None => self.check(request).await,
        }
    }

    /// The credentials of a request.
    ///
    /// # Errors
    /// 401 for a token that is not valid; 403 for a cookie that another site's page has sent.
    async fn check(&self, request: &Parts) -> Result<Checked, Problem> {
        match (bearer(&request.headers), &self.identity) {
            (Some(token), _) if self.administrator.has(token) => Ok(Checked::Operator(Door::Token)),
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
    Operator(Door),
    Account(identity::Credentials),
}

impl Checked {
    /// The actor with these credentials.
    fn actor(&self) -> Actor {
        match *self {
            Self::Nobody => Actor::Anonymous,
            Self::Operator(door) => Actor::Operator(door),
            Self::Account(identity::Credentials { actor, .. }) => actor,
        }
    }
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
    let checked = match authentication.checked(&head).await {
        Ok(checked) => checked,
        Err(problem) => return problem.into_response(),
    };
    let actor = checked.actor();
    if let Checked::Account(identity::Credentials { account, session, .. }) = checked {
        // Keys of one account share its limits.
        head.extensions.insert(caller::Account(account.uuid()));
        head.extensions.insert(Current(session));
    }
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
    /// Whether the operator sends it through the control socket, or another process of this daemon
    /// has permitted it.
    pub(crate) is_operator: bool,
    /// Whether another process of this daemon passes it on.
    pub(crate) is_passed_on: bool,
}

/// The header of a request that another process of this daemon passes on and has permitted itself,
/// because it alone can read the accounts. It counts on the socket between the processes alone.
pub(crate) const PERMITTED: HeaderName = HeaderName::from_static("streamforge-permitted");

impl<S: Send + Sync> FromRequestParts<S> for Credentials {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let is_passed_on = parts.extensions.get().is_some_and(|caller: &Caller| caller.ours);
        let is_permitted = is_passed_on && parts.headers.contains_key(PERMITTED);
        let is_operator = is_permitted || parts.extensions.get::<Operator>().is_some();
        Ok(Self { headers: parts.headers.clone(), is_operator, is_passed_on })
    }
}

/// The token of an `Authorization: Bearer` header (RFC 6750 2.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}
