//! `/api/v1/sessions`: signing in and out, and the devices on which an account is signed in.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    middleware::from_fn_with_state,
    response::{AppendHeaders, IntoResponse, Response},
};
use control_domain::{
    Actor, Refusal, Time,
    features::sessions::{
        commands::{End, EndOthers},
        events::Reason,
        queries,
    },
    id::{AccountId, SessionId},
    text::DeviceName,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    authentication::{Current, Sender},
    content::{Content, created},
    described::described,
    identity::{
        Attempt, Identity, SignedIn,
        cookie::{self, Tls},
        password::Password,
    },
    problem::{Fault, Kind, Problem, problems},
    rate::{self, Class, Limiter},
    sequence::SEQUENCE,
};

/// The routes. Attempts to sign in are counted by address.
pub(super) fn routes(limiter: &std::sync::Arc<Limiter>) -> OpenApiRouter<Identity> {
    let attempts = from_fn_with_state(limiter.by_address(Class::Login), limited);
    OpenApiRouter::new()
        .routes(routes!(create_session, list_sessions, end_other_sessions))
        .layer(attempts)
        .routes(routes!(refresh_session))
        .routes(routes!(end_current_session))
        .routes(routes!(end_session))
}

/// Limits the requests that sign in.
async fn limited(
    state: State<rate::Counted>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    match *request.method() {
        Method::POST => rate::limit(state, request, next).await,
        _ => next.run(request).await,
    }
}

/// How the client keeps its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// A program gets them in the body.
    #[default]
    Bearer,
    /// A browser gets them as cookies that scripts do not see.
    Cookie,
}

/// Credentials. There is no `Debug`, because it has passwords.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSession {
    /// The name or the e-mail address of the account.
    #[schema(max_length = 254, example = "ada@example.org")]
    login: String,
    /// The password.
    #[schema(max_length = 1024, format = Password)]
    password: String,
    /// A password that replaces it: needed if the response was password-change-required. All other
    /// sessions of the account end.
    #[serde(default)]
    #[schema(required = false, min_length = 8, max_length = 128, format = Password)]
    new_password: Option<String>,
    /// A name of the device, for the list of sessions. Default: the header User-Agent.
    #[serde(default)]
    #[schema(schema_with = described::<DeviceName>, required = false)]
    device: Option<DeviceName>,
    /// How the client keeps its tokens. Default: bearer.
    #[serde(default)]
    #[schema(required = false)]
    mode: Mode,
}

/// A refresh token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    /// The refresh token. Without it, that of the cookie, and the new tokens are cookies, too.
    #[serde(default)]
    #[schema(required = false, max_length = 128)]
    refresh_token: Option<String>,
}

/// A session with its tokens, unless they are cookies. There is no `Debug`.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionTokens {
    /// The session.
    #[schema(schema_with = described::<SessionId>)]
    session: SessionId,
    /// The account.
    #[schema(schema_with = described::<AccountId>)]
    account: AccountId,
    /// Always `Bearer`.
    token_type: &'static str,
    /// Seconds for which the access token is valid.
    #[schema(example = 600)]
    expires_in: u64,
    /// The access token, a JSON Web Token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String)]
    access_token: Option<String>,
    /// The token that continues the session, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String)]
    refresh_token: Option<String>,
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub(super) struct Shown {
    /// The session.
    #[schema(schema_with = described::<SessionId>)]
    id: SessionId,
    /// The name of the device.
    #[schema(schema_with = described::<DeviceName>)]
    device: String,
    /// When somebody signed in.
    #[schema(schema_with = described::<Time>)]
    started: Time,
    /// When it was last continued. An access token is used up to ten minutes longer.
    #[schema(schema_with = described::<Time>)]
    last_used: Time,
    /// Whether it is the one of this request.
    current: bool,
}

/// The sessions of an account: at most 50, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
struct Sessions {
    /// The sessions.
    #[schema(max_items = 50)]
    sessions: Vec<Shown>,
}

problems!(
    /// Problems of [`create_session`].
    CreateProblems: InvalidRequest, InvalidIdempotencyKey, InvalidToken, WrongCredentials,
    Forbidden, PasswordChangeRequired, Conflict, RequestInProgress, InvalidContent,
    IdempotencyKeyReused
);
problems!(
    /// Problems of [`refresh_session`].
    RefreshProblems: InvalidRequest, InvalidIdempotencyKey, Unauthenticated, InvalidToken,
    Forbidden, Conflict, RequestInProgress, InvalidContent, IdempotencyKeyReused
);
problems!(
    /// Problems of [`list_sessions`].
    ListProblems: Unauthenticated, InvalidToken, Forbidden, InsufficientScope, PreconditionFailed
);
problems!(
    /// Problems of the routes that end sessions.
    EndProblems: Unauthenticated, InvalidToken, Forbidden, InsufficientScope, NotFound
);

