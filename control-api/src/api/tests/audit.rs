//! Tests of `/api/v1/audit`, and of the end of broadcasts by accounts.

use control_domain::{
    Actor, Role, Scope,
    features::{api_keys::commands::AddKey, channels, stream_keys},
    id::AccountId,
};
use serde_json::json;

use super::{
    members::{Members, kind, text},
    *,
};
use crate::{Caller, caller::Operator, maintenance, secret::Secret};

async fn token(members: &Members, account: AccountId, role: Role) -> String {
    members.session(account, role).await.access.0
}

async fn channel(members: &Members, owner: AccountId, name: &str) {
    let create = channels::commands::Create {
        owner,
        name: name.parse().expect("a name"),
        title: "A title".parse().expect("a title"),
        visibility: channels::events::Visibility::Public,
    };
    let owner = Actor::Person { id: owner, role: Role::Creator };
    members.platform.send(owner, create).await.expect("the name is free");
}

/// The acts that the operator reads, the newest first.
async fn acts(members: &Members, query: &str) -> Vec<Value> {
    let (status, page) = members.get(TOKEN, &format!("/api/v1/audit?{query}")).await;
    assert_eq!(status, 200, "{page}");
    page["acts"].as_array().expect("a list").clone()
}

fn is_live(members: &Members, name: &str) -> bool {
    members.hub.broadcast(&name.parse().expect("a name")).is_some()
}

#[tokio::test]
async fn a_change_of_a_role_is_listed_with_its_sender_and_request() {
    let members = Members::new("audit-role").await;
    let root = members.account("root", Role::Administrator).await;
    let ada = members.account("ada", Role::Viewer).await;
    let root_token = token(&members, root, Role::Administrator).await;
    let path = format!("/api/v1/accounts/{ada}/role");
    let role = json!({ "role": "creator" });
    let fields = [("x-request-id", "request-7")];
    let (status, ..) = members.send(&root_token, "PUT", &path, role, &fields).await;
    assert_eq!(status, 200);
    let query = format!("subject={ada}&type=streamforge.account.role_changed.v1");
    let listed = acts(&members, &query).await;
    let [act] = &listed[..] else { panic!("one act") };
    assert_eq!(act["actor"], json!({ "id": root, "kind": "account", "name": "root" }));
    assert_eq!(
        (text(act, "authority"), text(act, "subject")),
        ("administrator", &*ada.to_string())
    );
    assert_eq!(
        (text(act, "request_id"), &act["details"]["role"]),
        ("request-7", &json!("creator"))
    );
    // Her own profile is not.
    let ada_token = token(&members, ada, Role::Creator).await;
    let about = json!({ "about": "me" });
    assert_eq!(members.send(&ada_token, "PATCH", "/api/v1/accounts/me", about, &[]).await.0, 200);
    assert_eq!(acts(&members, &format!("actor={ada}")).await, [] as [Value; 0]);
    // The members were made by the daemon, not by its operator.
    assert_eq!(acts(&members, "").await.len(), 1);
}

