//! `/api/v1/webhooks`: addresses to which events are delivered, and their deliveries.

mod bodies;
mod shown;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::PathRejection, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use control_domain::{
    Actor, Refusal, Rows,
    features::webhooks::{
        commands::{Create, DELIVER, Delete, Disable, Edit, Edits, Enable, RotateSecret},
        queries::{self, Webhook},
        secret::{PREFIX, WebhookSecret},
        url::WebhookUrl,
    },
    id::{EventId, WebhookId},
};
use http::{HeaderMap, StatusCode};
use ring::rand::{SecureRandom as _, SystemRandom};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    bodies::{Filter, NewSecret, NewWebhook, WebhookPatch},
    shown::{Deliveries, Listed, Shown, ShownDelivery, WebhookWithSecret},
};
use crate::{
    Platform, Webhooks,
    authentication::Sender,
    content::{Content, created},
    platform::Matching,
    precondition::{ETag, IfMatch, tagged},
    problem::{Kind, Problem, problems},
    sequence::SEQUENCE,
};

/// Bytes of a secret that is made here.
const SECRET_BYTES: usize = 32;

/// The state of the routes.
#[derive(Clone)]
struct Hooks {
    platform: Platform,
    webhooks: Webhooks,
}

/// The routes.
pub(super) fn routes(platform: Platform, webhooks: Webhooks) -> OpenApiRouter<Platform> {
    OpenApiRouter::new()
        .routes(routes!(list_webhooks, create_webhook))
        .routes(routes!(show_webhook, edit_webhook, delete_webhook))
        .routes(routes!(rotate_webhook_secret))
        .routes(routes!(enable_webhook))
        .routes(routes!(disable_webhook))
        .routes(routes!(test_webhook))
        .routes(routes!(list_webhook_deliveries))
        .routes(routes!(replay_webhook_delivery))
        .with_state(Hooks { platform, webhooks })
}

problems!(
    /// Problems of [`list_webhooks`].
    ListProblems: InvalidRequest, Unauthenticated, InvalidToken, Forbidden, PreconditionFailed
);
problems!(
    /// Problems of [`create_webhook`].
    CreateProblems: InvalidRequest, InvalidIdempotencyKey, Unauthenticated, InvalidToken,
    Forbidden, NotFound, Conflict, RequestInProgress, InvalidContent, IdempotencyKeyReused
);
problems!(
    /// Problems of [`show_webhook`] and [`list_webhook_deliveries`].
    ShowProblems: InvalidToken, NotFound, PreconditionFailed
);
problems!(
    /// Problems of [`edit_webhook`].
    EditProblems: InvalidRequest, InvalidToken, NotFound, PreconditionFailed, InvalidContent
);
problems!(
    /// Problems of [`delete_webhook`].
    DeleteProblems: InvalidToken, NotFound, PreconditionFailed
);
problems!(
    /// Problems of requests that change or use a webhook.
    UseProblems: InvalidRequest, InvalidIdempotencyKey, InvalidToken, NotFound, RequestInProgress,
    InvalidContent, IdempotencyKeyReused
);