/// Sign in
///
/// The response to an unknown name and to a wrong password is the same.
#[utoipa::path(
    post,
    path = "/api/v1/sessions",
    request_body = NewSession,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    responses(
        (status = CREATED, description = "The session", body = SessionTokens,
            content_type = "application/json"),
        CreateProblems
    ),
    security(())
)]
async fn create_session(
    State(identity): State<Identity>,
    tls: Tls,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    Content(new): Content<NewSession>,
) -> Result<Response, Problem> {
    if new.mode == Mode::Cookie {
        // Otherwise a hostile page could sign its visitor in to another account.
        cookie::check_site(&method, &uri, &headers, tls)?;
    }
    let unknown = |_| {
        let words = "no account has this name and this password";
        Problem::new(Kind::WrongCredentials, words)
    };
    let attempt = Attempt {
        login: new.login,
        password: Password::presented(&new.password).map_err(unknown)?,
        new_password: new
            .new_password
            .as_deref()
            .map(|text| chosen(text, "/new_password"))
            .transpose()?,
        device: new.device.unwrap_or_else(|| device(&headers)),
    };
    let signed_in = identity.sign_in(attempt).await?;
    let location = format!("/api/v1/sessions/{}", signed_in.session);
    let sequence = [(SEQUENCE, signed_in.sequence.to_string())];
    let (cookies, tokens) = split(signed_in, new.mode, tls);
    Ok((sequence, AppendHeaders(cookies), created(&location, tokens)?).into_response())
}

/// Continue a session
///
/// Each refresh token is used once, and the response has the next. If one is used again, somebody
/// has a copy: the session ends. Two requests within ten seconds are taken for one client; the
/// second is a 409.
#[utoipa::path(
    post,
    path = "/api/v1/sessions/refresh",
    request_body = Refresh,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    responses(
        (status = OK, description = "The session with new tokens", body = SessionTokens,
            content_type = "application/json"),
        RefreshProblems
    ),
    security(())
)]
async fn refresh_session(
    State(identity): State<Identity>,
    tls: Tls,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    Content(Refresh { refresh_token }): Content<Refresh>,
) -> Result<Response, Problem> {
    let (token, mode) = match (&refresh_token, cookie::refresh(&headers, tls)) {
        (Some(token), _) => (token.as_str(), Mode::Bearer),
        (None, Some(token)) => {
            cookie::check_site(&method, &uri, &headers, tls)?;
            (token, Mode::Cookie)
        }
        (None, None) => {
            return Err(Problem::new(Kind::Unauthenticated, "send the refresh token"));
        }
    };
    let refreshed = identity.refresh(token).await;
    match refreshed {
        Ok(signed_in) => {
            let (cookies, tokens) = split(signed_in, mode, tls);
            Ok((AppendHeaders(cookies), Json(tokens)).into_response())
        }
        // A browser does not try a token again that is not valid.
        Err(problem) if mode == Mode::Cookie && problem.kind() == Kind::InvalidToken => {
            Ok((AppendHeaders(cookie::clear(tls)), problem).into_response())
        }
        Err(problem) => Err(problem),
    }
}

/// List the sessions of the account
#[utoipa::path(
    get,
    path = "/api/v1/sessions",
    responses(
        (status = OK, description = "The sessions", body = Sessions,
            content_type = "application/json"),
        ListProblems
    ),
    security(("account" = []))
)]
async fn list_sessions(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    Current(current): Current,
) -> Result<Json<Sessions>, Problem> {
    let account = own(&actor)?;
    let sessions = shown(&identity, actor, account, current).await?;
    Ok(Json(Sessions { sessions }))
}

/// Sign out on this device
#[utoipa::path(
    delete,
    path = "/api/v1/sessions/current",
    responses((status = NO_CONTENT, description = "The session has ended"), EndProblems),
    security(("account" = []))
)]
async fn end_current_session(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    Current(current): Current,
    tls: Tls,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (actor, session) = match (current, cookie::refresh(&headers, tls)) {
        (Some(session), _) => (actor, session),
        // The access token in the cookie has expired. The other one shows the right to sign out.
        (None, Some(token)) if actor == Actor::Anonymous => {
            cookie::check_site(&method, &uri, &headers, tls)?;
            (Actor::System, identity.refresh(token).await?.session)
        }
        (None, _) => {
            own(&actor)?;
            return Err(Problem::new(Kind::Forbidden, "these credentials are of no session"));
        }
    };
    let sequence = end(&identity, actor, session, Reason::SignedOut).await?;
    let cleared = AppendHeaders(cookie::clear(tls));
    Ok((StatusCode::NO_CONTENT, sequence, cleared).into_response())
}

