//! `/api/v1/configuration`, `/api/v1/log-level`, `/api/v1/workers`: the running daemon, for its
//! operator and for administrators.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use control_domain::{Actor, Door, Role, Who, permission::Permission};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::warn;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::Api;
use crate::{
    audit::Operation,
    authentication::{Credentials, Sender},
    content::Content,
    operations::{Operations, Shared, Worker},
    problem::{Fault, Kind, Problem, problems},
};

/// The rule of all these routes.
const PERMISSION: Permission =
    Permission { command: "daemon.operate", who: Who::Role(Role::Administrator) };
/// Longest filter of log messages in bytes.
const MAX_FILTER: usize = 1_000;

/// The routes.
pub(super) fn routes(operations: Arc<dyn Operations>) -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(show_configuration))
        .routes(routes!(show_log_level, set_log_level))
        .routes(routes!(list_workers))
        .layer(Extension(Shared(operations)))
}

/// Checks that the request is the operator's or an administrator's. Returns its sender.
///
/// # Errors
/// 401 or 403.
fn check(api: &Api, actor: Actor, credentials: &Credentials) -> Result<Actor, Problem> {
    match actor {
        // Without the platform nobody is signed in: there is the administrator's token alone.
        Actor::Anonymous => {
            api.administrator(credentials)?;
            Ok(Actor::Operator(Door::Token))
        }
        actor => {
            PERMISSION.check(&actor, None, true)?;
            Ok(actor)
        }
    }
}

/// The configuration in force.
#[derive(Debug, Serialize, ToSchema)]
struct Configuration {
    /// The sections and keys of the configuration file, with their values; built-in values
    /// included. Secrets, and the passwords, paths and queries of addresses, are `***`.
    #[schema(value_type = Object)]
    configuration: Value,
}

/// The filter of log messages.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LogLevel {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or levels of parts of the
    /// program, as in `RUST_LOG`.
    #[schema(min_length = 1, max_length = 1000, example = "info,packager=debug")]
    filter: String,
}

/// The workers of the ladder.
#[derive(Debug, Serialize, ToSchema)]
struct Workers {
    /// Those that run, the oldest first.
    workers: Vec<Worker>,
}

problems!(
    /// Problems of the routes that only read.
    ReadProblems: Unauthenticated, InvalidToken, Forbidden, AdministrationDisabled,
    InsufficientScope, PreconditionFailed
);
problems!(
    /// Problems of [`set_log_level`].
    SetProblems: InvalidRequest, Unauthenticated, InvalidToken, Forbidden, AdministrationDisabled,
    InsufficientScope, InvalidContent
);

/// Show the configuration in force
#[utoipa::path(
    get,
    path = "/api/v1/configuration",
    responses(
        (status = OK, description = "The configuration", body = Configuration,
            content_type = "application/json"),
        ReadProblems
    ),
    security(("administrator" = []), ("account" = []))
)]
async fn show_configuration(
    State(api): State<Api>,
    Extension(Shared(operations)): Extension<Shared>,
    Sender(actor): Sender,
    credentials: Credentials,
) -> Result<Response, Problem> {
    check(&api, actor, &credentials)?;
    Ok(Json(Configuration { configuration: operations.configuration() }).into_response())
}

/// Show the log level
#[utoipa::path(
    get,
    path = "/api/v1/log-level",
    responses(
        (status = OK, description = "The filter in force", body = LogLevel,
            content_type = "application/json"),
        ReadProblems
    ),
    security(("administrator" = []), ("account" = []))
)]
async fn show_log_level(
    State(api): State<Api>,
    Extension(Shared(operations)): Extension<Shared>,
    Sender(actor): Sender,
    credentials: Credentials,
) -> Result<Response, Problem> {
    check(&api, actor, &credentials)?;
    Ok(Json(LogLevel { filter: operations.log_level() }).into_response())
}

/// Set the log level
///
/// It is in force until it is set again, or the daemon starts again. An upgrade begins with the
/// level of the environment.
#[utoipa::path(
    put,
    path = "/api/v1/log-level",
    request_body = LogLevel,
    responses(
        (status = OK, description = "The filter is in force", body = LogLevel,
            content_type = "application/json"),
        SetProblems
    ),
    security(("administrator" = []), ("account" = []))
)]
async fn set_log_level(
    State(api): State<Api>,
    Extension(Shared(operations)): Extension<Shared>,
    Sender(actor): Sender,
    credentials: Credentials,
    Content(LogLevel { filter }): Content<LogLevel>,
) -> Result<Response, Problem> {
    let actor = check(&api, actor, &credentials)?;
    let invalid = |detail: String| {
        let fault = Fault { pointer: "/filter".into(), detail: detail.into() };
        let problem = Problem::new(Kind::InvalidContent, "this is not a filter of log messages");
        problem.with_errors([fault])
    };
    if !(1..=MAX_FILTER).contains(&filter.len()) {
        return Err(invalid(format!("a filter has 1 to {MAX_FILTER} bytes")));
    }
    let before = operations.log_level();
    operations.set_log_level(&filter).map_err(|err| invalid(err.to_string()))?;
    let filter = operations.log_level();
    // At a level that most filters show, because somebody may look for missing messages later.
    warn!(%before, now = %filter, actor = %actor.id(), "log level changed");
    let operation = Operation::new("log_level.set", "log_level").setting(&filter);
    operation.record(api.platform.as_ref(), actor).await;
    Ok(Json(LogLevel { filter }).into_response())
}

/// List the workers of the ladder
#[utoipa::path(
    get,
    path = "/api/v1/workers",
    responses(
        (status = OK, description = "The workers", body = Workers,
            content_type = "application/json"),
        ReadProblems
    ),
    security(("administrator" = []), ("account" = []))
)]
async fn list_workers(
    State(api): State<Api>,
    Extension(Shared(operations)): Extension<Shared>,
    Sender(actor): Sender,
    credentials: Credentials,
) -> Result<Response, Problem> {
    check(&api, actor, &credentials)?;
    Ok(Json(Workers { workers: operations.workers() }).into_response())
}
