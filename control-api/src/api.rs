//! `/api/v1`: lists and ends live broadcasts. A router for any HTTP server. Its description, at
//! `/api/v1/openapi.json`, is generated from the handlers and their response types.

use std::sync::{Arc, PoisonError, RwLock};

use axum::{
    Json, Router,
    extract::{
        Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use media_core::{Broadcast, ChannelName, Hub};
use serde::Deserialize;
use tracing::info;
use utoipa::{
    IntoParams, Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Elsewhere, KeyDigest, Renditions, Viewers,
    elsewhere::{self, Nowhere},
    privacy::{Privacy, Public},
    problem::Problem,
    streams::{Listed, Stream, Streams},
};

/// Streams in one response if the client does not set `limit`.
const DEFAULT_LIMIT: usize = 100;
/// Maximum number of streams in one response.
const MAX_LIMIT: usize = 500;

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
        Self { hub, viewers, renditions, administrator, privacy, elsewhere }
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
            (
                [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
                document.to_string(),
            )
        };
        router
            .route("/api/v1/openapi.json", get(openapi))
            .fallback(not_found)
            .method_not_allowed_fallback(other_method)
            // The last layer is the outermost, so that the headers of `guarded` are on every
            // response, also on those of the fallbacks and of a failed precondition.
            .layer(axum::middleware::from_fn(conditional))
            .layer(axum::middleware::map_response(guarded))
            .with_state(self)
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
            return Err(Problem::unauthenticated(words));
        };
        // 403 and not 401: no token would be accepted, so the client has nothing to try.
        let Some(expected) = self.administrator.token() else {
            let words = "no administrator's token is configured: set api.admin_token to a random \
                         text, or api.admin_token_sha256 to its SHA-256, and send the daemon \
                         SIGHUP";
            return Err(Problem::new(StatusCode::FORBIDDEN, words));
        };
        match expected.matches(token) {
            true => Ok(()),
            false => Err(Problem::invalid_token("this is not the administrator's token")),
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
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(list_streams))
        .routes(routes!(show_stream, end_stream))
        .split_for_parts()
}

/// The requested page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Page {
    /// Maximum number of streams in the response. Default 100.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// `next` of the previous page.
    cursor: Option<String>,
}

/// List live broadcasts
///
/// Ordered by the channels' names, so that paging neither repeats nor omits a stream that stays
/// live. The streams of a process that drains are missing while it does not respond. Those of
/// private channels are listed for the administrator only.
#[utoipa::path(
    get,
    path = "/api/v1/streams",
    params(Page),
    responses(
        (
            status = OK,
            description = "A page of the list",
            body = Streams,
            content_type = "application/json"
        ),
        (
            status = BAD_REQUEST,
            description = "The query is invalid",
            body = Problem,
            content_type = "application/problem+json"
        ),
        (
            status = PRECONDITION_FAILED,
            description = "If-Match is not `*`",
            body = Problem,
            content_type = "application/problem+json"
        ),
    )
)]
async fn list_streams(
    State(api): State<Api>,
    uri: Uri,
    headers: HeaderMap,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Streams>, Problem> {
    // Parsed here and not by the extractor alone, so that an invalid query gets a problem as its
    // response, as all other errors do.
    let Query(page) = page.map_err(|err| Problem::new(StatusCode::BAD_REQUEST, err.body_text()))?;
    let limit = page.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!("limit is {limit}, it must be 1 to {MAX_LIMIT}"),
        ));
    }
    // Only the entries of this page are described below: a description reads each track and counts
    // the viewers, and a page is at most 500 of all broadcasts.
    let mut broadcasts = api.hub.broadcasts();
    broadcasts.retain(|broadcast| {
        page.cursor.as_deref().is_none_or(|last| broadcast.name().as_str() > last)
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
    // The other process gets the same query, hence the same cursor and limit, so that both pages
    // begin after the same name and can be merged.
    Ok(Json(match elsewhere::read(&*api.elsewhere, &uri, &headers).await {
        Ok(Some(theirs)) => here.beside(theirs, limit),
        // A process that hangs must not hide the streams of this one for as long as it drains.
        Ok(None) | Err(_) => here,
    }))
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
        (
            status = NOT_FOUND,
            description = "It is not live",
            body = Problem,
            content_type = "application/problem+json"
        ),
        (
            status = PRECONDITION_FAILED,
            description = "If-Match is not `*`",
            body = Problem,
            content_type = "application/problem+json"
        ),
        (
            status = BAD_GATEWAY,
            description = "Not known: a draining process does not respond as expected",
            body = Problem,
            content_type = "application/problem+json"
        ),
        (
            status = GATEWAY_TIMEOUT,
            description = "Not known: a draining process does not respond in time",
            body = Problem,
            content_type = "application/problem+json"
        ),
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
        (
            status = UNAUTHORIZED,
            description = "The token is missing, or is not the administrator's",
            body = Problem,
            content_type = "application/problem+json"
        ),
        (
            status = FORBIDDEN,
            description = "No token is configured, or the broadcast continues in a draining \
                           process, which has another one",
            body = Problem,
            content_type = "application/problem+json"
        ),
        (
            status = NOT_FOUND,
            description = "It is not live",
            body = Problem,
            content_type = "application/problem+json"
        ),
        (
            status = PRECONDITION_FAILED,
            description = "If-Match is not `*`",
            body = Problem,
            content_type = "application/problem+json"
        ),
        (
            status = BAD_GATEWAY,
            description = "A draining process, whose broadcast may continue, does not respond as \
                           expected",
            body = Problem,
            content_type = "application/problem+json"
        ),
        (
            status = GATEWAY_TIMEOUT,
            description = "A draining process, whose broadcast may continue, does not respond in \
                           time",
            body = Problem,
            content_type = "application/problem+json"
        ),
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
    check_preconditions(&headers)?;
    // If both processes have a broadcast, both are ended; otherwise the other one would be listed
    // again.
    let here = api.hub.kick(&name);
    let there = elsewhere::end(&*api.elsewhere, &uri, &headers).await;
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
    let Path(channel) =
        channel.map_err(|err| Problem::new(StatusCode::NOT_FOUND, err.body_text()))?;
    channel.parse().map_err(|err: media_core::name::Invalid| {
        Problem::new(StatusCode::NOT_FOUND, err.to_string())
    })
}

/// The response about a channel without a live broadcast: 404.
fn not_live(name: &ChannelName) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("channel {name} is not live"))
}

