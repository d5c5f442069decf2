//! Refresh tokens, cookies, API keys, and the check of tokens for others.

use std::time::Duration;

use control_domain::{Actor, Role, features::sessions::commands::ChangePassword};
use serde_json::json;

use super::{
    members::{Members, PASSWORD, kind, text},
    *,
};

const REFRESH: &str = "/api/v1/sessions/refresh";

fn refresh(token: &str) -> Value {
    json!({ "refresh_token": token })
}

#[tokio::test]
async fn a_session_goes_on_with_each_refresh_token_once() {
    let members = Members::new("refresh").await;
    let ada = members.account("ada", Role::Viewer).await;
    let first = members.session(ada, Role::Viewer).await;
    let (status, next) = members.post("", REFRESH, refresh(first.refresh.expose())).await;
    assert_eq!(status, 200, "{next}");
    assert_eq!(text(&next, "session"), first.session.to_string());
    assert_ne!(text(&next, "refresh_token"), first.refresh.expose());
    assert_eq!(members.get(text(&next, "access_token"), "/api/v1/accounts/me").await.0, 200);
    // Two at once are two tabs: the second gets no tokens, and nothing ends.
    let (status, problem) = members.post("", REFRESH, refresh(first.refresh.expose())).await;
    assert_eq!((status, text(&problem, "rule")), (409, "token_used"));
    let (status, third) = members.post("", REFRESH, refresh(text(&next, "refresh_token"))).await;
    assert_eq!(status, 200, "{third}");

    // A token that was used before that is a copy: whoever has it, both are out.
    let (status, problem) = members.post("", REFRESH, refresh(first.refresh.expose())).await;
    assert_eq!((status, kind(&problem)), (401, "invalid-token"));
    let (status, _) = members.post("", REFRESH, refresh(text(&third, "refresh_token"))).await;
    assert_eq!(status, 401);
    let access = text(&third, "access_token");
    assert_eq!(members.get(access, "/api/v1/accounts/me").await.0, 401, "at once");

    for invented in ["", "sfr_", "sfr_AAAA", access, &"x".repeat(10_000)] {
        assert_eq!(members.post("", REFRESH, refresh(invented)).await.0, 401, "{invented}");
    }
    assert_eq!(members.post("", REFRESH, json!({})).await.0, 401);
}

#[tokio::test]
async fn somebody_who_knows_a_session_cannot_end_it_with_an_invented_token() {
    let members = Members::new("invented").await;
    let ada = members.account("ada", Role::Viewer).await;
    let session = members.session(ada, Role::Viewer).await;
    let mut forged = session.refresh.expose().to_owned();
    forged.replace_range(40..44, "AAAA");
    assert_eq!(members.post("", REFRESH, refresh(&forged)).await.0, 401);
    assert_eq!(members.post("", REFRESH, refresh(session.refresh.expose())).await.0, 200);
}

#[tokio::test]
async fn a_sign_in_that_races_with_a_new_password_does_not_survive_it() {
    let members = Members::new("race").await;
    let ada = members.account("ada", Role::Viewer).await;
    let attempts = (0..8).map(|n| {
        let router = members.router.clone();
        let body = json!({ "login": "ada", "password": PASSWORD, "device": format!("d{n}") });
        let request = Request::post("/api/v1/sessions")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .expect("a request");
        tokio::spawn(ask(router, request))
    });
    let attempts = attempts.collect::<Vec<_>>();
    tokio::time::sleep(Duration::from_millis(2)).await;
    let other = crate::identity::password::Password::presented("lilies at nine").expect("short");
    let password = members.identity.hasher().hash(other).await.expect("room");
    let change = ChangePassword { account: ada, password, except: None };
    members.platform.send(Actor::System, change).await.expect("the operator");
    for attempt in attempts {
        let (status, _, body) = attempt.await.expect("no panic");
        assert!([201, 401, 409].contains(&status.as_u16()), "{status}");
        if status == 201 {
            let tokens: Value = serde_json::from_slice(&body).expect("JSON");
            let access = text(&tokens, "access_token");
            assert_eq!(members.get(access, "/api/v1/accounts/me").await.0, 401);
        }
    }
}

