//! Channels and stream keys through the routes.

use control_domain::{Actor, Role, features::channels};
use serde_json::json;

use super::{
    site::{Site, id},
    *,
};

#[tokio::test]
async fn a_creator_makes_shows_edits_and_deletes_a_channel() {
    let site = Site::new("life").await;
    let ada = site.account("ada", Role::Creator).await;
    let new = json!({ "name": "Ada_live", "title": "Ada's channel" });
    let (status, headers, made) = site.send(ada, Method::POST, "/api/v1/channels", new, &[]).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let path = headers[header::LOCATION].to_str().expect("text").to_owned();
    assert_eq!(path, format!("/api/v1/channels/{}", made["id"].as_str().expect("an id")));
    let sequence = headers["sf-sequence"].to_str().expect("text").to_owned();
    assert_eq!((&made["owner"], &made["visibility"]), (&json!(id(ada)), &json!("public")));

    // By its name in any case, and after the write that is named.
    let by_name = "/api/v1/channels/ada_LIVE";
    let fields = [("sf-sequence", sequence.as_str())];
    let (status, headers, shown) =
        site.send(Actor::Anonymous, Method::GET, by_name, Value::Null, &fields).await;
    assert_eq!((status, &shown), (StatusCode::OK, &made));
    let tag = headers[header::ETAG].to_str().expect("text").to_owned();

    let edit = json!({ "description": "Every day at nine", "visibility": "unlisted" });
    let fields = [("if-match", tag.as_str())];
    let (status, headers, edited) =
        site.send(ada, Method::PATCH, &path, edit.clone(), &fields).await;
    assert_eq!(status, StatusCode::OK, "{edited}");
    assert_eq!(edited["title"], "Ada's channel");
    assert_eq!(edited["description"], "Every day at nine");
    assert_ne!(headers[header::ETAG], tag.as_str());
    // The channel is no longer as it was read.
    let other = json!({ "title": "Another" });
    let (status, _, problem) = site.send(ada, Method::PATCH, &path, other, &fields).await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED, "{problem}");
    let (_, listed) = site.get(Actor::Anonymous, "/api/v1/channels").await;
    assert_eq!(listed, json!({ "channels": [], "next": null }), "an unlisted channel is listed");

    let (status, ..) = site.send(ada, Method::DELETE, &path, Value::Null, &fields).await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED);
    let (status, ..) = site.send(ada, Method::DELETE, &path, Value::Null, &[]).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(site.get(ada, &path).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn nobody_acts_on_the_channel_of_another_and_a_private_one_is_not_there() {
    let site = Site::new("foreign").await;
    let ada = site.account("ada", Role::Creator).await;
    let new = json!({ "name": "secret", "visibility": "private" });
    let (status, _) = site.post(ada, "/api/v1/channels", new).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, _) = site.post(ada, "/api/v1/channels", json!({ "name": "open" })).await;
    assert_eq!(status, StatusCode::CREATED);
    let eve = site.account("eve", Role::Creator).await;
    let moderator = site.account("mod", Role::Moderator).await;
    let methods = [
        (Method::GET, "", json!(null)),
        (Method::PATCH, "", json!({ "title": "Mine" })),
        (Method::DELETE, "", json!(null)),
        (Method::GET, "/stream-keys", json!(null)),
        (Method::POST, "/stream-keys", json!({ "name": "mine" })),
    ];
    for (method, under, body) in methods {
        let status = async |actor, name: &str| {
            let path = format!("/api/v1/channels/{name}{under}");
            site.send(actor, method.clone(), &path, body.clone(), &[]).await.0.as_u16()
        };
        let is_read = (&method, under) == (&Method::GET, "");
        // A private channel does not exist for others.
        assert_eq!(status(eve, "secret").await, 404, "{method} {under}");
        assert_eq!(status(Actor::Anonymous, "secret").await, 404, "{method} {under}");
        let expected = if is_read { (200, 200) } else { (403, 401) };
        let found = (status(eve, "open").await, status(Actor::Anonymous, "open").await);
        assert_eq!(found, expected, "{method} {under}");
        let expected = if is_read || method == Method::PATCH { 200 } else { 403 };
        assert_eq!(status(moderator, "secret").await, expected, "{method} {under}");
    }
    let viewer = site.account("vera", Role::Viewer).await;
    let (status, _) = site.post(viewer, "/api/v1/channels", json!({ "name": "vera" })).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    // Another account's channel is made by administrators alone.
    let new = json!({ "name": "gift", "owner": id(ada) });
    let (status, _) = site.post(eve, "/api/v1/channels", new.clone()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, made) = site.post(Actor::System, "/api/v1/channels", new).await;
    assert_eq!((status, &made["owner"]), (StatusCode::CREATED, &json!(id(ada))));
}

