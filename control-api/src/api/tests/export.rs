//! The export of an account, and edits and tokens that are refused.

use std::collections::BTreeSet;

use control_domain::{
    Actor, Role,
    features::{self, videos::commands::Announce},
};
use serde_json::json;

use super::{members::Members, *};

#[tokio::test]
async fn an_export_has_the_part_of_each_feature_whole() {
    let members = Members::new("export").await;
    let ada = members.account("ada", Role::Creator).await;
    let session = members.session(ada, Role::Creator).await.access.0;
    let channel = json!({ "name": "show", "title": "A show" });
    let (_, channel) = members.post(&session, "/api/v1/channels", channel).await;
    let key = json!({ "name": "studio" });
    let (_, key) = members.post(&session, "/api/v1/channels/show/stream-keys", key).await;
    // More than two portions of a list.
    let channel = channel["id"].as_str().expect("an id").parse().expect("an id");
    for number in 0..201 {
        let details = json!({ "title": format!("Video {number}"), "description": "", "tags": [],
            "category": null, "language": null, "visibility": "public", "chapters": [] });
        let details = serde_json::from_value(details).expect("details");
        let announce = Announce { channel, details, password: None };
        members.platform.send(Actor::System, announce).await.expect("room");
    }
    let (status, _, followed) =
        members.send(&session, "PUT", "/api/v1/channels/show/follow", json!({}), &[]).await;
    assert_eq!(status, 200, "{followed}");
    let hook = json!({ "url": "https://hooks.example.org/in" });
    let (status, hook) = members.post(&session, "/api/v1/webhooks", hook).await;
    assert_eq!(status, 201, "{hook}");
    let request = Request::put("/api/v1/accounts/me/avatar")
        .header(header::AUTHORIZATION, format!("Bearer {session}"))
        .body(Body::from("picture"))
        .expect("a request");
    assert_eq!(ask(members.router.clone(), request).await.0, 200);

    let (status, export) = members.get(&session, "/api/v1/accounts/me/export").await;
    assert_eq!(status, 200);
    let members_of = export.as_object().expect("an object").keys().map(String::as_str);
    let declared = features::ALL.iter().filter_map(|feature| feature.export.member());
    assert_eq!(members_of.collect::<BTreeSet<_>>(), declared.collect());
    assert_eq!(export["account"]["email"], "ada@example.org");
    let videos = export["videos"].as_array().expect("a list");
    let ids = videos.iter().map(|video| video["id"].as_str().expect("an id"));
    assert_eq!((videos.len(), ids.collect::<BTreeSet<_>>().len()), (201, 201));
    assert_eq!(export["stream_keys"][0]["name"], "studio");
    assert_eq!(export["follows"][0]["channel"], channel.to_string());
    assert_eq!(export["webhooks"][0]["url"], "https://hooks.example.org/in");
    assert_eq!(export["pictures"][0]["use"], "avatar");
    assert_eq!(export["second_factor"], Value::Null);
    assert_eq!((&export["identities"], &export["reactions"]), (&json!([]), &json!([])));
    let text = export.to_string();
    let secrets = [&key["key"], &hook["secret"]].map(|secret| secret.as_str().expect("a secret"));
    for secret in secrets.into_iter().chain(["argon2", "digest"]) {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn nothing_of_another_person_is_in_an_export() {
    let members = Members::new("export-other").await;
    let eve = members.account("eve", Role::Creator).await;
    let other = members.session(eve, Role::Creator).await.access.0;
    members.post(&other, "/api/v1/channels", json!({ "name": "eves" })).await;
    members.post(&other, "/api/v1/webhooks", json!({ "url": "https://eve.example/" })).await;
    members.send(&other, "PUT", "/api/v1/channels/eves/follow", json!({}), &[]).await;
    let ada = members.account("ada", Role::Administrator).await;
    let session = members.session(ada, Role::Administrator).await.access.0;
    let (_, export) = members.get(&session, "/api/v1/accounts/me/export").await;
    assert!(!export.to_string().contains("eve"), "{export}");
}

#[tokio::test]
async fn null_is_refused_for_a_property_that_cannot_be_removed() {
    let members = Members::new("null").await;
    let ada = members.account("ada", Role::Creator).await;
    let session = members.session(ada, Role::Creator).await.access.0;
    members.post(&session, "/api/v1/channels", json!({ "name": "show" })).await;
    let (_, video) =
        members.post(&session, "/api/v1/channels/show/videos", json!({ "title": "A title" })).await;
    let video = format!("/api/v1/videos/{}", video["id"].as_str().expect("an id"));
    let (_, hook) = members
        .post(&session, "/api/v1/webhooks", json!({ "url": "https://hooks.example.org/" }))
        .await;
    let hook = format!("/api/v1/webhooks/{}", hook["id"].as_str().expect("an id"));
    for (path, member, expected) in [
        ("/api/v1/accounts/me", "name", 422),
        ("/api/v1/accounts/me", "about", 422),
        ("/api/v1/channels/show", "title", 422),
        ("/api/v1/channels/show/settings", "recording", 422),
        ("/api/v1/channels/show/settings", "category", 200),
        (&video, "title", 422),
        (&video, "tags", 422),
        (&video, "category", 200),
        (&hook, "url", 422),
    ] {
        let patch = json!({ member: null });
        let (status, _, answer) = members.send(&session, "PATCH", path, patch, &[]).await;
        assert_eq!(status, expected, "{path} {member}: {answer}");
    }
}

#[tokio::test]
async fn a_token_that_is_longer_than_any_is_refused_in_both_forms() {
    let members = Members::new("long-token").await;
    let ada = members.account("ada", Role::Viewer).await;
    let session = members.session(ada, Role::Viewer).await.access.0;
    for (length, expected) in [(1_024, 200), (1_025, 422)] {
        let token = "x".repeat(length);
        let (status, answer) =
            members.post(&session, "/api/v1/auth/verify", json!({ "token": token })).await;
        assert_eq!(status, expected, "{answer}");
        let request = Request::post("/api/v1/auth/verify")
            .header(header::AUTHORIZATION, format!("Bearer {session}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(format!("token={token}")))
            .expect("a request");
        assert_eq!(ask(members.router.clone(), request).await.0, expected);
    }
}

#[tokio::test]
async fn a_key_follows_reacts_and_makes_webhooks_with_the_scope_for_it_alone() {
    let members = Members::new("scopes").await;
    let ada = members.account("ada", Role::Creator).await;
    let session = members.session(ada, Role::Creator).await.access.0;
    members.post(&session, "/api/v1/channels", json!({ "name": "show" })).await;
    let hook = json!({ "url": "https://hooks.example.org/" });
    for scope in ["read", "channels", "follows", "reactions", "webhooks"] {
        let new = json!({ "name": scope, "scopes": ["read", scope] });
        let (_, key) = members.post(&session, "/api/v1/api-keys", new).await;
        let key = key["key"].as_str().expect("a secret");
        let path = "/api/v1/channels/show/follow";
        let (status, _, _) = members.send(key, "PUT", path, json!({}), &[]).await;
        assert_eq!(status, if scope == "follows" { 200 } else { 403 }, "{scope}");
        let (status, _) = members.post(key, "/api/v1/webhooks", hook.clone()).await;
        assert_eq!(status, if scope == "webhooks" { 201 } else { 403 }, "{scope}");
        assert_eq!(members.get(key, "/api/v1/webhooks").await.0, 200, "{scope}");
        let path = format!("/api/v1/videos/{}/reaction", uuid::Uuid::from_u128(1));
        let like = json!({ "reaction": "like" });
        let (status, _, _) = members.send(key, "PUT", &path, like, &[]).await;
        assert_eq!(status, if scope == "reactions" { 404 } else { 403 }, "{scope}");
    }
}
