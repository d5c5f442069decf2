//! Which actor may use which route: a table, which a change of a permission must change, too.

use std::fmt::Write as _;

use control_domain::{Actor, Role, Scope, features, id::AccountId};
use serde_json::json;

use super::{
    members::{Members, PASSWORD},
    *,
};
use crate::secret::Secret;

/// A route: its method, its path, and its body. In paths, `{account}`, `{session}` and the others
/// are somebody else's; the channel and the video are public, and `{private}` and `{secret}` are
/// not.
fn routes() -> Vec<(&'static str, &'static str, Value)> {
    [accounts(), signing_in(), channels(), videos(), the_rest()].concat()
}

fn accounts() -> Vec<(&'static str, &'static str, Value)> {
    let new = json!({ "name": "new", "email": "new@example.org", "password": PASSWORD });
    let appointed = json!({ "name": "new", "email": "new@example.org", "password": PASSWORD,
                            "role": "moderator" });
    let own = json!({ "present": PASSWORD, "password": "lilies at nine" });
    let edit = json!({ "about": "x" });
    vec![
        ("POST", "/api/v1/accounts", new),
        ("POST", "/api/v1/accounts?appointed", appointed),
        ("GET", "/api/v1/accounts", Value::Null),
        ("GET", "/api/v1/accounts/me", Value::Null),
        ("GET", "/api/v1/accounts/{account}", Value::Null),
        ("PATCH", "/api/v1/accounts/me", edit.clone()),
        ("PATCH", "/api/v1/accounts/{account}", edit),
        ("PUT", "/api/v1/accounts/me/avatar", json!("picture")),
        ("PUT", "/api/v1/accounts/{account}/avatar", json!("picture")),
        ("DELETE", "/api/v1/accounts/me/avatar", Value::Null),
        ("DELETE", "/api/v1/accounts/{account}/avatar", Value::Null),
        ("GET", "/api/v1/avatars/{picture}/48", Value::Null),
        ("PUT", "/api/v1/accounts/me/password", own),
        ("PUT", "/api/v1/accounts/{account}/password", json!({ "password": "lilies at nine" })),
        ("PUT", "/api/v1/accounts/me/role", json!({ "role": "administrator" })),
        ("PUT", "/api/v1/accounts/{account}/role", json!({ "role": "creator" })),
        ("GET", "/api/v1/accounts/me/export", Value::Null),
        (
            "POST",
            "/api/v1/accounts/me/email",
            json!({ "email": "else@example.org", "password": PASSWORD }),
        ),
        ("POST", "/api/v1/accounts/me/verification-mail", Value::Null),
        ("POST", "/api/v1/accounts/{account}/verification-mail", Value::Null),
        ("POST", "/api/v1/accounts/verify-email", json!({ "token": "x" })),
        ("DELETE", "/api/v1/accounts/me", Value::Null),
        ("DELETE", "/api/v1/accounts/{account}", Value::Null),
    ]
}

fn signing_in() -> Vec<(&'static str, &'static str, Value)> {
    let key = json!({ "name": "key", "scopes": ["read"] });
    vec![
        ("POST", "/api/v1/sessions", json!({ "login": "victim", "password": PASSWORD })),
        ("POST", "/api/v1/sessions/second-factor", json!({ "challenge": "x", "code": "123456" })),
        ("POST", "/api/v1/sessions/refresh", json!({})),
        ("GET", "/api/v1/sessions", Value::Null),
        ("DELETE", "/api/v1/sessions/current", Value::Null),
        ("DELETE", "/api/v1/sessions/{session}", Value::Null),
        ("DELETE", "/api/v1/sessions/{unknown}", Value::Null),
        ("DELETE", "/api/v1/sessions", Value::Null),
        ("GET", "/api/v1/api-keys", Value::Null),
        ("POST", "/api/v1/api-keys", key),
        ("DELETE", "/api/v1/api-keys/{key}", Value::Null),
        ("GET", "/api/v1/accounts/me/second-factor", Value::Null),
        ("POST", "/api/v1/accounts/me/second-factor", json!({ "password": PASSWORD })),
        ("POST", "/api/v1/accounts/me/second-factor/confirm", json!({ "code": "123456" })),
        (
            "POST",
            "/api/v1/accounts/me/second-factor/disable",
            json!({ "password": PASSWORD, "code": "123456" }),
        ),
        ("POST", "/api/v1/password-resets", json!({ "email": "victim@example.org" })),
        (
            "POST",
            "/api/v1/password-resets/complete",
            json!({ "token": "x", "password": "lilies at nine" }),
        ),
        ("GET", "/api/v1/oidc", Value::Null),
        ("GET", "/api/v1/oidc/{provider}/start", Value::Null),
        ("GET", "/api/v1/oidc/{provider}/callback?state=x&code=y", Value::Null),
        ("GET", "/api/v1/accounts/me/identities", Value::Null),
        ("POST", "/api/v1/accounts/me/identities", json!({ "provider": "none" })),
        ("DELETE", "/api/v1/accounts/me/identities/{identity}", Value::Null),
        ("POST", "/api/v1/auth/verify", json!({ "token": "x" })),
        ("GET", "/.well-known/jwks.json", Value::Null),
        ("GET", "/api/v1/audit", Value::Null),
    ]
}

