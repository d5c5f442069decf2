//! `/api/v1/videos` and the videos of a channel: announces, shows, edits and deletes them.
//! `lists` has the lists, `publication` publishes.

mod lists;
mod publication;
mod shown;

use axum::{
    Extension,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use control_domain::{
    Command as _, Rows,
    features::videos::{
        commands::{Announce, Delete, Edit},
        details::{Chapters, Details, Edits, Tags, Visibility},
        queries,
    },
    id::{CategoryId, VideoId},
    language::Language,
    password::PasswordHash,
    patch,
    text::{Description, VideoTitle},
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use self::shown::{Shown, id};
use self::shown::{respond, respond_changed, tag};
use super::{channels, sessions::chosen};
use crate::{
    Platform,
    authentication::Sender,
    content::{Content, created},
    described::described,
    identity::password::Hasher,
    platform::Matching,
    precondition::IfMatch,
    problem::{Kind, Problem, problems},
    sequence::SEQUENCE,
};

/// The routes. Without a hasher no video can have a password.
pub(super) fn routes(hasher: Option<Hasher>) -> OpenApiRouter<Platform> {
    OpenApiRouter::new()
        .routes(routes!(lists::list_channel_videos, announce_video))
        .routes(routes!(lists::list_videos))
        .routes(routes!(show_video, edit_video, delete_video))
        .merge(publication::routes())
        .layer(Extension(Passwords(hasher)))
}

/// Hashes passwords of videos, if the platform has passwords.
#[derive(Debug, Clone)]
struct Passwords(Option<Hasher>);

impl Passwords {
    /// The hash of a new password. The sender must be permitted to set it, because a hash is
    /// costly.
    ///
    /// # Errors
    /// 422 for one that cannot be chosen, 503 if too many wait.
    async fn hash(&self, password: Option<String>) -> Result<Option<PasswordHash>, Problem> {
        let Some(password) = password else { return Ok(None) };
        let password = chosen(&password, "/password")?;
        let Some(hasher) = &self.0 else {
            let words = "this server keeps no passwords";
            return Err(Problem::new(Kind::InvalidContent, words));
        };
        hasher.hash(password).await.map(Some)
    }
}

/// A video to announce. There is no `Debug`, because it has a password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewVideo {
    /// Its title.
    #[schema(schema_with = described::<VideoTitle>)]
    title: VideoTitle,
    /// Its description. Default: none.
    #[serde(default)]
    #[schema(schema_with = described::<Description>, required = false)]
    description: Option<Description>,
    /// Its tags. Default: none.
    #[serde(default)]
    #[schema(schema_with = described::<Tags>, required = false)]
    tags: Tags,
    /// Its category. Default: none.
    #[serde(default)]
    #[schema(schema_with = described::<Option<CategoryId>>, required = false)]
    category: Option<CategoryId>,
    /// The language that is spoken, a tag of BCP 47. Default: unknown.
    #[serde(default)]
    #[schema(schema_with = described::<Option<Language>>, required = false)]
    language: Option<Language>,
    /// The viewers that may watch and find it, once it is published. Default: `private`.
    #[serde(default)]
    #[schema(schema_with = described::<Visibility>, required = false)]
    visibility: Visibility,
    /// Its chapters: the first begins at 0. Default: none.
    #[serde(default)]
    #[schema(schema_with = described::<Chapters>, required = false)]
    chapters: Chapters,
    /// The password, which the visibility `password` needs.
    #[serde(default)]
    #[schema(value_type = String, required = false, min_length = 8, max_length = 128,
        format = Password)]
    password: Option<String>,
}

impl NewVideo {
    /// The properties, and the password.
    fn details(self) -> Result<(Details, Option<String>), Problem> {
        let Self { title, description, tags, category, language, visibility, chapters, password } =
            self;
        let description = match description {
            Some(description) => description,
            None => "".parse().map_err(|_| Problem::new(Kind::Internal, "description"))?,
        };
        let details =
            Details { title, description, tags, category, language, visibility, chapters };
        Ok((details, password))
    }
}

/// Changes of a video, as a merge patch: members that are absent keep their value, null removes
/// one. There is no `Debug`, because it has a password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct VideoPatch {
    /// Its title.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<VideoTitle>, required = false)]
    title: Option<VideoTitle>,
    /// Its description.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<Description>, required = false)]
    description: Option<Description>,
    /// Its tags, all of them.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<Tags>, required = false)]
    tags: Option<Tags>,
    /// Its category.
    #[serde(default, deserialize_with = "patch::nullable")]
    #[schema(schema_with = described::<Option<CategoryId>>, required = false)]
    category: Option<Option<CategoryId>>,
    /// The language that is spoken, a tag of BCP 47.
    #[serde(default, deserialize_with = "patch::nullable")]
    #[schema(schema_with = described::<Option<Language>>, required = false)]
    language: Option<Option<Language>>,
    /// The viewers that may watch and find it.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<Visibility>, required = false)]
    visibility: Option<Visibility>,
    /// Its chapters, all of them.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<Chapters>, required = false)]
    chapters: Option<Chapters>,
    /// Another password. It is in force while the visibility is `password`.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(value_type = String, required = false, min_length = 8, max_length = 128,
        format = Password)]
    password: Option<String>,
}

