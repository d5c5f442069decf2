//! `/api/v1`: lists and ends live broadcasts. A router for any HTTP server. Its description, at
//! `/api/v1/openapi.json`, is generated from the handlers and their response types.

use std::sync::{Arc, PoisonError, RwLock};

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use media_core::{Broadcast, ChannelName, Hub};
use tracing::info;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Elsewhere, KeyDigest, Manners, Renditions, Viewers, documentation,
    elsewhere::{self, Nowhere},
    manners,
    page::{NoFilter, Paging},
    precondition::IfMatch,
    privacy::{Privacy, Public},
    problem::{self, Kind, Problem, problems},
    streams::{Listed, Stream, Streams, StreamsPage, position},
};

/// The requested page of the list of streams. It is longer than that of other lists, because
/// clients have relied on its length since before there were others.
type StreamsPaging = Paging<NoFilter, 100, 500>;

/// The state of the handlers.
#[derive(Clone)]
pub struct Api {
    /// The broadcasts of this process.
    hub: Hub,
    /// Counts the viewers of each listed broadcast.
    viewers: Arc<dyn Viewers>,
    /// The state of each listed broadcast's ladder.
    renditions: Arc<dyn Renditions>,
    /// Permits requests that change something.
    administrator: Administrator,
    /// Knows the channels that only the administrator sees.
    privacy: Arc<dyn Privacy>,
    /// The process that drains, if there is one.
    elsewhere: Arc<dyn Elsewhere>,
    /// Rate limits, CORS and other properties that all routes share.
    manners: Manners,
}

/// The administrator, identified by the digest of a token, which can be replaced; without a digest
/// nothing can be changed. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Administrator(Arc<RwLock<Option<KeyDigest>>>);

impl Administrator {
    /// The administrator with this token.
    pub fn new(token: Option<KeyDigest>) -> Self {
        Self(Arc::new(RwLock::new(token)))
    }

    /// Replaces the token.
    pub fn set(&self, token: Option<KeyDigest>) {
        // The lock covers a copy, which leaves no invalid value behind, so a poisoned one is used.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// The digest in force.
    fn token(&self) -> Option<KeyDigest> {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Api {
    /// The API of `hub`; requests that change something need the token of `administrator`.
    pub fn new(
        hub: Hub,
        viewers: Arc<dyn Viewers>,
        renditions: Arc<dyn Renditions>,
        administrator: Administrator,
    ) -> Self {
        let (privacy, elsewhere) = (Arc::new(Public), Arc::new(Nowhere));
        let manners = Manners::default();
        Self { hub, viewers, renditions, administrator, privacy, elsewhere, manners }
    }

    /// Replaces the default manners.
    #[must_use]
    pub fn with_manners(self, manners: Manners) -> Self {
        Self { manners, ..self }
    }

    /// Shows the streams of private channels to the administrator only.
    #[must_use]
    pub fn hiding(self, privacy: Arc<dyn Privacy>) -> Self {
        Self { privacy, ..self }
    }

    /// Adds the streams of another process.
    #[must_use]
    pub fn beside(self, elsewhere: Arc<dyn Elsewhere>) -> Self {
        Self { elsewhere, ..self }
    }

    /// The routes, with their full paths.
    pub fn router(self) -> Router {
        let (router, document) = documented();
        // Rendered once, because it is the same for all requests.
        let document: Arc<str> = document.to_pretty_json().unwrap_or_default().into();
        let openapi = move || async move {
            let json = HeaderValue::from_static("application/json");
            ([(header::CONTENT_TYPE, json)], document.to_string())
        };
        let router = router
            .route("/api/v1/openapi.json", get(openapi))
            .merge(documentation::routes())
            .fallback(not_found)
            .method_not_allowed_fallback(other_method);
        // Last, so that they are on every route and on the fallbacks.
        self.manners.clone().on(router).with_state(self)
    }

    /// Describes a broadcast of this process; `None` if it has ended since it was listed.
    fn stream(&self, broadcast: &Broadcast) -> Option<Listed> {
        let stream = Stream::of(broadcast, &*self.viewers, &*self.renditions)?;
        Some(Listed::Here(Box::new(stream)))
    }

    /// Whether the sender of a request may see a channel.
    fn may_see(&self, channel: &ChannelName, headers: &HeaderMap) -> bool {
        !self.privacy.is_private(channel) || self.administrator(headers).is_ok()
    }

    /// Checks that the request has the administrator's token.
    ///
    /// # Errors
    /// 401 without a token or with another one (RFC 6750 3.1); 403 if no token is configured.
    fn administrator(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = bearer(headers) else {
            let words = "give the administrator's token as Authorization: Bearer TOKEN";
            return Err(Problem::new(Kind::Unauthenticated, words));
        };
        // 403 and not 401: no token would be accepted, so the client has nothing to try.
        let Some(expected) = self.administrator.token() else {
            let words = "no administrator's token is configured: set api.admin_token to a random \
                         text, or api.admin_token_sha256 to its SHA-256, and send the daemon \
                         SIGHUP";
            return Err(Problem::new(Kind::AdministrationDisabled, words));
        };
        match expected.matches(token) {
            true => Ok(()),
            false => Err(Problem::new(Kind::InvalidToken, "this is not the administrator's token")),
        }
    }
}

/// The token of an `Authorization: Bearer` header (RFC 6750 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}

/// The parts of the description that belong to no single route.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "streamforge",
        description = "Lists and ends live broadcasts. Errors are problem details (RFC 9457), \
                       times are RFC 3339 in UTC, lists are paged with cursors."
    ),
    servers((url = "/")),
    components(schemas(problem::Sent)),
    modifiers(&Security)
)]
struct Document;

