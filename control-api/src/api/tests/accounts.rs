//! The life of an account, from its registration to its erasure.

use std::path::Path;

use control_domain::Role;
use serde_json::json;

use super::{
    members::{Members, PASSWORD, kind, text},
    *,
};
use crate::rate::Limits;

fn ada() -> Value {
    json!({ "name": "Ada Lovelace", "email": "Ada@example.org", "password": PASSWORD })
}

fn credentials(login: &str, password: &str) -> Value {
    json!({ "login": login, "password": password, "device": "Ada's telescope" })
}

async fn sign_in(members: &Members, login: &str, password: &str) -> Value {
    let (status, tokens) = members.post("", "/api/v1/sessions", credentials(login, password)).await;
    assert_eq!(status, 201, "{tokens}");
    tokens
}

#[tokio::test]
async fn somebody_registers_signs_in_edits_the_profile_and_changes_the_password() {
    let members = Members::new("life").await;
    let (status, headers, account) = members.send("", "POST", "/api/v1/accounts", ada(), &[]).await;
    assert_eq!(status, 201, "{account}");
    let path = headers[header::LOCATION].to_str().expect("text").to_owned();
    assert_eq!((text(&account, "role"), &account["email_verified"]), ("viewer", &json!(false)));
    assert_eq!(members.get("", &path).await.1["name"], "Ada Lovelace");
    let (_, public) = members.get("", &path).await;
    assert_eq!(
        public,
        json!({ "id": account["id"], "name": "Ada Lovelace", "about": "", "avatar": null })
    );

    // By name in any case, and by address.
    let first = sign_in(&members, "ada LOVELACE", PASSWORD).await;
    let second = sign_in(&members, "ada@EXAMPLE.org", PASSWORD).await;
    assert_eq!((text(&first, "token_type"), &first["expires_in"]), ("Bearer", &json!(600)));
    let (one, two) = (text(&first, "access_token"), text(&second, "access_token"));
    let (status, headers, own) =
        members.send(one, "GET", "/api/v1/accounts/me", Value::Null, &[]).await;
    assert_eq!((status, &own), (200, &account));
    let tag = headers[header::ETAG].to_str().expect("text").to_owned();

    let patch = json!({ "about": "Mathematician" });
    let fields = [("if-match", tag.as_str())];
    let edit =
        async |body: Value| members.send(one, "PATCH", "/api/v1/accounts/me", body, &fields).await;
    let (status, _, edited) = edit(patch.clone()).await;
    assert_eq!((status, text(&edited, "about")), (200, "Mathematician"));
    assert_eq!(edit(json!({ "about": "Poet" })).await.0, 412, "it has changed meanwhile");
    let (status, sessions) = members.get(one, "/api/v1/sessions").await;
    let sessions = sessions["sessions"].as_array().expect("a list").clone();
    assert_eq!((status, sessions.len()), (200, 2));
    assert_eq!((&sessions[0]["current"], &sessions[1]["current"]), (&json!(true), &json!(false)));
    assert_eq!(text(&sessions[1], "device"), "Ada's telescope");

    let path = "/api/v1/accounts/me/password";
    let change = async |present: &str, password: &str| {
        let body = json!({ "present": present, "password": password });
        members.send(one, "PUT", path, body, &[]).await
    };
    let (status, _, problem) = change("wrong password", "lilies at nine").await;
    assert_eq!((status, text(&problem["errors"][0], "pointer")), (422, "/present"));
    assert_eq!(change(PASSWORD, "password123").await.0, 422, "a common one");
    assert_eq!(change(PASSWORD, "lilies at nine").await.0, 204);
    // The session that has changed it continues. All others end at once, whatever the age of their
    // tokens.
    assert_eq!(members.get(one, "/api/v1/accounts/me").await.0, 200);
    let (status, problem) = members.get(two, "/api/v1/accounts/me").await;
    assert_eq!((status, kind(&problem)), (401, "invalid-token"));
    let (status, _) =
        members.post("", "/api/v1/sessions", credentials("Ada@example.org", PASSWORD)).await;
    assert_eq!(status, 401);
    sign_in(&members, "Ada@example.org", "lilies at nine").await;

    assert_eq!(members.delete(one, "/api/v1/sessions/current").await, 204);
    assert_eq!(members.get(one, "/api/v1/accounts/me").await.0, 401);
}