/// The response for a path without a route: 404.
async fn not_found(uri: Uri) -> Problem {
    // The path is echoed as JSON text, bounded by the server's limit on the request line.
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {}; see /api/v1/openapi.json", uri.path()),
    )
}

/// The response to a method that the address does not have. OPTIONS gets the Allow header, which
/// axum adds; a method that HTTP does not have is not implemented (RFC 9110 9.1, 9.3.7).
async fn other_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let words = "the Allow header names the methods of this address";
    Problem::new(refused_method(&method), words).into_response()
}

/// The status for a method that an address does not have: 405, or 501 for one that HTTP does not
/// have.
pub(crate) fn refused_method(method: &Method) -> StatusCode {
    match *method {
        // The methods of RFC 9110 9.3 and of RFC 5789 (PATCH).
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::DELETE
        | Method::OPTIONS
        | Method::PATCH
        | Method::TRACE
        | Method::CONNECT => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::NOT_IMPLEMENTED,
    }
}

/// Evaluates If-Match before a change: streams have no entity tags, so only `*` matches (RFC 9110
/// 13.1.1).
///
/// # Errors
/// 412 if the header is present and none of its lines is `*`.
fn check_preconditions(headers: &HeaderMap) -> Result<(), Problem> {
    // Every line of the header counts, because a list may be spread over several of them (RFC 9110
    // 5.3).
    let mut tags = headers.get_all(header::IF_MATCH).iter().peekable();
    if tags.peek().is_none() || tags.any(|tag| tag.as_bytes().trim_ascii() == b"*") {
        return Ok(());
    }
    let words = "streams have no entity tags: send If-Match: *, or none";
    Err(Problem::new(StatusCode::PRECONDITION_FAILED, words))
}

/// Evaluates If-Match for GET and HEAD, if the response is a success (RFC 9110 13.2.1).
async fn conditional(request: Request, next: Next) -> Response {
    // Evaluated beforehand, because the request is consumed, but applied only to a success: other
    // responses take precedence over the precondition. DELETE evaluates it before it acts.
    let checked = match *request.method() {
        Method::GET | Method::HEAD => check_preconditions(request.headers()),
        _ => Ok(()),
    };
    let response = next.run(request).await;
    match checked {
        Err(problem) if response.status().is_success() => problem.into_response(),
        _ => response,
    }
}

/// Headers of every response. Responses must not be stored, because they show the present state and
/// may be for the administrator only. Browsers must neither render them as a document nor expose
/// them to another site.
const GUARDS: [(HeaderName, HeaderValue); 4] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Adds [`GUARDS`] to a response.
async fn guarded(response: Response) -> Response {
    (GUARDS, response).into_response()
}

#[cfg(test)]
mod tests;