/// Sign out on another device
///
/// The owner and administrators may do it.
#[utoipa::path(
    delete,
    path = "/api/v1/sessions/{session}",
    params(("session" = String, Path, description = "The session's id")),
    responses((status = NO_CONTENT, description = "The session has ended"), EndProblems),
    security(("account" = []), ("administrator" = []))
)]
async fn end_session(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    session: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    // A stranger learns nothing of sessions, also not whether one exists.
    if actor == Actor::Anonymous {
        return Err(Refusal::SignIn.into());
    }
    let unknown = || Problem::from(Refusal::NotFound { thing: "session" });
    let Path(text) = session.map_err(|_| unknown())?;
    let session = text.parse().map_err(|_| unknown())?;
    let sequence = end(&identity, actor, session, Reason::Revoked).await?;
    Ok((StatusCode::NO_CONTENT, sequence).into_response())
}

/// Sign out on all other devices
///
/// With an administrator's or another credential that is of no session, all sessions of the
/// sender's account end.
#[utoipa::path(
    delete,
    path = "/api/v1/sessions",
    responses((status = NO_CONTENT, description = "The sessions have ended"), EndProblems),
    security(("account" = []))
)]
async fn end_other_sessions(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    Current(except): Current,
) -> Result<Response, Problem> {
    let account = own(&actor)?;
    let command = EndOthers { account, except, reason: Reason::Revoked };
    let receipt = identity.platform().send(actor, command).await?;
    identity.forget(receipt.done).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((StatusCode::NO_CONTENT, sequence).into_response())
}

/// Ends a session. The header with the sequence.
async fn end(
    identity: &Identity,
    actor: Actor,
    session: SessionId,
    reason: Reason,
) -> Result<[(HeaderName, String); 1], Problem> {
    let receipt = identity.platform().send(actor, End { session, reason }).await?;
    identity.forget(vec![session]).await?;
    Ok([(SEQUENCE, receipt.sequence.to_string())])
}

/// The sessions of an account that can be continued.
pub(super) async fn shown(
    identity: &Identity,
    actor: Actor,
    account: AccountId,
    current: Option<SessionId>,
) -> Result<Vec<Shown>, Problem> {
    let (found, devices) = identity
        .read(|rows, vault| {
            let found = queries::list(rows, &actor, account)?;
            let devices = found.iter().map(|(_, session)| vault.open(&session.device));
            let devices = devices.collect::<Result<Vec<_>, _>>()?;
            Ok((found, devices))
        })
        .await?;
    let ids = found.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    let used = identity.last_use(&ids).await?;
    let found = found.into_iter().zip(devices).zip(used);
    let sessions = found.filter_map(|(((id, session), device), last_used)| {
        let (started, current) = (session.started, current == Some(id));
        Some(Shown { id, device: device?, started, last_used: last_used?, current })
    });
    Ok(sessions.collect())
}

/// The sender's own account.
///
/// # Errors
/// 401 if nobody is signed in, 403 for the operator, who has none.
pub(super) fn own(actor: &Actor) -> Result<AccountId, Problem> {
    match (actor.account(), actor) {
        (Some(account), _) => Ok(account),
        (None, actor) if actor.is_unlimited() => {
            Err(Problem::new(Kind::Forbidden, "the operator's token belongs to no account"))
        }
        (None, _) => Err(Refusal::SignIn.into()),
    }
}

/// A password that somebody chooses, in this member of the body.
///
/// # Errors
/// 422.
pub(super) fn chosen(text: &str, pointer: &'static str) -> Result<Password, Problem> {
    Password::chosen(text).map_err(|err| {
        let fault = Fault { pointer: pointer.into(), detail: err.to_string().into() };
        Problem::new(Kind::InvalidContent, err.to_string()).with_errors([fault])
    })
}

/// The name of a device that gives none: the beginning of its User-Agent.
pub(super) fn device(headers: &HeaderMap) -> DeviceName {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let agent = agent.map(|agent| agent.chars().take(100).collect::<String>());
    let named = agent.and_then(|agent| agent.parse().ok());
    named.unwrap_or_else(|| "unknown device".parse().expect("14 letters"))
}

/// The tokens where the client keeps them: cookies, or the body.
pub(super) fn split(
    signed_in: SignedIn,
    mode: Mode,
    tls: Tls,
) -> (Vec<(HeaderName, HeaderValue)>, SessionTokens) {
    let SignedIn { account, session, access, refresh, expires_in, .. } = signed_in;
    let tokens = SessionTokens {
        session,
        account,
        token_type: "Bearer",
        expires_in,
        access_token: None,
        refresh_token: None,
    };
    match mode {
        Mode::Cookie => (cookie::set(tls, &access.0, &refresh).into(), tokens),
        Mode::Bearer => {
            let refresh_token = Some(refresh.expose().to_owned());
            (Vec::new(), SessionTokens { access_token: Some(access.0), refresh_token, ..tokens })
        }
    }
}