/// The cookies that a response sets, as a browser sends them back.
fn cookies(headers: &http::HeaderMap) -> String {
    let set = headers.get_all(header::SET_COOKIE).iter();
    let pairs = set.map(|cookie| cookie.to_str().expect("text").split(';').next().expect("a pair"));
    pairs.collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn a_browser_signs_in_with_cookies_and_changes_things_from_this_site_alone() {
    let members = Members::new("cookies").await;
    members.account("ada", Role::Viewer).await;
    let body = json!({ "login": "ada", "password": PASSWORD, "mode": "cookie" });
    let own = ("sec-fetch-site", "same-origin");
    let (status, _, problem) =
        members.send("", "POST", "/api/v1/sessions", body.clone(), &[]).await;
    assert_eq!((status, kind(&problem)), (403, "forbidden"), "another site may be behind it");
    let (status, headers, tokens) =
        members.send("", "POST", "/api/v1/sessions", body, &[own]).await;
    assert_eq!(status, 201, "{tokens}");
    assert!(tokens.get("access_token").is_none() && tokens.get("refresh_token").is_none());
    for cookie in headers.get_all(header::SET_COOKIE) {
        let cookie = cookie.to_str().expect("text");
        assert!(cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
    }
    let jar = cookies(&headers);
    let with = |fields: &[(&'static str, &'static str)]| {
        let mut all: Vec<(&str, &str)> = fields.to_vec();
        all.push(("cookie", jar.as_str()));
        all
    };
    let me = "/api/v1/accounts/me";
    assert_eq!(members.send("", "GET", me, Value::Null, &with(&[])).await.0, 200);
    let patch = json!({ "about": "x" });
    for (fields, expected) in [
        (&[][..], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("sec-fetch-site", "same-site")], 403),
        (&[("host", "example.org"), ("origin", "https://evil.example")], 403),
        (&[("host", "example.org"), ("origin", "http://example.org")], 200),
        (&[own], 200),
    ] {
        let (status, _, problem) =
            members.send("", "PATCH", me, patch.clone(), &with(fields)).await;
        assert_eq!(status, expected, "{fields:?} {problem}");
    }

    // The tokens are replaced, and the old access token of the session still works for its time.
    let (status, _, problem) = members.send("", "POST", REFRESH, json!({}), &with(&[])).await;
    assert_eq!(status, 403, "{problem}");
    let (status, headers, _) = members.send("", "POST", REFRESH, json!({}), &with(&[own])).await;
    assert_eq!(status, 200);
    let next = cookies(&headers);
    assert_ne!(next, jar);
    // An access token that is not valid is none: routes for everybody work, and one can sign out.
    let stale = next.replace("sf_access=", "sf_access=stale");
    let fields = [own, ("cookie", stale.as_str())];
    assert_eq!(members.send("", "GET", "/api/v1/channels", Value::Null, &fields).await.0, 200);
    assert_eq!(members.send("", "GET", me, Value::Null, &fields).await.0, 401);
    let (status, headers, _) =
        members.send("", "DELETE", "/api/v1/sessions/current", Value::Null, &fields).await;
    assert_eq!(status, 204);
    assert!(
        headers
            .get_all(header::SET_COOKIE)
            .iter()
            .all(|cookie| { cookie.to_str().expect("text").contains("Max-Age=0") })
    );
    assert_eq!(members.send("", "GET", me, Value::Null, &[("cookie", next.as_str())]).await.0, 401);
}

#[tokio::test]
async fn an_api_key_has_its_scopes_until_it_is_revoked() {
    let members = Members::new("keys").await;
    let ada = members.account("ada", Role::Creator).await;
    let session = members.session(ada, Role::Creator).await;
    let token = session.access.0.as_str();
    let add = async |name: &str, scopes: Value| {
        let body = json!({ "name": name, "scopes": scopes });
        members.post(token, "/api/v1/api-keys", body).await
    };
    let (status, key) = add("reads", json!(["read"])).await;
    assert_eq!(status, 201, "{key}");
    let reads = text(&key, "key").to_owned();
    assert!(reads.starts_with("sfk_"));
    let (status, writes) = add("makes channels", json!(["channels"])).await;
    assert_eq!(status, 201, "{writes}");
    let writes = text(&writes, "key").to_owned();
    assert_eq!(add("reads", json!(["read"])).await.0, 409, "the name is taken");
    assert_eq!(add("none", json!([])).await.0, 409);
    assert_eq!(add("unknown", json!(["everything"])).await.0, 422);
    let (_, list) = members.get(token, "/api/v1/api-keys").await;
    assert_eq!(list["api_keys"].as_array().map(Vec::len), Some(2));
    assert!(!list.to_string().contains("sfk_"), "shown once: {list}");

    assert_eq!(members.get(&reads, "/api/v1/accounts/me").await.1["name"], "ada");
    let channel = json!({ "name": "engine" });
    let (status, headers, problem) =
        members.send(&reads, "POST", "/api/v1/channels", channel.clone(), &[]).await;
    assert_eq!((status, kind(&problem)), (403, "insufficient-scope"));
    let challenge = headers[header::WWW_AUTHENTICATE].to_str().expect("text");
    assert!(challenge.contains("insufficient_scope"), "{challenge}");
    assert_eq!(members.post(&writes, "/api/v1/channels", channel).await.0, 201);
    assert_eq!(members.get(&writes, "/api/v1/channels").await.0, 403, "it does not read");
    // In a cookie a key is nothing.
    let jar = format!("sf_access={reads}");
    let fields = [("cookie", jar.as_str())];
    assert_eq!(members.send("", "GET", "/api/v1/accounts/me", Value::Null, &fields).await.0, 401);

    let path = format!("/api/v1/api-keys/{}", text(&key, "id"));
    assert_eq!(members.delete(&reads, &path).await, 403, "a key revokes none");
    assert_eq!(members.delete(token, &path).await, 204);
    assert_eq!(members.get(&reads, "/api/v1/accounts/me").await.0, 401);
    assert_eq!(members.delete(token, &path).await, 404);
}

#[tokio::test]
async fn others_check_tokens_with_the_keys_or_by_a_request() {
    let members = Members::new("verify").await;
    let ada = members.account("ada", Role::Creator).await;
    let bob = members.account("bob", Role::Viewer).await;
    let session = members.session(ada, Role::Creator).await;
    let asks = members.session(bob, Role::Viewer).await.access.0;
    let (status, headers, set) =
        members.send("", "GET", "/.well-known/jwks.json", Value::Null, &[]).await;
    assert_eq!(
        (status, &headers[header::CACHE_CONTROL]),
        (200, &"public, max-age=900".parse().unwrap())
    );
    assert_eq!(
        (text(&set["keys"][0], "kty"), set["keys"].as_array().map(Vec::len)),
        ("OKP", Some(1))
    );

    let path = "/api/v1/auth/verify";
    let body = json!({ "token": session.access.0 });
    assert_eq!(members.post("", path, body.clone()).await.0, 401);
    let (status, found) = members.post(&asks, path, body.clone()).await;
    assert_eq!((status, &found["active"]), (200, &json!(true)), "{found}");
    assert_eq!((text(&found, "sub"), text(&found, "role")), (ada.to_string().as_str(), "creator"));
    assert_eq!(text(&found, "sid"), session.session.to_string());
    // As a form.
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::AUTHORIZATION, format!("Bearer {asks}"))
        .body(Body::from(format!("token_type_hint=access_token&token={}", session.access.0)))
        .expect("a request");
    let (status, _, same) = ask(members.router.clone(), request).await;
    assert_eq!(
        (status, serde_json::from_slice::<Value>(&same).expect("JSON")),
        (StatusCode::OK, found)
    );

    let new =
        json!({ "name": "k", "scopes": ["videos", "read"], "expires": "2999-01-01T00:00:00Z" });
    let (_, key) = members.post(&session.access.0, "/api/v1/api-keys", new).await;
    let (_, found) = members.post(&asks, path, json!({ "token": key["key"] })).await;
    assert_eq!((text(&found, "scope"), &found["exp"]), ("read videos", &json!(32_472_144_000_u64)));
    let gone = format!("/api/v1/sessions/{}", session.session);
    assert_eq!(members.delete(&asks, &gone).await, 404, "somebody else's");
    assert_eq!(members.delete(TOKEN, &gone).await, 204);
    for token in [session.access.0.as_str(), "", "x", TOKEN, session.refresh.expose()] {
        let (status, found) = members.post(&asks, path, json!({ "token": token })).await;
        assert_eq!((status, found), (200, json!({ "active": false })), "{token}");
    }
}

#[tokio::test]
async fn a_user_ends_all_other_sessions() {
    let members = Members::new("others").await;
    let ada = members.account("ada", Role::Viewer).await;
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(members.session(ada, Role::Viewer).await.access.0);
    }
    assert_eq!(members.delete(&all[1], "/api/v1/sessions").await, 204);
    let mut statuses = Vec::new();
    for token in &all {
        statuses.push(members.get(token, "/api/v1/sessions").await.0);
    }
    assert_eq!(statuses, [401, 200, 401]);
}