/// List webhooks
///
/// The owner and administrators may do it.
#[utoipa::path(
    get,
    path = "/api/v1/webhooks",
    params(Filter),
    responses(
        (status = OK, description = "The webhooks", body = Listed,
            content_type = "application/json"),
        ListProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn list_webhooks(
    State(hooks): State<Hooks>,
    Sender(actor): Sender,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Listed>, Problem> {
    let Query(filter) =
        filter.map_err(|err| Problem::new(Kind::InvalidRequest, err.body_text()))?;
    let owner = filter.owner.or(actor.account());
    let webhooks = hooks.platform.read(|rows| queries::list(rows, &actor, owner)).await?;
    let webhooks = webhooks.into_iter().map(|(id, webhook)| Shown::of(id, webhook)).collect();
    Ok(Json(Listed { webhooks }))
}

/// Make a webhook
///
/// It receives the events that happen from now on and that its owner may see, signed as Standard
/// Webhooks describes it. The response is the only one that has the secret.
#[utoipa::path(
    post,
    path = "/api/v1/webhooks",
    request_body = NewWebhook,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    responses(
        (status = CREATED, description = "The webhook", body = WebhookWithSecret,
            content_type = "application/json"),
        CreateProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn create_webhook(
    State(hooks): State<Hooks>,
    Sender(actor): Sender,
    Content(new): Content<NewWebhook>,
) -> Result<Response, Problem> {
    let owner = new.owner.or(actor.account());
    // Before the address is judged, which is no business of strangers.
    if actor == Actor::Anonymous {
        return Err(Refusal::SignIn.into());
    }
    check(&hooks.webhooks, Some(&new.url))?;
    let secret = new.secret.map_or_else(random, Ok)?;
    let create = Create { owner, url: new.url, types: new.types, secret: secret.clone() };
    let receipt = hooks.platform.send(actor, create).await?;
    let id = receipt.done;
    let webhook = hooks.platform.read(|rows| queries::webhook(rows, id)).await?;
    let made =
        WebhookWithSecret { shown: Shown::of(id, webhook), secret: secret.expose().to_owned() };
    let response = created(&format!("/api/v1/webhooks/{id}"), made)?;
    Ok(([(SEQUENCE, receipt.sequence.to_string())], response).into_response())
}

/// Show a webhook
#[utoipa::path(
    get,
    path = "/api/v1/webhooks/{webhook}",
    params(("webhook" = String, Path, description = "The webhook's id")),
    responses(
        (status = OK, description = "The webhook", body = Shown,
            content_type = "application/json"),
        ShowProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn show_webhook(
    State(hooks): State<Hooks>,
    Sender(actor): Sender,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let (id, webhook) = found(&hooks, actor, path).await?;
    tagged(&Shown::of(id, webhook))
}

/// Edit a webhook
///
/// With If-Match the edit is made only if the webhook is as the sender has read it.
#[utoipa::path(
    patch,
    path = "/api/v1/webhooks/{webhook}",
    params(
        ("webhook" = String, Path, description = "The webhook's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read")
    ),
    request_body(content = WebhookPatch, content_type = "application/merge-patch+json"),
    responses(
        (status = OK, description = "The webhook as it is now", body = Shown,
            content_type = "application/json"),
        EditProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn edit_webhook(
    State(hooks): State<Hooks>,
    Sender(actor): Sender,
    path: Result<Path<String>, PathRejection>,
    if_match: IfMatch,
    Content(patch): Content<WebhookPatch>,
) -> Result<Response, Problem> {
    let (id, _) = found(&hooks, actor, path).await?;
    check(&hooks.webhooks, patch.url.as_ref())?;
    let edit = Edit { webhook: id, edits: Edits { url: patch.url, types: patch.types } };
    let command = Matching::new(edit, if_match, move |rows| tag(rows, id));
    let receipt = hooks.platform.send(actor, command).await?;
    let webhook = hooks.platform.read(|rows| queries::webhook(rows, id)).await?;
    let response = tagged(&Shown::of(id, webhook))?;
    Ok(([(SEQUENCE, receipt.sequence.to_string())], response).into_response())
}

/// Delete a webhook
#[utoipa::path(
    delete,
    path = "/api/v1/webhooks/{webhook}",
    params(
        ("webhook" = String, Path, description = "The webhook's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read")
    ),
    responses((status = NO_CONTENT, description = "The webhook is gone"), DeleteProblems),
    security(("account" = []), ("administrator" = []))
)]
async fn delete_webhook(
    State(hooks): State<Hooks>,
    Sender(actor): Sender,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (id, _) = found(&hooks, actor, path).await?;
    let delete = Delete { webhook: id };
    let command = Matching::new(delete, IfMatch::of(&headers), move |rows| tag(rows, id));
    let receipt = hooks.platform.send(actor, command).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((StatusCode::NO_CONTENT, sequence).into_response())
}

/// Give a webhook another secret
///
/// Deliveries are also signed with the secret before for a day, so that the receiver can change it
/// meanwhile. The response is the only one that has the secret.
#[utoipa::path(
    post,
    path = "/api/v1/webhooks/{webhook}/rotate-secret",
    request_body = NewSecret,
    params(
        ("webhook" = String, Path, description = "The webhook's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")
    ),
    responses(
        (status = OK, description = "The webhook", body = WebhookWithSecret,
            content_type = "application/json"),
        UseProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn rotate_webhook_secret(
    State(hooks): State<Hooks>,
    Sender(actor): Sender,
    path: Result<Path<String>, PathRejection>,
    Content(new): Content<NewSecret>,
) -> Result<Response, Problem> {
    let (id, _) = found(&hooks, actor, path).await?;
    let secret = new.secret.map_or_else(random, Ok)?;
    let rotate = RotateSecret { webhook: id, secret: secret.clone() };
    let receipt = hooks.platform.send(actor, rotate).await?;
    let webhook = hooks.platform.read(|rows| queries::webhook(rows, id)).await?;
    let rotated =
        WebhookWithSecret { shown: Shown::of(id, webhook), secret: secret.expose().to_owned() };
    Ok(([(SEQUENCE, receipt.sequence.to_string())], Json(rotated)).into_response())
}

/// Take a webhook into use again
///
/// It receives the events that happen from now on.
#[utoipa::path(
    post,
    path = "/api/v1/webhooks/{webhook}/enable",
    params(
        ("webhook" = String, Path, description = "The webhook's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")
    ),
    responses(
        (status = OK, description = "The webhook", body = Shown,
            content_type = "application/json"),
        UseProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn enable_webhook(
    State(hooks): State<Hooks>,
    Sender(actor): Sender,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let (id, _) = found(&hooks, actor, path).await?;
    let receipt = hooks.platform.send(actor, Enable { webhook: id }).await?;
    let webhook = hooks.platform.read(|rows| queries::webhook(rows, id)).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((sequence, tagged(&Shown::of(id, webhook))?).into_response())
}

/// Take a webhook out of use
#[utoipa::path(
    post,
    path = "/api/v1/webhooks/{webhook}/disable",
    params(
        ("webhook" = String, Path, description = "The webhook's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")
    ),
    responses(
        (status = OK, description = "The webhook", body = Shown,
            content_type = "application/json"),
        UseProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn disable_webhook(
    State(hooks): State<Hooks>,
    Sender(actor): Sender,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let (id, _) = found(&hooks, actor, path).await?;
    let receipt = hooks.platform.send(actor, Disable { webhook: id }).await?;
    let webhook = hooks.platform.read(|rows| queries::webhook(rows, id)).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((sequence, tagged(&Shown::of(id, webhook))?).into_response())
}

/// Test a webhook
///
/// Delivers an event of type `streamforge.webhook.test` now, also if the webhook is disabled, and
/// responds with the result.
#[utoipa::path(
    post,
    path = "/api/v1/webhooks/{webhook}/test",
    params(
        ("webhook" = String, Path, description = "The webhook's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")
    ),
    responses(
        (status = OK, description = "The delivery, which may have failed", body = ShownDelivery,
            content_type = "application/json"),
        UseProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn test_webhook(
    State(hooks): State<Hooks>,
    Sender(actor): Sender,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<ShownDelivery>, Problem> {
    let (id, webhook) = found(&hooks, actor, path).await?;
    DELIVER.check(&actor, webhook.owner, false)?;
    let delivery = hooks.webhooks.test(id, &webhook).await?;
    Ok(Json(ShownDelivery::of(delivery)))
}

/// List the deliveries of a webhook
///
/// The last 100, the newest event first.
#[utoipa::path(
    get,
    path = "/api/v1/webhooks/{webhook}/deliveries",
    params(("webhook" = String, Path, description = "The webhook's id")),
    responses(
        (status = OK, description = "The deliveries", body = Deliveries,
            content_type = "application/json"),
        ShowProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn list_webhook_deliveries(
    State(hooks): State<Hooks>,
    Sender(actor): Sender,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Deliveries>, Problem> {
    let (id, _) = found(&hooks, actor, path).await?;
    let deliveries = hooks.webhooks.deliveries(id).await?;
    let deliveries = deliveries.into_iter().map(ShownDelivery::of).collect();
    Ok(Json(Deliveries { deliveries }))
}

/// Deliver an event again
///
/// Delivers it now, also if the webhook is disabled, and responds with the result.
#[utoipa::path(
    post,
    path = "/api/v1/webhooks/{webhook}/deliveries/{delivery}/replay",
    params(
        ("webhook" = String, Path, description = "The webhook's id"),
        ("delivery" = String, Path, description = "The delivery's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")
    ),
    responses(
        (status = OK, description = "The delivery, which may have failed", body = ShownDelivery,
            content_type = "application/json"),
        UseProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn replay_webhook_delivery(
    State(hooks): State<Hooks>,
    Sender(actor): Sender,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<ShownDelivery>, Problem> {
    let Path((webhook, delivery)) =
        path.map_err(|err| Problem::new(Kind::NotFound, err.body_text()))?;
    let (id, webhook) = found(&hooks, actor, Ok(Path(webhook))).await?;
    DELIVER.check(&actor, webhook.owner, false)?;
    let event = delivery
        .parse::<EventId>()
        .map_err(|_| Problem::from(Refusal::NotFound { thing: "delivery" }))?;
    let delivery = hooks.webhooks.replay(id, &webhook, event).await?;
    Ok(Json(ShownDelivery::of(delivery)))
}

/// The webhook that a path names, if the actor may know of it.
///
/// # Errors
/// 404.
async fn found(
    hooks: &Hooks,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<(WebhookId, Webhook), Problem> {
    let Path(text) = path.map_err(|err| Problem::new(Kind::NotFound, err.body_text()))?;
    let unknown = |_| Problem::from(Refusal::NotFound { thing: "webhook" });
    let id = text.parse::<WebhookId>().map_err(unknown)?;
    let webhook = hooks.platform.read(|rows| queries::shown(rows, &actor, id)).await?;
    Ok((id, webhook))
}

/// Checks that deliveries may go to an address.
///
/// # Errors
/// 422 otherwise.
fn check(webhooks: &Webhooks, url: Option<&WebhookUrl>) -> Result<(), Problem> {
    match url {
        Some(url) if !webhooks.accepts(url) => {
            let words = "deliveries go to https addresses of the public internet alone";
            Err(Problem::new(Kind::InvalidContent, words))
        }
        _ => Ok(()),
    }
}

/// The tag of a webhook as it is in the tables.
fn tag(rows: &dyn Rows, id: WebhookId) -> Result<ETag, Refusal> {
    Ok(ETag::of(&Shown::of(id, queries::webhook(rows, id)?)))
}

/// A secret of random bytes.
///
/// # Errors
/// 500 if the system has no random numbers.
fn random() -> Result<WebhookSecret, Problem> {
    let failed = || Problem::new(Kind::Internal, "the system returned no random numbers");
    let mut bytes = [0; SECRET_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| failed())?;
    format!("{PREFIX}{}", STANDARD.encode(bytes)).parse().map_err(|_| failed())
}
