//! `/api/v1/api-keys`: a part of an account's rights, for programs.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use control_domain::{
    Actor, Refusal, Scopes, Time, Vault,
    features::{
        api_keys::{
            commands::{AddKey, RevokeKey},
            queries,
            tables::ApiKey,
        },
        stream_keys::events::KeyDigest,
    },
    id::{AccountId, ApiKeyId},
    text::KeyName,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::sessions::own;
use crate::{
    authentication::Sender,
    content::{Content, created},
    described::described,
    identity::{API_KEY_PREFIX, Identity},
    problem::{Problem, problems},
    secret::Secret,
    sequence::SEQUENCE,
};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Identity> {
    OpenApiRouter::new().routes(routes!(list_api_keys, add_api_key)).routes(routes!(revoke_api_key))
}

/// An API key without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(super) struct Shown {
    /// The key.
    #[schema(schema_with = described::<ApiKeyId>)]
    id: ApiKeyId,
    /// The name that its owner gave it.
    #[schema(schema_with = described::<KeyName>)]
    name: String,
    /// The part of the account's rights that it has.
    #[schema(schema_with = described::<Scopes>)]
    scopes: Scopes,
    /// When it was made.
    #[schema(schema_with = described::<Time>)]
    added: Time,
    /// From when it is not valid; null if it is valid until it is revoked.
    #[schema(schema_with = described::<Option<Time>>)]
    expires: Option<Time>,
}

impl Shown {
    fn of(id: ApiKeyId, key: ApiKey, vault: &dyn Vault) -> Result<Self, Refusal> {
        let ApiKey { scopes, added, expires, .. } = key;
        // Without the person's key the account is erased, and its keys with it.
        let name = vault.open(&key.name)?.ok_or(Refusal::NotFound { thing: "api_key" })?;
        Ok(Self { id, name, scopes, added, expires })
    }
}

/// The keys of an account: at most 50, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
struct ApiKeys {
    /// The keys.
    #[schema(max_items = 50)]
    api_keys: Vec<Shown>,
}

/// A key to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewApiKey {
    /// A name, which no other key of the account has.
    #[schema(schema_with = described::<KeyName>)]
    name: KeyName,
    /// The part of the account's rights that it gets.
    #[schema(schema_with = described::<Scopes>)]
    scopes: Scopes,
    /// From when it is not valid. Default: it is valid until it is revoked.
    #[serde(default)]
    #[schema(schema_with = described::<Option<Time>>, required = false)]
    expires: Option<Time>,
}

/// A new key with its secret, which is shown this once.
#[derive(Serialize, ToSchema)]
struct AddedApiKey {
    #[serde(flatten)]
    shown: Shown,
    /// The secret, to be sent as `Authorization: Bearer`.
    #[schema(example = "sfk_Zm9yIGV4YW1wbGUgdGhlc2UgMzIgcmFuZG9tIGJ5dGVz")]
    key: String,
}

problems!(
    /// Problems of [`list_api_keys`].
    ListProblems: Unauthenticated, InvalidToken, Forbidden, InsufficientScope, PreconditionFailed
);
problems!(
    /// Problems of [`add_api_key`].
    AddProblems: InvalidRequest, InvalidIdempotencyKey, Unauthenticated, InvalidToken, Forbidden,
    InsufficientScope, Conflict, RequestInProgress, InvalidContent, IdempotencyKeyReused
);
problems!(
    /// Problems of [`revoke_api_key`].
    RevokeProblems: Unauthenticated, InvalidToken, Forbidden, InsufficientScope, NotFound
);

/// List the API keys of the account
///
/// The secrets are not kept and cannot be listed.
#[utoipa::path(
    get,
    path = "/api/v1/api-keys",
    responses(
        (status = OK, description = "The keys", body = ApiKeys, content_type = "application/json"),
        ListProblems
    ),
    security(("account" = []))
)]
async fn list_api_keys(
    State(identity): State<Identity>,
    Sender(actor): Sender,
) -> Result<Json<ApiKeys>, Problem> {
    let api_keys = shown(&identity, actor, own(&actor)?).await?;
    Ok(Json(ApiKeys { api_keys }))
}

/// Add an API key to the account
///
/// The response is the only one that has the secret. A key adds no keys, and changes no password.
#[utoipa::path(
    post,
    path = "/api/v1/api-keys",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    request_body = NewApiKey,
    responses(
        (status = CREATED, description = "The key", body = AddedApiKey,
            content_type = "application/json"),
        AddProblems
    ),
    security(("account" = []))
)]
async fn add_api_key(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    Content(new): Content<NewApiKey>,
) -> Result<Response, Problem> {
    let account = own(&actor)?;
    let secret = Secret::random(API_KEY_PREFIX)?;
    let digest = KeyDigest(secret.digest().bytes());
    let NewApiKey { name, scopes, expires } = new;
    let command = AddKey { account, name, digest, scopes, expires };
    let receipt = identity.platform().send(actor, command).await?;
    let id = receipt.done;
    let shown = identity.read(|rows, vault| Shown::of(id, queries::key(rows, id)?, vault)).await?;
    let added = AddedApiKey { shown, key: secret.expose().to_owned() };
    let response = created(&format!("/api/v1/api-keys/{id}"), added)?;
    Ok(([(SEQUENCE, receipt.sequence.to_string())], response).into_response())
}

/// Revoke an API key
///
/// The owner and administrators may do it.
#[utoipa::path(
    delete,
    path = "/api/v1/api-keys/{key}",
    params(("key" = String, Path, description = "The key's id")),
    responses((status = NO_CONTENT, description = "The key is revoked"), RevokeProblems),
    security(("account" = []), ("administrator" = []))
)]
async fn revoke_api_key(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    key: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    // A stranger learns nothing of keys, also not whether one exists.
    if actor == Actor::Anonymous {
        return Err(Refusal::SignIn.into());
    }
    let unknown = || Problem::from(Refusal::NotFound { thing: "api_key" });
    let Path(text) = key.map_err(|_| unknown())?;
    let key = text.parse().map_err(|_| unknown())?;
    let receipt = identity.platform().send(actor, RevokeKey { key }).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((StatusCode::NO_CONTENT, sequence).into_response())
}

/// The keys of an account.
pub(super) async fn shown(
    identity: &Identity,
    actor: Actor,
    account: AccountId,
) -> Result<Vec<Shown>, Problem> {
    identity
        .read(|rows, vault| {
            let keys = queries::list(rows, &actor, account)?;
            keys.into_iter().map(|(id, key)| Shown::of(id, key, vault)).collect()
        })
        .await
}
