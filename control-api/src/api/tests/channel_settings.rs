//! The settings of a channel through the routes.

use control_domain::{Actor, Role, features::categories};
use serde_json::json;

use super::{site::Site, *};

const PATH: &str = "/api/v1/channels/ada/settings";

#[tokio::test]
async fn settings_are_patched_member_by_member_and_null_removes_a_value() {
    let site = Site::new("settings").await;
    let ada = site.account("ada", Role::Creator).await;
    site.channel(ada, "ada").await;
    let (status, headers, shown) = site.send(ada, Method::GET, PATH, Value::Null, &[]).await;
    let defaults = json!({
        "ladder": "on", "recording": false, "reconnect_s": null, "latency": "low",
        "publish": "keys", "category": null, "language": null,
    });
    assert_eq!((status, &shown), (StatusCode::OK, &defaults));
    let read = headers[header::ETAG].to_str().expect("text").to_owned();

    let make = categories::commands::Make {
        name: "Music".parse().expect("a name"),
        translations: categories::events::Translations::default(),
    };
    let category = site.platform.send(Actor::System, make).await.expect("the name is free").done;
    let patch = json!({
        "ladder": { "rungs": [360, 720] }, "recording": true, "reconnect_s": 30,
        "latency": "standard", "publish": "jwt", "category": category, "language": "PT-br",
    });
    let fields = [("if-match", read.as_str())];
    let (status, headers, changed) = site.send(ada, Method::PATCH, PATH, patch, &fields).await;
    assert_eq!(status, StatusCode::OK, "{changed}");
    let expected = json!({
        "ladder": { "rungs": [720, 360] }, "recording": true, "reconnect_s": 30,
        "latency": "standard", "publish": "jwt", "category": category, "language": "pt-BR",
    });
    assert_eq!(changed, expected);
    let tag = headers[header::ETAG].to_str().expect("text").to_owned();
    assert!(tag != read && headers.contains_key("sf-sequence"));

    // They are no longer as they were read.
    let patch = json!({ "language": null, "reconnect_s": null });
    let (status, ..) = site.send(ada, Method::PATCH, PATH, patch.clone(), &fields).await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED);
    let fields = [("if-match", tag.as_str())];
    let (status, _, changed) = site.send(ada, Method::PATCH, PATH, patch, &fields).await;
    assert_eq!(status, StatusCode::OK, "{changed}");
    assert_eq!((&changed["language"], &changed["reconnect_s"]), (&json!(null), &json!(null)));
    assert_eq!(changed["category"], json!(category));
    assert_eq!(site.get(ada, PATH).await.1, changed);
}

#[tokio::test]
async fn settings_out_of_their_range_are_refused_and_nothing_changes() {
    let site = Site::new("ranges").await;
    let ada = site.account("ada", Role::Creator).await;
    site.channel(ada, "ada").await;
    let unknown = "00000000-0000-7000-8000-000000000000";
    for (patch, expected) in [
        (json!({ "reconnect_s": 3601 }), 422),
        (json!({ "ladder": { "rungs": [361] } }), 422),
        (json!({ "ladder": "fast" }), 422),
        (json!({ "language": "not a language" }), 422),
        (json!({ "version": 1 }), 422),
        (json!({ "category": unknown, "recording": true }), 404),
    ] {
        let (status, _, problem) = site.send(ada, Method::PATCH, PATH, patch.clone(), &[]).await;
        assert_eq!(status.as_u16(), expected, "{patch} {problem}");
    }
    assert_eq!(site.get(ada, PATH).await.1["recording"], false);
}

#[tokio::test]
async fn settings_are_read_by_the_owner_and_moderators_and_changed_by_fewer() {
    let site = Site::new("readers").await;
    let ada = site.account("ada", Role::Creator).await;
    site.channel(ada, "ada").await;
    let eve = site.account("eve", Role::Creator).await;
    let moderator = site.account("mod", Role::Moderator).await;
    let administrator = site.account("adm", Role::Administrator).await;
    for (actor, read, changed) in [
        (Actor::Anonymous, 401, 401),
        (eve, 403, 403),
        (moderator, 200, 403),
        (administrator, 200, 200),
        (ada, 200, 200),
    ] {
        assert_eq!(site.get(actor, PATH).await.0.as_u16(), read, "{actor:?}");
        let patch = json!({ "recording": true });
        let (status, ..) = site.send(actor, Method::PATCH, PATH, patch, &[]).await;
        assert_eq!(status.as_u16(), changed, "{actor:?}");
    }
}
