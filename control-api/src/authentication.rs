//! The credentials of a request: who sends it. A layer of all routes of the platform.

use axum::{
    extract::{FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use control_domain::Actor;
use http::{HeaderMap, header, request::Parts};

use crate::{
    Administrator,
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

/// Checks credentials.
#[derive(Debug, Clone)]
pub struct Authentication {
    /// The operator's token.
    administrator: Administrator,
}

impl Authentication {
    /// Accepts the administrator's token.
    pub fn new(administrator: Administrator) -> Self {
        Self { administrator }
    }

    /// The actor with the credentials of these headers; anonymous without any.
    ///
    /// # Errors
    /// 401 for credentials that are not valid.
    fn actor(&self, headers: &HeaderMap) -> Result<Actor, Problem> {
        match bearer(headers) {
            None => Ok(Actor::Anonymous),
            Some(token) if self.administrator.has(token) => Ok(Actor::System),
            Some(_) => Err(Problem::new(Kind::InvalidToken, "this token is not valid")),
        }
    }
}

/// A layer that adds the [`Sender`] to a request, or refuses it.
pub async fn authenticate(
    State(authentication): State<Authentication>,
    mut request: Request,
    next: Next,
) -> Response {
    match authentication.actor(request.headers()) {
        Ok(actor) => {
            request.extensions_mut().insert(Sender(actor));
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// The token of an `Authorization: Bearer` header (RFC 6750 2.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}