/// Declares the scheme `administrator` of the routes that need a token: HTTP bearer (RFC 6750).
struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The administrator's token."));
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("administrator", SecurityScheme::Http(bearer.build()));
    }
}

/// The routes together with their description, from one list, so that none is served undescribed.
fn documented() -> (Router<Api>, utoipa::openapi::OpenApi) {
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(list_streams))
        .routes(routes!(show_stream, end_stream))
        .split_for_parts();
    manners::describe(&mut document);
    (router, document)
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
    EndProblems: Unauthenticated, InvalidToken, Forbidden, AdministrationDisabled, NotFound,
    PreconditionFailed, DrainingFaulty, DrainingLate
);

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
    headers: HeaderMap,
    page: StreamsPaging,
) -> Result<Json<StreamsPage>, Problem> {
    let limit = page.limit;
    let after = page.cursor().map(position).transpose()?;
    // Only the entries of this page are described below: a description reads each track and counts
    // the viewers, and a page is at most 500 of all broadcasts.
    let mut broadcasts = api.hub.broadcasts();
    broadcasts.retain(|broadcast| {
        after.as_deref().is_none_or(|last| broadcast.name().as_str() > last)
            && api.may_see(broadcast.name(), &headers)
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
    let theirs = elsewhere::page(&*api.elsewhere, limit, after.as_deref(), &headers).await;
    let streams = match theirs {
        Ok(Some(mut theirs)) => {
            // It may be of a version that has no private channels, or not have them configured.
            theirs.retain(|channel| api.may_see(channel, &headers));
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
    headers: HeaderMap,
) -> Result<Json<Listed>, Problem> {
    let name = named(channel)?;
    if !api.may_see(&name, &headers) {
        return Err(not_live(&name));
    }
    let here = api.hub.broadcast(&name).and_then(|broadcast| api.stream(&broadcast));
    // The newer broadcast of a channel is here, and is the one that viewers get.
    let stream = match here {
        Some(stream) => Some(stream),
        None => elsewhere::stream(&*api.elsewhere, &uri, &headers).await?,
    };
    stream.map(Json).ok_or_else(|| not_live(&name))
}

/// End a broadcast
///
/// The broadcast ends for its viewers and the publisher's connection is closed. A publisher that
/// connects again begins another one. During an upgrade a channel may have a broadcast in each
/// process, and both end: after an error one of them may have ended, and the request can be
/// repeated.
#[utoipa::path(
    delete,
    path = "/api/v1/streams/{channel}",
    params(("channel" = String, Path, description = "The channel's name")),
    security(("administrator" = [])),
    responses(
        (status = NO_CONTENT, description = "The broadcast has ended"),
        EndProblems
    )
)]
async fn end_stream(
    State(api): State<Api>,
    uri: Uri,
    channel: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    // The token is checked first: without it, the response does not depend on the channel.
    api.administrator(&headers)?;
    let name = named(channel)?;
    // Streams have no entity tags.
    IfMatch::of(&headers).check(None)?;
    // If both processes have a broadcast, both are ended; otherwise the other one would be listed
    // again.
    let (here, private) = (api.hub.kick(&name), api.privacy.is_private(&name));
    let there = elsewhere::end(&*api.elsewhere, &uri, &headers, private).await;
    let has_ended = here || there == Ok(true);
    if has_ended {
        info!(%name, "broadcast ended by the administrator");
    }
    // A broadcast that may continue there is an error even if one has ended here, because the
    // channel may still be live.
    match there {
        Err(problem) => Err(problem),
        Ok(_) if has_ended => Ok(StatusCode::NO_CONTENT),
        Ok(_) => Err(not_live(&name)),
    }
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

/// The response for a path without a route: 404.
async fn not_found(uri: Uri) -> Problem {
    // The path is echoed as JSON text, bounded by the server's limit on the request line.
    let path = uri.path();
    Problem::new(Kind::NotFound, format!("there is nothing at {path}; see /api/v1/openapi.json"))
}

/// The response to a method that the address does not have. OPTIONS gets the Allow header, which
/// axum adds; a method that HTTP does not have is not implemented (RFC 9110 9.1, 9.3.7).
async fn other_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let words = "the Allow header names the methods of this address";
    let kind = match refused_method(&method) {
        StatusCode::NOT_IMPLEMENTED => Kind::NotImplemented,
        _ => Kind::MethodNotAllowed,
    };
    Problem::new(kind, words).into_response()
}

/// The status for a method that an address does not have: 405, or 501 for one that HTTP does not
/// have.
pub(crate) fn refused_method(method: &Method) -> StatusCode {
    match method.as_str() {
        // The methods of RFC 9110 9.3, of RFC 5789 (PATCH), and of
        // draft-ietf-httpbis-safe-method-w-body (QUERY).
        "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "TRACE" | "CONNECT" | "PATCH"
        | "QUERY" => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::NOT_IMPLEMENTED,
    }
}

#[cfg(test)]
mod tests;
