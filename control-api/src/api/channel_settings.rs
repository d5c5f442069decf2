//! `/api/v1/channels/{channel}/settings`: the settings of a channel's broadcasts.

use axum::{
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use control_domain::{
    Refusal, Rows,
    features::channels::{
        commands::ChangeSettings,
        queries,
        settings::{Changes, Ladder, Latency, PublishPolicy, ReconnectSeconds, Settings},
    },
    id::{CategoryId, ChannelId},
    language::Language,
    patch,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::channels;
use crate::{
    Platform,
    authentication::Sender,
    content::Content,
    described::described,
    platform::Matching,
    precondition::{ETag, IfMatch, tagged_state},
    problem::{Problem, problems},
    sequence::SEQUENCE,
};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Platform> {
    OpenApiRouter::new().routes(routes!(show_channel_settings, change_channel_settings))
}

/// The settings of a channel's broadcasts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChannelSettings)]
struct Shown {
    /// The renditions that are made: `on`, `off`, or the heights of some rungs.
    #[schema(schema_with = described::<Ladder>)]
    ladder: Ladder,
    /// Whether broadcasts are recorded.
    recording: bool,
    /// Seconds for which a broadcast waits for its publisher to return; null: as the platform's.
    #[schema(schema_with = described::<Option<ReconnectSeconds>>)]
    reconnect_s: Option<ReconnectSeconds>,
    /// How far viewers are behind.
    #[schema(schema_with = described::<Latency>)]
    latency: Latency,
    /// How publishers without a stream key of the channel are authorised.
    #[schema(schema_with = described::<PublishPolicy>)]
    publish: PublishPolicy,
    /// The category of broadcasts. It may have been removed.
    #[schema(schema_with = described::<Option<CategoryId>>)]
    category: Option<CategoryId>,
    /// The language of broadcasts, a tag of BCP 47.
    #[schema(schema_with = described::<Option<Language>>)]
    language: Option<Language>,
}

impl From<Settings> for Shown {
    fn from(settings: Settings) -> Self {
        let Settings {
            ladder, recording, reconnect_s, latency, publish, category, language, ..
        } = settings;
        Self { ladder, recording, reconnect_s, latency, publish, category, language }
    }
}

/// Changes of settings, as a merge patch: members that are absent keep their value, null removes
/// one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChannelSettingsPatch {
    /// The renditions that are made.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<Ladder>, required = false)]
    ladder: Option<Ladder>,
    /// Whether broadcasts are recorded.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<bool>, required = false)]
    recording: Option<bool>,
    /// Seconds for which a broadcast waits for its publisher to return.
    #[serde(default, deserialize_with = "patch::nullable")]
    #[schema(schema_with = described::<Option<ReconnectSeconds>>, required = false)]
    reconnect_s: Option<Option<ReconnectSeconds>>,
    /// How far viewers are behind.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<Latency>, required = false)]
    latency: Option<Latency>,
    /// How publishers without a stream key of the channel are authorised.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<PublishPolicy>, required = false)]
    publish: Option<PublishPolicy>,
    /// The category of broadcasts.
    #[serde(default, deserialize_with = "patch::nullable")]
    #[schema(schema_with = described::<Option<CategoryId>>, required = false)]
    category: Option<Option<CategoryId>>,
    /// The language of broadcasts, a tag of BCP 47.
    #[serde(default, deserialize_with = "patch::nullable")]
    #[schema(schema_with = described::<Option<Language>>, required = false)]
    language: Option<Option<Language>>,
}

impl From<ChannelSettingsPatch> for Changes {
    fn from(patch: ChannelSettingsPatch) -> Self {
        let ChannelSettingsPatch {
            ladder,
            recording,
            reconnect_s,
            latency,
            publish,
            category,
            language,
        } = patch;
        Self { ladder, recording, reconnect_s, latency, publish, category, language }
    }
}

problems!(
    /// Problems of [`show_channel_settings`].
    ShowProblems: Unauthenticated, InvalidToken, Forbidden, NotFound, PreconditionFailed
);
problems!(
    /// Problems of [`change_channel_settings`].
    ChangeProblems: InvalidRequest, Unauthenticated, InvalidToken, Forbidden, NotFound,
    PreconditionFailed, InvalidContent
);

/// Show the settings of a channel
///
/// The owner and moderators may do it.
#[utoipa::path(
    get,
    path = "/api/v1/channels/{channel}/settings",
    params(("channel" = String, Path, description = "The channel's id or name")),
    responses(
        (status = OK, description = "The settings", body = Shown,
            content_type = "application/json"),
        ShowProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn show_channel_settings(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    channel: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let (id, _) = channels::found(&platform, actor, channel).await?;
    let settings = platform.read(|rows| queries::settings_for(rows, &actor, id)).await?;
    respond(settings)
}

/// Change the settings of a channel
///
/// The owner and administrators may do it. With If-Match the change is made only if the settings
/// are as the sender has read them.
#[utoipa::path(
    patch,
    path = "/api/v1/channels/{channel}/settings",
    params(
        ("channel" = String, Path, description = "The channel's id or name"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read")
    ),
    request_body(
        content = ChannelSettingsPatch,
        content_type = "application/merge-patch+json"
    ),
    responses(
        (status = OK, description = "The settings as they are now", body = Shown,
            content_type = "application/json"),
        ChangeProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn change_channel_settings(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    channel: Result<Path<String>, PathRejection>,
    if_match: IfMatch,
    Content(patch): Content<ChannelSettingsPatch>,
) -> Result<Response, Problem> {
    let (id, _) = channels::found(&platform, actor, channel).await?;
    let change = ChangeSettings { channel: id, changes: patch.into(), expected: None };
    let command = Matching::new(change, if_match, move |rows| tag(rows, id));
    let receipt = platform.send(actor, command).await?;
    let settings = platform.read(|rows| queries::settings(rows, id)).await?;
    Ok(([(SEQUENCE, receipt.sequence.to_string())], respond(settings)?).into_response())
}

fn respond(settings: Settings) -> Result<Response, Problem> {
    let tag = ETag::of_version(settings.version);
    tagged_state(&Shown::from(settings), &tag)
}

/// The state of the settings.
fn tag(rows: &dyn Rows, id: ChannelId) -> Result<ETag, Refusal> {
    Ok(ETag::of_version(queries::settings(rows, id)?.version))
}
