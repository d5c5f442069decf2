use std::sync::atomic::{AtomicUsize, Ordering};

use axum::{Router, middleware::from_fn_with_state, routing::post};
use http::HeaderMap;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tower::ServiceExt;
use uuid::Uuid;

use super::*;

/// A route that counts its effects, after it has got a permit.
#[derive(Clone)]
struct Stage {
    router: Router,
    effects: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

fn stage(status: u16, state: Idempotency) -> Stage {
    let (effects, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(100)));
    let (counted, waited) = (Arc::clone(&effects), Arc::clone(&gate));
    let route = move |body: String| {
        let (counted, waited) = (Arc::clone(&counted), Arc::clone(&waited));
        async move {
            waited.acquire().await.unwrap().forget();
            let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
            let fields = [("location", format!("/things/{number}")), ("x-other", "one".into())];
            (StatusCode::from_u16(status).unwrap(), fields, format!("{number} {body}"))
        }
    };
    let router = Router::new().route("/things", post(route.clone()).put(route.clone()));
    let router = router.route("/others", post(route)).layer(from_fn_with_state(state, once));
    Stage { router, effects, gate }
}

fn memory() -> Idempotency {
    Idempotency::new(Arc::new(Memory::default()))
}

fn request(path: &str, key: &str, body: &str) -> Request {
    let request = Request::post(path).header(HEADER, key);
    request.body(Body::from(body.to_owned())).unwrap()
}

