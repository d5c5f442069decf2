//! `/api/v1/channels`: makes, lists, edits and deletes channels.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use control_domain::{
    Actor, Fault, Refusal, Rows, Time,
    features::{
        channels::{
            commands::{Create, Delete, Edit},
            events::{Edits, Visibility},
            queries,
            tables::Channel,
        },
        follows,
        pictures::{self, events::PictureHash},
        views,
    },
    id::{AccountId, ChannelId},
    patch,
    table::Key as _,
    text::{ChannelName, ChannelTitle, Description},
};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Platform,
    authentication::Sender,
    content::{Content, created},
    described::described,
    page::{Entry, NoFilter, Page, Paging},
    platform::Matching,
    precondition::{ETag, IfMatch, tagged_state},
    problem::{Kind, Problem, problems},
    sequence::SEQUENCE,
};

/// The name of the list in its cursors.
const LIST: &str = "channels";

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Platform> {
    OpenApiRouter::new().routes(routes!(list_channels, create_channel)).routes(routes!(
        show_channel,
        edit_channel,
        delete_channel
    ))
}

/// A channel: where somebody publishes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Channel)]
pub(super) struct Shown {
    /// The channel.
    #[schema(schema_with = described::<ChannelId>)]
    id: ChannelId,
    /// Its name in addresses, such as `/watch/{name}`.
    #[schema(schema_with = described::<ChannelName>)]
    name: String,
    /// Its title.
    #[schema(schema_with = described::<ChannelTitle>)]
    title: String,
    /// Its description.
    #[schema(schema_with = described::<Description>)]
    description: String,
    /// The viewers that may watch and find it.
    #[schema(schema_with = described::<Visibility>)]
    visibility: Visibility,
    /// The account that owns it.
    #[schema(schema_with = described::<AccountId>)]
    owner: AccountId,
    /// When it was made.
    #[schema(schema_with = described::<Time>)]
    created: Time,
    /// When it was last changed.
    #[schema(schema_with = described::<Time>)]
    changed: Time,
    /// Its picture, at `/api/v1/avatars/{picture}/{size}`; null if it has none.
    #[schema(schema_with = described::<Option<PictureHash>>)]
    avatar: Option<PictureHash>,
    /// Its banner, at the same place; null if it has none.
    #[schema(schema_with = described::<Option<PictureHash>>)]
    banner: Option<PictureHash>,
    /// The number of its followers.
    followers: u64,
    /// The number of views of its broadcasts. It grows each minute.
    views: u64,
}

impl Shown {
    /// # Errors
    /// A fault of the tables.
    pub(super) fn of(rows: &dyn Rows, id: ChannelId, channel: Channel) -> Result<Self, Fault> {
        let followers = follows::queries::followers(rows, id)?;
        let views = views::queries::of_channel(rows, id)?.views;
        let avatar = pictures::queries::channel_avatar(rows, id)?;
        let banner = pictures::queries::banner(rows, id)?;
        let Channel { owner, name, title, description, visibility, created, changed } = channel;
        Ok(Self {
            id,
            name,
            title,
            description,
            visibility,
            owner,
            created,
            changed,
            avatar,
            banner,
            followers,
            views,
        })
    }

    /// A channel with its entity tag.
    ///
    /// # Errors
    /// 404 if there is no such channel.
    fn tagged(rows: &dyn Rows, id: ChannelId) -> Result<(Self, ETag), Refusal> {
        let channel = queries::channel(rows, id)?;
        let tag = ETag::of(&channel);
        Ok((Self::of(rows, id, channel)?, tag))
    }
}

impl Entry for Shown {
    const MEMBER: &'static str = "channels";
    const PAGE: &'static str = "Channels";
    const DESCRIPTION: &'static str = "Channels, the oldest first.";
    type Schema = Self;
}

/// A page of channels.
type Channels = Page<Shown>;

