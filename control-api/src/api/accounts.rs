//! `/api/v1/accounts`: registering, profiles, roles and passwords.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use control_domain::{
    Actor, Command as _, Refusal, Role, Rows, Time, Vault,
    features::{
        accounts::{
            commands::{Add, ChangeRole, EditProfile, Erase, ExpirePassword, Register},
            queries,
            tables::Account,
        },
        channels, sessions,
        sessions::commands::ChangePassword,
    },
    id::AccountId,
    table::Key as _,
    text::{Description, DisplayName, Email},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api_keys,
    sessions::{chosen, own, shown as shown_sessions},
};
use crate::{
    authentication::{Current, Sender},
    content::{Content, created},
    described::described,
    identity::{
        Identity,
        password::{Comparison, Password},
    },
    mail::Order,
    page::{Entry, NoFilter, Page, Paging},
    platform::Matching,
    precondition::{ETag, IfMatch},
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
        .routes(routes!(export_account))
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

/// An account as everybody sees it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Profile {
    /// The account.
    #[schema(schema_with = described::<AccountId>)]
    id: AccountId,
    /// The name.
    #[schema(schema_with = described::<DisplayName>)]
    name: String,
    /// The description of the person.
    #[schema(schema_with = described::<Description>)]
    about: String,
}

/// An account as its owner and administrators see it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Account)]
struct Whole {
    /// The account.
    #[schema(schema_with = described::<AccountId>)]
    id: AccountId,
    /// The name.
    #[schema(schema_with = described::<DisplayName>)]
    name: String,
    /// The description of the person.
    #[schema(schema_with = described::<Description>)]
    about: String,
    /// The e-mail address.
    #[schema(format = Email)]
    email: String,
    /// Whether it is known that mail to the address arrives.
    email_verified: bool,
    /// The role.
    #[schema(schema_with = described::<Role>)]
    role: Role,
    /// Whether the password must be replaced at the next sign-in.
    must_change_password: bool,
    /// When the account was made.
    #[schema(schema_with = described::<Time>)]
    registered: Time,
    /// When it was last changed.
    #[schema(schema_with = described::<Time>)]
    changed: Time,
}

impl Whole {
    /// # Errors
    /// 404 if the account is erased.
    fn of(id: AccountId, account: &Account, vault: &dyn Vault) -> Result<Self, Refusal> {
        let person = account.open(vault)?.ok_or(Refusal::NotFound { thing: "account" })?;
        let Account { role, registered, changed, is_verified, must_change_password, .. } = *account;
        Ok(Self {
            id,
            name: person.name,
            about: person.about,
            email: person.email,
            email_verified: is_verified,
            role,
            must_change_password,
            registered,
            changed,
        })
    }
}

impl Entry for Whole {
    const MEMBER: &'static str = "accounts";
    const PAGE: &'static str = "Accounts";
    const DESCRIPTION: &'static str = "Accounts, the oldest first.";
    type Schema = Self;
}

/// A page of accounts.
type Accounts = Page<Whole>;

/// An account as this sender sees it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = AccountOrProfile)]
enum Seen {
    /// By its owner or an administrator.
    Whole(Whole),
    /// By everybody else.
    Profile(Profile),
}

/// An account to make. There is no `Debug`, because it has a password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewAccount {
    /// The name. Names that look alike are the same.
    #[schema(schema_with = described::<DisplayName>)]
    name: DisplayName,
    /// The e-mail address.
    #[schema(value_type = String, format = Email, max_length = 254)]
    email: Email,
    /// The password.
    #[schema(min_length = 8, max_length = 128, format = Password)]
    password: String,
    /// The role. Only administrators may name one. Default: viewer.
    #[serde(default)]
    #[schema(schema_with = described::<Role>, required = false)]
    role: Option<Role>,
}

/// Changes of a profile, as a merge patch: members that are absent keep their value.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ProfilePatch {
    /// The name.
    #[serde(default)]
    #[schema(schema_with = described::<DisplayName>, required = false)]
    name: Option<DisplayName>,
    /// The description of the person.
    #[serde(default)]
    #[schema(schema_with = described::<Description>, required = false)]
    about: Option<Description>,
}

