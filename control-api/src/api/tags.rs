//! `/api/v1/tags`: completes tags; administrators merge those that mean the same.

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use control_domain::{
    Refusal,
    features::{
        tags::{
            commands::{Merge, Separate},
            queries,
        },
        videos,
    },
    text::Tag,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Platform,
    authentication::Sender,
    content::Content,
    described::described,
    problem::{Kind, Problem, problems},
    sequence::SEQUENCE,
};

/// Number of completions: least and greatest.
const LIMIT: std::ops::RangeInclusive<usize> = 1..=50;
/// Number of completions without a limit of the sender.
const DEFAULT_LIMIT: usize = 10;
/// Longest beginning in characters: that of a tag.
const MAX_BEGINNING: usize = 30;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Platform> {
    OpenApiRouter::new().routes(routes!(complete_tag)).routes(routes!(
        show_tag_meaning,
        merge_tag,
        separate_tag
    ))
}

/// The beginning of a tag.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Completion {
    /// The beginning, in any case. Default: empty, which gives the most frequent tags.
    #[serde(default)]
    #[param(max_length = 30)]
    beginning: String,
    /// Maximum number of tags. Default 10.
    #[param(minimum = 1, maximum = 50, default = 10)]
    limit: Option<usize>,
}

/// A tag and the number of public videos that have it.
#[derive(Debug, Serialize, ToSchema)]
struct TagCount {
    /// The tag.
    #[schema(schema_with = described::<Tag>)]
    tag: Tag,
    /// The number of videos, those with tags that were merged into it included.
    videos: u64,
}

/// Tags, the most frequent first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tags)]
struct Completions {
    /// The tags.
    #[schema(max_items = 50)]
    tags: Vec<TagCount>,
}

/// The tag that a tag means.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TagMeaning {
    /// The tag.
    #[schema(schema_with = described::<Tag>)]
    tag: Tag,
}

problems!(
    /// Problems of [`complete_tag`].
    CompleteProblems: InvalidRequest, InvalidToken, PreconditionFailed
);
problems!(
    /// Problems of [`show_tag_meaning`].
    ShowProblems: InvalidToken, NotFound, PreconditionFailed
);
problems!(
    /// Problems of [`merge_tag`].
    MergeProblems: InvalidRequest, Unauthenticated, InvalidToken, Forbidden, NotFound, Conflict,
    InvalidContent
);
problems!(
    /// Problems of [`separate_tag`].
    SeparateProblems: Unauthenticated, InvalidToken, Forbidden, NotFound
);

/// Complete a tag
///
/// Tags of public videos that begin with a text, or mean the same as one that begins so.
#[utoipa::path(
    get,
    path = "/api/v1/tags",
    params(Completion),
    responses(
        (status = OK, description = "The tags", body = Completions,
            content_type = "application/json"),
        CompleteProblems
    ),
    security((), ("account" = []), ("administrator" = []))
)]
async fn complete_tag(
    State(platform): State<Platform>,
    completion: Result<Query<Completion>, QueryRejection>,
) -> Result<Json<Completions>, Problem> {
    let invalid = |words: String| Problem::new(Kind::InvalidRequest, words);
    let Query(Completion { beginning, limit }) =
        completion.map_err(|err| invalid(err.body_text()))?;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !LIMIT.contains(&limit) {
        let (least, greatest) = (LIMIT.start(), LIMIT.end());
        return Err(invalid(format!("limit is {limit}, it must be {least} to {greatest}")));
    }
    if beginning.chars().nth(MAX_BEGINNING).is_some() {
        return Err(invalid(format!("beginning has more than {MAX_BEGINNING} characters")));
    }
    let query = videos::queries::complete_tag;
    let found = platform.read(|rows| query(rows, &beginning, limit)).await?;
    let count =
        |found: videos::queries::TagCount| TagCount { tag: found.tag, videos: found.videos };
    Ok(Json(Completions { tags: found.into_iter().map(count).collect() }))
}

/// Show the meaning of a tag
///
/// The tag into which it was merged, otherwise itself.
#[utoipa::path(
    get,
    path = "/api/v1/tags/{tag}/meaning",
    params(("tag" = String, Path, description = "The tag")),
    responses(
        (status = OK, description = "The meaning", body = TagMeaning,
            content_type = "application/json"),
        ShowProblems
    ),
    security((), ("account" = []), ("administrator" = []))
)]
async fn show_tag_meaning(
    State(platform): State<Platform>,
    tag: Result<Path<String>, PathRejection>,
) -> Result<Json<TagMeaning>, Problem> {
    let named = named(tag)?;
    let tag = platform.read(|rows| queries::meaning(rows, &named)).await?;
    Ok(Json(TagMeaning { tag }))
}

/// Merge a tag into another
///
/// It means the other one from then on, and lists by one of them have the videos of both. The
/// videos keep the tags that they have. Administrators may do it.
#[utoipa::path(
    put,
    path = "/api/v1/tags/{tag}/meaning",
    params(("tag" = String, Path, description = "The tag")),
    request_body = TagMeaning,
    responses((status = NO_CONTENT, description = "The tag means the other one"), MergeProblems),
    security(("account" = []), ("administrator" = []))
)]
async fn merge_tag(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    tag: Result<Path<String>, PathRejection>,
    Content(TagMeaning { tag: into }): Content<TagMeaning>,
) -> Result<Response, Problem> {
    let receipt = platform.send(actor, Merge { tag: named(tag)?, into }).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((StatusCode::NO_CONTENT, sequence).into_response())
}

/// Separate a tag from the one into which it was merged
///
/// Administrators may do it.
#[utoipa::path(
    delete,
    path = "/api/v1/tags/{tag}/meaning",
    params(("tag" = String, Path, description = "The tag")),
    responses((status = NO_CONTENT, description = "The tag means itself"), SeparateProblems),
    security(("account" = []), ("administrator" = []))
)]
async fn separate_tag(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    tag: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let receipt = platform.send(actor, Separate { tag: named(tag)? }).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((StatusCode::NO_CONTENT, sequence).into_response())
}

/// The tag that a path names.
fn named(path: Result<Path<String>, PathRejection>) -> Result<Tag, Problem> {
    let Path(text) = path.map_err(|err| Problem::new(Kind::NotFound, err.body_text()))?;
    text.parse().map_err(|_| Refusal::NotFound { thing: "tag" }.into())
}