#[tokio::test]
async fn a_stream_key_is_shown_once_and_can_be_revoked() {
    let site = Site::new("keys").await;
    let ada = site.account("ada", Role::Creator).await;
    site.post(ada, "/api/v1/channels", json!({ "name": "ada" })).await;
    let path = "/api/v1/channels/ada/stream-keys";
    let fields = [("idempotency-key", "one")];
    let new = json!({ "name": "studio" });
    let (status, headers, added) = site.send(ada, Method::POST, path, new.clone(), &fields).await;
    assert_eq!(status, StatusCode::CREATED, "{added}");
    let key = added["key"].as_str().expect("the secret");
    assert!(key.starts_with("live_") && key.len() == 48, "{key}");
    let digest = KeyDigest::of(key).bytes();
    let right = async || {
        let query = |rows: &dyn control_domain::Rows| {
            control_domain::features::stream_keys::queries::right(rows, &digest)
        };
        site.platform.read(query).await.expect("the tables can be read")
    };
    assert_eq!(right().await.expect("the key counts").1.name, "ada");

    let (_, listed) = site.get(ada, path).await;
    assert_eq!(listed["stream_keys"].as_array().expect("a list").len(), 1);
    assert!(!listed.to_string().contains(key));
    let (status, problem) = site.post(ada, path, new).await;
    assert_eq!((status, &problem["rule"]), (StatusCode::CONFLICT, &json!("name_taken")));

    // It belongs to its channel's address alone.
    site.post(ada, "/api/v1/channels", json!({ "name": "other" })).await;
    let location = headers[header::LOCATION].to_str().expect("text").to_owned();
    let elsewhere = format!("/api/v1/channels/other/stream-keys/{}", added["id"].as_str().unwrap());
    let remove =
        async |path: &str| site.send(ada, Method::DELETE, path, Value::Null, &[]).await.0.as_u16();
    assert_eq!(remove(&elsewhere).await, 404);
    assert_eq!(remove(&location).await, 204);
    assert_eq!(remove(&location).await, 404);
    assert!(right().await.is_none());
}

#[tokio::test]
async fn a_list_of_channels_has_each_one_once_over_all_pages() {
    let site = Site::new("pages").await;
    let ada = site.account("ada", Role::Creator).await;
    for n in 0..7 {
        let visibility = if n % 2 == 0 { "public" } else { "private" };
        let new = json!({ "name": format!("c{n}"), "visibility": visibility });
        assert_eq!(site.post(ada, "/api/v1/channels", new).await.0, StatusCode::CREATED);
    }
    for (actor, expected) in
        [(ada, vec![0, 1, 2, 3, 4, 5, 6]), (Actor::Anonymous, vec![0, 2, 4, 6])]
    {
        let (mut names, mut path) = (Vec::new(), "/api/v1/channels?limit=2".to_owned());
        loop {
            let (status, page) = site.get(actor, &path).await;
            assert_eq!(status, StatusCode::OK, "{page}");
            let entries = page["channels"].as_array().expect("a list");
            names.extend(entries.iter().map(|entry| entry["name"].clone()));
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/api/v1/channels?limit=2&cursor={next}");
        }
        let expected: Vec<_> = expected.iter().map(|n| json!(format!("c{n}"))).collect();
        assert_eq!(names, expected);
    }
}

#[tokio::test]
async fn a_token_that_is_not_valid_is_refused_and_the_administrators_is_the_operator() {
    let site = Site::new("token").await;
    let ada = site.account("ada", Role::Creator).await;
    let router = || {
        Api::new(
            hub(),
            Arc::new(SomeViewers),
            Arc::new(SomeRenditions),
            Administrator::new(Some(KeyDigest::of(TOKEN))),
        )
        .with_platform(site.platform.clone())
        .router()
    };
    let new = json!({ "name": "of-ada", "owner": id(ada) }).to_string();
    for (token, expected) in [(None, 401), (Some("another"), 401), (Some(TOKEN), 201)] {
        let mut request =
            Request::post("/api/v1/channels").header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Body::from(new.clone())).expect("a request");
        let (status, headers, body) = ask(router(), request).await;
        assert_eq!(status.as_u16(), expected, "{token:?} {body:?}");
        guard::assert_guarded(&headers);
    }
    let channel = site
        .platform
        .read(|rows| channels::queries::by_name(rows, &"of-ada".parse().expect("a name")));
    assert!(channel.await.expect("the tables can be read").is_some());
    // The description is that of the routes.
    let request = Request::get("/api/v1/openapi.json").body(Body::empty()).expect("a request");
    let (_, _, document) = ask(router(), request).await;
    let document: Value = serde_json::from_slice(&document).expect("JSON");
    let title = &document["components"]["schemas"]["NewChannel"]["properties"]["title"];
    assert_eq!(title["maxLength"], 120, "{title}");
}