impl VideoPatch {
    /// The changes, and the password.
    fn edits(self) -> (Edits, Option<String>) {
        let Self { title, description, tags, category, language, visibility, chapters, password } =
            self;
        let edits = Edits { title, description, tags, category, language, visibility, chapters };
        (edits, password)
    }
}

problems!(
    /// Problems of [`announce_video`].
    AnnounceProblems: InvalidRequest, InvalidIdempotencyKey, Unauthenticated, InvalidToken,
    Forbidden, NotFound, Conflict, RequestInProgress, InvalidContent, IdempotencyKeyReused
);
problems!(
    /// Problems of [`show_video`].
    ShowProblems: InvalidToken, NotFound, PreconditionFailed
);
problems!(
    /// Problems of [`edit_video`].
    EditProblems: InvalidRequest, Unauthenticated, InvalidToken, Forbidden, NotFound, Conflict,
    PreconditionFailed, InvalidContent
);
problems!(
    /// Problems of [`delete_video`].
    DeleteProblems: Unauthenticated, InvalidToken, Forbidden, NotFound, PreconditionFailed
);

/// Announce a video
///
/// Makes a draft, which only the owner of the channel and moderators see. The owner and
/// administrators may do it.
#[utoipa::path(
    post,
    path = "/api/v1/channels/{channel}/videos",
    params(
        ("channel" = String, Path, description = "The channel's id or name"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")
    ),
    request_body = NewVideo,
    responses(
        (status = CREATED, description = "The video", body = Shown,
            content_type = "application/json"),
        AnnounceProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn announce_video(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    Extension(passwords): Extension<Passwords>,
    channel: Result<Path<String>, PathRejection>,
    Content(new): Content<NewVideo>,
) -> Result<Response, Problem> {
    let (channel, row) = channels::found(&platform, actor, channel).await?;
    Announce::PERMISSION.check(&actor, Some(row.owner), true)?;
    let (details, password) = new.details()?;
    let command = Announce { channel, details, password: passwords.hash(password).await? };
    let receipt = platform.send(actor, command).await?;
    let id = receipt.done;
    let shown = platform
        .read(|rows| -> Result<_, Problem> { Ok(Shown::of(rows, queries::video(rows, id)?)?) })
        .await?;
    let response = created(&format!("/api/v1/videos/{id}"), shown)?;
    Ok(([(SEQUENCE, receipt.sequence.to_string())], response).into_response())
}

/// Show a video
///
/// One that is not published exists for the owner of its channel and moderators alone.
#[utoipa::path(
    get,
    path = "/api/v1/videos/{video}",
    params(("video" = String, Path, description = "The video's id")),
    responses(
        (status = OK, description = "The video", body = Shown,
            content_type = "application/json"),
        ShowProblems
    ),
    security((), ("account" = []), ("administrator" = []))
)]
async fn show_video(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    video: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let id = id(video)?;
    platform.read(|rows| respond(rows, &actor, id)).await
}

/// Edit a video
///
/// The owner of the channel and moderators may do it. With If-Match the edit is made only if the
/// video is as the sender has read it; reactions to it do not count as changes.
#[utoipa::path(
    patch,
    path = "/api/v1/videos/{video}",
    params(
        ("video" = String, Path, description = "The video's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read")
    ),
    request_body(content = VideoPatch, content_type = "application/merge-patch+json"),
    responses(
        (status = OK, description = "The video as it is now", body = Shown,
            content_type = "application/json"),
        EditProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn edit_video(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    Extension(passwords): Extension<Passwords>,
    video: Result<Path<String>, PathRejection>,
    if_match: IfMatch,
    Content(patch): Content<VideoPatch>,
) -> Result<Response, Problem> {
    let id = id(video)?;
    let may_edit = |rows: &dyn Rows| {
        let entry = queries::video(rows, id)?;
        Edit::PERMISSION.check(&actor, Some(entry.channel.owner), entry.is_visible(&actor))
    };
    platform.read(may_edit).await?;
    let (edits, password) = patch.edits();
    let password = passwords.hash(password).await?;
    let edit = Edit { video: id, edits, password, expected: None };
    let receipt = platform.send(actor, matching(edit, if_match, id)).await?;
    let response = platform.read(|rows| respond_changed(rows, id)).await?;
    Ok(([(SEQUENCE, receipt.sequence.to_string())], response).into_response())
}

/// Delete a video
///
/// The owner of the channel and moderators may do it.
#[utoipa::path(
    delete,
    path = "/api/v1/videos/{video}",
    params(
        ("video" = String, Path, description = "The video's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read")
    ),
    responses((status = NO_CONTENT, description = "The video is gone"), DeleteProblems),
    security(("account" = []), ("administrator" = []))
)]
async fn delete_video(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    video: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = id(video)?;
    let command = matching(Delete { video: id }, IfMatch::of(&headers), id);
    let receipt = platform.send(actor, command).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((StatusCode::NO_CONTENT, sequence).into_response())
}

/// A command about a video with the precondition of the request.
fn matching<C>(command: C, if_match: IfMatch, id: VideoId) -> Matching<C> {
    Matching::new(command, if_match, move |rows| tag(rows, id))
}
