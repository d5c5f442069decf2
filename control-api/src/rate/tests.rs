use axum::{Router, body::Body, middleware::from_fn_with_state, routing::get};
use governor::clock::{Clock as _, FakeRelativeClock};
use http::{StatusCode, header};
use tower::ServiceExt;
use uuid::Uuid;

use super::*;

fn limiter() -> (FakeRelativeClock, Arc<Limiter>) {
    let clock = FakeRelativeClock::default();
    let source = clock.clone();
    let limiter = Limiter::with_clock(Limits::default(), move || source.now().into());
    (clock, Arc::new(limiter))
}

fn router(layers: &[Counted]) -> Router {
    let router = Router::new().route("/", get(|| async {}));
    layers
        .iter()
        .fold(router, |router, counted| router.layer(from_fn_with_state(counted.clone(), limit)))
}

fn request(address: &str) -> Request {
    let mut request = Request::new(Body::empty());
    request.extensions_mut().insert(Caller { address: address.parse().unwrap(), ours: false });
    request
}

async fn send(router: &Router, request: Request) -> Response {
    router.clone().oneshot(request).await.unwrap()
}

fn fields<'a>(response: &'a Response, name: &HeaderName) -> Vec<&'a str> {
    response.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn each_class_refuses_its_sixteenth_third_fourth_or_eleventh_request() {
    for (class, requests, window) in [
        (Class::Api, 50, 10),
        (Class::Login, 15, 300),
        (Class::SignUp, 2, 300),
        (Class::Mail, 3, 300),
        (Class::MailedToken, 10, 300),
    ] {
        let (clock, limiter) = limiter();
        let router = router(&[limiter.by_address(class)]);
        let name = class.name();
        for remaining in (0..requests).rev() {
            let response = send(&router, request("192.0.2.1")).await;
            assert_eq!(response.status(), StatusCode::OK, "{class:?} {remaining}");
            let policy = format!("\"{name}\";q={requests};w={window}");
            assert_eq!(fields(&response, &POLICY), [policy]);
            let rest = fields(&response, &REST)[0];
            assert!(rest.starts_with(&format!("\"{name}\";r={remaining};t=")), "{rest}");
        }
        let response = send(&router, request("192.0.2.1")).await;
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS, "{class:?}");
        let wait = u64::div_ceil(window, requests);
        assert_eq!(response.headers()[header::RETRY_AFTER], wait.to_string());
        assert_eq!(fields(&response, &REST), [format!("\"{name}\";r=0;t={wait}")]);
        clock.advance(Duration::from_secs(wait));
        assert_eq!(send(&router, request("192.0.2.1")).await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_64_prefix_of_ipv6_has_one_share() {
    let (_, limiter) = limiter();
    let router = router(&[limiter.by_address(Class::SignUp)]);
    for (address, expected) in [
        ("2001:db8::1", 200),
        ("2001:db8::2", 200),
        ("2001:db8::ffff:3", 429),
        ("2001:db8:0:1::1", 200),
        ("::ffff:192.0.2.1", 200),
        ("192.0.2.1", 200),
        ("192.0.2.1", 429),
    ] {
        assert_eq!(send(&router, request(address)).await.status(), expected, "{address}");
    }
}

#[tokio::test]
async fn loopback_is_exempt_from_the_class_of_all_routes_only() {
    let (_, limiter) = limiter();
    let api = router(&[limiter.by_address(Class::Api)]);
    let login = router(&[limiter.by_address(Class::Login)]);
    for _ in 0..100 {
        for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let response = send(&api, request(address)).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert!(!response.headers().contains_key(&POLICY));
        }
        send(&login, request("127.0.0.1")).await;
        let mut ours = request("192.0.2.1");
        ours.extensions_mut().insert(Caller { address: "192.0.2.1".parse().unwrap(), ours: true });
        assert_eq!(send(&login, ours).await.status(), StatusCode::OK, "counted elsewhere");
    }
    assert_eq!(send(&login, request("127.0.0.1")).await.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn an_account_has_one_share_from_all_addresses_and_both_limits_are_named() {
    let (_, limiter) = limiter();
    let router =
        router(&[limiter.by_account(Class::MailedToken), limiter.by_address(Class::MailedToken)]);
    let of = |account: u128, address: u8| {
        let mut request = request(&format!("192.0.2.{address}"));
        request.extensions_mut().insert(Account(Uuid::from_u128(account)));
        request
    };
    for address in 0..10 {
        let response = send(&router, of(1, address)).await;
        assert_eq!(response.status(), StatusCode::OK);
        let names = ["\"mailed-token-account\";q=10;w=300", "\"mailed-token\";q=10;w=300"];
        assert_eq!(fields(&response, &POLICY), names);
    }
    assert_eq!(send(&router, of(1, 11)).await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(send(&router, of(2, 11)).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn new_limits_apply_at_once_and_unchanged_ones_keep_their_shares() {
    let (_, limiter) = limiter();
    let router = router(&[limiter.by_address(Class::SignUp)]);
    let status = async || send(&router, request("192.0.2.1")).await.status().as_u16();
    assert_eq!((status().await, status().await, status().await), (200, 200, 429));
    limiter.set(Limits { api: None, ..Limits::default() });
    assert_eq!(status().await, 429);
    limiter.set(Limits { sign_up: "1/1s".parse().ok(), ..Limits::default() });
    assert_eq!((status().await, status().await), (200, 429));
    limiter.set(Limits { sign_up: None, ..Limits::default() });
    assert_eq!((status().await, status().await), (200, 200));
}
