//! An account as the API shows it.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use control_domain::{
    Actor, Refusal, Role, Rows, Time, Vault,
    features::{
        accounts::{queries, tables::Account},
        pictures::{self, events::PictureHash},
    },
    id::AccountId,
    text::{Description, DisplayName},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    described::described,
    page::{Entry, Page},
    precondition::ETag,
};

/// An account as everybody sees it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    /// The account.
    #[schema(schema_with = described::<AccountId>)]
    pub(super) id: AccountId,
    /// The name.
    #[schema(schema_with = described::<DisplayName>)]
    name: String,
    /// The description of the person.
    #[schema(schema_with = described::<Description>)]
    about: String,
    /// Its picture, at `/api/v1/avatars/{picture}/{size}`; null if it has none.
    #[schema(schema_with = described::<Option<PictureHash>>)]
    avatar: Option<PictureHash>,
}

/// An account as its owner and administrators see it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Account)]
pub(super) struct Whole {
    /// The account.
    #[schema(schema_with = described::<AccountId>)]
    pub(super) id: AccountId,
    /// The name.
    #[schema(schema_with = described::<DisplayName>)]
    name: String,
    /// The description of the person.
    #[schema(schema_with = described::<Description>)]
    about: String,
    /// Its picture, at `/api/v1/avatars/{picture}/{size}`; null if it has none.
    #[schema(schema_with = described::<Option<PictureHash>>)]
    avatar: Option<PictureHash>,
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
    pub(super) fn of(
        rows: &dyn Rows,
        id: AccountId,
        account: &Account,
        vault: &dyn Vault,
    ) -> Result<Self, Refusal> {
        let person = account.open(vault)?.ok_or(Refusal::NotFound { thing: "account" })?;
        let Account { role, registered, changed, is_verified, must_change_password, .. } = *account;
        Ok(Self {
            id,
            name: person.name,
            about: person.about,
            avatar: pictures::queries::avatar(rows, id)?,
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
pub(super) type Accounts = Page<Whole>;

/// An account as this sender sees it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = AccountOrProfile)]
pub(super) enum Seen {
    /// By its owner or an administrator.
    Whole(Whole),
    /// By everybody else.
    Profile(Profile),
}

/// An account that is not erased.
pub(super) fn whole(rows: &dyn Rows, vault: &dyn Vault, id: AccountId) -> Result<Whole, Refusal> {
    Whole::of(rows, id, &queries::present(rows, id)?, vault)
}

/// An account as an actor sees it, with its entity tag.
pub(super) struct Tagged(ETag, Seen);

impl IntoResponse for Tagged {
    fn into_response(self) -> Response {
        let Self(tag, seen) = self;
        let mut response = Json(seen).into_response();
        response.headers_mut().extend(tag.header());
        response
    }
}

/// An account as this actor sees it.
pub(super) fn seen(
    rows: &dyn Rows,
    vault: &dyn Vault,
    actor: &Actor,
    id: AccountId,
) -> Result<Tagged, Refusal> {
    let account = whole(rows, vault, id)?;
    let seen = match queries::SHOW.permits(actor, Some(id)) {
        true => Seen::Whole(account),
        false => {
            let Whole { id, name, about, avatar, .. } = account;
            Seen::Profile(Profile { id, name, about, avatar })
        }
    };
    Ok(Tagged(tag(rows, actor, id)?, seen))
}

/// The entity tag of an account as this actor reads it. It is computed from the row, whose personal
/// data are sealed.
pub(super) fn tag(rows: &dyn Rows, actor: &Actor, id: AccountId) -> Result<ETag, Refusal> {
    let is_whole = queries::SHOW.permits(actor, Some(id));
    let avatar = pictures::queries::avatar(rows, id)?;
    Ok(ETag::of(&(is_whole, queries::present(rows, id)?, avatar)))
}
