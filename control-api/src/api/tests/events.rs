//! The stream of events.

use std::pin::Pin;

use axum::body::BodyDataStream;
use control_domain::{Actor, Role};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::time::timeout;

use super::{site::Site, *};

/// A client that follows events.
struct Follower {
    body: Pin<Box<BodyDataStream>>,
    text: String,
}

impl Follower {
    async fn new(site: &Site, actor: Actor, query: &str, last: Option<&str>) -> Self {
        let mut request = Request::get(format!("/api/v1/events{query}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Body::empty()).expect("a request");
        let response = site.router(actor).oneshot(request).await.expect("a response");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        let body = Box::pin(response.into_body().into_data_stream());
        Self { body, text: String::new() }
    }

    /// The id and the type of the next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<(String, String)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let mut lines = event.lines();
                    lines.find_map(|line| line.strip_prefix(name)).map(str::to_owned)
                };
                let (id, kind) = (field("id: "), field("event: "));
                let data: Value = serde_json::from_str(&field("data: ")?).expect("JSON");
                assert_eq!((&data["specversion"], &data["type"]), (&json!("1.0"), &json!(kind)));
                self.text = rest.to_owned();
                return id.zip(kind);
            }
            let next = timeout(Duration::from_secs(60), self.body.next()).await;
            let bytes = next.expect("an event arrives")?.expect("the body is whole");
            self.text.push_str(std::str::from_utf8(&bytes).expect("text"));
        }
    }
}

#[tokio::test]
async fn events_are_sent_to_those_that_may_see_them_and_resume_behind_the_last() {
    let site = Site::new("events").await;
    let ada = site.account("ada", Role::Creator).await;
    let eve = site.account("eve", Role::Creator).await;
    let mut all = Follower::new(&site, Actor::System, "?after=0", None).await;
    let mut own = Follower::new(&site, ada, "?after=0", None).await;
    let mut others = Follower::new(&site, eve, "?after=0", None).await;
    let mut open = Follower::new(&site, Actor::Anonymous, "", None).await;
    for (name, visibility) in [("secret", "private"), ("open", "public")] {
        let new = json!({ "name": name, "visibility": visibility });
        assert_eq!(site.post(ada, "/api/v1/channels", new).await.0, StatusCode::CREATED);
    }
    let event = |id: &str, kind: &str| Some((id.to_owned(), format!("streamforge.{kind}.v1")));
    for id in ["1", "2"] {
        assert_eq!(all.next().await, event(id, "account.registered"));
    }
    for (follower, account) in [(&mut own, "1"), (&mut others, "2")] {
        assert_eq!(follower.next().await, event(account, "account.registered"));
    }
    for follower in [&mut all, &mut own] {
        assert_eq!(follower.next().await, event("3", "channel.created"));
        assert_eq!(follower.next().await, event("4", "channel.created"));
    }
    // A private channel is nobody else's matter.
    for follower in [&mut others, &mut open] {
        assert_eq!(follower.next().await, event("4", "channel.created"));
    }
    let mut resumed = Follower::new(&site, ada, "?after=0", Some("3")).await;
    assert_eq!(resumed.next().await, event("4", "channel.created"));
    let mut filtered =
        Follower::new(&site, ada, "?after=0&types=streamforge.channel.*", None).await;
    assert_eq!(filtered.next().await, event("3", "channel.created"));

    // The end of the process ends the streams.
    site.platform.close().await;
    for follower in [&mut all, &mut own, &mut others, &mut open, &mut resumed] {
        assert_eq!(follower.next().await, None);
    }
}

#[tokio::test]
async fn a_position_that_is_none_is_refused() {
    let site = Site::new("positions").await;
    for (query, last) in [("?after=1", None), ("?after=x", None), ("", Some("x")), ("", Some("7"))]
    {
        let fields: Vec<_> = last.map(|last| ("last-event-id", last)).into_iter().collect();
        let path = format!("/api/v1/events{query}");
        let (status, _, problem) =
            site.send(Actor::System, Method::GET, &path, Value::Null, &fields).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    }
}
