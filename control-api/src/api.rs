//! `/api/v1`: lists and ends live broadcasts. A router for any HTTP server. Its description, at
//! `/api/v1/openapi.json`, is generated from the handlers and their response types.

mod accounts;
mod analytics;
mod api_keys;
mod audit;
mod categories;
mod channel_settings;
mod channels;
mod events;
mod follows;
mod oidc;
mod operations;
mod pictures;
mod playback_tokens;
mod reactions;
mod recovery;
#[cfg(feature = "search")]
mod search;
mod second_factor;
mod sessions;
mod stream_keys;
mod streams;
mod tags;
mod tokens;
mod videos;
mod webhooks;

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use media_core::{Broadcast, ChannelName, Hub};
use tokio::task::spawn_blocking;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    Administrator, Elsewhere, Manners, Operations, Pictures, Platform, PlaybackTokens, Renditions,
    Viewers, Webhooks,
    authentication::{Authentication, Credentials, authenticate, bearer},
    documentation,
    elsewhere::Nowhere,
    idempotency::{self, Idempotency, Memory},
    identity::Identity,
    manners,
    privacy::{Privacy, Public},
    problem::{self, Kind, Problem},
    rate::{self, Class},
    replica, sequence,
    store::NodeRole,
    streams::{Listed, Stream},
};

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
    /// Accounts, channels and the rest of the platform, if it is enabled.
    platform: Option<Platform>,
    /// Signing in, if there is a platform.
    identity: Option<Identity>,
    /// Issues playback tokens for the platform's channels.
    playback_tokens: Option<Arc<dyn PlaybackTokens>>,
    /// The running daemon, for its operator.
    operations: Option<Arc<dyn Operations>>,
    /// Delivers the platform's events.
    webhooks: Option<Webhooks>,
    /// Finds videos and channels of the platform.
    #[cfg(feature = "search")]
    search: Option<crate::Search>,
    /// Makes and keeps avatars and banners.
    pictures: Option<Pictures>,
    /// Rate limits, CORS and other properties that all routes share.
    manners: Manners,
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
        Self {
            hub,
            viewers,
            renditions,
            administrator,
            privacy,
            elsewhere,
            platform: None,
            identity: None,
            playback_tokens: None,
            operations: None,
            webhooks: None,
            #[cfg(feature = "search")]
            search: None,
            pictures: None,
            manners,
        }
    }

    /// Adds the routes of the platform.
    #[must_use]
    pub fn with_platform(self, platform: Platform) -> Self {
        Self { platform: Some(platform), ..self }
    }

    /// Adds the routes that show and change the running daemon.
    #[must_use]
    pub fn with_operations(self, operations: Arc<dyn Operations>) -> Self {
        Self { operations: Some(operations), ..self }
    }

    /// Adds the routes of accounts and sessions to those of the platform.
    #[must_use]
    pub fn with_identity(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
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

    /// Adds the route that issues playback tokens. The platform has the channels.
    #[must_use]
    pub fn with_playback_tokens(self, tokens: Arc<dyn PlaybackTokens>) -> Self {
        Self { playback_tokens: Some(tokens), ..self }
    }

    /// Adds the routes of webhooks. The platform has their events.
    #[must_use]
    pub fn with_webhooks(self, webhooks: Webhooks) -> Self {
        Self { webhooks: Some(webhooks), ..self }
    }

    /// Adds the search. The platform has the things that it finds.
    #[cfg(feature = "search")]
    #[must_use]
    pub fn with_search(self, search: crate::Search) -> Self {
        Self { search: Some(search), ..self }
    }

    /// The routes of the platform that the crate may be built without.
    fn optional_routes(&self) -> OpenApiRouter<Platform> {
        #[cfg(feature = "search")]
        if let Some(search) = &self.search {
            return search::routes(search.clone());
        }
        OpenApiRouter::new()
    }

    /// Adds the routes of pictures to those of accounts.
    #[must_use]
    pub fn with_pictures(self, pictures: Pictures) -> Self {
        Self { pictures: Some(pictures), ..self }
    }

    /// The routes, with their full paths.
    pub fn router(self) -> Router {
        let (router, _) = documented(&self);
        let description = Description { api: self.clone(), rendered: OnceLock::new() };
        let description = Arc::new(description);
        let router = router
            .route("/api/v1/openapi.json", get(move || Arc::clone(&description).respond()))
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
    fn may_see(&self, channel: &ChannelName, credentials: &Credentials) -> bool {
        !self.privacy.is_private(channel) || self.administrator(credentials).is_ok()
    }

    /// Checks that the request has the administrator's token, or is the operator's.
    ///
    /// # Errors
    /// 401 without a token or with another one (RFC 6750 3.1); 403 if no token is configured.
    fn administrator(&self, credentials: &Credentials) -> Result<(), Problem> {
        if credentials.is_operator {
            return Ok(());
        }
        let Some(token) = bearer(&credentials.headers) else {
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

/// Declares the schemes of the routes that need credentials: HTTP bearer (RFC 6750) and a cookie.
struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = |words: &str| {
            let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
            SecurityScheme::Http(bearer.description(Some(words)).build())
        };
        let components = document.components.get_or_insert_default();
        let operator = bearer("The administrator's token of the configuration.");
        components.add_security_scheme("administrator", operator);
        let account = "An access token of a session, or an API key. A browser may have the access \
                       token in a cookie instead.";
        components.add_security_scheme("account", bearer(account));
    }
}

/// The routes of the platform. A POST may have an Idempotency-Key. Credentials are checked before.
fn platform_routes(api: &Api, platform: &Platform) -> OpenApiRouter<Api> {
    let (identity, limiter) = (api.identity.as_ref(), &api.manners.limiter);
    let tokens = api.playback_tokens.as_ref();
    let pictures = api.pictures.clone();
    let pictures = pictures.map(|pictures| pictures::routes(platform.clone(), pictures));
    let webhooks =
        api.webhooks.as_ref().map(|webhooks| webhooks::routes(platform.clone(), webhooks.clone()));
    let tokens = tokens.map(|tokens| playback_tokens::routes(platform.clone(), Arc::clone(tokens)));
    let idempotency = Idempotency::new(Arc::new(Memory::default()));
    let mut routes = OpenApiRouter::new()
        .merge(channels::routes())
        .merge(channel_settings::routes())
        .merge(stream_keys::routes())
        .merge(videos::routes(identity.map(|identity| identity.hasher().clone())))
        .merge(categories::routes())
        .merge(tags::routes())
        .merge(follows::routes())
        .merge(reactions::routes())
        .merge(analytics::routes())
        .merge(events::routes(platform.clone()))
        .merge(audit::routes())
        .merge(tokens.unwrap_or_default())
        .merge(webhooks.unwrap_or_default())
        .merge(pictures.unwrap_or_default())
        .merge(api.optional_routes())
        .with_state(platform.clone());
    if let Some(identity) = identity {
        let accounts = OpenApiRouter::new()
            .merge(accounts::routes(limiter))
            .merge(sessions::routes(limiter))
            .merge(api_keys::routes())
            .merge(tokens::routes())
            .merge(recovery::routes(limiter))
            .merge(second_factor::routes(limiter))
            .merge(oidc::routes(limiter))
            .with_state(identity.clone());
        routes = routes.merge(accounts);
    }
    // The first layer is the innermost: the key belongs to the actor.
    routes = routes.layer(from_fn_with_state(idempotency, idempotency::once));
    if platform.role() == NodeRole::Replica {
        routes = routes.layer(from_fn_with_state(platform.clone(), replica::send_elsewhere));
    }
    routes
        .layer(from_fn_with_state(platform.clone(), sequence::wait))
        .layer(from_fn_with_state(limiter.by_account(Class::Api), rate::limit))
}

/// The routes together with their description, from one list, so that none is served undescribed.
fn documented(api: &Api) -> (Router<Api>, utoipa::openapi::OpenApi) {
    let mut router = OpenApiRouter::with_openapi(Document::openapi()).merge(streams::routes());
    let operations = api.operations.as_ref().map(|it| operations::routes(Arc::clone(it)));
    let operations = operations.unwrap_or_default();
    if let Some(platform) = &api.platform {
        let authentication =
            Authentication::new(api.administrator.clone()).with_identity(api.identity.clone());
        let credentials = from_fn_with_state(authentication, authenticate);
        let routes = platform_routes(api, platform);
        router = router.merge(routes.merge(operations).layer(credentials));
    } else {
        // These routes check the administrator's token themselves.
        router = router.merge(operations);
    }
    router.split_for_parts()
}

/// The description of the routes. It is rendered at its first request, because it takes a megabyte,
/// and most daemons never get such a request.
struct Description {
    api: Api,
    rendered: OnceLock<Bytes>,
}

impl Description {
    /// Responds with it.
    async fn respond(self: Arc<Self>) -> Result<Response, Problem> {
        let rendered = spawn_blocking(move || self.rendered.get_or_init(|| self.render()).clone());
        let failed = |_| Problem::new(Kind::Internal, "the description cannot be rendered");
        let rendered = rendered.await.map_err(failed)?;
        let json = HeaderValue::from_static("application/json");
        Ok(([(header::CONTENT_TYPE, json)], rendered).into_response())
    }

    fn render(&self) -> Bytes {
        let (_, mut document) = documented(&self.api);
        manners::describe(&mut document);
        document.to_pretty_json().unwrap_or_default().into()
    }
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
