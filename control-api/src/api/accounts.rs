//! `/api/v1/accounts`: registering, profiles, roles and passwords. `export` exports the data of
//! one.

mod bodies;
mod export;
mod shown;

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use control_domain::{
    Actor, Command as _, Refusal, Role, Rows,
    features::{
        accounts::{
            commands::{Add, ChangeRole, EditProfile, Erase, ExpirePassword, Register},
            queries,
        },
        sessions,
        sessions::commands::ChangePassword,
    },
    id::AccountId,
    table::Key as _,
};
use http::{HeaderMap, Method, StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    bodies::{NewAccount, NewPassword, NewRole, ProfilePatch},
    shown::{Accounts, Seen, Tagged, Whole, seen, tag, whole},
};
use super::sessions::{chosen, own};
use crate::{
    authentication::{Current, Sender},
    content::{Content, created},
    identity::{
        Identity,
        password::{Comparison, Password},
    },
    mail::Order,
    page::{NoFilter, Page, Paging},
    platform::Matching,
    precondition::IfMatch,
    problem::{Fault, Kind, Problem, problems},
    rate::{self, Class, Limiter},
    sequence::SEQUENCE,
};

/// The name of the list in its cursors.
const LIST: &str = "accounts";

/// The routes. New accounts are counted by address.
pub(super) fn routes(limiter: &Arc<Limiter>) -> OpenApiRouter<Identity> {
    let sign_up = from_fn_with_state(limiter.by_address(Class::SignUp), limited);
    OpenApiRouter::new()
        .routes(routes!(register, list_accounts))
        .layer(sign_up)
        .routes(routes!(show_account, edit_account, erase_account))
        .routes(routes!(change_role))
        .routes(routes!(change_password))
        .routes(routes!(export::export_account))
}

/// Limits the requests that make an account, but not those of administrators.
async fn limited(state: State<rate::Counted>, request: Request, next: Next) -> Response {
    let is_administrator = matches!(
        request.extensions().get(),
        Some(Sender(actor)) if actor.has(Role::Administrator)
    );
    match *request.method() {
        Method::POST if !is_administrator => rate::limit(state, request, next).await,
        _ => next.run(request).await,
    }
}

problems!(
    /// Problems of [`register`].
    RegisterProblems: InvalidRequest, InvalidIdempotencyKey, InvalidToken, Forbidden,
    InsufficientScope, Conflict, RequestInProgress, InvalidContent, IdempotencyKeyReused
);
problems!(
    /// Problems of [`list_accounts`].
    ListProblems: InvalidRequest, InvalidCursor, Unauthenticated, InvalidToken, Forbidden,
    InsufficientScope, PreconditionFailed
);
problems!(
    /// Problems of [`show_account`].
    ShowProblems: Unauthenticated, InvalidToken, Forbidden, InsufficientScope, NotFound,
    PreconditionFailed
);
problems!(
    /// Problems of the routes that change an account.
    EditProblems: InvalidRequest, Unauthenticated, InvalidToken, Forbidden, InsufficientScope,
    NotFound, Conflict, PreconditionFailed, InvalidContent
);
problems!(
    /// Problems of [`erase_account`].
    EraseProblems: Unauthenticated, InvalidToken, Forbidden, InsufficientScope, NotFound, Conflict,
    PreconditionFailed
);

