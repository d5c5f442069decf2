//! Which actor may use which route: a table, which a change of a permission must change, too.

use std::fmt::Write as _;

use control_domain::{Actor, Role, Scope, features, id::AccountId};
use serde_json::json;

use super::{
    members::{Members, PASSWORD},
    *,
};
use crate::secret::Secret;

/// A route: its method, its path, and its body. In paths, `{account}`, `{session}` and `{key}` are
/// somebody else's.
fn routes() -> Vec<(&'static str, &'static str, Value)> {
    let new = json!({ "name": "new", "email": "new@example.org", "password": PASSWORD });
    let appointed = json!({ "name": "new", "email": "new@example.org", "password": PASSWORD,
                            "role": "moderator" });
    let own = json!({ "present": PASSWORD, "password": "lilies at nine" });
    let key = json!({ "name": "key", "scopes": ["read"] });
    let edit = json!({ "about": "x" });
    vec![
        ("POST", "/api/v1/accounts", new),
        ("POST", "/api/v1/accounts?appointed", appointed),
        ("GET", "/api/v1/accounts", Value::Null),
        ("GET", "/api/v1/accounts/me", Value::Null),
        ("GET", "/api/v1/accounts/{account}", Value::Null),
        ("PATCH", "/api/v1/accounts/me", edit.clone()),
        ("PATCH", "/api/v1/accounts/{account}", edit),
        ("PUT", "/api/v1/accounts/me/password", own),
        ("PUT", "/api/v1/accounts/{account}/password", json!({ "password": "lilies at nine" })),
        ("PUT", "/api/v1/accounts/me/role", json!({ "role": "administrator" })),
        ("PUT", "/api/v1/accounts/{account}/role", json!({ "role": "creator" })),
        ("GET", "/api/v1/accounts/me/export", Value::Null),
        ("DELETE", "/api/v1/accounts/me", Value::Null),
        ("DELETE", "/api/v1/accounts/{account}", Value::Null),
        ("POST", "/api/v1/sessions", json!({ "login": "victim", "password": PASSWORD })),
        ("POST", "/api/v1/sessions/refresh", json!({})),
        ("GET", "/api/v1/sessions", Value::Null),
        ("DELETE", "/api/v1/sessions/current", Value::Null),
        ("DELETE", "/api/v1/sessions/{session}", Value::Null),
        ("DELETE", "/api/v1/sessions", Value::Null),
        ("GET", "/api/v1/api-keys", Value::Null),
        ("POST", "/api/v1/api-keys", key),
        ("DELETE", "/api/v1/api-keys/{key}", Value::Null),
        ("POST", "/api/v1/auth/verify", json!({ "token": "x" })),
        ("GET", "/.well-known/jwks.json", Value::Null),
        ("GET", "/api/v1/audit", Value::Null),
    ]
}

/// The actors: anonymous, an account of each role, the operator, and keys of a viewer and of an
/// administrator.
const ACTORS: [&str; 9] = [
    "nobody",
    "viewer",
    "creator",
    "moderator",
    "admin",
    "operator",
    "key:read",
    "key:all",
    "admin:all",
];

async fn key(
    members: &Members,
    account: AccountId,
    role: Role,
    scopes: &[Scope],
) -> (String, String) {
    let secret = Secret::random("sfk_").expect("random numbers");
    let command = features::api_keys::commands::AddKey {
        account,
        name: "key".parse().expect("a name"),
        digest: features::stream_keys::events::KeyDigest(secret.digest().bytes()),
        scopes: scopes.iter().copied().collect(),
        expires: None,
    };
    let owner = Actor::Person { id: account, role };
    let id = members.platform.send(owner, command).await.expect("the owner").done;
    (secret.expose().to_owned(), id.to_string())
}

#[tokio::test]
async fn no_route_gives_access_beyond_the_role() {
    let mut table = format!("{:<44}", "");
    for actor in ACTORS {
        write!(table, " {actor:>9}").expect("text can be written");
    }
    let members = Members::new("access").await;
    let (_, document) = members.get("", "/api/v1/openapi.json").await;
    // Another administrator, so that one may go.
    members.account("root", Role::Administrator).await;
    for (method, path, body) in routes() {
        write!(table, "\n{method:<6} {:<37}", path.trim_start_matches("/api/v1"))
            .expect("text can be written");
        for actor in ACTORS {
            // Anew for each, because some of the requests delete them.
            let victim = members.account("victim", Role::Viewer).await;
            let session = members.session(victim, Role::Viewer).await.session.to_string();
            let (_, victims_key) = key(&members, victim, Role::Viewer, &[Scope::Read]).await;
            let role = match actor {
                "creator" => Role::Creator,
                "moderator" => Role::Moderator,
                "admin" | "admin:all" => Role::Administrator,
                _ => Role::Viewer,
            };
            let own = members.account("actor", role).await;
            let token = match actor {
                "nobody" => String::new(),
                "operator" => TOKEN.to_owned(),
                "key:read" => key(&members, own, role, &[Scope::Read]).await.0,
                "key:all" | "admin:all" => key(&members, own, role, &Scope::ALL).await.0,
                _ => members.session(own, role).await.access.0,
            };
            let template = path.replace("?appointed", "");
            let described = match template.ends_with("/export") {
                true => template.clone(),
                false => template.replace("/me", "/{account}"),
            };
            let path = template
                .replace("{account}", &victim.to_string())
                .replace("{session}", &session)
                .replace("{key}", &victims_key);
            let (status, _, answer) = members.send(&token, method, &path, body.clone(), &[]).await;
            write!(table, " {status:>9}").expect("text can be written");
            let operation = &document["paths"][&described][method.to_lowercase()];
            let is_described = operation["responses"].get(status.to_string()).is_some();
            assert!(is_described, "{method} {described} {status}: {operation}");
            // Nobody learns the address of somebody else without the right to it.
            if method == "GET" && path.ends_with(&victim.to_string()) {
                let is_told = answer.get("email").is_some();
                let expected = matches!(actor, "admin" | "operator" | "admin:all");
                assert_eq!(is_told, expected, "{actor} {answer}");
            }
            for name in ["victim", "actor", "new"] {
                erase(&members, name).await;
            }
        }
    }
    table.push('\n');
    assert_eq!(table, include_str!("access.txt"), "the table is now:\n{table}");
}

/// Erases the account of this name, if there is one.
async fn erase(members: &Members, name: &str) {
    let name = name.parse().expect("a name");
    let find = |rows: &dyn control_domain::Rows, vault: &dyn control_domain::Vault| {
        Ok(features::accounts::queries::by_name(rows, vault, &name)?)
    };
    if let Some(account) = members.identity.read(find).await.expect("the tables") {
        let erase = features::accounts::commands::Erase { account };
        members.platform.send(Actor::System, erase).await.expect("the operator");
    }
}