fn channels() -> Vec<(&'static str, &'static str, Value)> {
    let title = json!({ "title": "x" });
    vec![
        ("GET", "/api/v1/channels", Value::Null),
        ("POST", "/api/v1/channels", json!({ "name": "mine" })),
        ("GET", "/api/v1/channels/{channel}", Value::Null),
        ("GET", "/api/v1/channels/{private}", Value::Null),
        ("PATCH", "/api/v1/channels/{channel}", title.clone()),
        ("PATCH", "/api/v1/channels/{private}", title),
        ("DELETE", "/api/v1/channels/{channel}", Value::Null),
        ("DELETE", "/api/v1/channels/{private}", Value::Null),
        ("GET", "/api/v1/channels/{channel}/analytics", Value::Null),
        ("GET", "/api/v1/channels/{private}/analytics", Value::Null),
        ("GET", "/api/v1/channels/{channel}/settings", Value::Null),
        ("GET", "/api/v1/channels/{private}/settings", Value::Null),
        ("PATCH", "/api/v1/channels/{channel}/settings", json!({ "recording": true })),
        ("PATCH", "/api/v1/channels/{private}/settings", json!({ "recording": true })),
        ("PUT", "/api/v1/channels/{channel}/avatar", json!("picture")),
        ("PUT", "/api/v1/channels/{private}/avatar", json!("picture")),
        ("DELETE", "/api/v1/channels/{channel}/avatar", Value::Null),
        ("PUT", "/api/v1/channels/{channel}/banner", json!("picture")),
        ("DELETE", "/api/v1/channels/{channel}/banner", Value::Null),
        ("GET", "/api/v1/channels/{channel}/stream-keys", Value::Null),
        ("GET", "/api/v1/channels/{private}/stream-keys", Value::Null),
        ("POST", "/api/v1/channels/{channel}/stream-keys", json!({ "name": "new" })),
        ("DELETE", "/api/v1/channels/{channel}/stream-keys/{stream_key}", Value::Null),
        ("GET", "/api/v1/channels/{channel}/follow", Value::Null),
        ("PUT", "/api/v1/channels/{channel}/follow", json!({})),
        ("PUT", "/api/v1/channels/{private}/follow", json!({})),
        ("DELETE", "/api/v1/channels/{channel}/follow", Value::Null),
        ("GET", "/api/v1/accounts/me/follows", Value::Null),
        ("POST", "/api/v1/playback-tokens", json!({ "channel": "victims" })),
        ("POST", "/api/v1/playback-tokens?private", json!({ "channel": "victims-private" })),
        ("GET", "/api/v1/playback-tokens/key", Value::Null),
        ("GET", "/api/v1/streams", Value::Null),
        ("GET", "/api/v1/streams/nobody", Value::Null),
        ("DELETE", "/api/v1/streams/nobody", Value::Null),
    ]
}