/// Register
///
/// Makes an account with the role of a viewer. An administrator makes one with any role, whose
/// password must be replaced at the first sign-in, because the administrator knows it. A name or
/// address that another account has is a 409.
#[utoipa::path(
    post,
    path = "/api/v1/accounts",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    request_body = NewAccount,
    responses(
        (status = CREATED, description = "The account", body = Whole,
            content_type = "application/json"),
        RegisterProblems
    ),
    security((), ("account" = []), ("administrator" = []))
)]
async fn register(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    Content(new): Content<NewAccount>,
) -> Result<Response, Problem> {
    let NewAccount { name, email, password, role } = new;
    let password = chosen(&password, "/password")?;
    let is_appointed = role.is_some() || actor.has(Role::Administrator);
    let platform = identity.platform();
    // Before the database is asked, so that a name that is taken takes the same time.
    let password = identity.hasher().hash(password).await?;
    let receipt = match is_appointed {
        true => {
            let role = role.unwrap_or(Role::Viewer);
            let receipt = platform.send(actor, Add { name, email, password, role }).await?;
            platform.send(actor, ExpirePassword { account: receipt.done }).await?;
            receipt
        }
        false => {
            let sent =
                platform.send(actor, Register { name, email: email.clone(), password }).await;
            if let Err(problem) = &sent
                && problem.rule() == Some("email_taken")
            {
                identity.notify_taken(email).await;
            }
            let receipt = sent?;
            identity.notify(Order::VerifyAddress(receipt.done));
            receipt
        }
    };
    let id = receipt.done;
    let account = identity.read(|rows, vault| whole(rows, vault, id)).await?;
    let response = created(&format!("/api/v1/accounts/{id}"), account)?;
    Ok(([(SEQUENCE, receipt.sequence.to_string())], response).into_response())
}

/// List accounts
///
/// For administrators.
#[utoipa::path(
    get,
    path = "/api/v1/accounts",
    params(Paging),
    responses(
        (status = OK, description = "A page of the list", body = Accounts,
            content_type = "application/json"),
        ListProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn list_accounts(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    page: Paging<NoFilter>,
) -> Result<Json<Accounts>, Problem> {
    let after = page.after(LIST)?.map(|key| position(&key)).transpose()?;
    // One more than the page, to know whether another follows.
    let mut entries = identity
        .read(|rows, vault| {
            let found = queries::list(rows, &actor, after, page.limit + 1)?;
            found
                .iter()
                .map(|(id, account)| Whole::of(rows, *id, account, vault))
                .collect::<Result<Vec<_>, _>>()
        })
        .await?;
    let more = entries.len() > page.limit;
    entries.truncate(page.limit);
    let last = entries.last().filter(|_| more).map(|last| last.id.uuid().into_bytes());
    Page::new(LIST, entries, last.as_ref().map(<[u8; 16]>::as_slice)).map(Json)
}

/// Show an account
///
/// The owner and administrators see all of it, others the name and the description.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{account}",
    params(("account" = String, Path, description = "The account's id, or me")),
    responses(
        (status = OK, description = "The account", body = Seen, content_type = "application/json"),
        ShowProblems
    ),
    security((), ("account" = []), ("administrator" = []))
)]
async fn show_account(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    account: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let id = named(&actor, account)?;
    identity.read(|rows, vault| seen(rows, vault, &actor, id)).await.map(Tagged::into_response)
}

