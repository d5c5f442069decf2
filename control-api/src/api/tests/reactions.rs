//! Reactions through the routes.

use control_domain::{Actor, Role};
use serde_json::json;

use super::{site::Site, *};

#[tokio::test]
async fn each_person_has_one_reaction_and_the_video_has_the_counts() {
    let site = Site::new("reactions").await;
    let ada = site.account("ada", Role::Creator).await;
    let eve = site.account("eve", Role::Viewer).await;
    site.channel(ada, "ada").await;
    let new = json!({ "title": "A title", "visibility": "unlisted" });
    let video = site.publish(ada, "ada", new).await;
    let path = format!("{video}/reaction");
    let counts = async || {
        let (_, shown) = site.get(Actor::Anonymous, &video).await;
        (shown["likes"].as_u64(), shown["dislikes"].as_u64())
    };
    let put = async |actor, reaction: &str| {
        let body = json!({ "reaction": reaction });
        let (status, _, shown) = site.send(actor, Method::PUT, &path, body, &[]).await;
        assert_eq!((status, &shown["reaction"]), (StatusCode::OK, &json!(reaction)), "{shown}");
    };
    let (_, headers, _) = site.send(ada, Method::GET, &video, Value::Null, &[]).await;
    let tag = headers[header::ETAG].to_str().expect("text").to_owned();
    assert_eq!(counts().await, (Some(0), Some(0)));
    assert_eq!(site.get(eve, &path).await.0, StatusCode::NOT_FOUND);
    put(eve, "like").await;
    put(ada, "dislike").await;
    assert_eq!(counts().await, (Some(1), Some(1)));
    put(eve, "like").await;
    put(ada, "like").await;
    assert_eq!(counts().await, (Some(2), Some(0)));
    assert_eq!(site.get(eve, &path).await.1, json!({ "reaction": "like" }));

    // A reader learns of the counts; an edit does not depend on them.
    let fields = [("if-none-match", tag.as_str())];
    let (status, ..) = site.send(ada, Method::GET, &video, Value::Null, &fields).await;
    assert_eq!(status, StatusCode::OK);
    let fields = [("if-match", tag.as_str())];
    let edit = json!({ "title": "Another title" });
    let (status, _, edited) = site.send(ada, Method::PATCH, &video, edit, &fields).await;
    assert_eq!((status, &edited["likes"]), (StatusCode::OK, &json!(2)), "{edited}");

    let delete = async || site.send(eve, Method::DELETE, &path, Value::Null, &[]).await.0.as_u16();
    assert_eq!((delete().await, delete().await), (204, 204));
    assert_eq!(counts().await, (Some(1), Some(0)));
}

#[tokio::test]
async fn only_persons_react_to_published_videos_that_they_may_know() {
    let site = Site::new("reactions-refused").await;
    let ada = site.account("ada", Role::Creator).await;
    let eve = site.account("eve", Role::Viewer).await;
    site.channel(ada, "ada").await;
    let draft = site.announce(ada, "ada", json!({ "title": "A draft" })).await;
    let private = site.publish(ada, "ada", json!({ "title": "Private" })).await;
    let open = json!({ "title": "In the open", "visibility": "public" });
    let open = site.publish(ada, "ada", open).await;
    for (actor, video, reaction, expected) in [
        (Actor::Anonymous, &open, "like", 401),
        (Actor::System, &open, "like", 401),
        (eve, &draft, "like", 404),
        (eve, &private, "like", 404),
        (ada, &draft, "like", 409),
        (ada, &private, "like", 200),
        (eve, &open, "love", 422),
    ] {
        let (path, body) = (format!("{video}/reaction"), json!({ "reaction": reaction }));
        let (status, _, problem) = site.send(actor, Method::PUT, &path, body, &[]).await;
        assert_eq!(status.as_u16(), expected, "{actor:?} {video} {problem}");
    }
    for (actor, video, expected) in
        [(Actor::Anonymous, &open, 401), (eve, &private, 404), (eve, &open, 404)]
    {
        assert_eq!(site.get(actor, &format!("{video}/reaction")).await.0.as_u16(), expected);
    }
}
