//! Broadcasts of an older process that drains.

use super::{
    description::{assert_fits, document},
    *,
};

/// The API of another process, with a different administrator.
pub(super) struct Before(pub(super) Router);

impl Elsewhere for Before {
    fn ask(&self, request: Request<()>) -> PendingResponse<'_> {
        let (router, request) = (self.0.clone(), request.map(|()| Body::empty()));
        Box::pin(async move {
            let (head, body) = router.oneshot(request).await.unwrap().into_parts();
            Ok(Response::from_parts(head, body.collect().await.unwrap().to_bytes()))
        })
    }
}

/// Another process that has the same result for every request.
#[derive(Clone, Copy)]
struct Always(Result<StatusCode, NoResponse>);

impl Elsewhere for Always {
    fn ask(&self, _: Request<()>) -> PendingResponse<'_> {
        let response = |status| {
            let mut response = Response::new(Bytes::from_static(b"no JSON"));
            *response.status_mut() = status;
            response
        };
        Box::pin(async move { self.0.map(response) })
    }
}

/// The API of `here`, which took over from `before`.
fn following(here: &Hub, before: &Hub, token_before: &str) -> Router {
    let of = |hub: &Hub, token: &str| {
        let administrator = Administrator::new(Some(KeyDigest::of(token)));
        Api::new(hub.clone(), Arc::new(SomeViewers), Arc::new(SomeRenditions), administrator)
    };
    let before = Before(of(before, token_before).router());
    of(here, TOKEN).beside(Arc::new(before)).router()
}

