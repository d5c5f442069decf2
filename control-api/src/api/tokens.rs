//! The keys with which others verify access tokens, and the check of a token for them.

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use control_domain::{
    Actor, Refusal, Role,
    id::{AccountId, SessionId},
};
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    authentication::Sender,
    content::{self, Content},
    described::described,
    identity::{Identity, access_token::KEYS_MAX_AGE},
    problem::{Fault, Kind, Problem, problems},
};

/// The media type of the request in RFC 7662 2.1.
const FORM: &str = "application/x-www-form-urlencoded";

/// The greatest length of a token in characters. Ours are shorter.
const MAX_TOKEN: usize = 1_024;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Identity> {
    OpenApiRouter::new().routes(routes!(list_token_keys)).routes(routes!(verify_token))
}

/// A JSON Web Key Set (RFC 7517 5).
#[derive(Debug, Serialize, ToSchema)]
struct KeySet {
    /// The public keys of Ed25519 (RFC 8037 2).
    #[schema(value_type = Vec<Object>)]
    keys: serde_json::Value,
}

/// A token to check. There is no `Debug`.
#[derive(Deserialize, ToSchema)]
struct Token {
    /// An access token or an API key.
    #[schema(max_length = 1024)]
    token: String,
}

/// The state of a token (RFC 7662 2.2). If it is not active, there are no other members.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Verified {
    /// Whether it is valid now.
    active: bool,
    /// The account.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = described::<AccountId>, required = false)]
    sub: Option<AccountId>,
    /// The session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = described::<SessionId>, required = false)]
    sid: Option<SessionId>,
    /// The account's present role.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = described::<Role>, required = false)]
    role: Option<Role>,
    /// The scopes of an API key, separated by spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String)]
    scope: Option<String>,
    /// Always `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String)]
    token_type: Option<&'static str>,
    /// When it was issued, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = u64)]
    iat: Option<u64>,
    /// From when it is not valid, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = u64)]
    exp: Option<u64>,
}

problems!(
    /// Problems of [`list_token_keys`].
    KeysProblems: InvalidToken, PreconditionFailed
);
problems!(
    /// Problems of [`verify_token`].
    VerifyProblems: InvalidRequest, InvalidIdempotencyKey, Unauthenticated, InvalidToken,
    Forbidden, RequestInProgress, InvalidContent, IdempotencyKeyReused
);

/// List the keys of access tokens
///
/// With them, others verify access tokens (EdDSA) without asking. A key is listed an hour before it
/// signs, so the list may be kept for 15 minutes.
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    responses(
        (status = OK, description = "The keys", body = KeySet, content_type = "application/json"),
        KeysProblems
    ),
    security(())
)]
async fn list_token_keys(State(identity): State<Identity>) -> Response {
    let max_age = format!("public, max-age={}", KEYS_MAX_AGE.as_secs());
    let max_age = HeaderValue::try_from(max_age).unwrap_or(HeaderValue::from_static("no-cache"));
    ([(header::CACHE_CONTROL, max_age)], Json(identity.jwks())).into_response()
}

/// Check a token
///
/// For another service that has received a token and asks whether it is valid now, as in RFC 7662.
/// The request is a form, as there, or JSON.
#[utoipa::path(
    post,
    path = "/api/v1/auth/verify",
    request_body(content((Token = "application/x-www-form-urlencoded"), (Token = "application/json"))),
    responses(
        (status = OK, description = "The state of the token", body = Verified,
            content_type = "application/json"),
        VerifyProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn verify_token(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    request: Request,
) -> Result<Json<Verified>, Problem> {
    if actor == Actor::Anonymous {
        return Err(Refusal::SignIn.into());
    }
    let Token { token } = token(request).await?;
    if token.chars().count() > MAX_TOKEN {
        let words = "a token has at most 1024 characters";
        let fault = Fault { pointer: "/token".into(), detail: words.into() };
        return Err(Problem::new(Kind::InvalidContent, words).with_errors([fault]));
    }
    let Some(found) = identity.introspect(&token).await? else {
        return Ok(Json(Verified::default()));
    };
    let seconds = |time: control_domain::Time| time.as_millis() / 1_000;
    let scope = found.key.map(|(_, scopes)| {
        scopes.iter().map(control_domain::Scope::name).collect::<Vec<_>>().join(" ")
    });
    Ok(Json(Verified {
        active: true,
        sub: Some(found.account),
        sid: found.session,
        role: Some(found.role),
        scope,
        token_type: Some("Bearer"),
        iat: Some(seconds(found.issued)),
        exp: found.expires.map(seconds),
    }))
}

/// The token in a body, as a form or as JSON.
async fn token(request: Request) -> Result<Token, Problem> {
    use axum::extract::FromRequest as _;

    let media_type = request.headers().get(header::CONTENT_TYPE);
    let media_type = media_type.and_then(|given| given.to_str().ok());
    let essence = media_type.and_then(|given| given.split(';').next()).map(str::trim);
    if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case(FORM)) {
        return Content::from_request(request, &()).await.map(|Content(token)| token);
    }
    let body = content::bytes(request, &()).await?;
    // Other members, such as token_type_hint, are permitted.
    let mut pairs = form_urlencoded::parse(&body).filter(|(name, _)| name == "token");
    match (pairs.next(), pairs.next()) {
        (Some((_, token)), None) => Ok(Token { token: token.into_owned() }),
        _ => Err(Problem::new(Kind::InvalidRequest, "send the token once, as the member token")),
    }
}
