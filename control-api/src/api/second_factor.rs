//! The second factor of an account, and the second step of a sign-in.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    middleware::from_fn_with_state,
    response::{AppendHeaders, IntoResponse, Response},
};
use control_domain::{
    Command as _, Time,
    features::second_factors::{
        commands::{Begin, Remove},
        queries,
    },
    id::AccountId,
    text::DeviceName,
};
use http::{HeaderMap, Method, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    recovery::{done, wrong_password},
    sessions::{Mode, SessionTokens, chosen, device, own, split},
};
use crate::{
    authentication::Sender,
    content::{Content, created},
    described::described,
    identity::{
        Identity, SecondStep,
        cookie::{self, Tls},
        password::Password,
    },
    problem::{Fault, Kind, Problem, problems},
    rate::{self, Class, Limiter},
    sequence::SEQUENCE,
};

/// The routes. Attempts are counted by address, and by account where they are made.
pub(super) fn routes(limiter: &Arc<Limiter>) -> OpenApiRouter<Identity> {
    let attempts = OpenApiRouter::new()
        .routes(routes!(complete_session))
        .routes(routes!(confirm_second_factor))
        .routes(routes!(disable_second_factor))
        .layer(from_fn_with_state(limiter.by_address(Class::Login), rate::limit));
    OpenApiRouter::new().routes(routes!(show_second_factor, begin_second_factor)).merge(attempts)
}

/// Whether an account has a second factor.
#[derive(Debug, Serialize, ToSchema)]
struct SecondFactor {
    /// Whether a code is needed to sign in.
    enabled: bool,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = described::<Time>, required = false)]
    since: Option<Time>,
    /// Recovery codes that were not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = usize, maximum = 10)]
    recovery_codes_left: Option<usize>,
}

/// The present password. There is no `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PresentPassword {
    /// The password of the account.
    #[schema(max_length = 1024, format = Password)]
    password: String,
}

/// A secret for an authenticator app. There is no `Debug`.
#[derive(Serialize, ToSchema)]
struct Enrolment {
    /// The secret in base 32.
    secret: String,
    /// The address that an app reads from a picture (QR code).
    #[schema(
        example = "otpauth://totp/example.org:ada?secret=JBSWY3DPEHPK3PXP&issuer=example.org"
    )]
    uri: String,
}

/// A code of the app.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Code {
    /// Six digits.
    #[schema(max_length = 64, example = "123456")]
    code: String,
}

/// Recovery codes, which are shown once. There is no `Debug`.
#[derive(Serialize, ToSchema)]
struct RecoveryCodes {
    /// Each signs in once in place of a code of the app.
    #[schema(min_items = 10, max_items = 10)]
    recovery_codes: Vec<String>,
}

/// The password and a code. There is no `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PasswordAndCode {
    /// The password of the account.
    #[schema(max_length = 1024, format = Password)]
    password: String,
    /// A code of the app, or a recovery code.
    #[schema(max_length = 64)]
    code: String,
}

/// The second step of a sign-in. There is no `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SecondStepOfSession {
    /// The member challenge of the problem second-factor-required.
    #[schema(max_length = 114)]
    challenge: String,
    /// A code of the app, or a recovery code.
    #[schema(max_length = 64)]
    code: String,
    /// A password that replaces the present one: needed if the response was
    /// password-change-required.
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

problems!(
    /// Problems of [`show_second_factor`].
    ShowProblems: Unauthenticated, InvalidToken, Forbidden, InsufficientScope, NotFound,
    PreconditionFailed
);
problems!(
    /// Problems of [`begin_second_factor`].
    BeginProblems: InvalidRequest, InvalidIdempotencyKey, Unauthenticated, InvalidToken, Forbidden,
    InsufficientScope, Conflict, RequestInProgress, InvalidContent, IdempotencyKeyReused
);
problems!(
    /// Problems of the routes that take a code of an account.
    CodeProblems: InvalidRequest, InvalidIdempotencyKey, Unauthenticated, InvalidToken, Forbidden,
    InsufficientScope, NotFound, Conflict, RequestInProgress, InvalidContent, IdempotencyKeyReused
);
problems!(
    /// Problems of [`complete_session`].
    CompleteProblems: InvalidRequest, InvalidIdempotencyKey, InvalidToken, WrongCode, Forbidden,
    PasswordChangeRequired, Conflict, RequestInProgress, InvalidContent, IdempotencyKeyReused
);

/// Show the second factor
#[utoipa::path(
    get,
    path = "/api/v1/accounts/me/second-factor",
    responses(
        (status = OK, description = "Whether there is one", body = SecondFactor,
            content_type = "application/json"),
        ShowProblems
    ),
    security(("account" = []))
)]
async fn show_second_factor(
    State(identity): State<Identity>,
    Sender(actor): Sender,
) -> Result<Json<SecondFactor>, Problem> {
    let account = own(&actor)?;
    let found = identity.platform().read(|rows| queries::show(rows, &actor, account)).await?;
    Ok(Json(SecondFactor {
        enabled: found.is_some(),
        since: found.as_ref().map(|factor| factor.confirmed),
        recovery_codes_left: found.map(|factor| factor.recovery.len()),
    }))
}