async fn read(router: &Router, path: &str) -> Value {
    let (status, _, body) =
        ask(router.clone(), Request::get(path).body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{path}");
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn streams_of_an_older_process_are_merged_into_the_list_in_order_and_paged() {
    let (here, before) = (hub(), hub());
    let _here: Vec<_> = ["b", "d", "e"].map(|name| publish(&here, name)).into();
    let _before: Vec<_> = ["a", "c", "d", "f"].map(|name| publish(&before, name)).into();
    let router = following(&here, &before, TOKEN);
    for limit in 1..=7 {
        let (mut cursor, mut seen) = (String::new(), String::new());
        loop {
            let page = read(&router, &format!("/api/v1/streams?limit={limit}{cursor}")).await;
            let streams = page["streams"].as_array().unwrap();
            assert!(streams.len() <= limit);
            for stream in streams {
                seen += stream["channel"].as_str().unwrap();
                seen += if stream["draining"].as_bool().unwrap() { "' " } else { " " };
            }
            let Some(next) = page["next"].as_str() else { break };
            assert_eq!(streams.len(), limit, "a page that is not the last is full");
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, "a' b c' d e f' ", "pages of {limit}");
    }
    let document = document().await;
    let list = read(&router, "/api/v1/streams").await;
    let responses = &document["paths"]["/api/v1/streams"]["get"]["responses"];
    let schema = &responses["200"]["content"]["application/json"]["schema"];
    assert_fits(&document, schema, &list);
}

#[tokio::test]
async fn a_stream_is_looked_up_in_this_process_first_and_then_in_the_older_one() {
    let (here, before) = (hub(), hub());
    let newer = publish(&here, "both");
    let _older = ["both", "older"].map(|name| publish(&before, name));
    let router = following(&here, &before, TOKEN);
    let both = read(&router, "/api/v1/streams/both").await;
    assert_eq!(both["broadcast"], newer.broadcast().id().to_string());
    assert_eq!(both["draining"], false);
    assert_eq!(read(&router, "/api/v1/streams/older").await["draining"], true);
    let request = Request::get("/api/v1/streams/nobody").body(Body::empty()).unwrap();
    assert_eq!(ask(router, request).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn delete_ends_the_broadcast_in_the_older_process_too() {
    let (here, before) = (hub(), hub());
    let _here = publish(&here, "both");
    let _before = ["both", "older"].map(|name| publish(&before, name));
    let router = following(&here, &before, TOKEN);
    let authorization = format!("Bearer {TOKEN}");
    for (channel, expected) in [
        ("both", StatusCode::NO_CONTENT),
        ("older", StatusCode::NO_CONTENT),
        ("nobody", StatusCode::NOT_FOUND),
    ] {
        let (status, ..) =
            delete(router.clone(), &format!("/api/v1/streams/{channel}"), Some(&authorization))
                .await;
        assert_eq!(status, expected, "{channel}");
    }
    assert!(here.broadcasts().is_empty() && before.broadcasts().is_empty());
}

#[tokio::test]
async fn only_authorized_deletes_are_forwarded_and_a_refusal_is_reported() {
    let (here, before) = (hub(), hub());
    let _older = publish(&before, "older");
    let router = following(&here, &before, "the-token-of-before");
    let path = "/api/v1/streams/older";
    let (status, ..) = delete(router.clone(), path, Some("Bearer the-token-of-before")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let (status, _, body) = delete(router, path, Some(&format!("Bearer {TOKEN}"))).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(String::from_utf8_lossy(&body).contains("another administrator's token"));
    assert_eq!(before.broadcasts().len(), 1);
}

#[tokio::test]
async fn a_broadcast_that_continues_in_the_older_process_is_no_success() {
    let (here, before) = (hub(), hub());
    let (_newer, _older) = (publish(&here, "both"), publish(&before, "both"));
    let router = following(&here, &before, "the-token-of-before");
    let authorization = format!("Bearer {TOKEN}");
    // The second time there is no broadcast here.
    for _ in 0..2 {
        let (status, _, body) =
            delete(router.clone(), "/api/v1/streams/both", Some(&authorization)).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_problem(status, &serde_json::from_slice(&body).unwrap());
        assert_eq!((here.broadcasts().len(), before.broadcasts().len()), (0, 1));
    }
    // The other token is of no interest for channels that the older process does not have.
    let _here = publish(&here, "here");
    for (channel, expected) in [("here", StatusCode::NO_CONTENT), ("nobody", StatusCode::NOT_FOUND)]
    {
        let path = format!("/api/v1/streams/{channel}");
        let (status, ..) = delete(router.clone(), &path, Some(&authorization)).await;
        assert_eq!(status, expected, "{channel}");
    }
}

#[tokio::test]
async fn private_channels_of_an_older_process_are_for_the_administrator_only() {
    // Whether the older process knows that the channel is private, and has the same token.
    for (hides, same) in [(true, true), (false, true), (true, false)] {
        let (here, before) = (hub(), hub());
        let _before = ["open", "secret"].map(|name| publish(&before, name));
        let of = |hub: &Hub, token| {
            let administrator = Administrator::new(Some(KeyDigest::of(token)));
            Api::new(hub.clone(), Arc::new(SomeViewers), Arc::new(SomeRenditions), administrator)
        };
        let mut older = of(&before, if same { TOKEN } else { "the-token-of-before" });
        if hides {
            older = older.hiding(Arc::new(OneSecret));
        }
        let api = of(&here, TOKEN).hiding(Arc::new(OneSecret));
        let router = api.beside(Arc::new(Before(older.router()))).router();
        for (token, sees) in [("another-token", false), (TOKEN, same || !hides)] {
            let authorization = format!("Bearer {token}");
            let request = |path: &str| {
                let request = Request::get(path).header(header::AUTHORIZATION, &authorization);
                request.body(Body::empty()).unwrap()
            };
            let (_, _, body) = ask(router.clone(), request("/api/v1/streams")).await;
            let list: Value = serde_json::from_slice(&body).unwrap();
            let count = list["streams"].as_array().unwrap().len();
            assert_eq!(count, if sees { 2 } else { 1 }, "{hides} {same} {token}: {list}");
            let shown = ask(router.clone(), request("/api/v1/streams/secret")).await.0;
            let expected = if sees { StatusCode::OK } else { StatusCode::NOT_FOUND };
            assert_eq!(shown, expected, "{hides} {same} {token}");
        }
        // A broadcast that continues there is no success, although it cannot be seen.
        let authorization = format!("Bearer {TOKEN}");
        let ended = delete(router, "/api/v1/streams/secret", Some(&authorization)).await.0;
        let expected = if same { StatusCode::NO_CONTENT } else { StatusCode::FORBIDDEN };
        assert_eq!(ended, expected, "{hides} {same}");
    }
}

#[tokio::test]
async fn a_broadcast_of_an_old_process_that_does_not_respond_is_not_404() {
    for (response, expected) in [
        (Err(NoResponse::Gone), None),
        (Ok(StatusCode::NOT_FOUND), None),
        (Err(NoResponse::Late), Some(StatusCode::GATEWAY_TIMEOUT)),
        (Ok(StatusCode::GATEWAY_TIMEOUT), Some(StatusCode::GATEWAY_TIMEOUT)),
        (Err(NoResponse::Faulty), Some(StatusCode::BAD_GATEWAY)),
        (Ok(StatusCode::BAD_GATEWAY), Some(StatusCode::BAD_GATEWAY)),
        (Ok(StatusCode::INTERNAL_SERVER_ERROR), Some(StatusCode::BAD_GATEWAY)),
        (Ok(StatusCode::UNAUTHORIZED), Some(StatusCode::BAD_GATEWAY)),
    ] {
        let here = hub();
        let producer = publish(&here, "here");
        let administrator = Administrator::new(Some(KeyDigest::of(TOKEN)));
        let (viewers, renditions) = (Arc::new(SomeViewers), Arc::new(SomeRenditions));
        let api = Api::new(here.clone(), viewers, renditions, administrator);
        let router = api.beside(Arc::new(Always(response))).router();
        let authorization = format!("Bearer {TOKEN}");
        let ended = delete(router.clone(), "/api/v1/streams/here", Some(&authorization)).await.0;
        assert_eq!(ended, expected.unwrap_or(StatusCode::NO_CONTENT), "{response:?}");
        assert!(here.broadcasts().is_empty(), "it has ended here all the same");
        // Its publisher has left.
        drop(producer);
        let ended = delete(router.clone(), "/api/v1/streams/here", Some(&authorization)).await.0;
        assert_eq!(ended, expected.unwrap_or(StatusCode::NOT_FOUND), "{response:?}");
        let request = Request::get("/api/v1/streams/here").body(Body::empty()).unwrap();
        let shown = ask(router.clone(), request).await.0;
        assert_eq!(shown, expected.unwrap_or(StatusCode::NOT_FOUND), "{response:?}");
        // A list has at least the streams of this process.
        assert_eq!(read(&router, "/api/v1/streams").await["streams"], serde_json::json!([]));
    }
}

/// A process of a version whose cursors are plain names.
struct Plain;

impl Elsewhere for Plain {
    fn ask(&self, request: Request<()>) -> PendingResponse<'_> {
        let page = match request.uri().to_string().as_str() {
            "/api/v1/streams?limit=1" => r#"{"streams":[{"channel":"b"}],"next":"b"}"#,
            "/api/v1/streams?limit=1&cursor=a" => r#"{"streams":[{"channel":"b"}],"next":"b"}"#,
            "/api/v1/streams?limit=1&cursor=b" => r#"{"streams":[{"channel":"d"}],"next":null}"#,
            "/api/v1/streams?limit=1&cursor=c" => r#"{"streams":[{"channel":"d"}],"next":null}"#,
            other => panic!("{other}"),
        };
        assert!(request.headers().contains_key(request_id::HEADER));
        Box::pin(async move { Ok(Response::new(page.into())) })
    }
}

#[tokio::test]
async fn the_list_of_a_version_with_plain_cursors_is_merged() {
    let here = hub();
    let _here: Vec<_> = ["a", "c"].map(|name| publish(&here, name)).into();
    let administrator = Administrator::new(None);
    let api = Api::new(here, Arc::new(SomeViewers), Arc::new(SomeRenditions), administrator);
    let router = api.beside(Arc::new(Plain)).router();
    let (mut path, mut seen) = ("/api/v1/streams?limit=1".to_owned(), String::new());
    loop {
        let page = read(&router, &path).await;
        seen += page["streams"][0]["channel"].as_str().unwrap();
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/streams?limit=1&cursor={next}");
    }
    assert_eq!(seen, "abcd");
}
