//! The running daemon, for its operator and nobody else.

use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::{
    Operations,
    operations::{InvalidFilter, Worker},
};

pub(super) struct SomeDaemon(pub(super) Mutex<String>);

impl Operations for SomeDaemon {
    fn configuration(&self) -> Value {
        json!({ "api": { "admin_token": "***" } })
    }

    fn log_level(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    fn set_log_level(&self, filter: &str) -> Result<(), InvalidFilter> {
        if filter == "loud" {
            return Err(InvalidFilter("no such level".to_owned()));
        }
        *self.0.lock().unwrap() = filter.to_owned();
        Ok(())
    }

    fn workers(&self) -> Vec<Worker> {
        Vec::new()
    }
}

fn router(daemon: &Arc<SomeDaemon>) -> Router {
    let administrator = Administrator::new(Some(KeyDigest::of(TOKEN)));
    Api::new(hub(), Arc::new(SomeViewers), Arc::new(SomeRenditions), administrator)
        .with_operations(daemon.clone())
        .router()
}

async fn send(
    router: Router,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Value,
) -> (StatusCode, Value) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = match body {
        Value::Null => Body::empty(),
        body => {
            request = request.header(header::CONTENT_TYPE, "application/json");
            Body::from(body.to_string())
        }
    };
    let (status, _, body) = ask(router, request.body(body).unwrap()).await;
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn the_daemon_is_shown_and_changed_with_the_administrators_token_alone() {
    let daemon = Arc::new(SomeDaemon(Mutex::new("info".to_owned())));
    let level = json!({ "filter": "info,packager=debug" });
    for (method, path, body) in [
        ("GET", "/api/v1/configuration", Value::Null),
        ("GET", "/api/v1/log-level", Value::Null),
        ("PUT", "/api/v1/log-level", level.clone()),
        ("GET", "/api/v1/workers", Value::Null),
    ] {
        for token in [None, Some("another-token")] {
            let (status, problem) = send(router(&daemon), method, path, token, body.clone()).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
            assert_problem(status, &problem);
        }
        assert_eq!(daemon.log_level(), "info");
    }
    let token = Some(TOKEN);
    let (status, shown) =
        send(router(&daemon), "GET", "/api/v1/configuration", token, Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(shown["configuration"]["api"]["admin_token"], "***");
    let path = "/api/v1/log-level";
    let (status, set) = send(router(&daemon), "PUT", path, token, level.clone()).await;
    assert_eq!((status, &set), (StatusCode::OK, &level));
    assert_eq!(send(router(&daemon), "GET", path, token, Value::Null).await.1, level);
    for wrong in ["loud".to_owned(), String::new(), "x".repeat(1_001)] {
        let (status, problem) =
            send(router(&daemon), "PUT", path, token, json!({ "filter": wrong })).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(problem["errors"][0]["pointer"], "/filter");
    }
    assert_eq!(daemon.log_level(), "info,packager=debug");
}

#[tokio::test]
async fn the_routes_of_the_daemon_are_described() {
    let daemon = Arc::new(SomeDaemon(Mutex::new(String::new())));
    let (_, document) =
        send(router(&daemon), "GET", "/api/v1/openapi.json", None, Value::Null).await;
    description::assert_valid(&document);
    for path in ["/api/v1/configuration", "/api/v1/log-level", "/api/v1/workers"] {
        assert!(document["paths"].get(path).is_some(), "{path}");
    }
}

#[tokio::test]
async fn persons_below_the_administrator_may_not_operate_the_daemon() {
    use control_domain::{Actor, Role, id::AccountId};

    use crate::authentication::Sender;

    let daemon = Arc::new(SomeDaemon(Mutex::new("info".to_owned())));
    for (role, expected) in [
        (Role::Viewer, StatusCode::FORBIDDEN),
        (Role::Creator, StatusCode::FORBIDDEN),
        (Role::Moderator, StatusCode::FORBIDDEN),
        (Role::Administrator, StatusCode::OK),
    ] {
        let id = AccountId::new(uuid::Uuid::from_u128(7));
        let sender = axum::Extension(Sender(Actor::Person { id, role }));
        for path in ["/api/v1/configuration", "/api/v1/log-level", "/api/v1/workers"] {
            let router = router(&daemon).layer(sender);
            let (status, _) = send(router, "GET", path, None, Value::Null).await;
            assert_eq!(status, expected, "{role:?} {path}");
        }
    }
}