async fn send(stage: &Stage, request: Request) -> (u16, HeaderMap, String) {
    let (head, body) = stage.router.clone().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_repetition_has_the_first_response_and_no_second_effect() {
    let stage = stage(201, memory());
    let (status, headers, body) = send(&stage, request("/things", "abc", "x")).await;
    assert_eq!((status, &*body), (201, "1 x"));
    assert!(!headers.contains_key(REPLAYED));
    // Quotes are a matter of form.
    for key in ["abc", "\"abc\""] {
        let (status, headers, body) = send(&stage, request("/things", key, "x")).await;
        assert_eq!((status, &*body), (201, "1 x"), "{key}");
        assert_eq!(headers[REPLAYED], "true");
        assert_eq!(headers[header::LOCATION], "/things/1");
        assert!(!headers.contains_key("x-other"), "not a header of the operation");
    }
    assert_eq!(stage.effects.load(Ordering::SeqCst), 1);
    assert_eq!(send(&stage, request("/things", "def", "x")).await.2, "2 x");
}

#[tokio::test]
async fn a_key_of_another_request_is_422() {
    let stage = stage(201, memory());
    send(&stage, request("/things", "abc", "x")).await;
    for (path, body) in [("/things", "y"), ("/others", "x"), ("/things?a=b", "x")] {
        assert_eq!(send(&stage, request(path, "abc", body)).await.0, 422, "{path} {body}");
    }
    assert_eq!(stage.effects.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn actors_do_not_share_keys() {
    let stage = stage(201, memory());
    let of = |account: Option<u128>, address: [u8; 4]| {
        let mut request = request("/things", "abc", "x");
        let caller = Caller { address: IpAddr::from(address), ours: false };
        request.extensions_mut().insert(caller);
        if let Some(account) = account {
            request.extensions_mut().insert(Account(Uuid::from_u128(account)));
        }
        request
    };
    let (a, b) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    for (account, address, expected) in [
        (None, a, "1 x"),
        (None, b, "2 x"),
        (Some(1), a, "3 x"),
        (Some(2), a, "4 x"),
        (Some(1), b, "3 x"),
        (None, a, "1 x"),
    ] {
        let body = send(&stage, of(account, address)).await.2;
        assert_eq!(body, expected, "{account:?} {address:?}");
    }
}

#[tokio::test]
async fn a_repetition_during_the_first_request_is_409_and_later_a_replay() {
    let state = memory();
    let stage = stage(201, state.clone());
    stage.gate.forget_permits(100);
    let first = tokio::spawn({
        let stage = stage.clone();
        async move { send(&stage, request("/things", "abc", "x")).await }
    });
    while state.in_progress.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let (status, headers, _) = send(&stage, request("/things", "abc", "x")).await;
    assert_eq!(status, 409);
    assert!(headers.contains_key(header::RETRY_AFTER));
    assert_eq!(send(&stage, request("/things", "abc", "y")).await.0, 422);
    stage.gate.add_permits(1);
    assert_eq!(first.await.unwrap().2, "1 x");
    assert_eq!(send(&stage, request("/things", "abc", "x")).await.2, "1 x");
    assert!(state.in_progress.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_request_whose_client_leaves_is_completed_and_recorded() {
    let state = memory();
    let stage = stage(201, state.clone());
    stage.gate.forget_permits(100);
    let left = tokio::spawn({
        let stage = stage.clone();
        async move { send(&stage, request("/things", "abc", "x")).await }
    });
    while state.in_progress.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    stage.gate.add_permits(1);
    state.finish().await;
    let (status, headers, body) = send(&stage, request("/things", "abc", "x")).await;
    assert_eq!((status, &*body), (201, "1 x"));
    assert_eq!(headers[REPLAYED], "true");
}

#[tokio::test]
async fn responses_for_the_moment_are_not_recorded() {
    for (status, recorded) in [
        (500, false),
        (503, false),
        (429, false),
        (408, false),
        (409, true),
        (400, true),
        (204, true),
    ] {
        let stage = stage(status, memory());
        for _ in 0..2 {
            assert_eq!(send(&stage, request("/things", "abc", "x")).await.0, status);
        }
        let expected = if recorded { 1 } else { 2 };
        assert_eq!(stage.effects.load(Ordering::SeqCst), expected, "{status}");
    }
}

#[tokio::test]
async fn malformed_keys_are_400_and_a_route_may_require_one() {
    let (optional, required) = (stage(201, memory()), stage(201, memory().required()));
    for key in ["", "\"\"", "a b", "a/b", "\"a", &"a".repeat(129)] {
        assert_eq!(send(&optional, request("/things", key, "x")).await.0, 400, "{key}");
    }
    let mut twice = request("/things", "a", "x");
    twice.headers_mut().append(HEADER, HeaderValue::from_static("b"));
    assert_eq!(send(&optional, twice).await.0, 400);
    let without = |method: &str| {
        let request = Request::builder().method(method).uri("/things");
        request.body(Body::empty()).unwrap()
    };
    assert_eq!(send(&optional, without("POST")).await.0, 201);
    assert_eq!(send(&required, without("POST")).await.0, 400);
    assert_eq!(send(&required, without("PUT")).await.0, 201, "PUT is idempotent by itself");
}

#[tokio::test]
async fn the_number_of_requests_in_progress_is_bounded() {
    let state = memory();
    let key =
        |number: usize| Key { actor: Actor::Account(Uuid::nil()), text: number.to_string().into() };
    let claims: Vec<_> = (0..MAX_IN_PROGRESS)
        .map(|number| state.claim(&key(number), Fingerprint([0; 32])).unwrap())
        .collect();
    let refused = state.claim(&key(MAX_IN_PROGRESS), Fingerprint([0; 32])).err().unwrap();
    assert_eq!(refused.kind(), Kind::Unavailable);
    drop(claims);
    assert!(state.claim(&key(0), Fingerprint([0; 32])).is_ok());
}

/// A record that fails.
struct Broken;

impl Recorded for Broken {
    fn get<'a>(&'a self, _: &'a Key) -> Pending<'a, Option<Entry>> {
        Box::pin(async { Err(RecordError("it is on fire".into())) })
    }

    fn insert(&self, _: Key, _: Entry) -> Pending<'_, ()> {
        Box::pin(async { Err(RecordError("it is on fire".into())) })
    }
}

#[tokio::test]
async fn without_the_record_a_request_with_a_key_has_no_effect() {
    let stage = stage(201, Idempotency::new(Arc::new(Broken)));
    assert_eq!(send(&stage, request("/things", "abc", "x")).await.0, 503);
    assert_eq!(stage.effects.load(Ordering::SeqCst), 0);
}
