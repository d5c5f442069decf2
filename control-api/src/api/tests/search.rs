//! The search through the routes.

use control_domain::{Actor, Role, features::videos::commands::Unpublish, id::VideoId};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{description::assert_fits, site::Site, *};

/// A site whose search runs.
struct Found {
    site: Site,
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
}

impl Found {
    async fn new(name: &str) -> Self {
        let site = Site::new(name).await;
        let stop = CancellationToken::new();
        let serving = site.search.clone().serve(site.folder.clone(), stop.clone());
        Self { site, stop, running: Some(tokio::spawn(serving)) }
    }

    /// A response of a request that waits for everything that has happened.
    async fn ask(&self, actor: Actor, path: &str) -> (StatusCode, Value) {
        let sequence = self.site.platform.store().await.expect("it is open").sequence();
        let sequence = sequence.to_string();
        let fields = [("sf-sequence", sequence.as_str())];
        let begun = Instant::now();
        loop {
            let sent = self.site.send(actor, Method::GET, path, Value::Null, &fields).await;
            if sent.0 != StatusCode::SERVICE_UNAVAILABLE {
                return (sent.0, sent.2);
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{path} {}", sent.2);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The titles of the hits of one page.
    async fn titles(&self, actor: Actor, query: &str) -> Vec<String> {
        let (status, page) = self.ask(actor, &format!("/api/v1/search?{query}")).await;
        assert_eq!(status, StatusCode::OK, "{query} {page}");
        page["hits"].as_array().expect("a list").iter().map(title).collect()
    }

    async fn stop(mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            running.await.expect("no panic");
        }
    }
}

fn title(hit: &Value) -> String {
    let kind = hit["kind"].as_str().expect("a kind");
    let other = if kind == "video" { "channel" } else { "video" };
    assert_eq!(hit[other], Value::Null);
    hit[kind]["title"].as_str().expect("a title").to_owned()
}

/// A page without the videos and channels in it, whose schemas are those of other routes.
fn without_things(mut page: Value) -> Value {
    for hit in page["hits"].as_array_mut().expect("a list") {
        hit["video"] = Value::Null;
        hit["channel"] = Value::Null;
    }
    page
}

fn video(title: &str, visibility: &str) -> Value {
    json!({ "title": title, "visibility": visibility })
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_finds_what_the_lists_show_them_and_no_more() {
    let found = Found::new("search-visibility").await;
    let site = &found.site;
    let ada = site.account("ada", Role::Creator).await;
    let eve = site.account("eve", Role::Creator).await;
    let moderator = site.account("mod", Role::Moderator).await;
    site.channel(ada, "ada").await;
    for visibility in ["public", "unlisted", "private", "members", "internal"] {
        site.publish(ada, "ada", video(&format!("Lighthouse {visibility}"), visibility)).await;
    }
    site.announce(ada, "ada", video("Lighthouse draft", "public")).await;
    let hidden =
        json!({ "name": "hidden", "title": "Lighthouse keepers", "visibility": "private" });
    assert_eq!(site.post(ada, "/api/v1/channels", hidden).await.0, StatusCode::CREATED);
    site.publish(ada, "hidden", video("Lighthouse behind", "public")).await;
    let unlisted = json!({ "name": "unlisted", "title": "Beacons", "visibility": "unlisted" });
    assert_eq!(site.post(ada, "/api/v1/channels", unlisted).await.0, StatusCode::CREATED);
    site.publish(ada, "unlisted", video("Lighthouse beside", "public")).await;

    let titles = async |actor, query: &str| {
        let mut titles = found.titles(actor, query).await;
        titles.sort();
        titles.iter().map(|title| title.replace("Lighthouse ", "")).collect::<Vec<_>>()
    };
    assert_eq!(titles(Actor::Anonymous, "q=lighthouse").await, ["public"]);
    assert_eq!(titles(eve, "q=lighthouse").await, ["internal", "public"]);
    let all = [
        "behind", "beside", "draft", "internal", "keepers", "members", "private", "public",
        "unlisted",
    ];
    assert_eq!(titles(ada, "q=lighthouse").await, all);
    assert_eq!(titles(moderator, "q=lighthouse").await, all);
    // Within a channel its own list counts.
    assert_eq!(titles(Actor::Anonymous, "q=lighthouse&channel=unlisted").await, ["beside"]);
    let (status, _) = found.ask(eve, "/api/v1/search?q=lighthouse&channel=hidden").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(titles(ada, "q=lighthouse&channel=hidden").await, ["behind", "keepers"]);
    let (_, completed) = found.ask(Actor::Anonymous, "/api/v1/search/completion?q=ligh").await;
    assert_eq!(completed["suggestions"].as_array().map(Vec::len), Some(1), "{completed}");
    found.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_that_the_tables_refuse_is_not_shown_although_the_index_has_it() {
    let mut found = Found::new("search-stale").await;
    let ada = found.site.account("ada", Role::Creator).await;
    found.site.channel(ada, "ada").await;
    let path = found.site.publish(ada, "ada", video("Volcano", "public")).await;
    found.site.publish(ada, "ada", video("Volcano again", "public")).await;
    assert_eq!(found.titles(Actor::Anonymous, "q=volcano").await.len(), 2);
    // The index is not kept any more, but still read.
    let running = found.running.take().expect("it runs");
    running.abort();
    let _ = running.await;
    let id: VideoId = path.rsplit('/').next().expect("an id").parse().expect("an id");
    let command = Unpublish { video: id };
    found.site.platform.send(Actor::System, command).await.expect("the operator may");
    let (status, page) = found.site.get(Actor::Anonymous, "/api/v1/search?q=volcano").await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let titles = page["hits"].as_array().expect("a list").iter().map(title);
    assert_eq!(titles.collect::<Vec<_>>(), ["Volcano again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_narrow_a_search_down() {
    let found = Found::new("search-filters").await;
    let site = &found.site;
    let ada = site.account("ada", Role::Creator).await;
    let admin = site.account("adm", Role::Administrator).await;
    site.channel(ada, "harbour").await;
    site.channel(ada, "other").await;
    let (status, category) =
        site.post(admin, "/api/v1/categories", json!({ "name": "Seafaring" })).await;
    assert_eq!(status, StatusCode::CREATED, "{category}");
    let category = category["id"].as_str().expect("an id");
    let boats = [
        json!({ "title": "Harbour one", "visibility": "public", "tags": ["boats"],
                "category": category, "language": "pt-BR" }),
        json!({ "title": "Harbour two", "visibility": "public", "tags": ["ships"],
                "language": "pt" }),
    ];
    for new in boats {
        site.publish(ada, "harbour", new).await;
    }
    site.publish(ada, "other", video("Harbour three", "public")).await;
    let titles = async |query: &str| {
        let mut titles = found.titles(Actor::Anonymous, &format!("q=harbour{query}")).await;
        titles.sort();
        titles.iter().map(|title| title.replace("Harbour ", "")).collect::<Vec<_>>()
    };
    assert_eq!(titles("").await, ["one", "three", "two", "harbour"]);
    assert_eq!(titles("&kind=channel").await, ["harbour"]);
    assert_eq!(titles("&kind=video").await, ["one", "three", "two"]);
    assert_eq!(titles("&channel=OTHER").await, ["three"]);
    assert_eq!(titles("&channel=harbour&kind=video").await, ["one", "two"]);
    assert_eq!(titles(&format!("&category={category}")).await, ["one"]);
    assert_eq!(titles("&language=pt").await, ["one", "two"]);
    assert_eq!(titles("&language=pt-br").await, ["one"]);
    assert_eq!(titles("&tag=BOATS").await, ["one"]);
    let merge = json!({ "tag": "boats" });
    let (status, ..) =
        site.send(admin, Method::PUT, "/api/v1/tags/ships/meaning", merge, &[]).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(titles("&tag=boats").await, ["one", "two"]);
    assert_eq!(titles("&tag=boats&language=pt-BR").await, ["one"]);
    let nothing = "/api/v1/search?q=x&category=00000000-0000-0000-0000-000000000000";
    assert_eq!(found.ask(Actor::Anonymous, nothing).await.0, StatusCode::NOT_FOUND);
    found.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_and_responses_are_as_described() {
    let found = Found::new("search-pages").await;
    let site = &found.site;
    let ada = site.account("ada", Role::Creator).await;
    site.channel(ada, "ada").await;
    for n in 0..7 {
        let new = json!({ "title": format!("Meteor {n}"), "visibility": "public",
                          "description": "A <b>meteor</b> over the sea.", "tags": ["space"] });
        site.publish(ada, "ada", new).await;
    }
    found.titles(Actor::Anonymous, "q=meteor").await;
    for sort in ["relevance", "new"] {
        let path = format!("/api/v1/search?q=meteor&limit=3&sort={sort}");
        let kinds = site.list(Actor::Anonymous, &path, "hits", "video").await;
        let mut titles = kinds.iter().map(|it| it["title"].clone()).collect::<Vec<_>>();
        assert_eq!(titles.len(), 7);
        if sort == "new" {
            assert_eq!(titles[0], "Meteor 6");
        }
        titles.sort_by_key(Value::to_string);
        titles.dedup();
        assert_eq!(titles.len(), 7);
    }
    let document = site.document().await;
    let schema = |path: &str| {
        document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            .clone()
    };
    let path = "/api/v1/search?q=meteor+3&highlight=true&limit=1";
    let (_, page) = site.get(Actor::Anonymous, path).await;
    assert_fits(&document, &schema("/api/v1/search"), &without_things(page.clone()));
    let highlights = &page["hits"][0]["highlights"];
    let piece = |text: &str, is_match: bool| json!({ "text": text, "is_match": is_match });
    let title = [piece("Meteor", true), piece(" ", false), piece("3", true)];
    assert_eq!(highlights["title"], json!(title), "{page}");
    let description =
        [piece("A <b>", false), piece("meteor", true), piece("</b> over the sea.", false)];
    assert_eq!(highlights["description"], json!(description));
    let (_, channels) = site.get(Actor::Anonymous, "/api/v1/search?q=ada&kind=channel").await;
    assert_fits(&document, &schema("/api/v1/search"), &without_things(channels.clone()));
    assert_eq!(channels["hits"][0]["highlights"], Value::Null);
    let (_, completed) = site.get(Actor::Anonymous, "/api/v1/search/completion?q=spa").await;
    assert_fits(&document, &schema("/api/v1/search/completion"), &completed);
    let texts = completed["suggestions"].as_array().expect("a list").iter();
    assert!(texts.clone().any(|it| it["text"] == "space" && it["kind"] == "tag"), "{completed}");
    found.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_text_is_a_query_and_a_request_that_is_none_is_refused() {
    let found = Found::new("search-refused").await;
    found.titles(Actor::Anonymous, "q=x").await;
    let site = &found.site;
    for text in ["%22", "title%3A(", "AND", "-", "*", "%00", "a%2F%2F", "%E2%99%A5", "%C3%A9%CC%81"]
    {
        let path = format!("/api/v1/search?q={text}");
        let (status, page) = site.get(Actor::Anonymous, &path).await;
        assert_eq!((status, &page["hits"]), (StatusCode::OK, &json!([])), "{text} {page}");
        assert_eq!(page["next"], Value::Null);
    }
    let long = format!("/api/v1/search?q={}", "x".repeat(201));
    let fits = format!("/api/v1/search?q={}", "%F0%90%80%80".repeat(200));
    for (path, expected) in [
        ("/api/v1/search", 400),
        ("/api/v1/search?q=", 400),
        (&long, 400),
        (&fits, 200),
        ("/api/v1/search?q=x&kind=person", 400),
        ("/api/v1/search?q=x&sort=old", 400),
        ("/api/v1/search?q=x&language=german%20language", 400),
        ("/api/v1/search?q=x&limit=101", 400),
        ("/api/v1/search?q=x&cursor=AAAA", 400),
        ("/api/v1/search?q=x&colour=red", 400),
        ("/api/v1/search/completion", 400),
        ("/api/v1/search/completion?q=x&limit=21", 400),
        ("/api/v1/search/completion?q=x", 200),
    ] {
        assert_eq!(site.get(Actor::Anonymous, path).await.0.as_u16(), expected, "{path}");
    }
    // A cursor belongs to its query.
    let ada = site.account("ada", Role::Creator).await;
    for name in ["quay1", "quay2", "quay3"] {
        site.channel(ada, name).await;
    }
    let (_, page) = found.ask(Actor::Anonymous, "/api/v1/search?q=quay&limit=1").await;
    let next = page["next"].as_str().expect("another page");
    for (query, expected) in
        [("q=quay&limit=1", 200), ("q=two+words", 400), ("q=quay&sort=new", 400)]
    {
        let path = format!("/api/v1/search?{query}&cursor={next}");
        assert_eq!(site.get(Actor::Anonymous, &path).await.0.as_u16(), expected, "{query}");
    }
    found.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_index_the_search_alone_is_out_of_service() {
    let site = Site::new("search-without").await;
    let path = "/api/v1/search?q=x";
    let (status, headers, _) =
        site.send(Actor::Anonymous, Method::GET, path, Value::Null, &[]).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(headers.contains_key(header::RETRY_AFTER));
    assert_eq!(site.get(Actor::Anonymous, "/api/v1/videos").await.0, StatusCode::OK);
}
