//! `/api/v1/audit`: who has used a right over the things of others, or has operated the daemon.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use control_domain::{
    Authority, Door, Fault, Refusal, Rows, Time, Vault,
    actor::ActorId,
    features::{
        accounts,
        audit::{
            events::Outcome,
            queries::{self, Entry as Found, Place},
        },
    },
    id::{AccountId, EventId},
    table::Key,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Platform,
    authentication::Sender,
    described::described,
    page::{Entry, Page, Paging},
    problem::{Kind, Problem, problems},
};

/// The name of the list in its cursors.
const LIST: &str = "audit";
/// Longest texts of the filter in bytes.
const MAX_FILTER: usize = 500;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Platform> {
    OpenApiRouter::new().routes(routes!(list_acts))
}

/// The acts to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// On whose behalf: an account's id, `operator:socket`, `operator:token`, `operator:signal`, or
    /// `system` for the daemon.
    #[serde(default)]
    #[param(max_length = 64, required = false, example = "operator:socket")]
    actor: Option<String>,
    /// The type of the event.
    #[serde(default, rename = "type")]
    #[param(max_length = 500, required = false, example = "streamforge.account.role_changed.v1")]
    kind: Option<String>,
    /// The thing that it happened to: an id, or the subject of an operation.
    #[serde(default)]
    #[param(max_length = 500, required = false)]
    subject: Option<String>,
    /// The earliest time.
    #[serde(default)]
    #[param(schema_with = described::<Time>, required = false)]
    from: Option<Time>,
    /// The time before which it happened.
    #[serde(default)]
    #[param(schema_with = described::<Time>, required = false)]
    to: Option<Time>,
}

impl Filter {
    /// The filter of the domain.
    ///
    /// # Errors
    /// 400 for an actor that cannot be, or a text that is too long.
    fn of_domain(self) -> Result<queries::Filter, Problem> {
        let Self { actor, kind, subject, from, to } = self;
        if [&kind, &subject].into_iter().flatten().any(|text| text.len() > MAX_FILTER) {
            let words = format!("type and subject have at most {MAX_FILTER} bytes");
            return Err(Problem::new(Kind::InvalidRequest, words));
        }
        let actor = actor.map(ActorId::try_from).transpose().map_err(|_| {
            let words = "actor is the id of an account, operator:socket, operator:token, \
                         operator:signal or system";
            Problem::new(Kind::InvalidRequest, words)
        })?;
        Ok(queries::Filter { actor, kind, subject, from, to })
    }
}

/// The sender of an act.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ActSender)]
struct By {
    /// Its name in events, which the filter takes.
    #[schema(example = "operator:socket")]
    id: String,
    /// The kind.
    kind: SenderKind,
    /// The account's present name, unless it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    name: Option<String>,
}

/// The kind of a sender.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ActSenderKind)]
enum SenderKind {
    /// A person, or a program with an API key of the person.
    Account,
    /// The control socket, or the command line while no daemon runs.
    ControlSocket,
    /// The administrator's token of the configuration.
    AdminToken,
    /// A signal to the process.
    Signal,
    /// The daemon itself.
    Daemon,
    /// Somebody who was not signed in.
    Anonymous,
}

impl SenderKind {
    fn of(id: ActorId) -> Self {
        match id {
            ActorId::Account(_) => Self::Account,
            ActorId::Operator(Door::Socket) => Self::ControlSocket,
            ActorId::Operator(Door::Token) => Self::AdminToken,
            ActorId::Operator(Door::Signal) => Self::Signal,
            ActorId::System => Self::Daemon,
            ActorId::Anonymous => Self::Anonymous,
        }
    }
}

/// An operation of the daemon.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ActOperation)]
struct Performed {
    /// Its name.
    #[schema(example = "stream.end")]
    name: String,
    /// The result.
    #[schema(schema_with = described::<Outcome>)]
    outcome: Outcome,
    /// The value that it has set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    value: Option<String>,
    /// Why, in the sender's words; absent if there were none, or the sender's account is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    reason: Option<String>,
}

