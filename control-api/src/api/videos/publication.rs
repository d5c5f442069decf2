//! `/api/v1/videos/{video}/publication`: publishes a video, now or at a time, and withdraws it.

use axum::{
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use control_domain::{
    Time,
    features::videos::commands::{Publish, Unpublish},
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Shown, id, matching, shown::respond_changed};
use crate::{
    Platform,
    authentication::Sender,
    content::Content,
    described::described,
    precondition::IfMatch,
    problem::{Problem, problems},
    sequence::SEQUENCE,
};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Platform> {
    OpenApiRouter::new().routes(routes!(publish_video, unpublish_video))
}

/// The publication of a video.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Publication {
    /// The time. Default, and for one that has passed: now, or as soon as the video is processed.
    #[serde(default)]
    #[schema(schema_with = described::<Option<Time>>, required = false)]
    at: Option<Time>,
}

problems!(
    /// Problems of [`publish_video`].
    PublishProblems: InvalidRequest, Unauthenticated, InvalidToken, Forbidden, NotFound, Conflict,
    PreconditionFailed, InvalidContent
);
problems!(
    /// Problems of [`unpublish_video`].
    UnpublishProblems: Unauthenticated, InvalidToken, Forbidden, NotFound, PreconditionFailed
);

/// Publish a video
///
/// Now, or at a time in UTC. A video that is not processed is published as soon as it is, but not
/// before that time. The owner of the channel and administrators may do it. A repetition changes
/// nothing.
#[utoipa::path(
    put,
    path = "/api/v1/videos/{video}/publication",
    params(
        ("video" = String, Path, description = "The video's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag of the video that was read")
    ),
    request_body = Publication,
    responses(
        (status = OK, description = "The video as it is now", body = Shown,
            content_type = "application/json"),
        PublishProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn publish_video(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    video: Result<Path<String>, PathRejection>,
    if_match: IfMatch,
    Content(Publication { at }): Content<Publication>,
) -> Result<Response, Problem> {
    let id = id(video)?;
    let command = matching(Publish { video: id, at }, if_match, id);
    let receipt = platform.send(actor, command).await?;
    let response = platform.read(|rows| respond_changed(rows, id)).await?;
    Ok(([(SEQUENCE, receipt.sequence.to_string())], response).into_response())
}

/// Withdraw the publication of a video
///
/// Nobody can watch it any more, or it is not published at the time for which that was scheduled.
/// The owner of the channel and moderators may do it.
#[utoipa::path(
    delete,
    path = "/api/v1/videos/{video}/publication",
    params(
        ("video" = String, Path, description = "The video's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag of the video that was read")
    ),
    responses(
        (status = NO_CONTENT, description = "The video is not published, nor scheduled"),
        UnpublishProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn unpublish_video(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    video: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = id(video)?;
    let command = matching(Unpublish { video: id }, IfMatch::of(&headers), id);
    let receipt = platform.send(actor, command).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((StatusCode::NO_CONTENT, sequence).into_response())
}
