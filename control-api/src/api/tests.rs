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
    AccessUnit, BroadcastId, ChannelName, Hub, MediaSpan, TrackIndex, TrackName,
    broadcast::{Health, Limits},
    codec::{Config, aac, avc},
    hub::{Claim, Producer, Settings},
};
use serde_json::Value;
use tower::ServiceExt;

use super::{Administrator, Api};
use crate::{
    Elsewhere, KeyDigest, NoResponse, PendingResponse, Privacy, Renditions, Viewers, guard,
    problem::Kind, renditions::Doing, request_id, viewers::Count,
};

mod access;
mod accounts;
mod administration;
mod analytics;
mod audit;
mod categories;
mod channel_settings;
mod channels;
mod credentials;
mod description;
mod events;
mod export;
mod follows;
mod manners;
mod members;
mod older_process;
mod operations;
mod pictures;
mod playback_tokens;
mod reactions;
mod recovery;
#[cfg(feature = "search")]
mod search;
mod second_factor;
mod security;
mod site;
mod streams;
mod tags;
mod videos;
mod webhooks;

/// A folder that no other test has, whatever name it chooses.
fn folder(name: &str) -> std::path::PathBuf {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = format!("streamforge-{name}-{}-{count}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

const TOKEN: &str = "a-random-token";

struct SomeViewers;

impl Viewers for SomeViewers {
    fn count(&self, channel: &ChannelName, _broadcast: BroadcastId) -> Count {
        Count { http: channel.as_str().len() as u64, rtmp: 1 }
    }
}

/// The channel `secret` is private.
struct OneSecret;

impl Privacy for OneSecret {
    fn is_private(&self, channel: &ChannelName) -> bool {
        channel.as_str() == "secret"
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
    guard::assert_guarded(headers);
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    assert!(!headers[request_id::HEADER].is_empty());
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

#[track_caller]
fn assert_problem(status: StatusCode, problem: &Value) {
    let name = problem["type"].as_str().unwrap().strip_prefix("/problems/").unwrap();
    let row = Kind::named(name).unwrap().row();
    assert_eq!(row.status, status, "{problem}");
    assert_eq!(problem["status"], status.as_u16());
    assert_eq!(problem["title"], row.title);
    assert!(problem["detail"].as_str().unwrap().len() > 10);
    assert!(!problem["request_id"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn unsupported_methods_are_problems_with_an_allow_field() {
    for (method, expected) in
        [("POST", 405), ("TRACE", 405), ("QUERY", 405), ("BREW", 501), ("OPTIONS", 204)]
    {
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
        // Each request has its own.
        assert!(headers.remove(request_id::HEADER).is_some());
        assert_eq!((status, body.len()), (expected, 0), "{path}");
        for (name, value) in &headers {
            assert_eq!(expected_headers.get(name), Some(value), "{path} {name}");
        }
    }
}
