//! `/api/v1/channels/{channel}/stream-keys`: the rights to publish on a channel.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use control_domain::{
    Refusal, Time,
    features::stream_keys::{
        commands::{AddKey, RevokeKey},
        events::KeyDigest,
        queries,
        tables::StreamKey,
    },
    id::StreamKeyId,
    text::KeyName,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::channels;
use crate::{
    Platform,
    authentication::Sender,
    content::{Content, created},
    described::described,
    problem::{Kind, Problem, problems},
    secret::Secret,
    sequence::SEQUENCE,
};

/// The beginning of each stream key.
const PREFIX: &str = "live_";

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Platform> {
    OpenApiRouter::new()
        .routes(routes!(list_stream_keys, add_stream_key))
        .routes(routes!(revoke_stream_key))
}

/// A stream key without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamKey)]
struct Shown {
    /// The key.
    #[schema(schema_with = described::<StreamKeyId>)]
    id: StreamKeyId,
    /// The name that its owner gave it.
    #[schema(schema_with = described::<KeyName>)]
    name: String,
    /// When it was made.
    #[schema(schema_with = described::<Time>)]
    added: Time,
}

impl Shown {
    fn of(id: StreamKeyId, key: StreamKey) -> Self {
        Self { id, name: key.name, added: key.added }
    }
}

/// The keys of a channel: at most 20, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
struct StreamKeys {
    /// The keys.
    #[schema(max_items = 20)]
    stream_keys: Vec<Shown>,
}

/// A key to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewStreamKey {
    /// A name, which no other key of the channel has.
    #[schema(schema_with = described::<KeyName>)]
    name: KeyName,
}

/// A new key with its secret, which is shown this once.
#[derive(Serialize, ToSchema)]
struct AddedStreamKey {
    #[serde(flatten)]
    shown: Shown,
    /// The secret, to be entered as the stream key in an encoder.
    #[schema(example = "live_Zm9yIGV4YW1wbGUgdGhlc2UgMzIgcmFuZG9tIGJ5dGVz")]
    key: String,
}

problems!(
    /// Problems of [`list_stream_keys`].
    ListProblems: Unauthenticated, InvalidToken, Forbidden, NotFound, PreconditionFailed
);
problems!(
    /// Problems of [`add_stream_key`].
    AddProblems: InvalidRequest, InvalidIdempotencyKey, Unauthenticated, InvalidToken, Forbidden,
    NotFound, Conflict, RequestInProgress, InvalidContent, IdempotencyKeyReused
);
problems!(
    /// Problems of [`revoke_stream_key`].
    RevokeProblems: Unauthenticated, InvalidToken, Forbidden, NotFound
);

/// List the stream keys of a channel
///
/// The owner and administrators may do it. The secrets are not kept and cannot be listed.
#[utoipa::path(
    get,
    path = "/api/v1/channels/{channel}/stream-keys",
    params(("channel" = String, Path, description = "The channel's id or name")),
    responses(
        (status = OK, description = "The keys", body = StreamKeys,
            content_type = "application/json"),
        ListProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn list_stream_keys(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    channel: Result<Path<String>, PathRejection>,
) -> Result<Json<StreamKeys>, Problem> {
    let (channel, _) = channels::found(&platform, actor, channel).await?;
    let keys = platform.read(|rows| queries::list(rows, &actor, channel)).await?;
    let stream_keys = keys.into_iter().map(|(id, key)| Shown::of(id, key)).collect();
    Ok(Json(StreamKeys { stream_keys }))
}

/// Add a stream key to a channel
///
/// The response is the only one that has the secret.
#[utoipa::path(
    post,
    path = "/api/v1/channels/{channel}/stream-keys",
    params(
        ("channel" = String, Path, description = "The channel's id or name"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")
    ),
    request_body = NewStreamKey,
    responses(
        (status = CREATED, description = "The key", body = AddedStreamKey,
            content_type = "application/json"),
        AddProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn add_stream_key(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    channel: Result<Path<String>, PathRejection>,
    Content(new): Content<NewStreamKey>,
) -> Result<Response, Problem> {
    let (channel, _) = channels::found(&platform, actor, channel).await?;
    let secret = Secret::random(PREFIX)?;
    let digest = KeyDigest(secret.digest().bytes());
    let receipt = platform.send(actor, AddKey { channel, name: new.name, digest }).await?;
    let id = receipt.done;
    let key = platform.read(|rows| queries::key(rows, id)).await?;
    let added = AddedStreamKey { shown: Shown::of(id, key), key: secret.expose().to_owned() };
    let response = created(&format!("/api/v1/channels/{channel}/stream-keys/{id}"), added)?;
    Ok(([(SEQUENCE, receipt.sequence.to_string())], response).into_response())
}

/// Revoke a stream key
///
/// A publisher that uses it is disconnected.
#[utoipa::path(
    delete,
    path = "/api/v1/channels/{channel}/stream-keys/{key}",
    params(
        ("channel" = String, Path, description = "The channel's id or name"),
        ("key" = String, Path, description = "The key's id")
    ),
    responses((status = NO_CONTENT, description = "The key is revoked"), RevokeProblems),
    security(("account" = []), ("administrator" = []))
)]
async fn revoke_stream_key(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Problem> {
    let unknown = || Problem::from(Refusal::NotFound { thing: "stream_key" });
    let Path((channel, key)) = path.map_err(|err| Problem::new(Kind::NotFound, err.body_text()))?;
    let key: StreamKeyId = key.parse().map_err(|_| unknown())?;
    let (channel, _) = channels::found(&platform, actor, Ok(Path(channel))).await?;
    // The address names both, so a key of another channel is not there.
    let row = platform.read(|rows| queries::key(rows, key)).await?;
    if row.channel != channel {
        return Err(unknown());
    }
    let receipt = platform.send(actor, RevokeKey { key }).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((StatusCode::NO_CONTENT, sequence).into_response())
}