/// A channel to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewChannel {
    /// Its name in addresses, which never changes. Names that differ only in case are the same.
    #[schema(schema_with = described::<ChannelName>)]
    name: ChannelName,
    /// Its title. Default: the name.
    #[serde(default)]
    #[schema(schema_with = described::<ChannelTitle>, required = false)]
    title: Option<ChannelTitle>,
    /// The viewers that may watch and find it. Default: everybody.
    #[serde(default)]
    #[schema(schema_with = described::<Visibility>, required = false)]
    visibility: Visibility,
    /// The account that owns it: the sender's own, or any for an administrator. Default: the
    /// sender's own.
    #[serde(default)]
    #[schema(schema_with = described::<AccountId>, required = false)]
    owner: Option<AccountId>,
}

/// Changes of a channel, as a merge patch: members that are absent keep their value.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChannelPatch {
    /// Its title.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<ChannelTitle>, required = false)]
    title: Option<ChannelTitle>,
    /// Its description.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<Description>, required = false)]
    description: Option<Description>,
    /// The viewers that may watch and find it.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<Visibility>, required = false)]
    visibility: Option<Visibility>,
}

problems!(
    /// Problems of [`list_channels`].
    ListProblems: InvalidRequest, InvalidCursor, InvalidToken, PreconditionFailed
);
problems!(
    /// Problems of [`create_channel`].
    CreateProblems: InvalidRequest, InvalidIdempotencyKey, Unauthenticated, InvalidToken,
    Forbidden, NotFound, Conflict, RequestInProgress, InvalidContent, IdempotencyKeyReused
);
problems!(
    /// Problems of [`show_channel`].
    ShowProblems: InvalidToken, NotFound, PreconditionFailed
);
problems!(
    /// Problems of [`edit_channel`].
    EditProblems: InvalidRequest, Unauthenticated, InvalidToken, Forbidden, NotFound,
    PreconditionFailed, InvalidContent
);
problems!(
    /// Problems of [`delete_channel`].
    DeleteProblems: Unauthenticated, InvalidToken, Forbidden, NotFound, PreconditionFailed
);

/// List channels
///
/// Public channels, and those that the sender owns or moderates, the oldest first.
#[utoipa::path(
    get,
    path = "/api/v1/channels",
    params(Paging),
    responses(
        (
            status = OK,
            description = "A page of the list",
            body = Channels,
            content_type = "application/json"
        ),
        ListProblems
    ),
    security((), ("account" = []), ("administrator" = []))
)]
async fn list_channels(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    page: Paging<NoFilter>,
) -> Result<Json<Channels>, Problem> {
    let after = page.after(LIST)?.map(|key| position(&key)).transpose()?;
    // One more than the page, to know whether another follows.
    let query = |rows: &dyn Rows| -> Result<_, Fault> {
        let found = queries::page(rows, &actor, after, page.limit + 1)?;
        found.into_iter().map(|(id, channel)| Shown::of(rows, id, channel)).collect()
    };
    let mut entries: Vec<Shown> = platform.read(query).await?;
    let more = entries.len() > page.limit;
    entries.truncate(page.limit);
    let last = entries.last().filter(|_| more).map(|shown| shown.id.uuid().into_bytes());
    Page::new(LIST, entries, last.as_ref().map(<[u8; 16]>::as_slice)).map(Json)
}

/// Make a channel
#[utoipa::path(
    post,
    path = "/api/v1/channels",
    request_body = NewChannel,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    responses(
        (status = CREATED, description = "The channel", body = Shown,
            content_type = "application/json"),
        CreateProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn create_channel(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    Content(new): Content<NewChannel>,
) -> Result<Response, Problem> {
    let owner = match new.owner.or(actor.account()) {
        Some(owner) => owner,
        None if actor == Actor::Anonymous => return Err(Refusal::SignIn.into()),
        None => {
            let words = "the operator owns no channels: name the account as owner";
            return Err(Problem::new(Kind::InvalidContent, words));
        }
    };
    let title = match new.title {
        Some(title) => title,
        // Each name is a title, too.
        None => new.name.as_str().parse().map_err(|_| Problem::new(Kind::Internal, "title"))?,
    };
    let command = Create { owner, name: new.name, title, visibility: new.visibility };
    let receipt = platform.send(actor, command).await?;
    let id = receipt.done;
    let (shown, _) = platform.read(|rows| Shown::tagged(rows, id)).await?;
    let response = created(&format!("/api/v1/channels/{id}"), shown)?;
    Ok(([(SEQUENCE, receipt.sequence.to_string())], response).into_response())
}

/// Show a channel
#[utoipa::path(
    get,
    path = "/api/v1/channels/{channel}",
    params(("channel" = String, Path, description = "The channel's id or name")),
    responses(
        (status = OK, description = "The channel", body = Shown,
            content_type = "application/json"),
        ShowProblems
    ),
    security((), ("account" = []), ("administrator" = []))
)]
async fn show_channel(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    channel: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let (id, _) = found(&platform, actor, channel).await?;
    let (shown, tag) = platform.read(|rows| Shown::tagged(rows, id)).await?;
    tagged_state(&shown, &tag)
}

