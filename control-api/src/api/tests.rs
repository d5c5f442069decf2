use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::{Router, body::Body};
use bytes::Bytes;
use hex_literal::hex;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use media_core::{
    AccessUnit, BroadcastId, ChannelName, Hub, TrackIndex, TrackName,
    broadcast::{Health, Limits},
    codec::{Config, aac, avc},
    hub::{Claim, Producer, Settings},
};
use serde_json::Value;
use tower::ServiceExt;

use super::{Administrator, Api};
use crate::{
    Elsewhere, KeyDigest, NoResponse, PendingResponse, Renditions, Viewers, renditions::Doing,
    viewers::Count,
};

const TOKEN: &str = "a-random-token";

struct SomeViewers;

impl Viewers for SomeViewers {
    fn count(&self, channel: &ChannelName, _broadcast: BroadcastId) -> Count {
        Count { http: channel.as_str().len() as u64, rtmp: 1 }
    }
}

struct SomeRenditions;

impl Renditions for SomeRenditions {
    fn of(&self, _: BroadcastId) -> Vec<(TrackName, Doing)> {
        let name = |name: &str| name.parse().unwrap();
        vec![(name("v480"), Doing::Shed), (name("v360"), Doing::Made)]
    }
}

fn hub() -> Hub {
    let broadcast = Limits {
        bytes: 1 << 20,
        age: Duration::from_secs(10),
        segment: Duration::from_secs(2),
        stall: Duration::from_secs(2),
    };
    Hub::new(Settings { broadcast, reconnect: Duration::from_secs(10), max_channels: 1_000 })
}

fn router(hub: &Hub) -> Router {
    Api::new(
        hub.clone(),
        Arc::new(SomeViewers),
        Arc::new(SomeRenditions),
        Administrator::new(Some(KeyDigest::of(TOKEN))),
    )
    .router()
}

/// 1280x720 at 59.94, and 48 kHz stereo.
fn start(claim: Claim) -> Producer {
    let video = hex!(
        "0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 \
         68ebe3cb22c0 fdf8f800"
    );
    let tracks = vec![
        (TrackName::source_video(), Config::Avc(avc::Config::parse(&video).unwrap())),
        (TrackName::source_audio(), Config::Aac(aac::Config::parse(&hex!("1190")).unwrap())),
    ];
    let utc = SystemTime::UNIX_EPOCH + Duration::from_millis(1_770_000_000_500);
    claim.start(tracks, Instant::now(), utc).unwrap()
}

fn publish(hub: &Hub, name: &str) -> Producer {
    start(hub.claim(name.parse().unwrap()).unwrap())
}

async fn ask(router: Router, request: Request<Body>) -> (StatusCode, http::HeaderMap, Bytes) {
    let (head, body) = router.oneshot(request).await.unwrap().into_parts();
    (head.status, head.headers, body.collect().await.unwrap().to_bytes())
}

async fn get(hub: &Hub, path: &str) -> (StatusCode, Value) {
    let (status, headers, body) =
        ask(router(hub), Request::get(path).body(Body::empty()).unwrap()).await;
    assert_guarded(&headers);
    let expected =
        if status.is_success() { "application/json" } else { "application/problem+json" };
    assert_eq!(headers[header::CONTENT_TYPE], expected, "{path}");
    (status, serde_json::from_slice(&body).unwrap())
}

#[track_caller]
fn assert_guarded(headers: &http::HeaderMap) {
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
}

async fn delete(
    router: Router,
    path: &str,
    authorization: Option<&str>,
) -> (StatusCode, http::HeaderMap, Bytes) {
    let mut request = Request::delete(path);
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    ask(router, request.body(Body::empty()).unwrap()).await
}

fn assert_problem(status: StatusCode, problem: &Value) {
    assert_eq!(problem["type"], "about:blank");
    assert_eq!(problem["status"], status.as_u16());
    assert_eq!(problem["title"], status.canonical_reason().unwrap());
    assert!(problem["detail"].as_str().unwrap().len() > 10);
}

