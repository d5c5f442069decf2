//! The API with a database in a folder of the test.

use std::{fs, path::PathBuf};

use control_domain::{
    Actor, Role,
    features::{
        accounts::commands::{Add, PasswordHash},
        videos::{
            processing::{FinishProcessing, FinishUpload, StartUpload},
            state::Media,
        },
    },
    id::{AccountId, VideoId},
};

use super::*;
use crate::{
    Platform, PlaybackTokens, Webhooks,
    authentication::Sender,
    playback::Admission,
    webhooks::{Settings, SystemClock},
};

/// The API with a database, and an account of each role.
pub(super) struct Site {
    pub(super) platform: Platform,
    pub(super) webhooks: Webhooks,
    /// It does not run unless a test lets it.
    #[cfg(feature = "search")]
    pub(super) search: crate::Search,
    pub(super) folder: PathBuf,
}

impl Site {
    pub(super) async fn new(name: &str) -> Self {
        let folder = super::folder(&format!("api-{name}"));
        let platform = Platform::default();
        platform.open(&folder).await.expect("the folder can be written");
        let settings = Settings { allow_internal: false, roots: rustls::RootCertStore::empty() };
        let webhooks = Webhooks::new(platform.clone(), settings, Arc::new(SystemClock));
        Self {
            #[cfg(feature = "search")]
            search: crate::Search::new(platform.clone()),
            platform,
            webhooks: webhooks.expect("TLS is supported"),
            folder,
        }
    }

    pub(super) async fn account(&self, name: &str, role: Role) -> Actor {
        let command = Add {
            name: name.parse().expect("a name"),
            email: format!("{name}@example.org").parse().expect("an address"),
            password: PasswordHash("$argon2id$secret".to_owned()),
            role,
        };
        let receipt = self.platform.send(Actor::System, command).await.expect("the name is free");
        Actor::Person { id: receipt.done, role }
    }

    fn tokens(&self) -> Arc<dyn PlaybackTokens> {
        Arc::new(Readable)
    }

    /// The routes for an actor, without the check of credentials.
    pub(super) fn router(&self, actor: Actor) -> Router {
        let api = Api::new(
            hub(),
            Arc::new(SomeViewers),
            Arc::new(SomeRenditions),
            Administrator::default(),
        );
        let api = api.with_playback_tokens(self.tokens()).with_webhooks(self.webhooks.clone());
        #[cfg(feature = "search")]
        let api = api.with_search(self.search.clone());
        let (router, _) = super::super::platform_routes(&api, &self.platform).split_for_parts();
        router
            .layer(axum::middleware::from_fn(
                move |mut request: axum::extract::Request, next: axum::middleware::Next| async move {
                    request.extensions_mut().insert(Sender(actor));
                    next.run(request).await
                },
            ))
            .with_state(api)
    }

    /// The description of all routes.
    pub(super) async fn document(&self) -> Value {
        let api = Api::new(
            hub(),
            Arc::new(SomeViewers),
            Arc::new(SomeRenditions),
            Administrator::default(),
        );
        #[cfg(feature = "search")]
        let api = api.with_search(self.search.clone());
        let router = api.with_platform(self.platform.clone()).router();
        let request = Request::get("/api/v1/openapi.json").body(Body::empty());
        let (_, _, document) = ask(router, request.expect("a request")).await;
        serde_json::from_slice(&document).expect("JSON")
    }

    pub(super) async fn send(
        &self,
        actor: Actor,
        method: Method,
        path: &str,
        body: Value,
        fields: &[(&str, &str)],
    ) -> (StatusCode, http::HeaderMap, Value) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let body = match body {
            Value::Null => Body::empty(),
            body => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
        };
        let request = request.body(body).expect("a request");
        let (status, headers, body) = ask(self.router(actor), request).await;
        let value = match body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&body).expect("JSON"),
        };
        (status, headers, value)
    }

    pub(super) async fn get(&self, actor: Actor, path: &str) -> (StatusCode, Value) {
        let (status, _, value) = self.send(actor, Method::GET, path, Value::Null, &[]).await;
        (status, value)
    }

    pub(super) async fn post(&self, actor: Actor, path: &str, body: Value) -> (StatusCode, Value) {
        let (status, _, value) = self.send(actor, Method::POST, path, body, &[]).await;
        (status, value)
    }
}

/// Videos.
impl Site {
    /// Makes a public channel.
    pub(super) async fn channel(&self, owner: Actor, name: &str) {
        let new = serde_json::json!({ "name": name });
        let (status, made) = self.post(owner, "/api/v1/channels", new).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
    }

    /// Announces a video. Returns its path.
    pub(super) async fn announce(&self, owner: Actor, channel: &str, new: Value) -> String {
        let path = format!("/api/v1/channels/{channel}/videos");
        let (status, made) = self.post(owner, &path, new).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        format!("/api/v1/videos/{}", made["id"].as_str().expect("an id"))
    }

    /// Uploads and processes the media of the video at a path.
    pub(super) async fn process(&self, path: &str) {
        let id = path.rsplit('/').next().expect("an id");
        let video: VideoId = id.parse().expect("an id");
        let media = Media { duration_ms: 60_000, width: Some(1920), height: Some(1080) };
        let send = |result: Result<crate::store::Receipt<()>, crate::problem::Problem>| {
            result.expect("the state permits it");
        };
        send(self.platform.send(Actor::System, StartUpload { video }).await);
        send(self.platform.send(Actor::System, FinishUpload { video, bytes: 9 }).await);
        send(self.platform.send(Actor::System, FinishProcessing { video, media }).await);
    }

    /// Announces, processes and publishes a video. Returns its path.
    pub(super) async fn publish(&self, owner: Actor, channel: &str, new: Value) -> String {
        let path = self.announce(owner, channel, new).await;
        self.process(&path).await;
        let publication = format!("{path}/publication");
        let empty = serde_json::json!({});
        let (status, _, shown) = self.send(owner, Method::PUT, &publication, empty, &[]).await;
        assert_eq!((status, &shown["state"]), (StatusCode::OK, &"published".into()), "{shown}");
        path
    }

    /// The entries of a list over all its pages, by a member of them.
    pub(super) async fn list(
        &self,
        actor: Actor,
        path: &str,
        of: &str,
        member: &str,
    ) -> Vec<Value> {
        let mut listed = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path_of_page) = next {
            let (status, page) = self.get(actor, &path_of_page).await;
            assert_eq!(status, StatusCode::OK, "{path_of_page} {page}");
            let entries = page[of].as_array().expect("a list");
            listed.extend(entries.iter().map(|entry| entry[member].clone()));
            let separator = if path.contains('?') { '&' } else { '?' };
            next = page["next"].as_str().map(|next| format!("{path}{separator}cursor={next}"));
        }
        listed
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Tokens that can be read instead of verified.
#[derive(Debug)]
pub(super) struct Readable;

impl PlaybackTokens for Readable {
    fn issue(&self, admission: &Admission) -> Option<String> {
        let Admission { channel, address, expires_s } = admission;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let life = expires_s - now;
        Some(format!("{channel}~{}~{life}", address.map_or("any".to_owned(), |a| a.to_string())))
    }

    fn key(&self) -> (String, String) {
        ("kid".to_owned(), "PEM".to_owned())
    }
}

pub(super) fn id(actor: Actor) -> AccountId {
    actor.account().expect("a person")
}
