//! A platform with accounts, behind all the layers of the API, in a folder of the test.

use std::{fs, path::PathBuf, sync::Mutex};

use control_domain::{
    Actor, Role,
    features::{
        accounts::commands::{Add, PasswordHash},
        sessions::commands::Start,
    },
    id::AccountId,
};

use super::{operations::SomeDaemon, pictures::Echo, site::Readable, *};
use crate::{
    Caller, Manners, Pictures, Platform, Webhooks,
    identity::{Identity, SignedIn, password::Hasher},
    rate::{Limiter, Limits},
    webhooks::{Settings, SystemClock},
};

/// A password that each account of [`Members::account`] has.
pub(super) const PASSWORD: &str = "tulips at eight";

/// No limits of requests.
pub(super) const UNLIMITED: Limits =
    Limits { api: None, login: None, sign_up: None, mail: None, mailed_token: None };

pub(super) struct Members {
    pub(super) platform: Platform,
    pub(super) identity: Identity,
    pub(super) router: Router,
    pub(super) hub: Hub,
    pub(super) folder: PathBuf,
    pub(super) limiter: Arc<Limiter>,
    pub(super) pictures: Pictures,
    /// The hash of [`PASSWORD`].
    hash: PasswordHash,
}

/// A response: status, headers, and the body as JSON.
pub(super) type Answer = (u16, http::HeaderMap, Value);

impl Members {
    pub(super) async fn new(name: &str) -> Self {
        Self::limited(name, UNLIMITED).await
    }

    pub(super) async fn limited(name: &str, limits: Limits) -> Self {
        let folder = super::folder(&format!("members-{name}"));
        let platform = Platform::default();
        platform.open(&folder).await.expect("the folder can be written");
        let limiter = Arc::new(Limiter::with_clock(limits, || Duration::ZERO));
        let hasher = Hasher::with(64, 1).expect("random numbers");
        let identity = Identity::with(
            platform.clone(),
            &folder,
            "https://example.org",
            Arc::clone(&limiter),
            hasher,
        )
        .expect("the folder can be written");
        let administrator = Administrator::new(Some(KeyDigest::of(TOKEN)));
        let hub = hub();
        let settings = Settings { allow_internal: false, roots: rustls::RootCertStore::empty() };
        let webhooks = Webhooks::new(platform.clone(), settings, Arc::new(SystemClock));
        let maker = Arc::new(Echo);
        let pictures = Pictures::new(platform.clone(), maker, folder.clone());
        let router =
            Api::new(hub.clone(), Arc::new(SomeViewers), Arc::new(SomeRenditions), administrator)
                .with_platform(platform.clone())
                .with_identity(identity.clone())
                .with_webhooks(webhooks.expect("TLS is supported"))
                .with_playback_tokens(Arc::new(Readable))
                .with_operations(Arc::new(SomeDaemon(Mutex::new("info".to_owned()))))
                .with_pictures(pictures.clone())
                .with_manners(Manners { limiter: Arc::clone(&limiter), ..Manners::default() })
                .router()
                .layer(axum::Extension(Caller { address: [192, 0, 2, 1].into(), ours: false }));
        let password = crate::identity::password::Password::presented(PASSWORD).expect("short");
        let hash = identity.hasher().hash(password).await.expect("room");
        Self { platform, identity, router, hub, folder, limiter, pictures, hash }
    }

    pub(super) async fn account(&self, name: &str, role: Role) -> AccountId {
        let command = Add {
            name: name.parse().expect("a name"),
            email: format!("{name}@example.org").parse().expect("an address"),
            password: self.hash.clone(),
            role,
        };
        self.platform.send(Actor::System, command).await.expect("the name is free").done
    }

    /// A session without the check of a password.
    pub(super) async fn session(&self, account: AccountId, role: Role) -> SignedIn {
        let device = "a device".parse().expect("a name");
        let start = Start { account, device, password: None };
        self.identity.begin(start, role).await.expect("the account exists")
    }

    /// Sends a request; `token`: a bearer token, or none if it is empty.
    pub(super) async fn send(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Value,
        fields: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
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
        let (status, headers, body) = ask(self.router.clone(), request).await;
        assert_guarded_or_cached(&headers);
        let value = match body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&body).expect("JSON"),
        };
        if status.as_u16() >= 400 {
            assert_problem(status, &value);
        }
        (status.as_u16(), headers, value)
    }

    pub(super) async fn get(&self, token: &str, path: &str) -> (u16, Value) {
        let (status, _, value) = self.send(token, "GET", path, Value::Null, &[]).await;
        (status, value)
    }

    pub(super) async fn post(&self, token: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, _, value) = self.send(token, "POST", path, body, &[]).await;
        (status, value)
    }

    pub(super) async fn delete(&self, token: &str, path: &str) -> u16 {
        self.send(token, "DELETE", path, Value::Null, &[]).await.0
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn assert_guarded_or_cached(headers: &http::HeaderMap) {
    guard::assert_guarded(headers);
    assert!(!headers[request_id::HEADER].is_empty());
}

/// A member of an object that is text.
#[track_caller]
pub(super) fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("no {member} in {value}"))
}

/// The kind of a problem.
#[track_caller]
pub(super) fn kind(problem: &Value) -> &str {
    text(problem, "type").strip_prefix("/problems/").expect("a kind")
}
