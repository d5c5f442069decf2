//! Private channels at an edge: it has the keys, and learns from its origin which channels are
//! private.

use super::{whole::edge_of_stage, *};
use crate::{
    playback,
    playback::testing::{config, ed_token, token},
};

const FAR: &str = r#"{"exp":4000000000,"channel":"demo"}"#;

/// The rules of an edge: its keys, and no list of channels.
fn rules() -> Playback {
    Playback::new(&playback::Config { private: vec![], ..config() })
}

/// An origin whose channel `demo` is private.
async fn origin() -> Stage {
    // With an address of its own, manifests are the same for edges.
    let public_url = crate::PublicUrl::try_from("https://live.example".to_owned()).unwrap();
    let settings = crate::Config { public_url, ..crate::Config::default() };
    Stage::guarded(&settings, &config()).await.begun().await
}

async fn fetch_under(rules: &Playback, edge: &Arc<Edge>, target: &str) -> (u16, HeaderMap, Bytes) {
    let (head, body) = begin_under(rules, edge, Method::GET, target, &[]).await.into_parts();
    (head.status.as_u16(), head.headers, body.collect().await.unwrap().to_bytes())
}

fn texts_and_media(stage: &Stage) -> Vec<String> {
    let segment = stage.media(&format!("{}.m4s", stage.first));
    let part = stage.media(&format!("{}.1.m4s", stage.first + 3));
    [MASTER, PLAYLIST, "/live/demo/manifest.mpd", "/live/demo/poster.jpg", &segment, &part]
        .map(str::to_owned)
        .into()
}

