//! One request for many viewers, and the lifetime of its response: without failures.

use super::*;

#[tokio::test(start_paused = true)]
async fn fifty_requests_for_the_next_part_are_one_request_to_the_origin() {
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let origin = Scripted::new(move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            response(200, &[("cache-control", "public, max-age=24"), ("etag", "\"1\"")], "#EXTM3U")
        }
    });
    let edge = edge_of(&[&origin]);
    let fetching: Vec<_> = (0..50)
        .map(|n| {
            let edge = Arc::clone(&edge);
            // Each writes it in another form.
            let target =
                format!("{PLAYLIST}?viewer={n}&_HLS_part={}2&_HLS_msn=7", "0".repeat(n % 5));
            tokio::spawn(async move { get(&edge, &target).await })
        })
        .collect();
    settle().await;
    assert_eq!(edge.metrics.waiting.get(), 50);
    go.notify_one();
    let mut outcomes = Vec::new();
    for fetching in fetching {
        let (status, text, outcome) = fetching.await.unwrap();
        assert_eq!((status, &*text), (200, "#EXTM3U"));
        outcomes.push(outcome);
    }
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "miss").count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "shared").count(), 49);
    assert_eq!(get(&edge, &format!("{PLAYLIST}?_HLS_msn=7&_HLS_part=2")).await.2, "hit");
    let requested = origin
        .requests
        .lock()
        .unwrap()
        .iter()
        .map(|(target, _)| target.clone())
        .collect::<Vec<_>>();
    assert_eq!(requested, [format!("{PLAYLIST}?_HLS_msn=7&_HLS_part=2")]);
    assert_eq!(edge.metrics.waiting.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn only_known_header_fields_pass_between_viewers_and_the_origin() {
    let origin = Scripted::responding(
        200,
        &[
            ("cache-control", "max-age=1"),
            ("set-cookie", "a=b"),
            ("server", "x"),
            ("content-type", "text/x"),
        ],
        "text",
    );
    let edge = edge_of(&[&origin]);
    let headers = [
        ("cookie", "secret"),
        ("authorization", "secret"),
        ("range", "bytes=0-"),
        ("if-none-match", "\"x\""),
        ("x-other", "y"),
        ("accept-encoding", "br, gzip"),
    ];
    let (status, headers, _) = fetch(&edge, &format!("{MASTER}?token=secret"), &headers).await;
    assert_eq!(status, 200);
    let mut names: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["age", "cache-control", "content-type", "date", "server-timing", "via"]);
    {
        let requested = origin.requests.lock().unwrap();
        assert_eq!(requested[0].0, MASTER);
        let mut names: Vec<_> = requested[0].1.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept-encoding", "cdn-loop", "host", "user-agent", "via"]);
    }
    assert_eq!(origin.header(0, "accept-encoding"), "gzip");
}

