//! Private channels through the router: one `demo`, whose viewers need a token.

use http::Method;

use super::{testing, testing::token, *};
use crate::stage::{PART, Received, Stage, fetch};

const FAR: &str = r#"{"exp":4000000000,"channel":"demo"}"#;
const REFUSED: &str = "this needs a playback token\n";

/// `demo` is private, with three segments and an open one.
async fn private() -> Stage {
    private_with(&testing::config()).await
}

async fn private_with(rules: &Config) -> Stage {
    Stage::guarded(&crate::Config::default(), rules).await.begun().await
}

/// Every path of the channel that has media or a text.
fn paths(stage: &Stage) -> Vec<String> {
    let first = stage.first;
    let live = ["master.m3u8", "manifest.mpd", "plain.mpd", "v0.m3u8", "poster.jpg"];
    let media = ["init.0.mp4".into(), format!("{first}.m4s"), format!("{first}.0.m4s")];
    live.iter()
        .map(|file| format!("/live/demo/{file}"))
        .chain(media.iter().map(|file| stage.media(file)))
        .collect()
}

fn text(response: &Received) -> &str {
    std::str::from_utf8(&response.body).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_private_channel_is_403_without_a_token_and_200_with_one_in_each_form() {
    let stage = private().await;
    let token = token("first", FAR);
    let (bearer, cookie) = (format!("Bearer {token}"), format!("streamforge_playback={token}"));
    for path in paths(&stage) {
        for method in ["GET", "HEAD"] {
            let refused = stage.request(method, &path, &[]).await;
            assert_eq!(
                (refused.status.as_u16(), refused.header("cache-control")),
                (403, "no-store")
            );
        }
        assert_eq!(text(&stage.get(&path).await), REFUSED, "{path}");
        let whole = stage.get(&format!("/t/{token}{path}")).await;
        assert_eq!(whole.status, 200, "{path}: {}", text(&whole));
        for headers in [("authorization", &*bearer), ("cookie", &*cookie)] {
            let same = stage.request("GET", &path, &[headers]).await;
            assert_eq!((same.status.as_u16(), &same.body), (200, &whole.body), "{path}");
        }
        // The same lifetime as that of a public channel, but private.
        let control = whole.header("cache-control");
        assert!(control.starts_with("private, max-age="), "{path}: {control}");
        assert_eq!(whole.header("streamforge-private"), "", "only edges see the mark");
        let query = stage.get(&format!("{path}?token={token}&x=1")).await;
        assert_eq!((query.status.as_u16(), query.header("cache-control")), (307, "no-store"));
        let up = "../".repeat(path.matches('/').count() - 1);
        assert_eq!(query.header("location"), format!("{up}t/{token}{path}?x=1"));
    }
    // One signature was verified, for all these requests.
    assert_eq!(stage.playback.verifications(), 1);
    // Preflight requests have no token; other methods are refused for themselves.
    let path = "/live/demo/master.m3u8";
    assert_eq!(stage.request("OPTIONS", path, &[]).await.status, 204);
    assert_eq!(stage.request("POST", path, &[]).await.status, 405);
}

#[tokio::test(start_paused = true)]
async fn relative_addresses_stay_under_the_prefix() {
    let stage = private().await;
    let token = token("first", FAR);
    for list in ["master.m3u8", "v0.m3u8", "manifest.mpd", "plain.mpd"] {
        let response = stage.get(&format!("/t/{token}/live/demo/{list}")).await;
        let text = text(&response);
        // An absolute path would leave the prefix.
        assert!(!text.contains("=\"/") && !text.contains("\n/"), "{list}: {text}");
        assert!(!text.contains(&token), "one text serves all tokens");
    }
    assert_eq!(stage.get(&format!("/t/{token}/time")).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn tokens_that_do_not_open_the_channel_are_refused_with_the_reason() {
    let stage = private().await;
    let (id, other) = (stage.id, "01890a5d-ac96-774b-bcce-b302099a8057");
    let of = |claims: &str| token("first", claims);
    for (token, words) in [
        (of(r#"{"exp":4000000000,"channel":"other"}"#), "another presentation"),
        (of(&format!(r#"{{"exp":4000000000,"broadcast":"{other}"}}"#)), "another presentation"),
        (of(r#"{"exp":4000000000,"video":"demo"}"#), "another presentation"),
        (of(r#"{"exp":1000000000,"channel":"demo"}"#), "expired"),
        (of(r#"{"exp":4000000000,"nbf":3999999999,"channel":"demo"}"#), "not valid yet"),
        (of(r#"{"exp":4000000000,"channel":"demo","ip":"192.0.2.2"}"#), "another address"),
        (token("second", FAR), "signature"),
        (token("third", FAR), "names no key"),
        ("a.b.c".into(), "malformed"),
        ("x".into(), "malformed"),
    ] {
        for path in paths(&stage) {
            let response = stage.get(&format!("/t/{token}{path}")).await;
            assert_eq!(response.status, 403, "{path} {words}");
            assert!(text(&response).contains(words), "{path}: {}", text(&response));
            assert!(!text(&response).contains(&token));
        }
    }
    for claims in [
        format!(r#"{{"exp":4000000000,"broadcast":"{id}"}}"#),
        format!(r#"{{"exp":4000000000,"broadcast":"{id}","channel":"other"}}"#),
        r#"{"exp":4000000000,"channel":"demo","ip":"192.0.2.1"}"#.into(),
    ] {
        for path in paths(&stage) {
            let response = stage.get(&format!("/t/{}{path}", of(&claims))).await;
            assert_eq!(response.status, 200, "{path} {claims}: {}", text(&response));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whether_a_private_channel_is_live_is_not_revealed() {
    let rules = Config { private: vec!["absent".parse().unwrap()], ..testing::config() };
    let stage = private_with(&rules).await;
    let absent = stage.get("/live/absent/master.m3u8").await;
    assert_eq!((absent.status.as_u16(), text(&absent)), (403, REFUSED));
    let token = token("first", r#"{"exp":4000000000,"channel":"absent"}"#);
    let opened = stage.get(&format!("/t/{token}/live/absent/master.m3u8")).await;
    assert_eq!(
        (opened.status.as_u16(), opened.header("cache-control")),
        (404, "private, max-age=1")
    );
}

#[tokio::test(start_paused = true)]
async fn a_public_channel_ignores_tokens_and_verifies_none() {
    let rules = Config { private: vec!["other".parse().unwrap()], ..testing::config() };
    let stage = private_with(&rules).await;
    for path in paths(&stage) {
        for target in [path.clone(), format!("/t/anything{path}"), format!("{path}?token=a.b.c")] {
            let response = stage.get(&target).await;
            assert_eq!(response.status, 200, "{target}");
            assert!(response.header("cache-control").starts_with("public"), "{target}");
        }
    }
    for target in ["/t/anything/api/v1/streams", "/t//live/demo/v0.m3u8", "/t/x/t/x/time"] {
        assert_eq!(stage.get(target).await.status, 404, "{target}");
    }
    assert_eq!(stage.playback.verifications(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cdn_that_is_trusted_may_store_responses_under_the_prefix_only() {
    let stage = private_with(&Config { trusted_cdn: true, ..testing::config() }).await;
    let token = token("first", FAR);
    let path = stage.media(&format!("{}.m4s", stage.first));
    let prefixed = stage.get(&format!("/t/{token}{path}")).await;
    assert_eq!(prefixed.header("cache-control"), "public, max-age=31536000, immutable");
    // The address alone must not open it for others.
    let bearer = format!("Bearer {token}");
    let plain = stage.request("GET", &path, &[("authorization", &bearer)]).await;
    assert_eq!(plain.header("cache-control"), "private, max-age=31536000, immutable");
}

#[tokio::test(start_paused = true)]
async fn a_held_request_ends_although_its_token_does_not_open_the_next_one() {
    let mut stage = private().await;
    let token = token("first", FAR);
    let next = stage.first + 3;
    let path = format!("/t/{token}/live/demo/v0.m3u8?_HLS_msn={next}&_HLS_part=2");
    let router = Arc::clone(&stage.router);
    let fetching = tokio::spawn(async move { fetch(&router, "GET", &path, &[]).await });
    stage.settle().await;
    // All keys are replaced while it waits.
    stage.playback.reload(&Config { keys: vec![], ..testing::config() });
    stage.push(PART).await;
    let held = fetching.await.unwrap();
    assert_eq!(held.status, 200, "{}", text(&held));
    assert!(held.header("cache-control").starts_with("private, max-age="));
    let later = stage.get(&format!("/t/{token}/live/demo/v0.m3u8")).await;
    assert_eq!(later.status, 403);
}

#[tokio::test(start_paused = true)]
async fn a_reload_rotates_keys_and_changes_which_channels_are_private() {
    let stage = private().await;
    let path = |token: &str| format!("/t/{token}/live/demo/v0.m3u8");
    let old = token("first", FAR);
    assert_eq!(stage.get(&path(&old)).await.status, 200);
    let mut keys = testing::config().keys;
    let edge = testing::ed_token("edge", FAR);
    keys.retain(|key| key.id != "first");
    stage.playback.reload(&Config { keys, ..testing::config() });
    assert_eq!(stage.get(&path(&old)).await.status, 403, "no verdict outlives its key");
    assert_eq!(stage.get(&path(&edge)).await.status, 200);
    stage.playback.reload(&Config::default());
    assert_eq!(stage.get("/live/demo/v0.m3u8").await.status, 200);
    stage.playback.reload(&testing::config());
    assert_eq!(stage.get("/live/demo/v0.m3u8").await.status, 403);
}

#[tokio::test(start_paused = true)]
async fn the_watch_page_is_public_and_a_first_request_leads_it_under_the_prefix() {
    let stage = private().await;
    let token = token("first", FAR);
    let first = stage.get(&format!("/watch/demo?token={token}")).await;
    let location = format!("../t/{token}/watch/demo");
    assert_eq!((first.status.as_u16(), first.header("location")), (307, &*location));
    for path in ["/watch/demo".into(), format!("/t/{token}/watch/demo")] {
        assert_eq!(stage.get(&path).await.status, 200, "{path}");
    }
    assert_eq!(stage.get(&format!("/t/{token}/watch/player.js")).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn edges_get_the_mark_and_may_be_exempt_from_the_address() {
    let stage = private().await;
    let bound = token("first", r#"{"exp":4000000000,"channel":"demo","ip":"198.51.100.1"}"#);
    let bearer = format!("Bearer {bound}");
    let headers = [("authorization", &*bearer), ("cdn-loop", "streamforge-1")];
    let path = stage.media(&format!("{}.m4s", stage.first));
    assert_eq!(stage.request("GET", &path, &headers).await.status, 403);
    // The address from which the tests send requests.
    let edges = vec!["192.0.2.1".parse().unwrap()];
    stage.playback.reload(&Config { edges, ..testing::config() });
    for path in [path, "/live/demo/v0.m3u8".into()] {
        let response = stage.request("GET", &path, &headers).await;
        assert_eq!(response.status, 200);
        assert_eq!(response.header("streamforge-private"), format!("demo {}", stage.id));
    }
}

#[tokio::test]
async fn a_directory_decides_beside_the_configuration() {
    struct Odd;
    impl Visibility for Odd {
        fn is_private(&self, channel: &ChannelName) -> bool {
            channel.as_str().len() % 2 == 1
        }
    }
    let playback = Playback::new(&testing::config()).with_directory(Box::new(Odd));
    let private = |name: &str| playback.is_private(&name.parse().unwrap());
    assert!(private("demo") && private("odd") && !private("even"));
    playback.reload(&Config::default());
    assert!(!private("demo") && private("odd"));
}

#[test]
fn an_edge_forwards_only_valid_tokens_that_may_open_the_channel() {
    let playback = Playback::new(&testing::config());
    let forwarded = |claims: &str, channel: Option<&str>| {
        let bearer = format!("Bearer {}", token("first", claims));
        let request = http::Request::builder().method(Method::GET).header("authorization", bearer);
        let head = request.body(()).unwrap().into_parts().0;
        let channel = channel.map(|name| name.parse().unwrap());
        playback.forwardable(&head, [192, 0, 2, 1].into(), channel.as_ref()).is_some()
    };
    assert!(forwarded(FAR, None) && forwarded(FAR, Some("demo")));
    assert!(!forwarded(FAR, Some("other")));
    assert!(!forwarded(r#"{"exp":1,"channel":"demo"}"#, None));
    assert!(!forwarded(r#"{"exp":4000000000,"channel":"demo","ip":"192.0.2.9"}"#, None));
    let broadcast = r#"{"exp":4000000000,"broadcast":"01890a5d-ac96-774b-bcce-b302099a8057"}"#;
    assert!(forwarded(broadcast, Some("other")), "it may be its broadcast");
    let mut empty = http::Request::new(()).into_parts().0;
    *empty.headers.entry("authorization").or_insert(http::HeaderValue::from_static("x")) =
        http::HeaderValue::from_static("Bearer a.b.c");
    assert_eq!(playback.forwardable(&empty, [192, 0, 2, 1].into(), None), None);
}

#[test]
fn refusals_and_verifications_are_counted() {
    let playback = Playback::new(&testing::config());
    let mut registry = Registry::with_prefix("streamforge");
    playback.register(&mut registry);
    let channel = "demo".parse().unwrap();
    let check =
        |token: Option<&str>| playback.check_token(token, [192, 0, 2, 1].into(), &channel, None);
    assert_eq!(check(None), Err(Refused::Missing));
    for _ in 0..3 {
        assert_eq!(check(Some(&token("first", FAR))), Ok(()));
        assert_eq!(check(Some("a.b.c")), Err(Refused::Malformed));
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "streamforge_playback_refusals_total{reason=\"missing\"} 1",
        "streamforge_playback_refusals_total{reason=\"malformed\"} 3",
        "streamforge_playback_refusals_total{reason=\"expired\"} 0",
        "streamforge_playback_verifications_total 4",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[test]
fn no_debug_output_shows_a_token() {
    let playback = Playback::new(&testing::config());
    let token = token("first", FAR);
    let mut head = http::Request::get(format!("/t/{token}/time")).body(()).unwrap().into_parts().0;
    assert!(take_from_path(&mut head));
    assert!(!format!("{head:?} {playback:?}").contains(&token));
}
