//! `/api/v1/accounts/{account}/avatar`, `/api/v1/channels/{channel}/avatar` and `banner`: puts and
//! removes pictures; `/api/v1/avatars/{picture}/{size}` has their files.

use axum::{
    Json,
    extract::{DefaultBodyLimit, Path, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use control_domain::{
    Actor, Command, Refusal,
    features::pictures::{
        commands::{ChangeAvatar, ChangeBanner, ChangeChannelAvatar},
        events::PictureHash,
    },
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{accounts::named, channels};
use crate::{
    Pictures, Platform,
    authentication::Sender,
    content,
    described::described,
    pictures::{MAX_BYTES, Use},
    problem::{Problem, problems},
    sequence::SEQUENCE,
};

/// The state of the routes.
#[derive(Clone)]
struct Shared {
    platform: Platform,
    pictures: Pictures,
}

/// The routes.
pub(super) fn routes(platform: Platform, pictures: Pictures) -> OpenApiRouter<Platform> {
    OpenApiRouter::new()
        .routes(routes!(put_avatar, delete_avatar))
        .routes(routes!(put_channel_avatar, delete_channel_avatar))
        .routes(routes!(put_channel_banner, delete_channel_banner))
        .layer(DefaultBodyLimit::max(MAX_BYTES))
        .routes(routes!(show_picture))
        .with_state(Shared { platform, pictures })
}

/// A picture that is shown now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Picture)]
struct Shown {
    /// Its name: the files are at `/api/v1/avatars/{picture}/{size}`.
    #[schema(schema_with = described::<PictureHash>)]
    picture: PictureHash,
    /// The sizes, which are the widths in pixels.
    sizes: Vec<u16>,
}

/// The bytes of a picture.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
struct PictureBytes(());

problems!(
    /// Problems of the routes that put a picture.
    PutProblems: InvalidRequest, Unauthenticated, InvalidToken, Forbidden, InsufficientScope,
    NotFound, PreconditionFailed, InvalidContent
);
problems!(
    /// Problems of the routes that remove a picture.
    DeleteProblems: Unauthenticated, InvalidToken, Forbidden, InsufficientScope, NotFound,
    PreconditionFailed
);
problems!(
    /// Problems of [`show_picture`].
    ShowProblems: InvalidToken, NotFound, PreconditionFailed
);

/// Put an avatar
///
/// A JPEG, PNG or WebP of at most 8 MiB, 8192 pixels a side and 25 million pixels. The middle of it
/// is kept in 512, 128 and 48 pixels as JPEG, without metadata, such as the place where it was
/// taken. The kind is recognized by the content; Content-Type is not considered. The owner and
/// moderators may do it.
#[utoipa::path(
    put,
    path = "/api/v1/accounts/{account}/avatar",
    params(("account" = String, Path, description = "The account's id, or me")),
    request_body(content = PictureBytes, content_type = "image/*", description = "The picture"),
    responses(
        (status = OK, description = "The picture", body = Shown,
            content_type = "application/json"),
        PutProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn put_avatar(
    State(shared): State<Shared>,
    Sender(actor): Sender,
    account: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let account = named(&actor, account)?;
    let command = move |avatar| ChangeAvatar { account, avatar };
    put(&shared, actor, Use::Avatar(account), command, request).await
}

/// Remove an avatar
///
/// The owner and moderators may do it.
#[utoipa::path(
    delete,
    path = "/api/v1/accounts/{account}/avatar",
    params(("account" = String, Path, description = "The account's id, or me")),
    responses((status = NO_CONTENT, description = "There is none"), DeleteProblems),
    security(("account" = []), ("administrator" = []))
)]
async fn delete_avatar(
    State(shared): State<Shared>,
    Sender(actor): Sender,
    account: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let account = named(&actor, account)?;
    remove(&shared, actor, ChangeAvatar { account, avatar: None }).await
}

/// Put the avatar of a channel
///
/// As the avatar of an account. The owner and moderators may do it.
#[utoipa::path(
    put,
    path = "/api/v1/channels/{channel}/avatar",
    params(("channel" = String, Path, description = "The channel's id or name")),
    request_body(content = PictureBytes, content_type = "image/*", description = "The picture"),
    responses(
        (status = OK, description = "The picture", body = Shown,
            content_type = "application/json"),
        PutProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn put_channel_avatar(
    State(shared): State<Shared>,
    Sender(actor): Sender,
    channel: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (channel, _) = channels::found(&shared.platform, actor, channel).await?;
    let command = move |avatar| ChangeChannelAvatar { channel, avatar };
    put(&shared, actor, Use::ChannelAvatar(channel), command, request).await
}

/// Remove the avatar of a channel
///
/// The owner and moderators may do it.
#[utoipa::path(
    delete,
    path = "/api/v1/channels/{channel}/avatar",
    params(("channel" = String, Path, description = "The channel's id or name")),
    responses((status = NO_CONTENT, description = "There is none"), DeleteProblems),
    security(("account" = []), ("administrator" = []))
)]
async fn delete_channel_avatar(
    State(shared): State<Shared>,
    Sender(actor): Sender,
    channel: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let (channel, _) = channels::found(&shared.platform, actor, channel).await?;
    remove(&shared, actor, ChangeChannelAvatar { channel, avatar: None }).await
}

/// Put the banner of a channel
///
/// As the avatar of an account; the middle is kept in 1920x480 and 960x240 pixels. The owner and
/// moderators may do it.
#[utoipa::path(
    put,
    path = "/api/v1/channels/{channel}/banner",
    params(("channel" = String, Path, description = "The channel's id or name")),
    request_body(content = PictureBytes, content_type = "image/*", description = "The picture"),
    responses(
        (status = OK, description = "The picture", body = Shown,
            content_type = "application/json"),
        PutProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn put_channel_banner(
    State(shared): State<Shared>,
    Sender(actor): Sender,
    channel: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (channel, _) = channels::found(&shared.platform, actor, channel).await?;
    let command = move |banner| ChangeBanner { channel, banner };
    put(&shared, actor, Use::Banner(channel), command, request).await
}

/// Remove the banner of a channel
///
/// The owner and moderators may do it.
#[utoipa::path(
    delete,
    path = "/api/v1/channels/{channel}/banner",
    params(("channel" = String, Path, description = "The channel's id or name")),
    responses((status = NO_CONTENT, description = "There is none"), DeleteProblems),
    security(("account" = []), ("administrator" = []))
)]
async fn delete_channel_banner(
    State(shared): State<Shared>,
    Sender(actor): Sender,
    channel: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let (channel, _) = channels::found(&shared.platform, actor, channel).await?;
    remove(&shared, actor, ChangeBanner { channel, banner: None }).await
}