#[tokio::test]
async fn a_stream_is_shown_with_its_tracks_and_viewers() {
    let hub = hub();
    let producer = publish(&hub, "demo");
    let unit = AccessUnit {
        dts: 0,
        pts: 0,
        key: true,
        independent: true,
        arrived: Instant::now(),
        payload: Bytes::from_static(&[0; 10]),
    };
    producer.push(TrackIndex::new(0), unit).unwrap();
    let (status, stream) = get(&hub, "/api/v1/streams/demo").await;
    assert_eq!(status, StatusCode::OK);
    let expected = serde_json::json!({
        "channel": "demo",
        "broadcast": producer.broadcast().id().to_string(),
        "state": "live",
        "draining": false,
        "started_at": "2026-02-02T02:40:00.500Z",
        "keyframe_interval_s": null,
        "advice": null,
        "tracks": [
            {
                "name": "v0", "rendition": false, "kind": "video", "codec": "avc1.64001e",
                "bitrate_bps": 0, "frames": 1, "bytes": 10,
                "width": stream["tracks"][0]["width"], "height": stream["tracks"][0]["height"],
                "frame_rate": stream["tracks"][0]["frame_rate"]
            },
            {
                "name": "a0", "rendition": false, "kind": "audio", "codec": "mp4a.40.2",
                "bitrate_bps": 0, "frames": 0, "bytes": 0,
                "sampling_rate_hz": 48000, "channels": 2
            },
        ],
        "renditions": [{ "track": "v480", "state": "shed" }, { "track": "v360", "state": "made" }],
        "viewers": { "http": 4, "rtmp": 1 },
    });
    assert_eq!(stream, expected);
    assert!(
        stream["tracks"][0]["width"].as_u64() > Some(0)
            && stream["tracks"][0]["height"].as_u64() > Some(0)
    );
    producer.broadcast().report(Health {
        key_interval: Some(Duration::from_millis(20_500)),
        advice: Some("set the keyframe interval".into()),
    });
    let stream = get(&hub, "/api/v1/streams/demo").await.1;
    assert_eq!(
        (&stream["keyframe_interval_s"], &stream["advice"]),
        (&20.5.into(), &"set the keyframe interval".into())
    );
    producer.leave(Instant::now());
    assert_eq!(get(&hub, "/api/v1/streams/demo").await.1["state"], "away");
}

