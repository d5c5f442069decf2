//! `/api/v1/channels/{channel}/follow` and `/api/v1/accounts/me/follows`: the channels that the
//! sender follows. Nobody else sees them.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use control_domain::{
    Actor, Command as _, Fault, Refusal, Rows, Time,
    features::{
        channels as domain,
        follows::{
            commands::{Follow, Unfollow},
            events::Notices,
            queries,
        },
    },
    id::{AccountId, ChannelId},
    permission::Permission,
    table::Key as _,
    text::{ChannelName, ChannelTitle},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::channels;
use crate::{
    Platform,
    authentication::Sender,
    content::Content,
    described::described,
    page::{Entry, NoFilter, Page, Paging},
    problem::{Kind, Problem, problems},
    sequence::SEQUENCE,
};

/// The name of the list in its cursors.
const LIST: &str = "follows";

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Platform> {
    OpenApiRouter::new()
        .routes(routes!(show_follow, follow_channel, unfollow_channel))
        .routes(routes!(list_own_follows))
}

/// A channel that the sender follows.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Follow)]
struct Shown {
    /// The channel.
    #[schema(schema_with = described::<ChannelId>)]
    channel: ChannelId,
    /// Its name in addresses.
    #[schema(schema_with = described::<ChannelName>)]
    name: String,
    /// Its title.
    #[schema(schema_with = described::<ChannelTitle>)]
    title: String,
    /// The notices that the sender wants.
    #[schema(schema_with = described::<Notices>)]
    notices: Notices,
    /// Since when the sender follows it.
    #[schema(schema_with = described::<Time>)]
    since: Time,
}

impl Shown {
    /// The follow of a person on a channel.
    ///
    /// # Errors
    /// 404 if there is none, or no channel.
    fn of(rows: &dyn Rows, person: AccountId, channel: ChannelId) -> Result<Self, Refusal> {
        let follow = queries::follow(rows, person, channel)?;
        let queries::Follow { notices, since } =
            follow.ok_or(Refusal::NotFound { thing: "follow" })?;
        let domain::queries::Channel { name, title, .. } = domain::queries::channel(rows, channel)?;
        Ok(Self { channel, name, title, notices, since })
    }
}

impl Entry for Shown {
    const MEMBER: &'static str = "follows";
    const PAGE: &'static str = "Follows";
    const DESCRIPTION: &'static str = "Followed channels, the oldest channel first.";
    type Schema = Self;
}

/// A page of follows.
type Follows = Page<Shown>;

/// The properties of a follow.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewFollow {
    /// The notices that the sender wants. Default: `some`.
    #[serde(default)]
    #[schema(schema_with = described::<Notices>, required = false)]
    notices: Notices,
}

problems!(
    /// Problems of [`show_follow`].
    ShowProblems: Unauthenticated, InvalidToken, Forbidden, NotFound, PreconditionFailed
);
problems!(
    /// Problems of [`follow_channel`].
    FollowProblems: InvalidRequest, Unauthenticated, InvalidToken, Forbidden, NotFound, Conflict,
    InvalidContent
);
problems!(
    /// Problems of [`unfollow_channel`].
    UnfollowProblems: Unauthenticated, InvalidToken, Forbidden, NotFound
);
problems!(
    /// Problems of [`list_own_follows`].
    ListProblems: InvalidRequest, InvalidCursor, Unauthenticated, InvalidToken, Forbidden,
    PreconditionFailed
);

/// Show whether the sender follows a channel
///
/// 404 if it does not.
#[utoipa::path(
    get,
    path = "/api/v1/channels/{channel}/follow",
    params(("channel" = String, Path, description = "The channel's id or name")),
    responses(
        (status = OK, description = "The follow", body = Shown, content_type = "application/json"),
        ShowProblems
    ),
    security(("account" = []))
)]
async fn show_follow(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    channel: Result<Path<String>, PathRejection>,
) -> Result<Json<Shown>, Problem> {
    let person = person(actor, &queries::LIST)?;
    let (channel, _) = channels::found(&platform, actor, channel).await?;
    platform.read(|rows| Shown::of(rows, person, channel)).await.map(Json)
}

