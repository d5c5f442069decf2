//! Videos through the routes.

use control_domain::{Actor, Role, features::videos, password::PasswordHash};
use serde_json::json;

use super::{description::assert_fits, members::Members, site::Site, *};
use crate::identity::password::{Comparison, Password};

#[tokio::test]
async fn a_video_is_announced_edited_published_withdrawn_and_deleted() {
    let site = Site::new("video-life").await;
    let ada = site.account("ada", Role::Creator).await;
    site.channel(ada, "ada").await;
    let new = json!({
        "title": "First light", "tags": ["Go", "GO", "rust"],
        "chapters": [{ "start_ms": 0, "title": "Start" }], "visibility": "public",
    });
    let path = "/api/v1/channels/ada/videos";
    let (status, headers, made) = site.send(ada, Method::POST, path, new, &[]).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!((&made["state"], &made["tags"]), (&json!("draft"), &json!(["Go", "rust"])));
    assert_eq!((&made["media"], &made["description"]), (&json!(null), &json!("")));
    assert_eq!(made["channel"]["name"], "ada");
    let location = headers[header::LOCATION].to_str().expect("text").to_owned();
    assert_eq!(location, format!("/api/v1/videos/{}", made["id"].as_str().expect("an id")));

    let (status, headers, shown) = site.send(ada, Method::GET, &location, Value::Null, &[]).await;
    assert_eq!((status, &shown), (StatusCode::OK, &made));
    let read = headers[header::ETAG].to_str().expect("text").to_owned();
    let fields = [("if-match", read.as_str())];
    let patch = json!({ "description": "Of the year", "language": "de", "tags": [] });
    let (status, headers, edited) = site.send(ada, Method::PATCH, &location, patch, &fields).await;
    assert_eq!(status, StatusCode::OK, "{edited}");
    assert_eq!((&edited["title"], &edited["language"]), (&json!("First light"), &json!("de")));
    let tag = headers[header::ETAG].to_str().expect("text").to_owned();
    let patch = json!({ "language": null });
    let (status, ..) = site.send(ada, Method::PATCH, &location, patch.clone(), &fields).await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED);
    let fields = [("if-match", tag.as_str())];
    let (status, _, edited) = site.send(ada, Method::PATCH, &location, patch, &fields).await;
    assert_eq!((status, &edited["language"]), (StatusCode::OK, &json!(null)), "{edited}");

    // Published as soon as it is processed.
    let publication = format!("{location}/publication");
    let put = async |body: Value| {
        let (status, _, shown) = site.send(ada, Method::PUT, &publication, body, &[]).await;
        (status.as_u16(), shown)
    };
    let (status, scheduled) = put(json!({})).await;
    assert_eq!((status, &scheduled["state"]), (200, &json!("draft")), "{scheduled}");
    assert!(scheduled["publish_at"].is_string());
    assert_eq!(site.get(Actor::Anonymous, &location).await.0, StatusCode::NOT_FOUND);
    site.process(&location).await;
    let (status, shown) = site.get(Actor::Anonymous, &location).await;
    assert_eq!((status, &shown["state"]), (StatusCode::OK, &json!("published")), "{shown}");
    let media = json!({ "duration_ms": 60_000, "width": 1920, "height": 1080 });
    assert_eq!((&shown["media"], &shown["publish_at"]), (&media, &json!(null)));
    let (status, problem) = put(json!({ "at": "2999-01-01T00:00:00Z" })).await;
    assert_eq!((status, &problem["rule"]), (409, &json!("is_published")));

    let delete =
        async |path: &str| site.send(ada, Method::DELETE, path, Value::Null, &[]).await.0.as_u16();
    assert_eq!((delete(&publication).await, delete(&publication).await), (204, 204));
    assert_eq!(site.get(Actor::Anonymous, &location).await.0, StatusCode::NOT_FOUND);
    let (status, scheduled) = put(json!({ "at": "2999-01-01T00:00:00Z" })).await;
    assert_eq!((status, &scheduled["state"]), (200, &json!("ready")));
    assert_eq!(scheduled["publish_at"], "2999-01-01T00:00:00.000Z");
    assert_eq!((delete(&location).await, delete(&location).await), (204, 404));
}

