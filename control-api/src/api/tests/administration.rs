//! The administrator's right to end broadcasts.

use super::*;

#[tokio::test]
async fn delete_by_the_administrator_ends_the_broadcast_and_revokes_its_publisher() {
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
async fn delete_without_a_valid_admin_token_is_refused() {
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
async fn a_new_admin_token_replaces_the_old_one() {
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
