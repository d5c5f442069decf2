//! `/api/v1/streams`: lists, shows and ends live broadcasts.

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
};
use control_domain::{
    Actor, Door,
    features::audit,
    text::{self, Reason},
};
use http::{StatusCode, Uri, request::Parts};
use media_core::ChannelName;
use serde::Deserialize;
use tracing::info;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::Api;
use crate::{
    audit::record_end,
    authentication::{Authentication, Credentials, bearer},
    described::described,
    elsewhere::{self, Right},
    page::{NoFilter, Paging},
    precondition::IfMatch,
    problem::{Kind, Problem, problems},
    streams::{Listed, Stream, Streams, StreamsPage, position},
};

/// The requested page of the list of streams. It is longer than that of other lists, because
/// clients have relied on its length since before there were others.
type StreamsPaging = Paging<NoFilter, 100, 500>;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_streams)).routes(routes!(show_stream, end_stream))
}

problems!(
    /// Problems of [`list_streams`].
    ListProblems: InvalidRequest, InvalidCursor, PreconditionFailed
);
problems!(
    /// Problems of [`show_stream`].
    ShowProblems: NotFound, PreconditionFailed, DrainingFaulty, DrainingLate
);
problems!(
    /// Problems of [`end_stream`].
    EndProblems: InvalidRequest, Unauthenticated, InvalidToken, Forbidden, AdministrationDisabled,
    InsufficientScope, NotFound, PreconditionFailed, DrainingFaulty, DrainingLate
);

/// Why a broadcast is ended.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Ending {
    /// The sender's words for the audit log. Default: none.
    #[serde(default)]
    #[param(schema_with = described::<Reason>, required = false)]
    reason: Option<Reason>,
}

/// List live broadcasts
///
/// Ordered by the channels' names, so that paging neither repeats nor omits a stream that stays
/// live. The streams of a process that drains are missing while it does not respond. Those of
/// private channels are listed for the administrator only.
#[utoipa::path(
    get,
    path = "/api/v1/streams",
    params(StreamsPaging),
    responses(
        (
            status = OK,
            description = "A page of the list",
            body = StreamsPage,
            content_type = "application/json"
        ),
        ListProblems
    )
)]
async fn list_streams(
    State(api): State<Api>,
    credentials: Credentials,
    page: StreamsPaging,
) -> Result<Json<StreamsPage>, Problem> {
    let limit = page.limit;
    let after = page.cursor().map(position).transpose()?;
    // Only the entries of this page are described below: a description reads each track and counts
    // the viewers, and a page is at most 500 of all broadcasts.
    let mut broadcasts = api.hub.broadcasts();
    broadcasts.retain(|broadcast| {
        after.as_deref().is_none_or(|last| broadcast.name().as_str() > last)
            && api.may_see(broadcast.name(), &credentials)
    });
    broadcasts.sort_by(|a, b| a.name().cmp(b.name()));
    // The cursor is the last name of the page: names are unique and sorted, so that broadcasts that
    // begin or end between two requests neither repeat nor hide others.
    let more = broadcasts.len() > limit;
    broadcasts.truncate(limit);
    let next = broadcasts.last().filter(|_| more).map(|last| last.name().to_string());
    let streams = broadcasts.iter().filter_map(|broadcast| api.stream(broadcast)).collect();
    let here = Streams { streams, next };
    // The other process gets the same limit and begins after the same name, so that both pages can
    // be merged.
    let theirs =
        elsewhere::page(&*api.elsewhere, limit, after.as_deref(), &credentials.headers).await;
    let streams = match theirs {
        Ok(Some(mut theirs)) => {
            // It may be of a version that has no private channels, or not have them configured.
            theirs.retain(|channel| api.may_see(channel, &credentials));
            here.beside(theirs, limit)
        }
        // A process that hangs must not hide the streams of this one for as long as it drains.
        Ok(None) | Err(_) => here,
    };
    streams.page().map(Json)
}

/// Show the live broadcast of a channel
#[utoipa::path(
    get,
    path = "/api/v1/streams/{channel}",
    params(("channel" = String, Path, description = "The channel's name")),
    responses(
        (
            status = OK,
            description = "The channel is live",
            body = Stream,
            content_type = "application/json"
        ),
        ShowProblems
    )
)]
async fn show_stream(
    State(api): State<Api>,
    uri: Uri,
    channel: Result<Path<String>, PathRejection>,
    credentials: Credentials,
) -> Result<Json<Listed>, Problem> {
    let name = named(channel)?;
    if !api.may_see(&name, &credentials) {
        return Err(not_live(&name));
    }
    let here = api.hub.broadcast(&name).and_then(|broadcast| api.stream(&broadcast));
    // The newer broadcast of a channel is here, and is the one that viewers get.
    let stream = match here {
        Some(stream) => Some(stream),
        None => elsewhere::stream(&*api.elsewhere, &uri, &credentials.headers).await?,
    };
    stream.map(Json).ok_or_else(|| not_live(&name))
}

