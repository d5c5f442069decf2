//! Playback tokens for the viewers of a channel.

use control_domain::{Actor, Role};
use serde_json::json;

use super::{site::Site, *};

const PATH: &str = "/api/v1/playback-tokens";

#[tokio::test]
async fn the_owner_and_moderators_admit_viewers_of_a_channel() {
    let site = Site::new("admit").await;
    let ada = site.account("ada", Role::Creator).await;
    let new = json!({ "name": "secret", "visibility": "private" });
    let (_, channel) = site.post(ada, "/api/v1/channels", new).await;
    site.post(ada, "/api/v1/channels", json!({ "name": "open" })).await;
    let wanted = json!({ "channel": "secret", "expires_in": 600, "client_address": "192.0.2.7" });
    let (status, token) = site.post(ada, PATH, wanted).await;
    assert_eq!(status, StatusCode::CREATED, "{token}");
    let text = token["token"].as_str().expect("a text");
    // Less by the second that has begun.
    assert!(["secret~192.0.2.7~600", "secret~192.0.2.7~599"].contains(&text), "{text}");
    assert_eq!(token["hls"], format!("/t/{text}/live/secret/master.m3u8"));
    assert_eq!(token["dash"], format!("/t/{text}/live/secret/manifest.mpd"));

    let moderator = site.account("mod", Role::Moderator).await;
    let by_id = json!({ "channel": channel["id"] });
    let (status, token) = site.post(moderator, PATH, by_id).await;
    assert_eq!(status, StatusCode::CREATED, "{token}");
    assert!(token["token"].as_str().is_some_and(|text| text.starts_with("secret~any~3")));

    let eve = site.account("eve", Role::Creator).await;
    for (actor, channel, expected) in [
        (eve, "secret", 404),
        (Actor::Anonymous, "secret", 404),
        (eve, "open", 403),
        (Actor::Anonymous, "open", 401),
        (eve, "nowhere", 404),
    ] {
        let (status, problem) = site.post(actor, PATH, json!({ "channel": channel })).await;
        assert_eq!(status.as_u16(), expected, "{actor:?} {channel} {problem}");
    }
}

#[tokio::test]
async fn the_life_of_a_token_is_limited_and_its_key_is_public() {
    let site = Site::new("life-of-token").await;
    let ada = site.account("ada", Role::Creator).await;
    site.post(ada, "/api/v1/channels", json!({ "name": "ada" })).await;
    for (life, expected) in [(59, 422), (60, 201), (604_800, 201), (604_801, 422)] {
        let wanted = json!({ "channel": "ada", "expires_in": life });
        let (status, body) = site.post(ada, PATH, wanted).await;
        assert_eq!(status.as_u16(), expected, "{life} {body}");
    }
    let (status, key) = site.get(Actor::Anonymous, "/api/v1/playback-tokens/key").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(key, json!({ "id": "kid", "public_key": "PEM" }));
}