fn videos() -> Vec<(&'static str, &'static str, Value)> {
    let (new, title) = (json!({ "title": "New video" }), json!({ "title": "Another title" }));
    vec![
        ("GET", "/api/v1/videos", Value::Null),
        ("GET", "/api/v1/channels/{channel}/videos", Value::Null),
        ("GET", "/api/v1/channels/{private}/videos", Value::Null),
        ("POST", "/api/v1/channels/{channel}/videos", new.clone()),
        ("POST", "/api/v1/channels/{private}/videos", new),
        ("GET", "/api/v1/videos/{video}", Value::Null),
        ("GET", "/api/v1/videos/{secret}", Value::Null),
        ("PATCH", "/api/v1/videos/{video}", title.clone()),
        ("PATCH", "/api/v1/videos/{secret}", title),
        ("DELETE", "/api/v1/videos/{video}", Value::Null),
        ("DELETE", "/api/v1/videos/{secret}", Value::Null),
        ("PUT", "/api/v1/videos/{video}/publication", json!({})),
        ("PUT", "/api/v1/videos/{secret}/publication", json!({})),
        ("DELETE", "/api/v1/videos/{video}/publication", Value::Null),
        ("GET", "/api/v1/videos/{video}/reaction", Value::Null),
        ("PUT", "/api/v1/videos/{video}/reaction", json!({ "reaction": "like" })),
        ("PUT", "/api/v1/videos/{secret}/reaction", json!({ "reaction": "like" })),
        ("DELETE", "/api/v1/videos/{video}/reaction", Value::Null),
        ("GET", "/api/v1/categories", Value::Null),
        ("POST", "/api/v1/categories", json!({ "name": "New" })),
        ("GET", "/api/v1/categories/{category}", Value::Null),
        ("PATCH", "/api/v1/categories/{category}", json!({ "name": "Other" })),
        ("PUT", "/api/v1/categories/{category}/position", json!({ "position": 0 })),
        ("DELETE", "/api/v1/categories/{category}", Value::Null),
        ("GET", "/api/v1/tags?beginning=n", Value::Null),
        ("GET", "/api/v1/tags/{tag}/meaning", Value::Null),
        ("PUT", "/api/v1/tags/{tag}/meaning", json!({ "tag": "something" })),
        ("DELETE", "/api/v1/tags/{tag}/meaning", Value::Null),
    ]
}