#[tokio::test(start_paused = true)]
async fn a_response_is_served_for_its_lifetime_and_then_revalidated() {
    let origin = Scripted::new(|request| async move {
        let headers = [("cache-control", "public, max-age=2"), ("etag", "\"1\"")];
        match request.headers().get("if-none-match") {
            Some(tag) if tag == "\"1\"" => response(304, &headers, ""),
            _ => response(200, &headers, "text"),
        }
    });
    let edge = edge_of(&[&origin]);
    let age = |headers: &HeaderMap| headers["age"].to_str().unwrap().to_owned();
    for (requested, became, old) in
        [(1, "miss", "0"), (1, "hit", "1"), (2, "miss", "0"), (2, "hit", "1"), (3, "miss", "0")]
    {
        let (status, headers, body) = fetch(&edge, MASTER, &[]).await;
        assert_eq!(
            (status, &body[..], &*outcome(&headers), &*age(&headers)),
            (200, &b"text"[..], became, old)
        );
        assert_eq!(origin.requests(), requested);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(origin.header(2, "if-none-match"), "\"1\"");
}

#[tokio::test(start_paused = true)]
async fn a_404_is_cached_for_its_lifetime() {
    let origin = Scripted::responding(404, &[("cache-control", "public, max-age=4")], "no");
    let edge = edge_of(&[&origin]);
    assert_eq!(get(&edge, SEGMENT_1).await, fetched(404, "no", "miss"));
    sleep(Duration::from_millis(3_900)).await;
    assert_eq!(get(&edge, SEGMENT_1).await, fetched(404, "no", "hit"));
    sleep(Duration::from_millis(200)).await;
    assert_eq!(get(&edge, SEGMENT_1).await, fetched(404, "no", "miss"));
    assert_eq!(origin.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_forwarded_and_cached_for_a_limited_time() {
    let origin =
        Scripted::responding(404, &[("cache-control", "public, max-age=3600, immutable")], "no");
    let edge = edge_of(&[&origin]);
    for (target, seconds) in
        [(SEGMENT_1.to_owned(), 4), (format!("{PLAYLIST}?_HLS_msn=7&_HLS_part=2"), 16)]
    {
        let before = origin.requests();
        for (wait, requested) in [(0, 1), (seconds - 1, 1), (1, 2)] {
            sleep(Duration::from_secs(wait)).await;
            let (status, headers, body) = fetch(&edge, &target, &[]).await;
            assert_eq!(
                (status, &body[..], origin.requests() - before),
                (404, &b"no"[..], requested)
            );
            assert_eq!(headers["cache-control"], format!("public, max-age={seconds}"));
        }
    }
    let broken = Scripted::responding(500, &[("cache-control", "max-age=3600, immutable")], "no");
    let (status, headers, _) = fetch(&edge_of(&[&broken]), SEGMENT_1, &[]).await;
    assert_eq!(
        (status, &headers["cache-control"]),
        (500, &HeaderValue::from_static("public, max-age=4"))
    );
}

#[tokio::test(start_paused = true)]
async fn via_names_the_edge_in_both_directions() {
    let headers = &[("cache-control", "max-age=9"), ("via", "1.1 before")];
    let origin = Scripted::responding(200, headers, "text");
    let edge = edge_of(&[&origin]);
    let ours = edge.identity.to_str().unwrap().to_owned();
    for _ in ["miss", "hit"] {
        let (_, headers, _) = fetch(&edge, MASTER, &[("via", "1.0 fred")]).await;
        let via: Vec<_> = headers.get_all("via").iter().collect();
        assert_eq!(via, ["1.1 before", &*format!("1.1 {ours}")]);
    }
    let requested = origin.requests.lock().unwrap();
    let via: Vec<_> = requested[0].1.get_all("via").iter().collect();
    assert_eq!(via, ["1.0 fred", &*format!("1.1 {ours}")]);
}

#[tokio::test(start_paused = true)]
async fn an_open_segment_is_streamed_as_it_grows_and_late_readers_get_all_of_it() {
    let (sender, body) = Channel::<Bytes, Infallible>::new(4);
    let body = Mutex::new(Some(body));
    let origin = Scripted::new(move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async move {
            let headers =
                [("cache-control", "max-age=24, immutable"), ("content-type", "video/iso.segment")];
            with_body(200, &headers, body.boxed())
        }
    });
    let mut sender = sender;
    let edge = edge_of(&[&origin]);
    let mut first = begin(&edge, Method::GET, SEGMENT_1, &[]).await.into_body();
    let one = Bytes::from(vec![b'1'; 2_000]);
    sender.send_data(one.clone()).await.unwrap();
    let piece = first.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(piece.pieces(), [&one]);
    let late = begin(&edge, Method::GET, SEGMENT_1, &[("range", "bytes=0-")]).await;
    assert_eq!((late.status(), &*outcome(late.headers())), (StatusCode::OK, "shared"));
    drop(first);
    let mut late = late.into_body();
    let again = late.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(again.pieces()[0].as_ptr(), piece.pieces()[0].as_ptr());
    drop(late);
    // Nobody reads it, and it continues.
    sender.send_data(Bytes::from_static(b"two")).await.unwrap();
    drop(sender);
    settle().await;
    let (status, text, outcome_of) = get(&edge, SEGMENT_1).await;
    assert_eq!((status, &text[2_000..], &*outcome_of), (200, "two", "hit"));
    assert_eq!(origin.requests(), 1);
    // Its length is known now, so it has ranges.
    let (status, headers, body) = fetch(&edge, SEGMENT_1, &[("range", "bytes=2000-")]).await;
    assert_eq!(
        (status, &body[..], &headers["content-range"]),
        (206, &b"two"[..], &HeaderValue::from_static("bytes 2000-2002/2003"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_fetch_continues_while_a_request_waits_and_is_cancelled_after_the_last() {
    struct Gone(Arc<AtomicUsize>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (go, gone) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (gate, given_up) = (Arc::clone(&go), Arc::clone(&gone));
    let origin = Scripted::new(move |_| {
        let (gate, given_up) = (Arc::clone(&gate), Gone(Arc::clone(&given_up)));
        async move {
            gate.notified().await;
            std::mem::forget(given_up);
            response(200, &[("cache-control", "max-age=9")], "text")
        }
    });
    let edge = edge_of(&[&origin]);
    let fetching = || {
        let edge = Arc::clone(&edge);
        tokio::spawn(async move { get(&edge, PART_1).await })
    };
    let (first, second) = (fetching(), fetching());
    settle().await;
    first.abort();
    settle().await;
    assert_eq!(gone.load(Ordering::Relaxed), 0);
    go.notify_one();
    assert_eq!(second.await.unwrap(), fetched(200, "text", "shared"));
    // Only one:
    sleep(Duration::from_secs(10)).await;
    let alone = fetching();
    settle().await;
    alone.abort();
    settle().await;
    assert_eq!(gone.load(Ordering::Relaxed), 1);
    assert_eq!(edge.cache.len(), 1); // what was there before
    go.notify_one();
    assert_eq!(fetching().await.unwrap(), fetched(200, "text", "miss"));
}

#[tokio::test(start_paused = true)]
async fn ranges_conditions_and_head_get_responses_from_the_cache() {
    let origin = Scripted::responding(
        200,
        &[
            ("cache-control", "max-age=9, immutable"),
            ("etag", "\"1\""),
            ("accept-ranges", "bytes"),
            ("content-type", "video/mp4"),
        ],
        "0123456789",
    );
    let edge = edge_of(&[&origin]);
    // The first itself requests a range, and the whole object is requested from the origin.
    for (range, status, body, content_range) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=-3", 206, "789", "bytes 7-9/10"),
        ("bytes=8-99", 206, "89", "bytes 8-9/10"),
        ("bytes=10-", 416, "the range begins after the end\n", "bytes */10"),
        ("pages=1-2", 200, "0123456789", ""),
    ] {
        let (found, headers, bytes) = fetch(&edge, SEGMENT_1, &[("range", range)]).await;
        assert_eq!((found, &bytes[..]), (status, body.as_bytes()), "{range}");
        assert_eq!(
            headers.get("content-range").map_or("", |value| value.to_str().unwrap()),
            content_range
        );
    }
    let same = [("range", "bytes=0-0"), ("if-range", "\"1\"")];
    assert_eq!(fetch(&edge, SEGMENT_1, &same).await.0, 206);
    let other = [("range", "bytes=0-0"), ("if-range", "\"2\"")];
    assert_eq!(fetch(&edge, SEGMENT_1, &other).await.0, 200);
    let (status, headers, body) =
        fetch(&edge, SEGMENT_1, &[("if-none-match", "\"0\", W/\"1\"")]).await;
    assert_eq!((status, body.len(), headers.contains_key("content-type")), (304, 0, false));
    assert_eq!(headers["etag"], "\"1\"");
    let head = begin(&edge, Method::HEAD, SEGMENT_1, &[("range", "bytes=0-0")]).await;
    assert_eq!((head.status(), head.body().len()), (StatusCode::OK, Some(10)));
    assert_eq!(origin.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_varies_by_cookie_is_not_cached_and_keeps_its_vary_fields() {
    let fields =
        [("cache-control", "max-age=9"), ("vary", "Accept-Encoding, Origin"), ("vary", "Cookie")];
    let origin = Scripted::new(move |_| async move { response(200, &fields, "text") });
    let edge = edge_of(&[&origin]);
    for requested in 1..=2 {
        let (status, headers, body) = fetch(&edge, MASTER, &[]).await;
        assert_eq!((status, &body[..], &*outcome(&headers)), (200, &b"text"[..], "miss"));
        let vary: Vec<_> = headers.get_all("vary").iter().collect();
        assert_eq!(vary, ["Accept-Encoding, Origin", "Cookie"]);
        assert_eq!(origin.requests(), requested);
    }
}
