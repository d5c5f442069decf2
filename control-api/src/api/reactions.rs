//! `/api/v1/videos/{video}/reaction`: the reaction of the sender to a video. Nobody else sees it;
//! the video has the counts.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use control_domain::{
    Refusal, Rows,
    features::{
        reactions::{
            commands::{React, Withdraw},
            events::Reaction,
            queries,
        },
        videos as domain,
    },
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{follows::person, videos};
use crate::{
    Platform,
    authentication::Sender,
    content::Content,
    described::described,
    problem::{Problem, problems},
    sequence::SEQUENCE,
};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Platform> {
    OpenApiRouter::new().routes(routes!(show_reaction, react, withdraw_reaction))
}

/// The reaction of the sender to a video.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Reaction)]
struct Own {
    /// The reaction.
    #[schema(schema_with = described::<Reaction>)]
    reaction: Reaction,
}

problems!(
    /// Problems of [`show_reaction`].
    ShowProblems: Unauthenticated, InvalidToken, Forbidden, NotFound, PreconditionFailed
);
problems!(
    /// Problems of [`react`].
    ReactProblems: InvalidRequest, Unauthenticated, InvalidToken, Forbidden, NotFound, Conflict,
    InvalidContent
);
problems!(
    /// Problems of [`withdraw_reaction`].
    WithdrawProblems: Unauthenticated, InvalidToken, Forbidden, NotFound
);

/// Show the sender's reaction to a video
///
/// 404 if there is none.
#[utoipa::path(
    get,
    path = "/api/v1/videos/{video}/reaction",
    params(("video" = String, Path, description = "The video's id")),
    responses(
        (status = OK, description = "The reaction", body = Own, content_type = "application/json"),
        ShowProblems
    ),
    security(("account" = []))
)]
async fn show_reaction(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    video: Result<Path<String>, PathRejection>,
) -> Result<Json<Own>, Problem> {
    let person = person(actor, &queries::SHOW)?;
    let video = videos::id(video)?;
    let query = |rows: &dyn Rows| -> Result<Reaction, Refusal> {
        domain::queries::visible(rows, &actor, video)?;
        let reaction = queries::reaction(rows, video, person)?;
        reaction.ok_or(Refusal::NotFound { thing: "reaction" })
    };
    let reaction = platform.read(query).await?;
    Ok(Json(Own { reaction }))
}

/// React to a video
///
/// Instead of an earlier reaction. The video must be published.
#[utoipa::path(
    put,
    path = "/api/v1/videos/{video}/reaction",
    params(("video" = String, Path, description = "The video's id")),
    request_body = Own,
    responses(
        (status = OK, description = "The reaction", body = Own, content_type = "application/json"),
        ReactProblems
    ),
    security(("account" = []))
)]
async fn react(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    video: Result<Path<String>, PathRejection>,
    Content(Own { reaction }): Content<Own>,
) -> Result<Response, Problem> {
    let video = videos::id(video)?;
    let receipt = platform.send(actor, React { video, reaction }).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((sequence, Json(Own { reaction })).into_response())
}

/// Withdraw the reaction to a video
#[utoipa::path(
    delete,
    path = "/api/v1/videos/{video}/reaction",
    params(("video" = String, Path, description = "The video's id")),
    responses(
        (status = NO_CONTENT, description = "The sender has no reaction to it"),
        WithdrawProblems
    ),
    security(("account" = []))
)]
async fn withdraw_reaction(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    video: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let video = videos::id(video)?;
    let receipt = platform.send(actor, Withdraw { video }).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((StatusCode::NO_CONTENT, sequence).into_response())
}