/// Edit a channel
///
/// The owner and moderators may do it. With If-Match the edit is made only if the channel is as the
/// sender has read it.
#[utoipa::path(
    patch,
    path = "/api/v1/channels/{channel}",
    params(
        ("channel" = String, Path, description = "The channel's id or name"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read")
    ),
    request_body(content = ChannelPatch, content_type = "application/merge-patch+json"),
    responses(
        (status = OK, description = "The channel as it is now", body = Shown,
            content_type = "application/json"),
        EditProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn edit_channel(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    channel: Result<Path<String>, PathRejection>,
    if_match: IfMatch,
    Content(patch): Content<ChannelPatch>,
) -> Result<Response, Problem> {
    let (id, _) = found(&platform, actor, channel).await?;
    let ChannelPatch { title, description, visibility } = patch;
    let edit = Edit { channel: id, edits: Edits { title, description, visibility } };
    let command = Matching::new(edit, if_match, move |rows| tag(rows, id));
    let receipt = platform.send(actor, command).await?;
    let (shown, tag) = platform.read(|rows| Shown::tagged(rows, id)).await?;
    let response = tagged_state(&shown, &tag)?;
    Ok(([(SEQUENCE, receipt.sequence.to_string())], response).into_response())
}

/// Delete a channel
///
/// Its stream keys are gone, and its broadcast ends. The owner and administrators may do it.
#[utoipa::path(
    delete,
    path = "/api/v1/channels/{channel}",
    params(
        ("channel" = String, Path, description = "The channel's id or name"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read")
    ),
    responses((status = NO_CONTENT, description = "The channel is gone"), DeleteProblems),
    security(("account" = []), ("administrator" = []))
)]
async fn delete_channel(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    channel: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (id, _) = found(&platform, actor, channel).await?;
    let delete = Delete { channel: id };
    let command = Matching::new(delete, IfMatch::of(&headers), move |rows| tag(rows, id));
    let receipt = platform.send(actor, command).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((StatusCode::NO_CONTENT, sequence).into_response())
}

/// The channel that a path names by its id or its name, if the actor may know of it.
///
/// # Errors
/// 404.
pub(super) async fn found(
    platform: &Platform,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<(ChannelId, Channel), Problem> {
    let Path(text) = path.map_err(|err| Problem::new(Kind::NotFound, err.body_text()))?;
    let unknown = || Refusal::NotFound { thing: "channel" };
    let find = |rows: &dyn Rows| -> Result<(ChannelId, Channel), Refusal> {
        // A name that looks like an id is found by the channel's own id alone.
        let id = match (text.parse::<ChannelId>(), text.parse::<ChannelName>()) {
            (Ok(id), _) => id,
            (_, Ok(name)) => queries::by_name(rows, &name)?.ok_or_else(unknown)?,
            _ => return Err(unknown()),
        };
        Ok((id, queries::visible(rows, &actor, id)?))
    };
    platform.read(find).await
}

/// The entity tag of a channel.
fn tag(rows: &dyn Rows, id: ChannelId) -> Result<ETag, Refusal> {
    Ok(ETag::of(&queries::channel(rows, id)?))
}

/// The channel after which a page begins.
fn position(key: &[u8]) -> Result<ChannelId, Problem> {
    let mut rest = key;
    ChannelId::parse(&mut rest).filter(|_| rest.is_empty()).ok_or_else(|| {
        Problem::new(Kind::InvalidCursor, "this cursor names no channel of this list")
    })
}