/// Follow a channel
///
/// Or change the notices of one that the sender follows.
#[utoipa::path(
    put,
    path = "/api/v1/channels/{channel}/follow",
    params(("channel" = String, Path, description = "The channel's id or name")),
    request_body = NewFollow,
    responses(
        (status = OK, description = "The follow", body = Shown, content_type = "application/json"),
        FollowProblems
    ),
    security(("account" = []))
)]
async fn follow_channel(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    channel: Result<Path<String>, PathRejection>,
    Content(NewFollow { notices }): Content<NewFollow>,
) -> Result<Response, Problem> {
    let person = person(actor, &Follow::PERMISSION)?;
    let (channel, _) = channels::found(&platform, actor, channel).await?;
    let receipt = platform.send(actor, Follow { channel, notices }).await?;
    let shown = platform.read(|rows| Shown::of(rows, person, channel)).await?;
    Ok(([(SEQUENCE, receipt.sequence.to_string())], Json(shown)).into_response())
}

/// Follow a channel no more
///
/// By its id, a channel is given up even if it has become private meanwhile.
#[utoipa::path(
    delete,
    path = "/api/v1/channels/{channel}/follow",
    params(("channel" = String, Path, description = "The channel's id or name")),
    responses(
        (status = NO_CONTENT, description = "The sender does not follow it"),
        UnfollowProblems
    ),
    security(("account" = []))
)]
async fn unfollow_channel(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    channel: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let id = channel.as_ref().ok().and_then(|Path(text)| text.parse().ok());
    let channel = match id {
        Some(id) => id,
        None => channels::found(&platform, actor, channel).await?.0,
    };
    let receipt = platform.send(actor, Unfollow { channel }).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((StatusCode::NO_CONTENT, sequence).into_response())
}

/// List the channels that the sender follows
///
/// Those that have become private meanwhile are left out.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/me/follows",
    params(Paging),
    responses(
        (status = OK, description = "A page of the list", body = Follows,
            content_type = "application/json"),
        ListProblems
    ),
    security(("account" = []))
)]
async fn list_own_follows(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    page: Paging<NoFilter>,
) -> Result<Json<Follows>, Problem> {
    let person = person(actor, &queries::LIST)?;
    let after = page.after(LIST)?.map(|key| position(&key)).transpose()?;
    let query = |rows: &dyn Rows| -> Result<_, Fault> {
        let found = queries::of_person(rows, &actor, person, after, page.limit)?;
        let mut entries = Vec::with_capacity(found.items.len());
        for (channel, _) in found.items {
            match Shown::of(rows, person, channel) {
                Ok(shown) => entries.push(shown),
                Err(Refusal::Fault(fault)) => return Err(fault),
                Err(_) => {}
            }
        }
        Ok((entries, found.next))
    };
    let (entries, next) = platform.read(query).await?;
    let next = next.map(|channel| channel.uuid().into_bytes());
    Page::new(LIST, entries, next.as_ref().map(<[u8; 16]>::as_slice)).map(Json)
}

/// The account of a sender that has a permission.
///
/// # Errors
/// 401 without an account, 403 for an API key that does not reach so far.
pub(super) fn person(actor: Actor, permission: &Permission) -> Result<AccountId, Problem> {
    let person = actor.account().ok_or(Refusal::SignIn)?;
    permission.check(&actor, None, true)?;
    Ok(person)
}

/// The channel after which a page begins.
fn position(key: &[u8]) -> Result<ChannelId, Problem> {
    let mut rest = key;
    ChannelId::parse(&mut rest).filter(|_| rest.is_empty()).ok_or_else(|| {
        Problem::new(Kind::InvalidCursor, "this cursor names no channel of this list")
    })
}