/// Show a picture
///
/// A JPEG. Its name depends on its content, so that it never changes.
#[utoipa::path(
    get,
    path = "/api/v1/avatars/{picture}/{size}",
    params(
        ("picture" = String, Path, description = "The picture's name"),
        ("size" = u16, Path,
            description = "The width in pixels: 512, 128 or 48; of a banner 1920 or 960")
    ),
    responses(
        (status = OK, description = "The picture", body = PictureBytes,
            content_type = "image/jpeg"),
        ShowProblems
    ),
    security(())
)]
async fn show_picture(
    State(shared): State<Shared>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Problem> {
    let unknown = || Problem::from(Refusal::NotFound { thing: "picture" });
    let Path((name, size)) = path.map_err(|_| unknown())?;
    let name = name.parse::<PictureHash>().map_err(|_| unknown())?;
    // One spelling of each address, so that a cache holds one copy.
    let width = size.parse::<u16>().ok().filter(|width| width.to_string() == size);
    let file = shared.pictures.file(name, width.ok_or_else(unknown)?).await?;
    let file = file.ok_or_else(unknown)?;
    let tag = HeaderValue::try_from(format!("\"{name}-{size}\"")).map_err(|_| unknown())?;
    let fields = [
        (header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg")),
        (header::ETAG, tag),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
        // A picture is nothing but a picture, also where it is opened by itself.
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox"),
        ),
        // Pages of other sites may show it, as they may the videos.
        (
            http::HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("cross-origin"),
        ),
    ];
    Ok((fields, file).into_response())
}

/// Reads the body and makes the picture, if the sender may do it.
async fn put<C>(
    shared: &Shared,
    actor: Actor,
    purpose: Use,
    command: impl Fn(Option<PictureHash>) -> C,
    request: Request,
) -> Result<Response, Problem>
where
    C: Command<Done = ()> + 'static,
{
    // Before the body is read and decoded, so that nobody lets us decode for others.
    let attempt = command(None);
    shared
        .platform
        .read(|rows| -> Result<(), Refusal> {
            let owner = attempt.owner(rows)?;
            C::PERMISSION.check(&actor, owner, attempt.is_visible(rows, &actor)?)
        })
        .await?;
    let _turn = shared.pictures.begin(&actor)?;
    let body = content::bytes(request, &()).await?;
    let (picture, receipt) = shared.pictures.set(actor, purpose, body, command).await?;
    let sizes = purpose.sizes().iter().map(|(width, _)| *width).collect();
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((sequence, Json(Shown { picture, sizes })).into_response())
}

async fn remove<C>(shared: &Shared, actor: Actor, command: C) -> Result<Response, Problem>
where
    C: Command<Done = ()> + 'static,
{
    let receipt = shared.platform.send(actor, command).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((StatusCode::NO_CONTENT, sequence).into_response())
}