/// Begin to enable a second factor
///
/// The secret is for an authenticator app (TOTP). It is in force once a code of it is sent to
/// /api/v1/accounts/me/second-factor/confirm.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/me/second-factor",
    request_body = PresentPassword,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    responses(
        (status = OK, description = "The secret", body = Enrolment,
            content_type = "application/json"),
        BeginProblems
    ),
    security(("account" = []))
)]
async fn begin_second_factor(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    Content(PresentPassword { password }): Content<PresentPassword>,
) -> Result<Json<Enrolment>, Problem> {
    let account = own(&actor)?;
    // Before the password: a key must not be a way to try passwords.
    Begin::PERMISSION.check(&actor, Some(account), true)?;
    check_password(&identity, account, &password).await?;
    let crate::identity::Enrolment { secret, uri } = identity.enrol(actor, account).await?;
    Ok(Json(Enrolment { secret, uri }))
}

/// Enable the second factor
///
/// With a code of the app. From now on a code is needed to sign in. The recovery codes are shown
/// once.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/me/second-factor/confirm",
    request_body = Code,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    responses(
        (status = OK, description = "The recovery codes", body = RecoveryCodes,
            content_type = "application/json"),
        CodeProblems
    ),
    security(("account" = []))
)]
async fn confirm_second_factor(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    Content(Code { code }): Content<Code>,
) -> Result<Response, Problem> {
    let account = own(&actor)?;
    Begin::PERMISSION.check(&actor, Some(account), true)?;
    let confirmed = identity.confirm(actor, account, &code).await?;
    let (recovery_codes, sequence) = confirmed.ok_or_else(wrong_code)?;
    Ok(([(SEQUENCE, sequence.to_string())], Json(RecoveryCodes { recovery_codes })).into_response())
}

/// Disable the second factor
///
/// With the password and a code of the app, or a recovery code.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/me/second-factor/disable",
    request_body = PasswordAndCode,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    responses((status = NO_CONTENT, description = "There is none any more"), CodeProblems),
    security(("account" = []))
)]
async fn disable_second_factor(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    Content(PasswordAndCode { password, code }): Content<PasswordAndCode>,
) -> Result<Response, Problem> {
    let account = own(&actor)?;
    Remove::PERMISSION.check(&actor, Some(account), true)?;
    check_password(&identity, account, &password).await?;
    let sequence = identity.disable(actor, account, &code).await?;
    sequence.map(done).ok_or_else(wrong_code)
}

/// Sign in with a second factor
///
/// The first step, at /api/v1/sessions, was answered with the problem second-factor-required, whose
/// member challenge is valid for five minutes. A code is accepted once.
#[utoipa::path(
    post,
    path = "/api/v1/sessions/second-factor",
    request_body = SecondStepOfSession,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    responses(
        (status = CREATED, description = "The session", body = SessionTokens,
            content_type = "application/json"),
        CompleteProblems
    ),
    security(())
)]
async fn complete_session(
    State(identity): State<Identity>,
    tls: Tls,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    Content(step): Content<SecondStepOfSession>,
) -> Result<Response, Problem> {
    if step.mode == Mode::Cookie {
        // Otherwise a hostile page could sign its visitor in to another account.
        cookie::check_site(&method, &uri, &headers, tls)?;
    }
    let new_password = step.new_password.as_deref();
    let second = SecondStep {
        challenge: step.challenge,
        code: step.code,
        new_password: new_password.map(|text| chosen(text, "/new_password")).transpose()?,
        device: step.device.unwrap_or_else(|| device(&headers)),
    };
    let signed_in = identity.second_step(second).await?;
    let location = format!("/api/v1/sessions/{}", signed_in.session);
    let sequence = [(SEQUENCE, signed_in.sequence.to_string())];
    let (cookies, tokens) = split(signed_in, step.mode, tls);
    Ok((sequence, AppendHeaders(cookies), created(&location, tokens)?).into_response())
}

async fn check_password(
    identity: &Identity,
    account: AccountId,
    password: &str,
) -> Result<(), Problem> {
    let password = Password::presented(password).map_err(|_| wrong_password())?;
    match identity.knows_password(account, password).await? {
        true => Ok(()),
        false => Err(wrong_password()),
    }
}

/// The fault of a code that is not valid.
fn wrong_code() -> Problem {
    let detail = "this code is not valid now, or it was used";
    let fault = Fault { pointer: "/code".into(), detail: detail.into() };
    Problem::new(Kind::InvalidContent, detail).with_errors([fault])
}