#[tokio::test]
async fn the_log_is_paged_and_filtered_and_no_change_can_be_made_to_it() {
    let members = Members::new("audit-pages").await;
    let before = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    for name in ["Chess", "Cooking", "Dance"] {
        let body = json!({ "name": name });
        assert_eq!(members.post(TOKEN, "/api/v1/categories", body).await.0, 201);
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/audit?limit=1&actor=operator:token{cursor}");
        let (status, page) = members.get(TOKEN, &path).await;
        assert_eq!(status, 200, "{page}");
        let names = page["acts"].as_array().expect("a list").iter();
        seen.extend(names.map(|act| text(&act["details"], "name").to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, ["Dance", "Cooking", "Chess"]);
    assert_eq!(acts(&members, &format!("from={before}")).await.len(), 3);
    assert_eq!(acts(&members, &format!("to={before}")).await.len(), 0);
    assert_eq!(acts(&members, "actor=operator:socket").await.len(), 0);
    for wrong in [
        "actor=somebody",
        "from=yesterday",
        "colour=red",
        "limit=0",
        &format!("type={}", "x".repeat(501)),
    ] {
        let (status, problem) = members.get(TOKEN, &format!("/api/v1/audit?{wrong}")).await;
        assert_eq!((status, kind(&problem)), (400, "invalid-request"), "{wrong}");
    }
    let (status, problem) = members.get(TOKEN, "/api/v1/audit?cursor=AAAA").await;
    assert_eq!((status, kind(&problem)), (400, "invalid-cursor"));
    for method in ["DELETE", "POST", "PUT"] {
        let (status, ..) = members.send(TOKEN, method, "/api/v1/audit", Value::Null, &[]).await;
        assert_eq!(status, 405, "{method}");
    }
}

#[tokio::test]
async fn a_broadcast_is_ended_by_its_owner_and_by_administrators_and_the_log_has_it() {
    let members = Members::new("audit-streams").await;
    let ada = members.account("ada", Role::Creator).await;
    let eve = members.account("eve", Role::Creator).await;
    let mo = members.account("mo", Role::Moderator).await;
    let root = members.account("root", Role::Administrator).await;
    channel(&members, ada, "stage").await;
    let path = "/api/v1/streams/stage";
    for (account, role, expected) in [
        (eve, Role::Creator, 403),
        (mo, Role::Moderator, 403),
        (ada, Role::Creator, 204),
        (root, Role::Administrator, 204),
    ] {
        let _producer = publish(&members.hub, "stage");
        let token = token(&members, account, role).await;
        assert_eq!(members.delete(&token, path).await, expected, "{role:?}");
        assert_eq!(is_live(&members, "stage"), expected != 204);
        members.hub.kick(&"stage".parse().expect("a name"));
    }
    assert_eq!(members.delete("", path).await, 401);
    assert_eq!(members.delete("sfk_unknown", path).await, 401);
    // A channel of the configuration, which the platform does not know: administrators alone.
    let producer = publish(&members.hub, "camera");
    let ada_token = token(&members, ada, Role::Creator).await;
    let root_token = token(&members, root, Role::Administrator).await;
    assert_eq!(members.delete(&ada_token, "/api/v1/streams/camera").await, 403);
    let path = "/api/v1/streams/camera?reason=It%20was%20loud";
    assert_eq!(members.delete(&root_token, path).await, 204);
    drop(producer);
    assert_eq!(members.delete(&root_token, "/api/v1/streams/camera").await, 404);
    assert_eq!(members.delete(&root_token, "/api/v1/streams/camera?reason=").await, 400);
    let listed = acts(&members, "type=streamforge.operation.performed.v1").await;
    let [camera, by_root, by_ada] = &listed[..] else { panic!("three: {listed:?}") };
    let operation = json!({ "name": "stream.end", "outcome": "done", "reason": "It was loud" });
    assert_eq!((text(camera, "subject"), &camera["operation"]), ("camera", &operation));
    assert_eq!(text(by_root, "authority"), "administrator");
    assert_eq!((&by_ada["actor"]["name"], by_ada.get("authority")), (&json!("ada"), None));
}

#[tokio::test]
async fn a_key_ends_the_own_broadcast_with_the_scope_of_channels_alone() {
    let members = Members::new("audit-keys").await;
    let ada = members.account("ada", Role::Creator).await;
    channel(&members, ada, "stage").await;
    for (scope, expected) in [(Scope::Videos, 403), (Scope::Channels, 204)] {
        let _producer = publish(&members.hub, "stage");
        let secret = Secret::random("sfk_").expect("random numbers");
        let add = AddKey {
            account: ada,
            name: scope.name().parse().expect("a name"),
            digest: stream_keys::events::KeyDigest(secret.digest().bytes()),
            scopes: [scope].into_iter().collect(),
            expires: None,
        };
        let owner = Actor::Person { id: ada, role: Role::Creator };
        members.platform.send(owner, add).await.expect("her own");
        assert_eq!(members.delete(secret.expose(), "/api/v1/streams/stage").await, expected);
        assert_eq!(is_live(&members, "stage"), expected != 204);
    }
}

#[tokio::test]
async fn an_older_process_ends_a_broadcast_that_the_newer_one_has_permitted() {
    let (here, before) = (hub(), hub());
    let _producers = ["one", "two", "three"].map(|name| publish(&before, name));
    let administrator = Administrator::new(Some(KeyDigest::of("the-token-of-before")));
    let older =
        Api::new(before.clone(), Arc::new(SomeViewers), Arc::new(SomeRenditions), administrator);
    let at = |ours| {
        let caller = Caller { address: [127, 0, 0, 1].into(), ours };
        older.clone().router().layer(axum::Extension(caller))
    };
    let newer = Api::new(
        here,
        Arc::new(SomeViewers),
        Arc::new(SomeRenditions),
        Administrator::new(Some(KeyDigest::of(TOKEN))),
    );
    let by_socket = newer.beside(Arc::new(older_process::Before(at(true)))).router();
    let by_socket = by_socket.layer(axum::Extension(Operator));
    let (status, ..) = delete(by_socket, "/api/v1/streams/one", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    // The mark counts between processes of the daemon alone.
    for (router, expected) in [(at(false), 401), (at(true), 204)] {
        let request = Request::delete("/api/v1/streams/two")
            .header("streamforge-permitted", "stream.end")
            .body(Body::empty());
        assert_eq!(ask(router, request.unwrap()).await.0.as_u16(), expected);
    }
    let names = before.broadcasts().iter().map(|live| live.name().to_string()).collect::<Vec<_>>();
    assert_eq!(names, ["three"]);
}

#[tokio::test]
async fn maintenance_through_the_control_socket_is_in_the_log() {
    let members = Members::new("audit-maintenance").await;
    let folder = members.folder.join("copy");
    let router = maintenance::routes(members.platform.clone(), members.identity.hasher().clone());
    let send = async |path: &str, body: Value| {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(body.to_string())).unwrap();
        ask(router.clone(), request).await.0.as_u16()
    };
    let backup = json!({ "folder": folder });
    assert_eq!(send("/maintenance/backup", backup.clone()).await, 200);
    // The folder has a backup now.
    assert_eq!(send("/maintenance/backup", backup).await, 409);
    assert_eq!(send("/maintenance/rebuild", json!({ "features": ["tags", "audit"] })).await, 200);
    let listed = acts(&members, "actor=operator:socket").await;
    let said = |act: &Value| {
        let operation = &act["operation"];
        let (name, outcome) = (text(operation, "name"), text(operation, "outcome"));
        format!("{name} {} {outcome}", text(act, "subject"))
    };
    let expected = [
        "database.rebuild tags audit done".to_owned(),
        format!("database.backup {} failed", folder.display()),
        format!("database.backup {} done", folder.display()),
    ];
    assert_eq!(listed.iter().map(said).collect::<Vec<_>>(), expected);
    assert_eq!(text(&listed[0]["actor"], "kind"), "control_socket");
}

#[tokio::test]
async fn the_log_level_that_an_administrator_sets_is_in_the_log() {
    let members = Members::new("audit-level").await;
    let root = members.account("root", Role::Administrator).await;
    let token = token(&members, root, Role::Administrator).await;
    let level = json!({ "filter": "debug" });
    let (status, ..) = members.send(&token, "PUT", "/api/v1/log-level", level, &[]).await;
    assert_eq!(status, 200);
    let listed = acts(&members, "subject=log_level").await;
    let operation = json!({ "name": "log_level.set", "outcome": "done", "value": "debug" });
    assert_eq!(listed[0]["operation"], operation);
    assert_eq!(listed[0]["actor"]["id"], json!(root));
}