#[tokio::test]
async fn a_channel_that_is_not_live_or_cannot_be_is_a_problem() {
    for path in [
        "/api/v1/streams/nobody",
        "/api/v1/streams/a.b",
        "/api/v1/streams/..%2f..%2fetc%2fpasswd",
        "/api/v1/%ff",
        "/api/v1/streams/%ff",
        "/api",
    ] {
        let (status, problem) = get(&hub(), path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert_problem(status, &problem);
    }
}

#[tokio::test]
async fn a_list_is_paged_in_the_order_of_names() {
    let hub = hub();
    let _live: Vec<_> =
        ["c", "a", "e", "b", "d"].into_iter().map(|name| publish(&hub, name)).collect();
    let mut path = "/api/v1/streams?limit=2".to_owned();
    let mut pages = Vec::new();
    loop {
        let (status, list) = get(&hub, &path).await;
        assert_eq!(status, StatusCode::OK);
        let names = list["streams"]
            .as_array()
            .unwrap()
            .iter()
            .map(|stream| stream["channel"].as_str().unwrap().to_owned());
        pages.push(names.collect::<Vec<_>>().concat());
        match list["next"].as_str() {
            Some(next) => path = format!("/api/v1/streams?limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(pages, ["ab", "cd", "e"]);
    assert_eq!(get(&hub, "/api/v1/streams").await.1["streams"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn a_query_that_is_not_understood_is_a_problem() {
    for query in ["limit=0", "limit=501", "limit=-1", "limit=x", "page=2"] {
        let (status, problem) = get(&hub(), &format!("/api/v1/streams?{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert_problem(status, &problem);
    }
}

#[tokio::test]
async fn the_administrator_ends_a_broadcast_and_sends_its_publisher_away() {
    let hub = hub();
    let claim = hub.claim("demo".parse().unwrap()).unwrap();
    let revoked = claim.revoked();
    let _producer = start(claim);
    assert!(!revoked.is_revoked());
    let (status, _, body) =
        delete(router(&hub), "/api/v1/streams/demo", Some(&format!("Bearer {TOKEN}"))).await;
    assert_eq!((status, body.len()), (StatusCode::NO_CONTENT, 0));
    assert!(hub.broadcasts().is_empty());
    assert!(revoked.is_revoked());
    let (status, ..) =
        delete(router(&hub), "/api/v1/streams/nobody", Some(&format!("bearer {TOKEN}"))).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn nobody_else_ends_a_broadcast() {
    let hub = hub();
    let _producer = publish(&hub, "demo");
    let wrong = ["Bearer another-token", "Bearer ", "Basic YTpi", TOKEN];
    for authorization in wrong.into_iter().map(Some).chain([None]) {
        let (status, headers, body) =
            delete(router(&hub), "/api/v1/streams/demo", authorization).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{authorization:?}");
        // RFC 6750 3: an error code is only for a request with a token.
        let given = authorization.is_some_and(|given| given.starts_with("Bearer "));
        let challenge = match given {
            true => "Bearer realm=\"streamforge\", error=\"invalid_token\"",
            false => "Bearer realm=\"streamforge\"",
        };
        assert_eq!(headers[header::WWW_AUTHENTICATE], challenge, "{authorization:?}");
        assert_guarded(&headers);
        assert_problem(status, &serde_json::from_slice(&body).unwrap());
    }
    let closed = Api::new(
        hub.clone(),
        Arc::new(SomeViewers),
        Arc::new(SomeRenditions),
        Administrator::default(),
    )
    .router();
    let (status, headers, _) = delete(closed.clone(), "/api/v1/streams/demo", None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "without a token, whatever is configured");
    assert!(headers.contains_key(header::WWW_AUTHENTICATE));
    let (status, _, body) = delete(closed, "/api/v1/streams/demo", Some("Bearer x")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("api.admin_token"));
    assert_eq!(hub.broadcasts().len(), 1);
}

#[tokio::test]
async fn another_token_is_asked_for_once_it_is_set() {
    let hub = hub();
    let administrator = Administrator::new(Some(KeyDigest::of("an-old-token")));
    let api = Api::new(hub, Arc::new(SomeViewers), Arc::new(SomeRenditions), administrator.clone())
        .router();
    let new = format!("Bearer {TOKEN}");
    let (status, ..) = delete(api.clone(), "/api/v1/streams/nobody", Some(&new)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    administrator.set(Some(KeyDigest::of(TOKEN)));
    let (status, ..) = delete(api.clone(), "/api/v1/streams/nobody", Some(&new)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, ..) = delete(api, "/api/v1/streams/nobody", Some("Bearer an-old-token")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn another_method_is_a_problem_that_names_those_there_are() {
    for (method, expected) in [("POST", 405), ("TRACE", 405), ("BREW", 501), ("OPTIONS", 204)] {
        for (path, other) in [("/api/v1/streams/demo", "DELETE"), ("/api/v1/openapi.json", "HEAD")]
        {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let (status, headers, body) = ask(router(&hub()), request).await;
            assert_eq!(status.as_u16(), expected, "{method} {path}");
            let allow = headers[header::ALLOW].to_str().unwrap();
            assert!(allow.contains("GET") && allow.contains(other), "{allow}");
            assert_guarded(&headers);
            match expected {
                204 => assert!(body.is_empty()),
                _ => assert_problem(status, &serde_json::from_slice(&body).unwrap()),
            }
        }
    }
}

#[tokio::test]
async fn if_match_is_evaluated_and_only_a_star_matches() {
    let hub = hub();
    let _producer = publish(&hub, "demo");
    let status = async |method: &str, path: &str, tag: &str| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(header::IF_MATCH, tag);
        let (status, headers, _) = ask(router(&hub), request.body(Body::empty()).unwrap()).await;
        assert_guarded(&headers);
        status.as_u16()
    };
    for path in ["/api/v1/streams", "/api/v1/streams/demo", "/api/v1/openapi.json"] {
        assert_eq!(status("GET", path, "\"a\"").await, 412, "{path}");
        assert_eq!(status("GET", path, "*").await, 200, "{path}");
    }
    // Without the precondition it would not be a success.
    assert_eq!(status("GET", "/api/v1/streams/nobody", "\"a\"").await, 404);
    assert_eq!(status("OPTIONS", "/api/v1/streams", "\"a\"").await, 204);
    assert_eq!(status("DELETE", "/api/v1/streams/demo", "\"a\"").await, 412);
    assert!(hub.broadcast(&"demo".parse().unwrap()).is_some());
    assert_eq!(status("DELETE", "/api/v1/streams/demo", "*").await, 204);
}

#[tokio::test]
async fn head_has_the_headers_of_get() {
    for path in ["/api/v1/streams", "/api/v1/streams/nobody", "/api/v1/openapi.json"] {
        let request =
            |method| Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let (status, mut headers, body) = ask(router(&hub()), request(Method::HEAD)).await;
        let (expected, expected_headers, _) = ask(router(&hub()), request(Method::GET)).await;
        headers.remove(header::CONTENT_LENGTH);
        assert_eq!((status, body.len()), (expected, 0), "{path}");
        for (name, value) in &headers {
            assert_eq!(expected_headers.get(name), Some(value), "{path} {name}");
        }
    }
}

/// The members that OpenAPI 3.1.0 requires of the objects in the description.
#[tokio::test]
async fn the_description_is_valid() {
    let document = document().await;
    let text = |value: &Value, at: &str| {
        let text = value.as_str();
        assert!(text.is_some_and(|text| !text.is_empty()), "{at}: {value}");
    };
    text(&document["openapi"], "openapi");
    text(&document["info"]["title"], "info.title");
    text(&document["info"]["version"], "info.version");
    // A license has a name, and an identifier or a URL but not both (4.8.4).
    if let Some(license) = document["info"].get("license") {
        text(&license["name"], "info.license.name");
        assert!(license.get("identifier").is_none() || license.get("url").is_none());
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        assert!(path.starts_with('/'));
        for (method, operation) in item.as_object().unwrap() {
            let at = format!("{method} {path}");
            text(&operation["operationId"], &at);
            let mut placed = Vec::new();
            for parameter in operation["parameters"].as_array().unwrap() {
                text(&parameter["name"], &at);
                if parameter["in"] == "path" {
                    assert_eq!(parameter["required"], true, "{at}");
                    placed.push(format!("{{{}}}", parameter["name"].as_str().unwrap()));
                }
                assert!(parameter.get("schema").is_some(), "{at}");
            }
            assert_eq!(path.matches('{').count(), placed.len(), "{at}");
            assert!(placed.iter().all(|name| path.contains(name)), "{at}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                let at = format!("{at} {status}");
                assert!(
                    status.parse::<u16>().is_ok_and(|status| (100..600).contains(&status)),
                    "{at}"
                );
                text(&response["description"], &at);
                for (kind, media) in response["content"].as_object().into_iter().flatten() {
                    assert!(kind.contains('/') && media.get("schema").is_some(), "{at}");
                }
            }
        }
    }
    assert_refers(&document, &document);
}

/// Every reference in `value` has a target.
fn assert_refers(document: &Value, value: &Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
            }
            members.values().for_each(|value| assert_refers(document, value));
        }
        Value::Array(items) => items.iter().for_each(|value| assert_refers(document, value)),
        _ => {}
    }
}

/// The API of another process, with a different administrator.
struct Before(Router);

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
async fn what_an_older_process_has_is_listed_between_in_the_same_order_and_paged_with_it() {
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
async fn one_channel_is_shown_from_here_or_else_from_the_older_process() {
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
async fn ending_a_broadcast_reaches_the_older_process_too() {
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
async fn an_older_process_is_not_told_by_whom_this_one_does_not_know_and_its_refusal_is_said() {
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
async fn without_a_response_of_the_older_process_its_broadcast_is_not_said_to_be_gone() {
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

async fn document() -> Value {
    get(&hub(), "/api/v1/openapi.json").await.1
}

#[tokio::test]
async fn the_description_names_exactly_what_is_served() {
    let document = document().await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = document["paths"].as_object().unwrap();
    let described: Vec<&str> = paths.keys().map(String::as_str).collect();
    assert_eq!(described, ["/api/v1/streams", "/api/v1/streams/{channel}"]);
    let methods = [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH];
    for (path, operations) in paths {
        for method in &methods {
            let request = Request::builder().method(method).uri(path.replace("{channel}", "demo"));
            let (status, ..) = ask(router(&hub()), request.body(Body::empty()).unwrap()).await;
            let described = operations.get(method.as_str().to_lowercase()).is_some();
            assert_eq!(
                described,
                status != StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}: {status}"
            );
        }
    }
    let delete = &paths["/api/v1/streams/{channel}"]["delete"];
    let statuses: Vec<&str> =
        delete["responses"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(statuses, ["204", "401", "403", "404", "412", "502", "504"]);
    assert!(delete["security"][0].get("administrator").is_some());
    assert_eq!(document["components"]["securitySchemes"]["administrator"]["scheme"], "bearer");
}

/// Responses have the members of their schema, and no others.
#[tokio::test]
async fn what_is_sent_is_what_the_description_says() {
    let (hub, document) = (hub(), document().await);
    let _producer = publish(&hub, "demo");
    let body = |path: &str, status: &str| {
        let response = &document["paths"][path]["get"]["responses"][status]["content"];
        response.as_object().unwrap().values().next().unwrap()["schema"].clone()
    };
    let (_, list) = get(&hub, "/api/v1/streams").await;
    assert_fits(&document, &body("/api/v1/streams", "200"), &list);
    let (_, stream) = get(&hub, "/api/v1/streams/demo").await;
    assert_fits(&document, &body("/api/v1/streams/{channel}", "200"), &stream);
    let (_, problem) = get(&hub, "/api/v1/streams/nobody").await;
    assert_fits(&document, &body("/api/v1/streams/{channel}", "404"), &problem);
}

#[track_caller]
fn assert_fits(document: &Value, schema: &Value, value: &Value) {
    if let Err(what) = fits(document, schema, value) {
        panic!("{what}\nvalue: {value:#}\nschema: {schema:#}");
    }
}

/// The subset of JSON Schema that the description uses. All members are required, so their number
/// shows unknown ones.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return fits(
            document,
            &document.pointer(&reference[1..]).ok_or(format!("no {reference}"))?.clone(),
            value,
        );
    }
    if schema.get("allOf").is_some() || schema.get("oneOf").is_some() {
        let merged: Vec<Value> = variants(document, schema);
        let tries: Vec<_> = merged.iter().map(|schema| fits(document, schema, value)).collect();
        let fitting = tries.iter().filter(|outcome| outcome.is_ok()).count();
        return if fitting == 1 {
            Ok(())
        } else {
            Err(format!("{fitting} variants fit {value}: {tries:?}"))
        };
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    let fitting = kinds.iter().any(|kind| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    });
    if !fitting {
        return Err(format!("{value} is none of {kinds:?}"));
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        return Err(format!("{value} is none of {allowed:?}"));
    }
    match value {
        Value::Object(members) => {
            let properties = schema["properties"].as_object().ok_or("no properties")?;
            let required = schema["required"].as_array().map_or(0, Vec::len);
            if members.len() != properties.len() || required != properties.len() {
                return Err(format!(
                    "{} members, {} described, {required} required",
                    members.len(),
                    properties.len()
                ));
            }
            members.iter().try_for_each(|(name, member)| {
                let schema = properties.get(name).ok_or(format!("{name} is not described"))?;
                fits(document, schema, member).map_err(|what| format!("{name}: {what}"))
            })
        }
        Value::Array(items) => {
            items.iter().try_for_each(|item| fits(document, &schema["items"], item))
        }
        _ => Ok(()),
    }
}

/// The plain object schemas that a composition of them includes.
fn variants(document: &Value, schema: &Value) -> Vec<Value> {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return variants(document, document.pointer(&reference[1..]).unwrap());
    }
    if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
        return choices.iter().flat_map(|choice| variants(document, choice)).collect();
    }
    let Some(parts) = schema.get("allOf").and_then(Value::as_array) else {
        return vec![schema.clone()];
    };
    parts.iter().fold(
        vec![serde_json::json!({ "type": "object", "properties": {}, "required": [] })],
        |merged, part| {
            let choices = variants(document, part);
            merged.iter().flat_map(|one| choices.iter().map(|choice| join(one, choice))).collect()
        },
    )
}

fn join(one: &Value, other: &Value) -> Value {
    let mut joined = one.clone();
    for (name, schema) in other["properties"].as_object().unwrap() {
        joined["properties"][name] = schema.clone();
    }
    let required = other["required"].as_array().cloned().unwrap_or_default();
    joined["required"].as_array_mut().unwrap().extend(required);
    joined
}
