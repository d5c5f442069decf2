//! The manners of all routes together.

use std::net::IpAddr;

use axum::{Extension, routing::post};

use super::*;
use crate::{
    Caller, Manners,
    content::Content,
    cors::Cors,
    rate::{Limiter, Limits},
};

fn api(manners: Manners) -> Api {
    let administrator = Administrator::new(Some(KeyDigest::of(TOKEN)));
    Api::new(hub(), Arc::new(SomeViewers), Arc::new(SomeRenditions), administrator)
        .with_manners(manners)
}

/// The router for a client of this address, with at most `requests` in a minute.
fn limited(requests: u32, address: &str) -> Router {
    let api_limit = format!("{requests}/1m").parse().ok();
    let limits = Limits { api: api_limit, ..Limits::default() };
    let limiter = Arc::new(Limiter::with_clock(limits, || Duration::ZERO));
    let address: IpAddr = address.parse().unwrap();
    let manners = Manners { limiter, ..Manners::default() };
    api(manners).router().layer(Extension(Caller { address, ours: false }))
}

/// All paths that are served, described or not, and some that are not.
async fn paths() -> Vec<String> {
    let document = description::document().await;
    let described = document["paths"].as_object().unwrap().keys().cloned();
    let others = [
        "/api/v1/openapi.json",
        "/api/docs",
        "/api/docs/",
        "/api/docs/start.js",
        "/api/docs/swagger-ui.css",
        "/api/docs/swagger-ui-bundle.js",
        "/api/docs/LICENSE.txt",
        "/api/docs/NOTICE.txt",
        "/problems",
        "/problems/",
        "/problems/not-found",
        "/problems/none",
        "/api",
        "/api/v1/%ff",
        "/api/v1/streams/%ff",
        "/api/v1/streams?limit=x",
        "/elsewhere",
    ];
    described.chain(others.map(str::to_owned)).collect()
}

#[tokio::test]
async fn no_response_is_without_a_request_id_and_security_headers() {
    let methods =
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"];
    let variants: [&[(&str, &str)]; 7] = [
        &[],
        &[("x-request-id", "given")],
        &[("authorization", "Bearer wrong")],
        &[("authorization", "Bearer a-random-token")],
        &[("if-match", "\"a\"")],
        &[("if-none-match", "*"), ("accept-encoding", "gzip")],
        &[("origin", "https://a"), ("access-control-request-method", "POST")],
    ];
    let listed: Vec<String> = vec!["https://a".into()];
    let cors = Cors::new(listed.try_into().unwrap());
    let served = api(Manners { cors, ..Manners::default() }).router();
    let refused = limited(1, "192.0.2.1");
    let mut seen = std::collections::BTreeSet::new();
    for path in paths().await {
        for (method, fields) in methods.iter().flat_map(|method| variants.map(|v| (method, v))) {
            for router in [&served, &refused] {
                let mut request = Request::builder().method(*method).uri(&path);
                for (name, value) in fields {
                    request = request.header(*name, *value);
                }
                let request = request.body(Body::empty()).unwrap();
                let (status, headers, body) = ask(router.clone(), request).await;
                seen.insert(status.as_u16());
                guard::assert_guarded(&headers);
                let id = headers[request_id::HEADER].to_str().unwrap();
                assert_eq!(id == "given", fields.iter().any(|(name, _)| *name == "x-request-id"));
                if status.as_u16() >= 400 {
                    assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
                    if !body.is_empty() {
                        let problem: Value = serde_json::from_slice(&body).unwrap();
                        assert_problem(status, &problem);
                        assert_eq!(problem["request_id"], id, "{method} {path}");
                    }
                }
            }
        }
    }
    for status in [200, 204, 304, 400, 401, 404, 405, 412, 429, 501] {
        assert!(seen.contains(&status), "{status} of {seen:?}");
    }
}

#[tokio::test]
async fn the_api_is_limited_by_address_and_the_operator_is_not() {
    let get = async |router: &Router| {
        let request = Request::get("/api/v1/streams").body(Body::empty()).unwrap();
        ask(router.clone(), request).await
    };
    let router = limited(3, "2001:db8::1");
    for remaining in (0..3).rev() {
        let (status, headers, _) = get(&router).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers["ratelimit-policy"], "\"api\";q=3;w=60");
        let expected = format!("\"api\";r={remaining};t={}", 20 * (3 - remaining));
        assert_eq!(headers["ratelimit"], expected);
    }
    let (status, headers, body) = get(&router).await;
    assert_eq!(
        (status, &headers[header::RETRY_AFTER]),
        (StatusCode::TOO_MANY_REQUESTS, &"20".parse().unwrap())
    );
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["type"], "/problems/rate-limited");
    let operator = limited(3, "::1");
    for _ in 0..10 {
        assert_eq!(get(&operator).await.0, StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_gets_the_limits_of_time_and_size_from_the_manners() {
    let manners =
        Manners { deadline: Duration::from_secs(3), max_body_bytes: 10, ..Manners::default() };
    let echo = |Content(value): Content<Value>| async move { value.to_string() };
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(4)).await;
    };
    let router = Router::new()
        .route("/echo", post(echo))
        .route("/large", post(echo).layer(crate::content::limit(100)))
        .route("/slow", post(slow));
    let router = manners.on(router);
    let long = format!("\"{}\"", "a".repeat(20));
    for (path, body, expected) in [
        ("/echo", "[1]", None),
        ("/echo", long.as_str(), Some("body-too-large")),
        ("/large", long.as_str(), None),
        ("/slow", "", Some("timed-out")),
    ] {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let (status, headers, body) = ask(router.clone(), request).await;
        assert_guarded(&headers);
        match expected {
            None => assert_eq!(status, StatusCode::OK, "{path}"),
            Some(name) => {
                let problem: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(problem["type"], format!("/problems/{name}"));
                assert_problem(status, &problem);
            }
        }
    }
}