/// Another role.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRole {
    /// The role.
    #[schema(schema_with = described::<Role>)]
    role: Role,
}

/// Another password. There is no `Debug`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    /// The present password. An administrator who sets the password of somebody else sends none.
    #[serde(default)]
    #[schema(required = false, max_length = 1024, format = Password)]
    present: Option<String>,
    /// The password that replaces it.
    #[schema(min_length = 8, max_length = 128, format = Password)]
    password: String,
}

/// All that belongs to an account.
#[derive(Debug, Serialize, ToSchema)]
struct Export {
    /// The account.
    account: Whole,
    /// The devices on which it is signed in.
    sessions: Vec<super::sessions::Shown>,
    /// The API keys, without their secrets.
    api_keys: Vec<api_keys::Shown>,
    /// The channels.
    channels: Vec<super::channels::Shown>,
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
    /// Problems of [`show_account`] and [`export_account`].
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
                .map(|(id, account)| Whole::of(*id, account, vault))
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

/// Export the own account
///
/// All that belongs to it, as JSON.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/me/export",
    responses(
        (status = OK, description = "All that belongs to the account", body = Export,
            content_type = "application/json"),
        ShowProblems
    ),
    security(("account" = []))
)]
async fn export_account(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    Current(current): Current,
) -> Result<Response, Problem> {
    let id = own(&actor)?;
    let sessions = shown_sessions(&identity, actor, id, current).await?;
    let api_keys = api_keys::shown(&identity, actor, id).await?;
    let of_account = |rows: &dyn Rows, vault: &dyn Vault| -> Result<_, Refusal> {
        let mut shown = Vec::new();
        for channel in channels::queries::of_owner(rows, id)? {
            let row = channels::queries::channel(rows, channel)?;
            shown.push(super::channels::Shown::of(rows, channel, row)?);
        }
        Ok((whole(rows, vault, id)?, shown))
    };
    let (account, channels) = identity.read(of_account).await?;
    let name = HeaderValue::from_static("attachment; filename=\"account.json\"");
    let export = Export { account, sessions, api_keys, channels };
    Ok(([(header::CONTENT_DISPOSITION, name)], Json(export)).into_response())
}

/// The account that a path names.
///
/// # Errors
/// 404; 401 or 403 for `me` without an account.
fn named(actor: &Actor, path: Result<Path<String>, PathRejection>) -> Result<AccountId, Problem> {
    let unknown = || Problem::from(Refusal::NotFound { thing: "account" });
    let Path(text) = path.map_err(|_| unknown())?;
    match text.as_str() {
        "me" => own(actor),
        id => id.parse().map_err(|_| unknown()),
    }
}

/// An account that is not erased.
fn whole(rows: &dyn Rows, vault: &dyn Vault, id: AccountId) -> Result<Whole, Refusal> {
    Whole::of(id, &queries::present(rows, id)?, vault)
}

/// An account as an actor sees it, with its entity tag.
struct Tagged(ETag, Seen);

impl IntoResponse for Tagged {
    fn into_response(self) -> Response {
        let Self(tag, seen) = self;
        let mut response = Json(seen).into_response();
        response.headers_mut().extend(tag.header());
        response
    }
}

/// An account as this actor sees it.
fn seen(
    rows: &dyn Rows,
    vault: &dyn Vault,
    actor: &Actor,
    id: AccountId,
) -> Result<Tagged, Refusal> {
    let account = whole(rows, vault, id)?;
    let seen = match queries::SHOW.permits(actor, Some(id)) {
        true => Seen::Whole(account),
        false => {
            let Whole { id, name, about, .. } = account;
            Seen::Profile(Profile { id, name, about })
        }
    };
    Ok(Tagged(tag(rows, actor, id)?, seen))
}

/// The entity tag of an account as this actor reads it. It is computed from the row, whose personal
/// data are sealed.
fn tag(rows: &dyn Rows, actor: &Actor, id: AccountId) -> Result<ETag, Refusal> {
    let is_whole = queries::SHOW.permits(actor, Some(id));
    Ok(ETag::of(&(is_whole, queries::present(rows, id)?)))
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