fn the_rest() -> Vec<(&'static str, &'static str, Value)> {
    let new = json!({ "url": "https://hooks.example.org/" });
    vec![
        ("GET", "/api/v1/webhooks", Value::Null),
        ("POST", "/api/v1/webhooks", new),
        ("GET", "/api/v1/webhooks/{webhook}", Value::Null),
        ("PATCH", "/api/v1/webhooks/{webhook}", json!({ "types": ["streamforge.video.*"] })),
        ("DELETE", "/api/v1/webhooks/{webhook}", Value::Null),
        ("POST", "/api/v1/webhooks/{webhook}/rotate-secret", json!({})),
        ("POST", "/api/v1/webhooks/{webhook}/enable", Value::Null),
        ("POST", "/api/v1/webhooks/{webhook}/disable", Value::Null),
        ("POST", "/api/v1/webhooks/{webhook}/test", Value::Null),
        ("GET", "/api/v1/webhooks/{webhook}/deliveries", Value::Null),
        ("POST", "/api/v1/webhooks/{webhook}/deliveries/{unknown}/replay", Value::Null),
        ("GET", "/api/v1/events", Value::Null),
        ("GET", "/api/v1/configuration", Value::Null),
        ("GET", "/api/v1/workers", Value::Null),
        ("GET", "/api/v1/log-level", Value::Null),
        ("PUT", "/api/v1/log-level", json!({ "filter": "info" })),
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

/// Somebody else's things, as far as a path names them, made anew for each request.
struct Things {
    names: Vec<(&'static str, String)>,
}

impl Things {
    async fn make(members: &Members, path: &str, victim: AccountId) -> Self {
        let mut things = Self {
            names: vec![
                ("{account}", victim.to_string()),
                ("{channel}", "victims".to_owned()),
                ("{private}", "victims-private".to_owned()),
                ("{unknown}", uuid::Uuid::from_u128(1).to_string()),
                ("{identity}", uuid::Uuid::from_u128(1).to_string()),
                ("{picture}", "0".repeat(64)),
                ("{provider}", "none".to_owned()),
                ("{tag}", "nonsense".to_owned()),
            ],
        };
        let session = members.session(victim, Role::Viewer).await.session.to_string();
        things.names.push(("{session}", session));
        let (_, key) = key(members, victim, Role::Viewer, &[Scope::Read]).await;
        things.names.push(("{key}", key));
        let (platform, operator) = (&members.platform, Actor::System);
        let channel = |name: &str, visibility| features::channels::commands::Create {
            owner: victim,
            name: name.parse().expect("a name"),
            title: "A title".parse().expect("a title"),
            visibility,
        };
        use features::channels::events::Visibility;
        let public = platform.send(operator, channel("victims", Visibility::Public)).await;
        let public = public.expect("a free name").done;
        let private = channel("victims-private", Visibility::Private);
        let private = platform.send(operator, private).await.expect("a free name").done;
        for (name, channel) in [("{video}", public), ("{secret}", private)] {
            if path.contains(name) {
                things.names.push((name, published(members, channel).await));
            }
        }
        if path.contains("{stream_key}") {
            let secret = Secret::random("live_").expect("random numbers");
            let add = features::stream_keys::commands::AddKey {
                channel: public,
                name: "key".parse().expect("a name"),
                digest: features::stream_keys::events::KeyDigest(secret.digest().bytes()),
            };
            let key = platform.send(operator, add).await.expect("room").done;
            things.names.push(("{stream_key}", key.to_string()));
        }
        if path.contains("{webhook}") {
            let create = features::webhooks::commands::Create {
                owner: Some(victim),
                url: "https://192.0.2.1/".parse().expect("an address"),
                types: features::webhooks::filter::TypeFilter::default(),
                secret: "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".parse().expect("it"),
            };
            let webhook = platform.send(operator, create).await.expect("room").done;
            things.names.push(("{webhook}", webhook.to_string()));
        }
        if path.contains("{category}") {
            let (name, translations) = ("Category".parse().expect("a name"), Default::default());
            let make = features::categories::commands::Make { name, translations };
            let category = platform.send(operator, make).await.expect("a free name").done;
            things.names.push(("{category}", category.to_string()));
        }
        if path.contains("{tag}") {
            let (tag, into) = ("nonsense".parse().expect("a tag"), "sense".parse().expect("a tag"));
            let merge = features::tags::commands::Merge { tag, into };
            platform.send(operator, merge).await.expect("two tags");
        }
        things
    }

    /// The path about these things.
    fn fill(&self, path: &str) -> String {
        let path = path.split('?').next().filter(|_| !path.contains('=')).unwrap_or(path);
        self.names.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value))
    }
}

/// A published video of a channel.
async fn published(members: &Members, channel: control_domain::id::ChannelId) -> String {
    use features::videos::{commands::*, processing::*, state::Media};
    let details = json!({ "title": "A title", "description": "", "tags": [], "category": null,
                          "language": null, "visibility": "public", "chapters": [] });
    let details = serde_json::from_value(details).expect("details");
    let (platform, operator) = (&members.platform, Actor::System);
    let announce = Announce { channel, details, password: None };
    let video = platform.send(operator, announce).await.expect("room").done;
    let media = Media { duration_ms: 1, width: None, height: None };
    platform.send(operator, StartUpload { video }).await.expect("a draft");
    platform.send(operator, FinishUpload { video, bytes: 1 }).await.expect("it has begun");
    platform.send(operator, FinishProcessing { video, media }).await.expect("it has arrived");
    platform.send(operator, Publish { video, at: None }).await.expect("it is ready");
    video.to_string()
}

/// The path in the description for a path of [`routes`].
fn described(document: &Value, path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let path = path.replace("{private}", "{channel}").replace("{secret}", "{video}");
    let path = path.replace("streams/nobody", "streams/{channel}").replace("/48", "/{size}");
    let path = path.replace("{stream_key}", "{key}");
    let path = path.replace("sessions/{unknown}", "sessions/{session}");
    let path = path.replace("deliveries/{unknown}", "deliveries/{delivery}");
    match document["paths"].get(&path) {
        Some(_) => path,
        None => path.replace("/me", "/{account}"),
    }
}

/// The status of a response, and its body unless that does not end.
async fn request(
    members: &Members,
    token: &str,
    method: &str,
    path: &str,
    body: Value,
) -> (u16, Value) {
    if !path.ends_with("/events") {
        let (status, _, answer) = members.send(token, method, path, body, &[]).await;
        return (status, answer);
    }
    let mut request = Request::get(path);
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Body::empty()).expect("a request");
    let response = members.router.clone().oneshot(request).await.expect("a response");
    (response.status().as_u16(), Value::Null)
}

