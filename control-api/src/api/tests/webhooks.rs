//! Webhooks through the routes.

use control_domain::{Actor, Role};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    site::{Site, id},
    *,
};

const PATH: &str = "/api/v1/webhooks";

#[tokio::test]
async fn a_webhook_is_made_shown_edited_disabled_and_deleted_and_its_secret_is_shown_once() {
    let site = Site::new("hooks").await;
    let ada = site.account("ada", Role::Viewer).await;
    let new = json!({ "url": "https://hooks.example.org/in", "types": ["streamforge.video.*"] });
    let (status, headers, made) = site.send(ada, Method::POST, PATH, new, &[]).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let path = headers[header::LOCATION].to_str().expect("text").to_owned();
    assert_eq!(path, format!("{PATH}/{}", made["id"].as_str().expect("an id")));
    let secret = made["secret"].as_str().expect("a secret").to_owned();
    assert!(secret.starts_with("whsec_") && secret.len() == 50, "{secret}");
    assert_eq!((&made["owner"], &made["disabled"]), (&json!(id(ada)), &json!(null)));

    let (status, headers, shown) = site.send(ada, Method::GET, &path, Value::Null, &[]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(shown.get("secret").is_none() && !shown.to_string().contains(&secret));
    let tag = headers[header::ETAG].to_str().expect("text").to_owned();
    let (_, listed) = site.get(ada, PATH).await;
    assert_eq!(listed, json!({ "webhooks": [shown] }));

    let edit = json!({ "types": ["*"] });
    let fields = [("if-match", tag.as_str())];
    let (status, _, edited) = site.send(ada, Method::PATCH, &path, edit.clone(), &fields).await;
    assert_eq!((status, &edited["types"]), (StatusCode::OK, &json!(["*"])));
    let (status, ..) = site.send(ada, Method::PATCH, &path, edit, &fields).await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED);

    let given = format!("whsec_{}", "QUJD".repeat(8));
    let rotate = format!("{path}/rotate-secret");
    let (status, rotated) = site.post(ada, &rotate, json!({ "secret": given })).await;
    assert_eq!((status, &rotated["secret"]), (StatusCode::OK, &json!(given)));
    let (_, rotated) = site.post(ada, &rotate, json!({})).await;
    assert_ne!(rotated["secret"], json!(given));
    let (status, disabled) = site.post(ada, &format!("{path}/disable"), Value::Null).await;
    assert_eq!((status, &disabled["disabled"]), (StatusCode::OK, &json!("owner")));
    let (_, enabled) = site.post(ada, &format!("{path}/enable"), Value::Null).await;
    assert_eq!(enabled["disabled"], json!(null));
    let (status, ..) = site.send(ada, Method::DELETE, &path, Value::Null, &[]).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(site.get(ada, &path).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn nobody_but_the_owner_and_administrators_reaches_a_webhook() {
    let site = Site::new("foreign-hooks").await;
    let ada = site.account("ada", Role::Creator).await;
    let eve = site.account("eve", Role::Moderator).await;
    let root = site.account("root", Role::Administrator).await;
    let new = json!({ "url": "https://hooks.example.org/in" });
    let (_, made) = site.post(ada, PATH, new.clone()).await;
    let path = format!("{PATH}/{}", made["id"].as_str().expect("an id"));
    let methods = [
        (Method::GET, "", Value::Null),
        (Method::PATCH, "", json!({ "types": ["*"] })),
        (Method::POST, "/rotate-secret", json!({})),
        (Method::POST, "/enable", Value::Null),
        (Method::POST, "/disable", Value::Null),
        (Method::POST, "/test", Value::Null),
        (Method::GET, "/deliveries", Value::Null),
        (Method::POST, "/deliveries/0190b0c0-0000-7000-8000-000000000000/replay", Value::Null),
        (Method::DELETE, "", Value::Null),
    ];
    for (method, under, body) in &methods {
        let path = format!("{path}{under}");
        for actor in [eve, Actor::Anonymous] {
            let (status, ..) = site.send(actor, method.clone(), &path, body.clone(), &[]).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{method} {under}");
        }
    }
    assert_eq!(site.get(root, &path).await.0, StatusCode::OK);
    let of_ada = format!("{PATH}?owner={}", id(ada));
    let status = async |actor, path: &str| site.get(actor, path).await.0.as_u16();
    assert_eq!(status(eve, &of_ada).await, 403);
    assert_eq!(status(Actor::Anonymous, PATH).await, 401);
    assert_eq!(status(root, &of_ada).await, 200);
    assert_eq!(site.post(Actor::Anonymous, PATH, new.clone()).await.0.as_u16(), 401);
    let mut for_ada = new.clone();
    for_ada["owner"] = json!(id(ada));
    assert_eq!(site.post(eve, PATH, for_ada.clone()).await.0.as_u16(), 403);
    assert_eq!(site.post(root, PATH, for_ada).await.0.as_u16(), 201);
    // The operator's own.
    let (status, made) = site.post(Actor::System, PATH, new).await;
    assert_eq!((status, &made["owner"]), (StatusCode::CREATED, &json!(null)));
    let (_, listed) = site.get(Actor::System, PATH).await;
    assert_eq!(listed["webhooks"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn addresses_that_are_internal_or_plain_are_refused() {
    let site = Site::new("inside").await;
    let ada = site.account("ada", Role::Creator).await;
    for url in [
        "http://hooks.example.org/in",
        "https://127.0.0.1/in",
        "https://169.254.169.254/latest",
        "https://[::1]/in",
        "https://[::ffff:10.0.0.1]/in",
        "ftp://hooks.example.org/",
        "https://user@hooks.example.org/",
    ] {
        let (status, problem) = site.post(ada, PATH, json!({ "url": url })).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{url} {problem}");
    }
    // A name is judged when it is resolved.
    let new = json!({ "url": "https://localhost:1/in" });
    let (_, made) = site.post(ada, PATH, new).await;
    let path = format!("{PATH}/{}", made["id"].as_str().expect("an id"));
    let (status, _) = site.post(ada, &format!("{path}/test"), Value::Null).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "deliveries have not begun");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(site.webhooks.clone().serve(site.folder.clone(), stop.clone()));
    let deliveries = format!("{path}/deliveries");
    while site.get(ada, &deliveries).await.0 == StatusCode::SERVICE_UNAVAILABLE {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (status, tested) = site.post(ada, &format!("{path}/test"), Value::Null).await;
    assert_eq!((status, &tested["state"]), (StatusCode::OK, &json!("failed")), "{tested}");
    assert!(tested["error"].as_str().expect("words").contains("internal"), "{tested}");
    let (_, listed) = site.get(ada, &deliveries).await;
    assert_eq!(listed["deliveries"], json!([tested]));
    let (status, _) = site
        .post(ada, &format!("{deliveries}/{}/replay", tested["id"].as_str().unwrap()), Value::Null)
        .await;
    assert_eq!(status, StatusCode::OK);
    stop.cancel();
    serving.await.expect("no panic");
}
