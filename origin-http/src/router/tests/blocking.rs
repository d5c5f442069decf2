//! Requests for future media: which ones wait, for how long, and their responses.

use super::*;
use crate::router::listing::FIRST_WAIT;

#[tokio::test(start_paused = true)]
async fn only_a_held_response_has_a_server_timing_field() {
    let mut stage = Stage::live().await;
    let open = stage.first + 3;
    let path = format!("/live/demo/v0.m3u8?_HLS_msn={open}&_HLS_part=2");
    let router = Arc::clone(&stage.router);
    let waiting = tokio::spawn(async move { fetch(&router, "GET", &path, &[]).await });
    stage.settle().await;
    tokio::time::advance(Duration::from_millis(150)).await;
    stage.push(PART).await;
    assert_eq!(waiting.await.unwrap().header("server-timing"), "hold;dur=150.0");
    assert_eq!(stage.get("/live/demo/v0.m3u8").await.header("server-timing"), "");
}

#[tokio::test(start_paused = true)]
async fn a_blocking_request_gets_a_response_when_its_part_or_segment_is_there() {
    let mut stage = Stage::live().await;
    let open = stage.first + 3;
    let old = stage.get(&format!("/live/demo/v0.m3u8?_HLS_msn={}", stage.first)).await;
    assert_eq!((old.status, old.header("cache-control")), (StatusCode::OK, "public, max-age=12"));
    let request = |query: String| {
        let router = Arc::clone(&stage.router);
        tokio::spawn(async move {
            fetch(&router, "GET", &format!("/live/demo/v0.m3u8?{query}"), &[]).await
        })
    };
    let part = request(format!("_HLS_msn={open}&_HLS_part=2&_HLS_skip=YES"));
    let segment = request(format!("_HLS_msn={open}"));
    stage.settle().await;
    assert!(!part.is_finished() && !segment.is_finished());
    assert_eq!(stage.metrics.waiting.get(), 2);
    stage.push(PART).await;
    assert!(part.is_finished() && !segment.is_finished());
    let part = part.await.unwrap();
    assert_eq!((part.status, part.header("cache-control")), (StatusCode::OK, "public, max-age=12"));
    assert!(String::from_utf8_lossy(&part.body).contains(&format!("{open}.2.m4s")));
    stage.push(2 * PART).await;
    assert!(!segment.is_finished(), "it is listed with the next part");
    stage.push(PART).await;
    let segment = segment.await.unwrap();
    assert_eq!(segment.status, StatusCode::OK);
    assert!(String::from_utf8_lossy(&segment.body).contains(&format!("{open}.m4s")));
    assert_eq!(stage.metrics.waiting.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_held_for_three_target_durations_at_most() {
    let stage = Stage::live().await;
    let begun = Instant::now();
    let open = stage.first + 3;
    let playlist = stage.get(&format!("/live/demo/v0.m3u8?_HLS_msn={open}")).await;
    assert_eq!(
        (playlist.status, playlist.header("cache-control")),
        (StatusCode::SERVICE_UNAVAILABLE, "public, max-age=8")
    );
    assert_eq!(begun.elapsed(), 3 * TARGET);
    let part = stage.get(&stage.media(&format!("{open}.2.m4s"))).await;
    assert_eq!(
        (part.status, part.header("cache-control")),
        (StatusCode::SERVICE_UNAVAILABLE, "public, max-age=2")
    );
    assert_eq!(begun.elapsed(), 6 * TARGET);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_leaves_no_waiter() {
    let stage = Stage::live().await;
    let path = format!("/live/demo/v0.m3u8?_HLS_msn={}", stage.first + 3);
    let gone = timeout(Duration::from_millis(1), stage.get(&path)).await;
    assert!(gone.is_err());
    assert_eq!(stage.metrics.waiting.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn after_the_end_directives_are_ignored_and_no_request_waits() {
    let mut stage = Stage::live().await;
    stage.end().await;
    let begun = Instant::now();
    for query in ["_HLS_msn=99999999999999", "_HLS_msn=1&_HLS_part=1&_HLS_skip=YES", ""] {
        let response = stage.get(&format!("/live/demo/v0.m3u8?{query}")).await;
        assert_eq!(response.status, StatusCode::OK);
        assert!(response.body.ends_with(b"#EXT-X-ENDLIST\n"), "{query}");
    }
    let response = stage.get(&stage.media(&format!("{}.0.m4s", stage.first + 4))).await;
    assert_eq!(response.status, StatusCode::NOT_FOUND);
    assert_eq!(Instant::now(), begun);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_broadcast_releases_waiting_requests() {
    let mut stage = Stage::live().await;
    let (router, path) =
        (Arc::clone(&stage.router), format!("/live/demo/v0.m3u8?_HLS_msn={}", stage.first + 4));
    let waiting = tokio::spawn(async move { fetch(&router, "GET", &path, &[]).await });
    stage.settle().await;
    assert!(!waiting.is_finished());
    stage.end().await;
    assert_eq!(waiting.await.unwrap().status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn requests_for_a_new_channel_wait_until_it_can_be_listed() {
    let mut stage = Stage::new().await;
    let router = Arc::clone(&stage.router);
    let early =
        tokio::spawn(async move { fetch(&router, "GET", "/live/demo/master.m3u8", &[]).await });
    stage.settle().await;
    assert!(!early.is_finished());
    stage.push(2 * SEGMENT).await;
    assert_eq!(early.await.unwrap().status, StatusCode::OK);

    let empty = Stage::new().await;
    let begun = Instant::now();
    let response = empty.get("/live/demo/master.m3u8").await;
    assert_eq!((response.status, begun.elapsed()), (StatusCode::SERVICE_UNAVAILABLE, FIRST_WAIT));
    assert_eq!(response.header("cache-control"), "public, max-age=1");
}

#[tokio::test(start_paused = true)]
async fn only_a_request_for_the_hinted_part_waits_until_it_is_complete() {
    let mut stage = Stage::live().await;
    let open = stage.first + 3;
    let (router, hinted) = (Arc::clone(&stage.router), stage.media(&format!("{open}.2.m4s")));
    let waiting = tokio::spawn(async move { fetch(&router, "GET", &hinted, &[]).await });
    for (file, lifetime) in [
        (format!("{open}.3.m4s"), "public, max-age=1"),
        (format!("{}.m4s", open + 1), "public, max-age=1"),
        (format!("{}.5.m4s", open - 1), "public, max-age=2"),
        (format!("{}.m4s", stage.first - 1), "public, max-age=2"),
    ] {
        let response = stage.get(&stage.media(&file)).await;
        assert_eq!(
            (response.status, response.header("cache-control")),
            (StatusCode::NOT_FOUND, lifetime),
            "{file}"
        );
    }
    assert!(!waiting.is_finished());
    stage.push(PART).await;
    let response = waiting.await.unwrap();
    assert_eq!(
        (response.status, response.header("cache-control")),
        (StatusCode::OK, "public, max-age=12, immutable")
    );
    assert_eq!(response.body, stage.get(&stage.media(&format!("{open}.2.m4s"))).await.body);
}
