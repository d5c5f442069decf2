//! Follows through the routes.

use control_domain::{Actor, Role, Scope, id::ApiKeyId};
use serde_json::json;

use super::{
    site::{Site, id},
    *,
};

const OWN: &str = "/api/v1/accounts/me/follows";

#[tokio::test]
async fn a_person_follows_channels_and_gives_them_up() {
    let site = Site::new("follows").await;
    let ada = site.account("ada", Role::Creator).await;
    let eve = site.account("eve", Role::Viewer).await;
    for name in ["one", "two", "three"] {
        site.channel(ada, name).await;
    }
    let follow = |name: &str| format!("/api/v1/channels/{name}/follow");
    let put = async |name: &str, body: Value| {
        let (status, headers, shown) = site.send(eve, Method::PUT, &follow(name), body, &[]).await;
        assert_eq!(status, StatusCode::OK, "{shown}");
        assert!(headers.contains_key("sf-sequence"));
        shown
    };
    assert_eq!(site.get(eve, &follow("one")).await.0, StatusCode::NOT_FOUND);
    let (_, headers, before) =
        site.send(ada, Method::GET, "/api/v1/channels/one", Value::Null, &[]).await;
    let tag = headers[header::ETAG].to_str().expect("text").to_owned();
    assert_eq!(before["followers"], 0);

    let first = put("one", json!({})).await;
    assert_eq!((&first["name"], &first["notices"]), (&json!("one"), &json!("some")));
    let again = put("one", json!({ "notices": "all" })).await;
    assert_eq!((&again["notices"], &again["since"]), (&json!("all"), &first["since"]));
    assert_eq!(site.get(eve, &follow("one")).await.1, again);
    assert_eq!(site.get(ada, "/api/v1/channels/one").await.1["followers"], 1);
    // A reader learns of the count; an edit does not depend on it.
    let fields = [("if-none-match", tag.as_str())];
    let (status, ..) =
        site.send(ada, Method::GET, "/api/v1/channels/one", Value::Null, &fields).await;
    assert_eq!(status, StatusCode::OK);
    let fields = [("if-match", tag.as_str())];
    let edit = json!({ "title": "The first" });
    let (status, _, edited) =
        site.send(ada, Method::PATCH, "/api/v1/channels/one", edit, &fields).await;
    assert_eq!((status, &edited["followers"]), (StatusCode::OK, &json!(1)), "{edited}");

    put("two", json!({})).await;
    put("three", json!({})).await;
    let names = async |actor| site.list(actor, &format!("{OWN}?limit=2"), "follows", "name").await;
    assert_eq!(names(eve).await, ["one", "two", "three"]);
    assert_eq!(names(ada).await, [] as [Value; 0]);

    // A channel that has become private is left out, and can be given up by its id.
    let private = json!({ "visibility": "private" });
    let (status, _, hidden) =
        site.send(ada, Method::PATCH, "/api/v1/channels/two", private, &[]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(names(eve).await, ["one", "three"]);
    let delete = async |name: &str| {
        site.send(eve, Method::DELETE, &follow(name), Value::Null, &[]).await.0.as_u16()
    };
    assert_eq!(delete("two").await, 404);
    assert_eq!(delete(hidden["id"].as_str().expect("an id")).await, 204);
    assert_eq!((delete("one").await, delete("one").await), (204, 204));
    assert_eq!(names(eve).await, ["three"]);
    assert_eq!(site.get(ada, "/api/v1/channels/two").await.1["followers"], 0);
    assert_eq!(site.get(ada, "/api/v1/channels/one").await.1["followers"], 0);
}

#[tokio::test]
async fn only_persons_follow_channels_that_they_may_know() {
    let site = Site::new("follows-refused").await;
    let ada = site.account("ada", Role::Creator).await;
    let eve = site.account("eve", Role::Viewer).await;
    site.channel(ada, "open").await;
    let secret = json!({ "name": "secret", "visibility": "private" });
    assert_eq!(site.post(ada, "/api/v1/channels", secret).await.0, StatusCode::CREATED);
    for (actor, name, body, expected) in [
        (Actor::Anonymous, "open", json!({}), 401),
        (Actor::System, "open", json!({}), 401),
        (eve, "secret", json!({}), 404),
        (eve, "nobody", json!({}), 404),
        (eve, "open", json!({ "notices": "loud" }), 422),
        (eve, "open", json!({ "notices": "none" }), 200),
    ] {
        let path = format!("/api/v1/channels/{name}/follow");
        let (status, ..) = site.send(actor, Method::PUT, &path, body, &[]).await;
        assert_eq!(status.as_u16(), expected, "{actor:?} {name}");
    }
    assert_eq!(site.get(Actor::Anonymous, OWN).await.0, StatusCode::UNAUTHORIZED);
    let open = "/api/v1/channels/open/follow";
    assert_eq!(site.get(Actor::Anonymous, open).await.0, StatusCode::UNAUTHORIZED);
    let (status, ..) = site.send(Actor::Anonymous, Method::DELETE, open, Value::Null, &[]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_api_key_needs_the_scope_to_read_and_to_change_follows_and_settings() {
    let site = Site::new("follows-keys").await;
    let ada = site.account("ada", Role::Creator).await;
    site.channel(ada, "ada").await;
    let key = |scopes: &[Scope]| {
        let (key, id) = (ApiKeyId::new(uuid::Uuid::nil()), id(ada));
        Actor::Key { key, id, role: Role::Creator, scopes: scopes.iter().copied().collect() }
    };
    let (read, channels) = (key(&[Scope::Read]), key(&[Scope::Channels]));
    let all = key(&Scope::ALL);
    let (follow, settings) = ("/api/v1/channels/ada/follow", "/api/v1/channels/ada/settings");
    let (notices, recording) = (json!({ "notices": "all" }), json!({ "recording": true }));
    for (method, path, body, expected) in [
        (Method::PUT, follow, &notices, [403, 403, 200]),
        (Method::GET, follow, &json!(null), [200, 403, 200]),
        (Method::GET, OWN, &json!(null), [200, 403, 200]),
        (Method::GET, settings, &json!(null), [200, 403, 200]),
        (Method::PATCH, settings, &recording, [403, 200, 200]),
        (Method::DELETE, follow, &json!(null), [403, 403, 204]),
    ] {
        // The key with all scopes is first, so that there is a follow to read.
        for (actor, expected) in [(all, expected[2]), (read, expected[0]), (channels, expected[1])]
        {
            let (status, _, problem) =
                site.send(actor, method.clone(), path, body.clone(), &[]).await;
            assert_eq!(status.as_u16(), expected, "{actor:?} {method} {path} {problem}");
        }
    }
}