/// An administrative act.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Act)]
struct Act {
    /// The event.
    #[schema(schema_with = described::<EventId>)]
    id: EventId,
    /// When it was decided.
    #[schema(schema_with = described::<Time>)]
    time: Time,
    /// On whose behalf.
    actor: By,
    /// The right by which it was done; absent for an operation on an own thing, and for the daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = described::<Authority>, required = false)]
    authority: Option<Authority>,
    /// The type of the event.
    #[serde(rename = "type")]
    #[schema(example = "streamforge.account.role_changed.v1")]
    kind: String,
    /// The thing that it happened to.
    subject: String,
    /// The `X-Request-Id` of the request, which log messages and traces have too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    request_id: Option<String>,
    /// Further fields of the event, such as the role that was given.
    details: BTreeMap<String, String>,
    /// The operation, for `streamforge.operation.performed.v1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    operation: Option<Performed>,
}

/// A page of acts.
type Acts = Page<Act>;

impl Entry for Act {
    const MEMBER: &'static str = "acts";
    const PAGE: &'static str = "AuditPage";
    const DESCRIPTION: &'static str = "A page of the audit log, the newest act first.";
    type Schema = Self;
}

impl Act {
    fn of(
        rows: &dyn Rows,
        vault: &dyn Vault,
        ((time, id), entry): (Place, Found),
    ) -> Result<Self, Fault> {
        let Found { actor, authority, kind, subject, request, details, operation } = entry;
        let name = match actor {
            ActorId::Account(id) => name(rows, vault, id)?,
            _ => None,
        };
        let operation = match operation {
            Some(found) => {
                let reason = found.reason.map(|sealed| vault.open(&sealed)).transpose()?.flatten();
                let (name, outcome, value) = (found.name, found.outcome, found.value);
                Some(Performed { name, outcome, value, reason })
            }
            None => None,
        };
        let actor = By { id: actor.to_string(), kind: SenderKind::of(actor), name };
        let request_id = request;
        Ok(Self { id, time, actor, authority, kind, subject, request_id, details, operation })
    }
}

/// The present name of an account.
fn name(rows: &dyn Rows, vault: &dyn Vault, id: AccountId) -> Result<Option<String>, Fault> {
    let Some(account) = accounts::queries::account(rows, id)? else { return Ok(None) };
    Ok(account.open(vault)?.map(|person| person.name))
}

problems!(
    /// Problems of [`list_acts`].
    ListProblems: InvalidRequest, InvalidCursor, Unauthenticated, InvalidToken, Forbidden,
    InsufficientScope, PreconditionFailed
);

/// List administrative acts
///
/// The newest first: acts by which administrators, moderators and the operator have used a right
/// over the things of others or over the platform, and operations of the daemon. A page may have
/// fewer entries than requested although others follow. Administrators may read it.
#[utoipa::path(
    get,
    path = "/api/v1/audit",
    params(Paging<Filter>),
    responses(
        (status = OK, description = "A page of the log", body = Acts,
            content_type = "application/json"),
        ListProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn list_acts(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    page: Paging<Filter>,
) -> Result<Json<Acts>, Problem> {
    let after = page.after(LIST)?.map(|key| parsed(&key)).transpose()?;
    let limit = page.limit;
    let filter = page.filter.of_domain()?;
    let store = platform.store().await?;
    let query = |rows: &dyn Rows| -> Result<Acts, Problem> {
        let found = queries::list(rows, &actor, &filter, after, limit)?;
        let acts = found.items.into_iter().map(|entry| Act::of(rows, store.vault(), entry));
        let acts = acts.collect::<Result<Vec<_>, Fault>>().map_err(Refusal::from)?;
        let next = found.next.map(|place| {
            let mut bytes = Vec::new();
            place.write(&mut bytes);
            bytes
        });
        Page::new(LIST, acts, next.as_deref())
    };
    store.read(query)?.map(Json)
}

/// The key after which a page begins.
fn parsed(key: &[u8]) -> Result<Place, Problem> {
    let mut rest = key;
    Place::parse(&mut rest)
        .filter(|_| rest.is_empty())
        .ok_or_else(|| Problem::new(Kind::InvalidCursor, "this cursor names no act of this list"))
}