#[tokio::test]
async fn each_route_of_the_description_has_a_row() {
    let members = Members::new("access-rows").await;
    let (_, document) = members.get("", "/api/v1/openapi.json").await;
    let rows = routes()
        .into_iter()
        .map(|(method, path, _)| (described(&document, path), method.to_lowercase()));
    let rows = rows.collect::<std::collections::BTreeSet<_>>();
    let paths = document["paths"].as_object().expect("paths");
    let mut described = 0;
    for (path, operations) in paths {
        for method in operations.as_object().expect("operations").keys() {
            let is_method = ["get", "post", "put", "patch", "delete"].contains(&method.as_str());
            assert!(is_method, "{path} {method}");
            assert!(rows.contains(&(path.clone(), method.clone())), "{method} {path} has no row");
            described += 1;
        }
    }
    assert_eq!(described, rows.len(), "a row is of no route: {rows:?}");
}

#[tokio::test]
async fn no_route_gives_access_beyond_the_role() {
    let mut table = format!("{:<55}", "");
    for actor in ACTORS {
        write!(table, " {actor:>9}").expect("text can be written");
    }
    let members = Members::new("access").await;
    let (_, document) = members.get("", "/api/v1/openapi.json").await;
    // Another administrator, so that one may go.
    members.account("root", Role::Administrator).await;
    for (method, path, body) in routes() {
        write!(table, "\n{method:<6} {:<48}", path.trim_start_matches("/api/v1"))
            .expect("text can be written");
        let operation = &document["paths"][described(&document, path)][method.to_lowercase()];
        for actor in ACTORS {
            // Anew for each, because some of the requests delete them.
            let victim = members.account("victim", Role::Viewer).await;
            let things = Things::make(&members, path, victim).await;
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
            let path = things.fill(path);
            let (status, answer) = request(&members, &token, method, &path, body.clone()).await;
            write!(table, " {status:>9}").expect("text can be written");
            let is_described = operation["responses"].get(status.to_string()).is_some();
            assert!(is_described, "{method} {path} {status}: {answer} {operation}");
            // Nobody learns the address of somebody else without the right to it.
            if method == "GET" && path.ends_with(&victim.to_string()) {
                let is_told = answer.get("email").is_some();
                let expected = matches!(actor, "admin" | "operator" | "admin:all");
                assert_eq!(is_told, expected, "{actor} {answer}");
            }
            for name in ["victim", "actor", "new"] {
                erase(&members, name).await;
            }
            tidy(&members).await;
        }
    }
    table.push('\n');
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/tests/access.txt");
    if std::env::var_os("STREAMFORGE_WRITE_TABLES").is_some() {
        std::fs::write(file, &table).expect("the file can be written");
    }
    let known = std::fs::read_to_string(file).expect("the table");
    assert_eq!(table, known, "the table is now:\n{table}");
}

/// Removes the categories and tags of the requests.
async fn tidy(members: &Members) {
    let categories = members.platform.read(features::categories::queries::all).await;
    for (category, _) in categories.expect("the tables") {
        let remove = features::categories::commands::Remove { category };
        members.platform.send(Actor::System, remove).await.expect("the operator");
    }
    for tag in ["nonsense", "sense"] {
        let separate = features::tags::commands::Separate { tag: tag.parse().expect("a tag") };
        members.platform.send(Actor::System, separate).await.expect("the operator");
    }
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