#[tokio::test]
async fn a_name_or_address_that_another_account_has_is_refused() {
    let members = Members::new("taken").await;
    assert_eq!(members.post("", "/api/v1/accounts", ada()).await.0, 201);
    for (member, value, rule) in
        [("name", "other", "email_taken"), ("email", "other@example.org", "name_taken")]
    {
        let mut again = ada();
        again[member] = value.into();
        let (status, problem) = members.post("", "/api/v1/accounts", again).await;
        assert_eq!((status, text(&problem, "rule")), (409, rule));
    }
    for (member, value) in
        [("password", "short"), ("password", "Password1"), ("email", "ada"), ("name", "")]
    {
        let mut faulty = ada();
        faulty[member] = value.into();
        let (status, problem) = members.post("", "/api/v1/accounts", faulty).await;
        assert_eq!(status, 422, "{problem}");
        assert!(!problem.to_string().contains("Password1"), "{problem}");
    }
    // The same request again is not another one.
    let body = json!({ "name": "Bob", "email": "bob@example.org", "password": PASSWORD });
    let fields = [("idempotency-key", "k1")];
    let first = members.send("", "POST", "/api/v1/accounts", body.clone(), &fields).await;
    let again = members.send("", "POST", "/api/v1/accounts", body, &fields).await;
    assert_eq!((first.0, &first.2), (again.0, &again.2));
    assert_eq!(again.1["idempotency-replayed"], "true");
}

#[tokio::test]
async fn an_unknown_name_and_a_wrong_password_have_the_same_response() {
    let members = Members::new("equal").await;
    members.account("ada", Role::Viewer).await;
    let attempt = async |login: &str| {
        let fields = [("x-request-id", "same")];
        let body = credentials(login, "wrong password");
        let (status, mut headers, body) =
            members.send("", "POST", "/api/v1/sessions", body, &fields).await;
        headers.remove(header::DATE);
        (status, headers, body)
    };
    let known = attempt("ada").await;
    assert_eq!((known.0, kind(&known.2)), (401, "wrong-credentials"));
    assert!(known.1.contains_key(header::WWW_AUTHENTICATE));
    for login in ["nobody", "nobody@example.org", "ada@example.org", "", "\u{0}", "a@b@c"] {
        assert_eq!(attempt(login).await, known, "{login:?}");
    }
    let long = "x".repeat(100_000);
    assert_eq!(attempt(&long).await, known);
    let body = json!({ "login": "ada", "password": long });
    assert_eq!(members.post("", "/api/v1/sessions", body).await.0, 401);
}

#[tokio::test]
async fn attempts_are_limited_by_name_and_by_address_whether_the_name_is_known_or_not() {
    let limit = |text: &str| text.parse().ok();
    let limits = Limits { login: limit("5/5m"), ..super::members::UNLIMITED };
    let members = Members::limited("throttle", limits).await;
    members.account("ada", Role::Viewer).await;
    // From other addresses, so that the name alone counts.
    let attempt = async |login: &str, address: [u8; 4]| {
        let caller = crate::Caller { address: address.into(), ours: false };
        let mut request = Request::post("/api/v1/sessions")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(credentials(login, "wrong password").to_string()))
            .expect("a request");
        request.extensions_mut().insert(caller);
        let router = members.router.clone();
        ask(router, request).await.0.as_u16()
    };
    for login in ["ada", "nobody"] {
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.push(members.identity.throttle(login).await.is_ok());
        }
        assert_eq!(seen, [true, true, true, true, true, false], "{login}");
        // In other spellings it is the same name.
        assert!(members.identity.throttle(&format!(" {}", login.to_uppercase())).await.is_err());
    }
    let mut statuses = Vec::new();
    for n in 0..6 {
        statuses.push(attempt(&format!("name{n}"), [192, 0, 2, 1]).await);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429]);
}

#[tokio::test]
async fn the_first_administrator_signs_in_with_another_password_at_once() {
    let members = Members::new("first").await;
    let first =
        members.identity.first_administrator().await.expect("it is open").expect("none yet");
    assert!(members.identity.first_administrator().await.expect("it is open").is_none());
    let mut body = credentials(&first.name, first.password.expose());
    let (status, problem) = members.post("", "/api/v1/sessions", body.clone()).await;
    assert_eq!((status, kind(&problem)), (403, "password-change-required"));
    body["new_password"] = "short".into();
    assert_eq!(members.post("", "/api/v1/sessions", body.clone()).await.0, 422);
    body["new_password"] = "lilies at nine".into();
    let (status, tokens) = members.post("", "/api/v1/sessions", body).await;
    assert_eq!(status, 201, "{tokens}");
    let root = text(&tokens, "access_token");
    let (status, list) = members.get(root, "/api/v1/accounts").await;
    assert_eq!((status, list["accounts"].as_array().map(Vec::len)), (200, Some(1)));
    let again = members.post("", "/api/v1/sessions", credentials("admin", first.password.expose()));
    assert_eq!(again.await.0, 401, "it was for one time");
    sign_in(&members, "admin", "lilies at nine").await;

    // An account that an administrator makes has a password that two know.
    let body = json!({ "name": "Bob", "email": "bob@example.org", "password": PASSWORD,
                       "role": "creator" });
    let (status, bob) = members.post(root, "/api/v1/accounts", body).await;
    assert_eq!((status, text(&bob, "role")), (201, "creator"));
    let (status, problem) =
        members.post("", "/api/v1/sessions", credentials("Bob", PASSWORD)).await;
    assert_eq!((status, kind(&problem)), (403, "password-change-required"));
    let mut body = credentials("Bob", PASSWORD);
    body["new_password"] = "roses at ten".into();
    let (_, tokens) = members.post("", "/api/v1/sessions", body).await;
    let bob_token = text(&tokens, "access_token");
    let path = format!("/api/v1/accounts/{}", text(&bob, "id"));
    // A new role counts at once, with the token that names the old one.
    assert_eq!(members.get(bob_token, "/api/v1/accounts").await.0, 403);
    let role = json!({ "role": "administrator" });
    let (status, ..) = members.send(root, "PUT", &format!("{path}/role"), role, &[]).await;
    assert_eq!((status, members.get(bob_token, "/api/v1/accounts").await.0), (200, 200));
    // Reset by the administrator: the sessions end, and the password is for one time.
    let body = json!({ "password": "daisies at one" });
    let (status, ..) = members.send(root, "PUT", &format!("{path}/password"), body, &[]).await;
    assert_eq!((status, members.get(bob_token, "/api/v1/accounts/me").await.0), (204, 401));
    let (status, _) =
        members.post("", "/api/v1/sessions", credentials("Bob", "daisies at one")).await;
    assert_eq!(status, 403);
}

