//! Tags through the routes.

use control_domain::{Actor, Role};
use serde_json::json;

use super::{site::Site, *};

#[tokio::test]
async fn tags_are_completed_by_their_number_of_videos_and_merged_ones_count_together() {
    let site = Site::new("tags").await;
    let ada = site.account("ada", Role::Creator).await;
    site.channel(ada, "ada").await;
    for tags in [json!(["golang"]), json!(["Go", "golf"]), json!(["GO"]), json!(["käse"])] {
        let new = json!({ "title": "A title", "tags": tags, "visibility": "public" });
        site.publish(ada, "ada", new).await;
    }
    let hidden = json!({ "title": "Hidden", "tags": ["gold"], "visibility": "unlisted" });
    site.publish(ada, "ada", hidden).await;
    let tags = async |query: &str| {
        let (status, found) = site.get(Actor::Anonymous, &format!("/api/v1/tags{query}")).await;
        assert_eq!(status, StatusCode::OK, "{found}");
        let counts = found["tags"].as_array().expect("a list").iter();
        let count = |entry: &Value| (entry["tag"].clone(), entry["videos"].as_u64().unwrap_or(0));
        counts.map(count).collect::<Vec<_>>()
    };
    let count = |tag: &str, videos: u64| (json!(tag), videos);
    let found = tags("?beginning=GO").await;
    assert_eq!(found[0], count("Go", 2));
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(tags("?beginning=gol").await.len(), 2);
    assert_eq!(tags("?beginning=k%C3%A4").await, [count("käse", 1)]);
    assert_eq!(tags("?limit=1").await, [count("Go", 2)]);

    let admin = site.account("adm", Role::Administrator).await;
    let meaning = "/api/v1/tags/golang/meaning";
    let merge = async |actor, body: Value| {
        site.send(actor, Method::PUT, meaning, body, &[]).await.0.as_u16()
    };
    assert_eq!(merge(ada, json!({ "tag": "go" })).await, 403);
    assert_eq!(merge(Actor::Anonymous, json!({ "tag": "go" })).await, 401);
    assert_eq!(merge(admin, json!({ "tag": "GoLang" })).await, 409);
    assert_eq!(merge(admin, json!({ "tag": "go" })).await, 204);
    assert_eq!(site.get(ada, meaning).await.1, json!({ "tag": "go" }));
    assert_eq!(tags("?beginning=gola").await[0].1, 3);
    let titles = "/api/v1/videos?tag=golang";
    assert_eq!(site.list(Actor::Anonymous, titles, "videos", "title").await.len(), 3);

    let separate =
        async |actor| site.send(actor, Method::DELETE, meaning, Value::Null, &[]).await.0.as_u16();
    assert_eq!((separate(ada).await, separate(admin).await), (403, 204));
    assert_eq!(site.get(ada, meaning).await.1, json!({ "tag": "golang" }));
    assert_eq!(site.list(Actor::Anonymous, titles, "videos", "title").await.len(), 1);
}

#[tokio::test]
async fn a_completion_that_cannot_be_one_is_refused() {
    let site = Site::new("tags-refused").await;
    let long = format!("/api/v1/tags?beginning={}", "x".repeat(31));
    for (path, expected) in [
        (long.as_str(), 400),
        ("/api/v1/tags?limit=0", 400),
        ("/api/v1/tags?limit=51", 400),
        ("/api/v1/tags?colour=red", 400),
        ("/api/v1/tags/x/meaning", 404),
    ] {
        assert_eq!(site.get(Actor::Anonymous, path).await.0.as_u16(), expected, "{path}");
    }
}