/// Edit a profile
///
/// The owner and moderators may do it. With If-Match the edit is made only if the account is as the
/// sender has read it.
#[utoipa::path(
    patch,
    path = "/api/v1/accounts/{account}",
    params(
        ("account" = String, Path, description = "The account's id, or me"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read")
    ),
    request_body(content = ProfilePatch, content_type = "application/merge-patch+json"),
    responses(
        (status = OK, description = "The account as it is now", body = Seen,
            content_type = "application/json"),
        EditProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn edit_account(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    account: Result<Path<String>, PathRejection>,
    if_match: IfMatch,
    Content(patch): Content<ProfilePatch>,
) -> Result<Response, Problem> {
    let id = named(&actor, account)?;
    let edit = EditProfile { account: id, name: patch.name, about: patch.about };
    let command = Matching::new(edit, if_match, move |rows| tag(rows, &actor, id));
    let receipt = identity.platform().send(actor, command).await?;
    let seen = identity.read(|rows, vault| seen(rows, vault, &actor, id)).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((sequence, seen).into_response())
}

/// Delete an account
///
/// The owner and administrators may do it. The personal data, channels, sessions and keys are gone
/// for ever. The only administrator cannot be deleted.
#[utoipa::path(
    delete,
    path = "/api/v1/accounts/{account}",
    params(
        ("account" = String, Path, description = "The account's id, or me"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read")
    ),
    responses((status = NO_CONTENT, description = "The account is gone"), EraseProblems),
    security(("account" = []), ("administrator" = []))
)]
async fn erase_account(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    account: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = named(&actor, account)?;
    let platform = identity.platform();
    let signed_in = platform.read(|rows| sessions::queries::of_account(rows, id)).await?;
    let if_match = IfMatch::of(&headers);
    let command = Matching::new(Erase { account: id }, if_match, move |rows| tag(rows, &actor, id));
    let receipt = platform.send(actor, command).await?;
    identity.forget(signed_in.into_iter().map(|(session, _)| session).collect()).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((StatusCode::NO_CONTENT, sequence).into_response())
}

/// Change a role
///
/// For administrators, who do not change their own.
#[utoipa::path(
    put,
    path = "/api/v1/accounts/{account}/role",
    params(("account" = String, Path, description = "The account's id")),
    request_body = NewRole,
    responses(
        (status = OK, description = "The account as it is now", body = Whole,
            content_type = "application/json"),
        EditProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn change_role(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    account: Result<Path<String>, PathRejection>,
    Content(NewRole { role }): Content<NewRole>,
) -> Result<Response, Problem> {
    let id = named(&actor, account)?;
    let receipt = identity.platform().send(actor, ChangeRole { account: id, role }).await?;
    let seen = identity.read(|rows, vault| seen(rows, vault, &actor, id)).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((sequence, seen).into_response())
}

/// Change a password
///
/// All other sessions of the account end. The owner sends the present password, too. An
/// administrator sets one for somebody else, which must be replaced at the next sign-in.
#[utoipa::path(
    put,
    path = "/api/v1/accounts/{account}/password",
    params(("account" = String, Path, description = "The account's id, or me")),
    request_body = NewPassword,
    responses((status = NO_CONTENT, description = "The password is changed"), EditProblems),
    security(("account" = []), ("administrator" = []))
)]
async fn change_password(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    Current(current): Current,
    account: Result<Path<String>, PathRejection>,
    Content(new): Content<NewPassword>,
) -> Result<Response, Problem> {
    let id = named(&actor, account)?;
    let platform = identity.platform();
    let is_own = actor.account() == Some(id);
    // Before a password is computed, so that nobody lets us compute for another account.
    let permitted = |rows: &dyn Rows| {
        queries::present(rows, id)?;
        ChangePassword::PERMISSION.check(&actor, Some(id), true)
    };
    platform.read(permitted).await?;
    if is_own {
        identity.throttle(&id.to_string()).await?;
        let hash = identity
            .read(|rows, vault| Ok(queries::present(rows, id)?.open(vault)?))
            .await?
            .map(|person| person.password);
        let given = new.present.as_deref().unwrap_or_default();
        let given = Password::presented(given).map_err(|_| wrong())?;
        if identity.hasher().compare(given, hash).await? == Comparison::Different {
            return Err(wrong());
        }
    }
    let password = identity.hasher().hash(chosen(&new.password, "/password")?).await?;
    let except = current.filter(|_| is_own);
    let receipt = platform.send(actor, ChangePassword { account: id, password, except }).await?;
    identity.forget(receipt.done).await?;
    let sequence = match is_own {
        true => receipt.sequence,
        false => platform.send(actor, ExpirePassword { account: id }).await?.sequence,
    };
    Ok((StatusCode::NO_CONTENT, [(SEQUENCE, sequence.to_string())]).into_response())
}

/// The account that a path names.
///
/// # Errors
/// 404; 401 or 403 for `me` without an account.
pub(super) fn named(
    actor: &Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<AccountId, Problem> {
    let unknown = || Problem::from(Refusal::NotFound { thing: "account" });
    let Path(text) = path.map_err(|_| unknown())?;
    match text.as_str() {
        "me" => own(actor),
        id => id.parse().map_err(|_| unknown()),
    }
}

/// The problem of a wrong present password. It is no 401, because the session is valid.
fn wrong() -> Problem {
    let words = "this is not the present password";
    let fault = Fault { pointer: "/present".into(), detail: words.into() };
    Problem::new(Kind::InvalidContent, words).with_errors([fault])
}

/// The account after which a page begins.
fn position(key: &[u8]) -> Result<AccountId, Problem> {
    let mut rest = key;
    AccountId::parse(&mut rest).filter(|_| rest.is_empty()).ok_or_else(|| {
        Problem::new(Kind::InvalidCursor, "this cursor names no account of this list")
    })
}