/// End a broadcast
///
/// The broadcast ends for its viewers and the publisher's connection is closed. A publisher that
/// connects again begins another one. Administrators and the channel's owner may do it; the audit
/// log has it. During an upgrade a channel may have a broadcast in each process, and both end:
/// after an error one of them may have ended, and the request can be repeated.
#[utoipa::path(
    delete,
    path = "/api/v1/streams/{channel}",
    params(("channel" = String, Path, description = "The channel's name"), Ending),
    security(("administrator" = []), ("account" = [])),
    responses(
        (status = NO_CONTENT, description = "The broadcast has ended"),
        EndProblems
    )
)]
async fn end_stream(
    State(api): State<Api>,
    uri: Uri,
    channel: Result<Path<String>, PathRejection>,
    ending: Result<Query<Ending>, QueryRejection>,
    credentials: Credentials,
    head: Parts,
) -> Result<StatusCode, Problem> {
    // The credentials are checked first: without them, the response does not depend on the channel.
    let actor = sender(&api, &credentials, &head).await?;
    let Query(Ending { reason }) =
        ending.map_err(|err| Problem::new(Kind::InvalidRequest, err.body_text()))?;
    let name = named(channel)?;
    let known = permit(&api, actor, &name).await?;
    // Streams have no entity tags.
    IfMatch::of(&credentials.headers).check(None)?;
    // If both processes have a broadcast, both are ended; otherwise the other one would be listed
    // again.
    let (here, private) = (api.hub.kick(&name), api.privacy.is_private(&name));
    let right = match actor {
        Actor::Operator(Door::Token) => Right::Token,
        _ => Right::Checked,
    };
    let there = elsewhere::end(&*api.elsewhere, &uri, &credentials.headers, right, private).await;
    let has_ended = here || there == Ok(true);
    if has_ended {
        info!(%name, actor = %actor.id(), "broadcast ended by a request");
    }
    // The process that passes on a request records it.
    if (has_ended || there.is_err()) && !credentials.is_passed_on {
        record_end(api.platform.as_ref(), actor, known, there.is_ok(), reason).await;
    }
    // A broadcast that may continue there is an error even if one has ended here, because the
    // channel may still be live.
    match there {
        Err(problem) => Err(problem),
        Ok(_) if has_ended => Ok(StatusCode::NO_CONTENT),
        Ok(_) => Err(not_live(&name)),
    }
}

/// The sender of a request to end a broadcast.
///
/// # Errors
/// 401 without credentials or with others; 403 if there are neither accounts nor a token.
async fn sender(api: &Api, credentials: &Credentials, head: &Parts) -> Result<Actor, Problem> {
    if credentials.is_operator {
        return Ok(Actor::Operator(Door::Socket));
    }
    let token = bearer(&credentials.headers);
    let has_accounts = api.identity.is_some() && !credentials.is_passed_on;
    if !has_accounts || token.is_some_and(|token| api.administrator.has(token)) {
        api.administrator(credentials)?;
        return Ok(Actor::Operator(Door::Token));
    }
    let authentication =
        Authentication::new(api.administrator.clone()).with_identity(api.identity.clone());
    match authentication.actor(head).await? {
        Actor::Anonymous => {
            Err(Problem::new(Kind::Unauthenticated, "sign in, or send a token, to end a broadcast"))
        }
        actor => Ok(actor),
    }
}

/// Checks that the actor may end the broadcast of a channel. Returns the name as the platform has
/// it.
///
/// # Errors
/// 403, or 404 for a channel that the actor may not know of.
async fn permit(api: &Api, actor: Actor, name: &ChannelName) -> Result<text::ChannelName, Problem> {
    let known = name.as_str().parse::<text::ChannelName>();
    let known = known.map_err(|err| Problem::new(Kind::NotFound, err.to_string()))?;
    // The operator ends broadcasts also while the database cannot be read.
    if let (false, Some(platform)) = (actor.is_unlimited(), &api.platform) {
        let check =
            |rows: &dyn control_domain::Rows| audit::queries::may_end_stream(rows, &actor, &known);
        platform.read(check).await?;
    }
    Ok(known)
}

/// Parses a channel's name. An invalid name is a channel that is not live.
///
/// # Errors
/// 404 with the rule that the name violates.
fn named(channel: Result<Path<String>, PathRejection>) -> Result<ChannelName, Problem> {
    // 404 and not 400: for a client, a name that cannot exist and one that is not live are equal.
    let Path(channel) = channel.map_err(|err| Problem::new(Kind::NotFound, err.body_text()))?;
    channel
        .parse()
        .map_err(|err: media_core::name::Invalid| Problem::new(Kind::NotFound, err.to_string()))
}

/// The response about a channel without a live broadcast: 404.
fn not_live(name: &ChannelName) -> Problem {
    Problem::new(Kind::NotFound, format!("channel {name} is not live"))
}