#[tokio::test]
async fn a_repeated_announcement_with_its_key_makes_no_second_video() {
    let site = Site::new("video-repeated").await;
    let ada = site.account("ada", Role::Creator).await;
    site.channel(ada, "ada").await;
    let router = site.router(ada);
    let announce = async || {
        let request = Request::post("/api/v1/channels/ada/videos")
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", "one")
            .body(Body::from(json!({ "title": "Once" }).to_string()));
        let (status, _, made) = ask(router.clone(), request.expect("a request")).await;
        (status, made)
    };
    let (first, again) = (announce().await, announce().await);
    assert_eq!(first.0, StatusCode::CREATED);
    assert_eq!(first, again);
    let path = "/api/v1/channels/ada/videos?all=true";
    assert_eq!(site.list(ada, path, "videos", "title").await, ["Once"]);
}

#[tokio::test]
async fn nobody_acts_on_the_video_of_another_and_a_draft_is_not_there() {
    let site = Site::new("video-foreign").await;
    let ada = site.account("ada", Role::Creator).await;
    site.channel(ada, "ada").await;
    let draft = site.announce(ada, "ada", json!({ "title": "A draft" })).await;
    let open = json!({ "title": "In the open", "visibility": "public" });
    let open = site.publish(ada, "ada", open).await;
    let eve = site.account("eve", Role::Creator).await;
    let moderator = site.account("mod", Role::Moderator).await;
    // The method, the rest of the path, the body, and the responses for others and a moderator.
    for (method, under, body, moderated) in [
        (Method::GET, "", json!(null), 200),
        (Method::PATCH, "", json!({ "title": "Mine now" }), 200),
        (Method::PUT, "/publication", json!({}), 403),
        (Method::DELETE, "/publication", json!(null), 204),
        (Method::DELETE, "", json!(null), 204),
    ] {
        let status = async |actor, path: &str| {
            let path = format!("{path}{under}");
            site.send(actor, method.clone(), &path, body.clone(), &[]).await.0.as_u16()
        };
        assert_eq!(status(eve, &draft).await, 404, "{method} {under}");
        assert_eq!(status(Actor::Anonymous, &draft).await, 404, "{method} {under}");
        let expected = if method == Method::GET { (200, 200) } else { (403, 401) };
        let found = (status(eve, &open).await, status(Actor::Anonymous, &open).await);
        assert_eq!(found, expected, "{method} {under}");
        assert_eq!(status(moderator, &draft).await, moderated, "{method} {under}");
    }
    let path = "/api/v1/channels/ada/videos";
    let new = json!({ "title": "Smuggled" });
    for (actor, expected) in [(eve, 403), (Actor::Anonymous, 401), (moderator, 403)] {
        assert_eq!(site.post(actor, path, new.clone()).await.0.as_u16(), expected);
    }
    assert_eq!(site.get(ada, "/api/v1/videos/none").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn values_out_of_their_range_are_refused_with_the_rule() {
    let site = Site::new("video-ranges").await;
    let ada = site.account("ada", Role::Creator).await;
    site.channel(ada, "ada").await;
    let chapter = |start_ms: u64| json!({ "start_ms": start_ms, "title": "A chapter" });
    for (new, expected) in [
        (json!({ "title": "ab" }), 422),
        (json!({ "title": "x".repeat(121) }), 422),
        (json!({ "tags": ["aa"] }), 422),
        (json!({ "title": "Six tags", "tags": ["aa", "bb", "cc", "dd", "ee", "ff"] }), 422),
        (json!({ "title": "Late", "chapters": [chapter(5)] }), 422),
        (json!({ "title": "Order", "chapters": [chapter(0), chapter(0)] }), 422),
        (json!({ "title": "Unknown", "state": "published" }), 422),
        (json!({ "title": "Locked", "visibility": "password" }), 409),
        (json!({ "title": "Sorted", "category": "00000000-0000-7000-8000-000000000000" }), 404),
    ] {
        let (status, problem) = site.post(ada, "/api/v1/channels/ada/videos", new.clone()).await;
        assert_eq!(status.as_u16(), expected, "{new} {problem}");
    }
    let path = "/api/v1/channels/ada/videos?all=true";
    assert_eq!(site.list(ada, path, "videos", "title").await, [] as [Value; 0]);
}

#[tokio::test]
async fn the_password_of_a_video_is_kept_as_a_hash_and_shown_to_nobody() {
    let members = Members::new("video-password").await;
    let ada = members.account("ada", Role::Creator).await;
    let eve = members.account("eve", Role::Creator).await;
    let token = async |account| members.session(account, Role::Creator).await.access.0;
    let (ada, eve) = (token(ada).await, token(eve).await);
    let (ada, eve) = (ada.as_str(), eve.as_str());
    let (status, _) = members.post(ada, "/api/v1/channels", json!({ "name": "ada" })).await;
    assert_eq!(status, 201);
    let list = "/api/v1/channels/ada/videos";
    let new = |password: &str| {
        let visibility = "password";
        json!({ "title": "Locked", "visibility": visibility, "password": password })
    };
    assert_eq!(members.post(ada, list, new("short")).await.0, 422);
    assert_eq!(members.post(eve, list, new("a long secret")).await.0, 403);
    let (status, made) = members.post(ada, list, new("a long secret")).await;
    assert_eq!((status, &made["visibility"]), (201, &json!("password")), "{made}");
    assert!(!made.to_string().contains("secret") && !made.to_string().contains("argon2"));
    let id = made["id"].as_str().expect("an id").parse().expect("an id");
    let compare = async |text: &str| {
        let store = members.platform.store().await.expect("it is open");
        let entry = store.read(|rows| videos::queries::video(rows, id));
        let video = entry.expect("the tables can be read").expect("it exists").video;
        let hash = videos::queries::password(store.vault(), &video).expect("its key is there");
        let hash = hash.map(|PasswordHash(hash)| hash);
        let presented = Password::presented(text).expect("it is short");
        members.identity.hasher().compare(presented, hash).await.expect("room")
    };
    assert_eq!(compare("a long secret").await, Comparison::Same);
    let path = format!("/api/v1/videos/{id}");
    let patch =
        async |token: &str, patch: Value| members.send(token, "PATCH", &path, patch, &[]).await.0;
    let other = json!({ "password": "another secret" });
    assert_eq!(patch(eve, other.clone()).await, 404);
    assert_eq!(patch(ada, other).await, 200);
    assert_eq!(compare("a long secret").await, Comparison::Different);
    assert_eq!(compare("another secret").await, Comparison::Same);
    assert_eq!(
        patch(ada, json!({ "visibility": "public", "password": "third secret" })).await,
        409
    );
    assert_eq!(patch(ada, json!({ "visibility": "public" })).await, 200);
    assert_eq!(compare("another secret").await, Comparison::Different, "it is forgotten");
}

#[tokio::test]
async fn lists_have_each_video_once_for_those_that_may_find_it() {
    let site = Site::new("video-lists").await;
    let ada = site.account("ada", Role::Creator).await;
    let eve = site.account("eve", Role::Viewer).await;
    site.channel(ada, "ada").await;
    let (status, category) =
        site.post(Actor::System, "/api/v1/categories", json!({ "name": "Music" })).await;
    assert_eq!(status, StatusCode::CREATED);
    let category = category["id"].as_str().expect("an id").to_owned();
    for n in 0..6 {
        let visibility = ["public", "private", "internal"][n % 3];
        let mut new = json!({ "title": format!("Video {n}"), "visibility": visibility });
        if n < 3 {
            new["tags"] = json!(["Song"]);
            new["category"] = json!(category);
        }
        site.publish(ada, "ada", new).await;
    }
    site.announce(ada, "ada", json!({ "title": "Video 6" })).await;
    let titles = |numbers: &[usize]| -> Vec<Value> {
        numbers.iter().map(|n| json!(format!("Video {n}"))).collect()
    };
    let anonymous = Actor::Anonymous;
    let all = "/api/v1/videos?limit=2";
    let of_ada = "/api/v1/channels/ada/videos?limit=2";
    let drafts = "/api/v1/channels/ada/videos?limit=2&all=true";
    let by_category = format!("/api/v1/videos?limit=1&category={category}");
    let by_tag = "/api/v1/videos?limit=1&tag=SONG";
    for (actor, path, expected) in [
        (anonymous, all, titles(&[3, 0])),
        (eve, all, titles(&[5, 3, 2, 0])),
        // Lists of publications have listed videos alone.
        (ada, of_ada, titles(&[5, 3, 2, 0])),
        (anonymous, of_ada, titles(&[3, 0])),
        (ada, drafts, titles(&[6, 5, 4, 3, 2, 1, 0])),
        (anonymous, drafts, titles(&[3, 0])),
        (anonymous, &by_category, titles(&[0])),
        (eve, &by_category, titles(&[2, 0])),
        (eve, by_tag, titles(&[2, 0])),
    ] {
        assert_eq!(site.list(actor, path, "videos", "title").await, expected, "{path}");
    }
    let both = format!("{by_category}&tag=song");
    for (path, expected) in [
        (both.as_str(), 400),
        ("/api/v1/videos?tag=x", 400),
        ("/api/v1/videos?category=music", 400),
        ("/api/v1/videos?colour=red", 400),
        ("/api/v1/videos?category=00000000-0000-7000-8000-000000000000", 404),
        ("/api/v1/channels/nobody/videos", 404),
    ] {
        assert_eq!(site.get(anonymous, path).await.0.as_u16(), expected, "{path}");
    }
    // A cursor belongs to its list.
    let (_, page) = site.get(ada, drafts).await;
    let cursor = page["next"].as_str().expect("more follow");
    let (status, _) = site.get(ada, &format!("{of_ada}&cursor={cursor}")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_video_has_the_members_that_are_described_with_the_domains_limits() {
    let site = Site::new("video-described").await;
    let ada = site.account("ada", Role::Creator).await;
    site.channel(ada, "ada").await;
    let path = site.publish(ada, "ada", json!({ "title": "Described", "tags": ["tag"] })).await;
    let document = site.document().await;
    let schema = |name: &str| &document["components"]["schemas"][name];
    let (_, shown) = site.get(ada, &path).await;
    let members = |value: &Value| -> Vec<String> {
        value.as_object().expect("an object").keys().cloned().collect()
    };
    assert_eq!(members(&shown), members(&schema("Video")["properties"]));
    assert_fits(&document, &schema("Video")["properties"]["channel"], &shown["channel"]);
    let new = &schema("NewVideo")["properties"];
    assert_eq!((&new["title"]["minLength"], &new["title"]["maxLength"]), (&json!(3), &json!(120)));
    assert_eq!((&new["tags"]["maxItems"], &new["chapters"]["maxItems"]), (&json!(5), &json!(100)));
    assert_eq!(schema("NewVideo")["required"], json!(["title"]));
    let settings = &schema("ChannelSettingsPatch")["properties"];
    assert_eq!(settings["reconnect_s"]["maximum"], json!(3600), "{settings}");
    assert!(settings["ladder"].to_string().contains("multipleOf"), "{settings}");
    let parameters = document["paths"]["/api/v1/videos"]["get"]["parameters"].to_string();
    for name in ["\"limit\"", "\"cursor\"", "\"category\"", "\"tag\""] {
        assert!(parameters.contains(name), "{parameters}");
    }
}