#[tokio::test(start_paused = true)]
async fn viewers_with_different_tokens_share_an_object_and_others_are_refused() {
    let stage = origin().await;
    let (edge, rules) = (edge_of_stage(&stage), rules());
    let tokens = [token("first", FAR), ed_token("edge", FAR)];
    for path in texts_and_media(&stage) {
        let refused = fetch_under(&rules, &edge, &path).await;
        assert_eq!((refused.0, &refused.1["cache-control"]), (403, &"no-store".parse().unwrap()));
        let mut outcomes = Vec::new();
        let whole = stage.get(&format!("/t/{}{path}", tokens[0])).await;
        for token in &tokens {
            let (status, headers, body) =
                fetch_under(&rules, &edge, &format!("/t/{token}{path}")).await;
            assert_eq!((status, &body), (200, &whole.body), "{path}");
            assert_eq!(headers["cache-control"], whole.header("cache-control"), "{path}");
            assert!(!headers.contains_key("streamforge-private"), "{path}");
            outcomes.push(outcome(&headers));
        }
        assert_eq!(outcomes, ["miss", "hit"], "{path}");
        // In memory, and still refused.
        for target in [
            path.clone(),
            format!("/t/{}{path}", token("first", r#"{"exp":4000000000,"channel":"other"}"#)),
            format!("/t/{}{path}", token("first", r#"{"exp":1000000000,"channel":"demo"}"#)),
            format!("/t/{}{path}", token("second", FAR)),
        ] {
            let (status, headers, _) = fetch_under(&rules, &edge, &target).await;
            assert_eq!((status, &headers["cache-control"]), (403, &"no-store".parse().unwrap()));
        }
        let query = fetch_under(&rules, &edge, &format!("{path}?token={}", tokens[0])).await;
        assert_eq!(query.0, 307, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_of_the_broadcast_opens_it_at_an_edge() {
    let stage = origin().await;
    let (edge, rules) = (edge_of_stage(&stage), rules());
    let of = |id: &str| token("first", &format!(r#"{{"exp":4000000000,"broadcast":"{id}"}}"#));
    let (own, other) = (of(&stage.id.to_string()), of("01890a5d-ac96-774b-bcce-b302099a8057"));
    for path in texts_and_media(&stage) {
        assert_eq!(fetch_under(&rules, &edge, &format!("/t/{other}{path}")).await.0, 403, "{path}");
        assert_eq!(fetch_under(&rules, &edge, &format!("/t/{own}{path}")).await.0, 200, "{path}");
        assert_eq!(fetch_under(&rules, &edge, &format!("/t/{other}{path}")).await.0, 403, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_without_a_token_do_not_disturb_those_with_one() {
    let mut stage = origin().await;
    let (edge, rules) = (edge_of_stage(&stage), Arc::new(rules()));
    let reload = format!("{PLAYLIST}?_HLS_msn={}&_HLS_part=2", stage.first + 3);
    let fetching: Vec<_> = (0..20)
        .map(|n| {
            let token = token("first", FAR);
            let prefix = if n % 2 == 0 { String::new() } else { format!("/t/{token}") };
            let (edge, rules) = (Arc::clone(&edge), Arc::clone(&rules));
            let target = format!("{prefix}{reload}");
            tokio::spawn(async move { fetch_under(&rules, &edge, &target).await.0 })
        })
        .collect();
    settle().await;
    stage.push(PART).await;
    for (n, fetching) in fetching.into_iter().enumerate() {
        assert_eq!(fetching.await.unwrap(), if n % 2 == 0 { 403 } else { 200 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_while_its_viewer_waits_opens_nothing() {
    let mut stage = origin().await;
    let (edge, rules) = (edge_of_stage(&stage), Arc::new(rules()));
    let fetching = |rules: &Arc<Playback>| {
        let target = format!(
            "/t/{}{PLAYLIST}?_HLS_msn={}&_HLS_part=2",
            token("first", FAR),
            stage.first + 3
        );
        let (edge, rules) = (Arc::clone(&edge), Arc::clone(rules));
        tokio::spawn(async move { fetch_under(&rules, &edge, &target).await.0 })
    };
    let (one, other) = (fetching(&rules), fetching(&Arc::new(self::rules())));
    settle().await;
    // The keys of one viewer are withdrawn; the fetch that it began goes on for the other.
    rules.reload(&playback::Config::default());
    stage.push(PART).await;
    assert_eq!((one.await.unwrap(), other.await.unwrap()), (403, 200));
}

#[tokio::test(start_paused = true)]
async fn the_edge_decides_whether_a_cdn_may_store_a_response() {
    let stage = origin().await;
    let edge = edge_of_stage(&stage);
    let trusting = Playback::new(&playback::Config { trusted_cdn: true, ..config() });
    let path = stage.media(&format!("{}.m4s", stage.first));
    for (rules, control) in [(&rules(), "private"), (&trusting, "public"), (&rules(), "private")] {
        let (status, headers, _) =
            fetch_under(rules, &edge, &format!("/t/{}{path}", token("first", FAR))).await;
        let expected = format!("{control}, max-age=31536000, immutable");
        assert_eq!((status, &headers["cache-control"]), (200, &expected.parse().unwrap()));
    }
}

#[tokio::test(start_paused = true)]
async fn the_origin_gets_the_token_and_no_other_credential() {
    let origin = Scripted::responding(200, &[("cache-control", "max-age=9")], "text");
    let (edge, rules) = (edge_of(&[&origin]), rules());
    let valid = token("first", FAR);
    let invalid = token("second", FAR);
    for (target, cookie, expected) in [
        (format!("/t/{valid}{MASTER}"), "a=b", format!("Bearer {valid}")),
        (MASTER.into(), &*format!("streamforge_playback={invalid}"), String::new()),
        (format!("/t/{invalid}{PLAYLIST}"), "a=b", String::new()),
    ] {
        let headers = [("cookie", cookie)];
        let response = begin_under(&rules, &edge, Method::GET, &target, &headers).await;
        assert_eq!(response.status(), 200);
        let last = origin.requests() - 1;
        assert_eq!(origin.header(last, "authorization"), expected);
        assert_eq!(origin.header(last, "cookie"), "");
        let path = origin.requests.lock().unwrap()[last].0.clone();
        assert!(!path.contains("/t/"), "{path}");
    }
}