/// The files of a folder that contain a text.
fn files_with(folder: &Path, wanted: &str) -> Vec<String> {
    let files = std::fs::read_dir(folder).expect("the folder").map(|file| file.expect("a file"));
    let has = |file: &std::fs::DirEntry| {
        let bytes = std::fs::read(file.path()).expect("a file");
        bytes.windows(wanted.len()).any(|part| part.eq_ignore_ascii_case(wanted.as_bytes()))
    };
    let mut found = files
        .filter(has)
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .collect::<Vec<_>>();
    found.sort();
    found
}

#[tokio::test]
async fn an_erased_account_is_gone_with_all_that_belongs_to_it() {
    let members = Members::new("erased").await;
    let id = text(&members.post("", "/api/v1/accounts", ada()).await.1, "id").to_owned();
    let tokens = sign_in(&members, "Ada Lovelace", PASSWORD).await;
    let token = text(&tokens, "access_token");
    let patch = json!({ "about": "Wrote notes on the engine" });
    members.send(token, "PATCH", "/api/v1/accounts/me", patch, &[]).await;
    let new = json!({ "name": "Analytical script", "scopes": ["read"] });
    let (status, key) = members.post(token, "/api/v1/api-keys", new).await;
    assert_eq!(status, 201, "{key}");
    let (status, headers, export) =
        members.send(token, "GET", "/api/v1/accounts/me/export", Value::Null, &[]).await;
    assert_eq!((status, text(&export["account"], "email")), (200, "Ada@example.org"));
    assert!(headers[header::CONTENT_DISPOSITION].to_str().expect("text").contains("attachment"));
    assert_eq!(text(&export["sessions"][0], "device"), "Ada's telescope");
    assert_eq!(text(&export["api_keys"][0], "name"), "Analytical script");
    assert!(!export.to_string().contains("argon2"), "{export}");
    let personal = [
        "Ada Lovelace",
        "ada@example.org",
        "notes on the engine",
        "telescope",
        "Analytical script",
        "argon2id",
    ];
    assert!(!files_with(&members.folder, &id).is_empty(), "the search finds something");

    assert_eq!(members.delete(token, "/api/v1/accounts/me").await, 204);
    for (credential, path) in
        [(token, "/api/v1/accounts/me"), (text(&key, "key"), "/api/v1/accounts/me")]
    {
        assert_eq!(members.get(credential, path).await.0, 401);
    }
    let refresh = json!({ "refresh_token": tokens["refresh_token"] });
    assert_eq!(members.post("", "/api/v1/sessions/refresh", refresh).await.0, 401);
    assert_eq!(members.get("", &format!("/api/v1/accounts/{id}")).await.0, 404);
    assert_eq!(members.get(TOKEN, &format!("/api/v1/accounts/{id}")).await.0, 404);
    let (_, list) = members.get(TOKEN, "/api/v1/accounts").await;
    assert_eq!(list["accounts"], json!([]));
    // The name and the address are free.
    assert_eq!(members.post("", "/api/v1/accounts", ada()).await.0, 201);
    let tokens = sign_in(&members, "Ada Lovelace", PASSWORD).await;
    assert_eq!(members.delete(text(&tokens, "access_token"), "/api/v1/accounts/me").await, 204);

    // No file has anything of the person.
    members.platform.close().await;
    for text in personal {
        let empty: [&str; 0] = [];
        assert_eq!(files_with(&members.folder, text), empty, "{text}");
    }
}
