//! Verifying an address, resetting a forgotten password, and changing an address.

use std::sync::Arc;

use axum::{
    extract::{Path, State, rejection::PathRejection},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
};
use control_domain::{Command as _, Refusal, features::accounts, id::AccountId, text::Email};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::sessions::{chosen, own};
use crate::{
    authentication::Sender,
    content::Content,
    identity::{Identity, password::Password},
    problem::{Fault, Kind, Problem, problems},
    rate::{self, Class, Limiter},
    sequence::SEQUENCE,
};

/// The routes. Mails and mailed tokens are counted by address.
pub(super) fn routes(limiter: &Arc<Limiter>) -> OpenApiRouter<Identity> {
    let mails = OpenApiRouter::new()
        .routes(routes!(send_verification_mail))
        .routes(routes!(request_password_reset))
        .routes(routes!(change_email))
        .layer(from_fn_with_state(limiter.by_address(Class::Mail), rate::limit));
    let tokens = OpenApiRouter::new()
        .routes(routes!(verify_email))
        .routes(routes!(complete_password_reset))
        .layer(from_fn_with_state(limiter.by_address(Class::MailedToken), rate::limit));
    mails.merge(tokens)
}

/// A token from a mail. There is no `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MailedToken {
    /// The token, which is behind `#token=` in the link of the mail.
    #[schema(max_length = 114)]
    token: String,
}

/// An address whose account's password is forgotten.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ForgottenPassword {
    /// The e-mail address.
    #[schema(value_type = String, format = Email, max_length = 254)]
    email: Email,
}

/// Another password, and the token that permits it. There is no `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PasswordReset {
    /// The token, which is behind `#token=` in the link of the mail.
    #[schema(max_length = 114)]
    token: String,
    /// The password.
    #[schema(min_length = 8, max_length = 128, format = Password)]
    password: String,
}

/// Another address. There is no `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewEmail {
    /// The e-mail address.
    #[schema(value_type = String, format = Email, max_length = 254)]
    email: Email,
    /// The present password of the account.
    #[schema(max_length = 1024, format = Password)]
    password: String,
}

problems!(
    /// Problems of [`send_verification_mail`].
    SendProblems: InvalidIdempotencyKey, Unauthenticated, InvalidToken, Forbidden,
    InsufficientScope, MailDisabled, NotFound, Conflict, RequestInProgress, PreconditionFailed,
    IdempotencyKeyReused
);
problems!(
    /// Problems of [`verify_email`].
    VerifyProblems: InvalidRequest, InvalidIdempotencyKey, InvalidToken, InvalidMailedToken,
    RequestInProgress, InvalidContent, IdempotencyKeyReused
);
problems!(
    /// Problems of [`request_password_reset`].
    RequestProblems: InvalidRequest, InvalidIdempotencyKey, InvalidToken, MailDisabled,
    RequestInProgress, InvalidContent, IdempotencyKeyReused
);
problems!(
    /// Problems of [`complete_password_reset`].
    CompleteProblems: InvalidRequest, InvalidIdempotencyKey, InvalidToken, InvalidMailedToken,
    RequestInProgress, InvalidContent, IdempotencyKeyReused
);
problems!(
    /// Problems of [`change_email`].
    ChangeProblems: InvalidRequest, InvalidIdempotencyKey, Unauthenticated, InvalidToken,
    Forbidden, InsufficientScope, Conflict, RequestInProgress, InvalidContent,
    IdempotencyKeyReused
);

/// Send another verification mail
///
/// The owner and administrators may ask for it.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/{account}/verification-mail",
    params(
        ("account" = String, Path, description = "The account's id, or me"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")
    ),
    responses((status = ACCEPTED, description = "A mail will be sent"), SendProblems),
    security(("account" = []), ("administrator" = []))
)]
async fn send_verification_mail(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    account: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let id = match account {
        Ok(Path(account)) if account == "me" => own(&actor)?,
        Ok(Path(account)) => account.parse::<AccountId>().map_err(|_| unknown())?,
        Err(_) => return Err(unknown()),
    };
    let is_visible = actor.is_unlimited() || actor.account() == Some(id);
    accounts::queries::SHOW.check(&actor, Some(id), is_visible)?;
    identity.send_verification(id).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Verify an address
///
/// With a token that was sent to it. A token is valid for an hour, once, and as long as the account
/// has this address.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/verify-email",
    request_body = MailedToken,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    responses((status = NO_CONTENT, description = "The address is verified"), VerifyProblems),
    security(())
)]
async fn verify_email(
    State(identity): State<Identity>,
    Content(MailedToken { token }): Content<MailedToken>,
) -> Result<Response, Problem> {
    let sequence = identity.verify_email(&token).await?;
    Ok(done(sequence))
}

/// Reset a forgotten password
///
/// Sends a mail with a token to the address, if an account has it. The response is the same if none
/// has it.
#[utoipa::path(
    post,
    path = "/api/v1/password-resets",
    request_body = ForgottenPassword,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    responses(
        (status = ACCEPTED, description = "If an account has the address, a mail will be sent"),
        RequestProblems
    ),
    security(())
)]
async fn request_password_reset(
    State(identity): State<Identity>,
    Content(ForgottenPassword { email }): Content<ForgottenPassword>,
) -> Result<StatusCode, Problem> {
    identity.request_reset(email).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Choose a password in place of a forgotten one
///
/// With a token that was sent by mail. All sessions of the account end. A second factor stays.
#[utoipa::path(
    post,
    path = "/api/v1/password-resets/complete",
    request_body = PasswordReset,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    responses((status = NO_CONTENT, description = "The password is set"), CompleteProblems),
    security(())
)]
async fn complete_password_reset(
    State(identity): State<Identity>,
    Content(PasswordReset { token, password }): Content<PasswordReset>,
) -> Result<Response, Problem> {
    let password = chosen(&password, "/password")?;
    let sequence = identity.complete_reset(&token, password).await?;
    Ok(done(sequence))
}

/// Change the address
///
/// The new address must be verified, and the old one gets a notice.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/me/email",
    request_body = NewEmail,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    responses((status = NO_CONTENT, description = "The address is changed"), ChangeProblems),
    security(("account" = []))
)]
async fn change_email(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    Content(NewEmail { email, password }): Content<NewEmail>,
) -> Result<Response, Problem> {
    let account = own(&actor)?;
    // Before the password: a key must not be a way to try passwords.
    accounts::commands::ChangeEmail::PERMISSION.check(&actor, Some(account), true)?;
    let password = Password::presented(&password).map_err(|_| wrong_password())?;
    let sequence = identity.change_email(actor, account, email, password).await?;
    sequence.map(done).ok_or_else(wrong_password)
}

/// The fault of a password that is not the account's.
pub(super) fn wrong_password() -> Problem {
    let detail = "this is not the password of the account";
    let fault = Fault { pointer: "/password".into(), detail: detail.into() };
    Problem::new(Kind::InvalidContent, detail).with_errors([fault])
}

fn unknown() -> Problem {
    Refusal::NotFound { thing: "account" }.into()
}

/// The response to a change without a body.
pub(super) fn done(sequence: u64) -> Response {
    (StatusCode::NO_CONTENT, [(SEQUENCE, sequence.to_string())]).into_response()
}
