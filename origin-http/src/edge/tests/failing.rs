//! Origins that fail, hang, break off, lie or send too much, and limits that hold.

use super::*;

const INVALID: &str = "the origin's response is invalid\n";

#[tokio::test(start_paused = true)]
async fn the_next_origin_is_tried_when_one_fails_or_responds_with_a_server_error() {
    let headers = &[("cache-control", "max-age=1")];
    let (first, second) =
        (Scripted::responding(200, headers, "first"), Scripted::responding(200, headers, "second"));
    let edge = edge_of(&[&first, &second]);
    let path = |n: u32| format!("/live/c{n}/master.m3u8");
    assert_eq!(get(&edge, &path(0)).await, fetched(200, "first", "miss"));
    first.set_down(true);
    // Its connection is still open, so the next request finds it broken: none is lost.
    edge.stop().await;
    let edge = edge_of(&[&first, &second]);
    assert_eq!(get(&edge, &path(1)).await, fetched(200, "second", "miss"));
    let up = |edge: &Arc<Edge>, name: &str| edge.metrics.origin_is_up(name);
    assert_eq!((up(&edge, "0"), up(&edge, "1")), (0, 1));
    first.set_down(false);
    assert_eq!(get(&edge, &path(2)).await, fetched(200, "second", "miss"));
    sleep(Duration::from_millis(300)).await;
    assert_eq!(get(&edge, &path(3)).await, fetched(200, "first", "miss"));
    assert_eq!(up(&edge, "0"), 1);
    // Another origin's playlist would belong to another broadcast: a channel stays where it was
    // found.
    sleep(Duration::from_secs(2)).await;
    assert_eq!(get(&edge, &path(1)).await, fetched(200, "second", "miss"));

    let broken = Scripted::responding(503, headers, "not now");
    let edge = edge_of(&[&broken, &second]);
    assert_eq!(get(&edge, &path(0)).await, fetched(200, "second", "miss"));
    let edge = edge_of(&[&broken]);
    assert_eq!(get(&edge, &path(0)).await, fetched(503, "not now", "miss"));
    assert_eq!(get(&edge, &path(0)).await, fetched(503, "not now", "miss")); // kept by nobody
    assert_eq!(up(&edge, "0"), 1); // it responses
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_found_on_any_origin_and_is_502_when_that_origin_fails() {
    let without = Scripted::responding(404, &[("cache-control", "max-age=1")], "no such channel");
    let with = Scripted::responding(200, &[("cache-control", "max-age=1")], "here");
    let edge = edge_of(&[&without, &with]);
    assert_eq!(get(&edge, MASTER).await, fetched(200, "here", "miss"));
    assert_eq!(get(&edge, PLAYLIST).await, fetched(200, "here", "miss"));
    assert_eq!((without.requests(), with.requests()), (1, 2));
    with.set_down(true);
    // The connections that are open would outlive the failure.
    edge.stop().await;
    let edge = edge_of(&[&without, &with]);
    // The origin at which the channel was found.
    edge.origins.found(
        &key::Scope::Channel("demo".parse().unwrap()),
        &edge.origins.order(&key::Scope::Channel("x".parse().unwrap()))[1],
    );
    for target in [MASTER, PLAYLIST] {
        assert_eq!(get(&edge, target).await, fetched(502, "no origin responds\n", "error"));
    }
    // An edge that has never found the channel cannot know that it exists: the refusal of the
    // origin that responds precedes the fault of the other one. Otherwise one failed origin would
    // turn every wrong address into a fault.
    let edge = edge_of(&[&without, &with]);
    assert_eq!(get(&edge, MASTER).await, fetched(404, "no such channel", "miss"));
}

#[tokio::test(start_paused = true)]
async fn stale_playlists_are_served_for_a_limited_time_while_the_origin_is_down() {
    let origin = Scripted::responding(200, &[("cache-control", "public, max-age=2")], "text");
    let edge = edge_of(&[&origin]);
    assert_eq!(get(&edge, MASTER).await, fetched(200, "text", "miss"));
    origin.set_down(true);
    // Idle connections are closed after a while, as when the origin's process has ended.
    edge.stop().await;
    let before = Arc::clone(&edge);
    let edge = {
        let edge = edge_of(&[&origin]);
        let wanted = |edge: &Arc<Edge>| edge.cache.find(&master_key(), None, Instant::now());
        let (Found::Here(object, _), Found::Nothing(start, ..)) = (wanted(&before), wanted(&edge))
        else {
            panic!()
        };
        start.landing.land(Ok(object));
        edge
    };
    sleep(Duration::from_secs(3)).await;
    let began = Instant::now();
    let (status, headers, body) = fetch(&edge, MASTER, &[]).await;
    assert_eq!((status, &body[..], &*outcome(&headers)), (200, &b"text"[..], "stale"));
    assert_eq!(
        (&headers["age"], &headers["cache-control"]),
        (&HeaderValue::from(3), &HeaderValue::from_static("public, max-age=2"))
    );
    assert_eq!(
        get(&edge, &format!("{PLAYLIST}?_HLS_msn=9")).await,
        fetched(502, "no origin responds\n", "error")
    );
    assert_eq!(began.elapsed(), Duration::ZERO);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(get(&edge, MASTER).await, fetched(502, "no origin responds\n", "error"));
    origin.set_down(false);
    sleep(Duration::from_millis(250)).await;
    assert_eq!(get(&edge, MASTER).await, fetched(200, "text", "miss"));
}

fn master_key() -> key::Key {
    key::Key { target: MASTER.into(), gzip: false, under_token: false }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_exceeds_first_byte_ms_is_a_504() {
    let origin = Scripted::new(|_| async {
        sleep(Duration::from_secs(19)).await;
        response(200, &[("cache-control", "max-age=9")], "late")
    });
    let edge = edge_of(&[&origin]);
    assert_eq!(get(&edge, PART_1).await, fetched(200, "late", "miss"));
    let config = Config { first_byte_ms: 18_000, ..Config::default() };
    let edge = edge_with(config, &[&origin]);
    let began = Instant::now();
    assert_eq!(
        get(&edge, PART_1).await,
        fetched(504, "the origin did not respond in time\n", "error")
    );
    assert_eq!(began.elapsed().as_secs(), 18);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_body_is_truncated_for_its_readers_and_fetched_again_by_the_next() {
    let origin = Scripted::new(|_| async {
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(4);
        sender.send_data(Bytes::from_static(b"some")).await.unwrap();
        tokio::spawn(async move {
            sleep(Duration::from_secs(1_000)).await;
            drop(sender);
        });
        with_body(200, &[("cache-control", "max-age=99, immutable")], body.boxed())
    });
    let edge = edge_of(&[&origin]);
    let reading = begin(&edge, Method::GET, SEGMENT_1, &[]).await.into_body().collect();
    assert!(reading.await.unwrap_err().to_string().contains("truncated"));
    assert_eq!(edge.cache.len(), 0);
    let _ = begin(&edge, Method::GET, SEGMENT_1, &[]).await;
    assert_eq!(origin.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn memory_stays_within_its_limit_for_many_objects_and_slow_readers() {
    const MIB: i64 = 1 << 20;
    let origin = Scripted::new(|request| async move {
        let headers = [("cache-control", "max-age=31536000, immutable")];
        let size = if request.uri().path().ends_with("/99.m4s") { 9 << 20 } else { 1 << 20 };
        with_body(200, &headers, Full::new(Bytes::from(vec![7; size])).boxed())
    });
    let config = Config { memory_mb: 16, object_mb: 8, ..Config::default() };
    let edge = edge_with(config, &[&origin]);
    let path = |n: usize| SEGMENT_1.replace("/1.m4s", &format!("/{n}.m4s"));
    for n in 0..40 {
        assert_eq!(fetch(&edge, &path(n), &[]).await.2.len(), 1 << 20);
        // An object that is requested repeatedly stays.
        assert_eq!(get(&edge, &path(0)).await.2, "hit", "after {n}");
        assert!(edge.metrics.cached.get() <= 16 * MIB, "{}", edge.metrics.cached.get());
    }
    assert!(edge.metrics.cached.get() > 12 * MIB);
    assert_eq!(get(&edge, &path(99)).await, fetched(502, INVALID, "error")); // too large
    // Readers that read nothing hold their objects; there is no room then, and there is when they
    // leave.
    let mut slow = Vec::new();
    for n in 40..60 {
        slow.push(begin(&edge, Method::GET, &path(n), &[]).await);
        settle().await;
        assert!(edge.metrics.cached.get() <= 16 * MIB, "{}", edge.metrics.cached.get());
    }
    let statuses: Vec<_> = slow.iter().map(|response| response.status().as_u16()).collect();
    assert!(statuses.ends_with(&[503, 503]), "{statuses:?}, {}", edge.metrics.cached.get());
    // Small objects have a reserve: first playlists, then parts.
    let mut parts = Vec::new();
    for n in 0..4 {
        parts.push(begin(&edge, Method::GET, &PART_1.replace("1.0", &format!("1.{n}")), &[]).await);
        settle().await;
    }
    assert_eq!((parts[0].status().as_u16(), parts[3].status().as_u16()), (200, 503));
    assert_eq!(get(&edge, PLAYLIST).await.0, 200);
    assert!(edge.metrics.cached.get() <= 16 * MIB, "{}", edge.metrics.cached.get());
    drop((slow, parts));
    settle().await;
    assert_eq!(fetch(&edge, &path(70), &[]).await.2.len(), 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_response_with_too_large_a_header_section_is_a_502() {
    let value: &'static str = "x".repeat(80_000).leak();
    let headers: &'static [(&str, &str)] = vec![("x-large", value)].leak();
    let origin = Scripted::responding(200, headers, "text");
    assert_eq!(get(&edge_of(&[&origin]), MASTER).await, fetched(502, INVALID, "error"));
}

#[tokio::test(start_paused = true)]
async fn unrequested_encodings_redirects_ranges_and_304s_of_an_origin_are_502() {
    for (status, headers) in [
        (200, &[("content-encoding", "gzip")][..]),
        (301, &[("location", "http://elsewhere.example/")]),
        (206, &[("content-range", "bytes 0-3/9")]),
        (304, &[]),
    ] {
        let origin = Scripted::responding(status, headers, "text");
        assert_eq!(get(&edge_of(&[&origin]), MASTER).await.0, 502, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_fetches_beyond_the_limit_are_refused_and_not_queued() {
    let origin = Scripted::new(|_| async {
        sleep(Duration::from_secs(5)).await;
        response(200, &[("cache-control", "max-age=9")], "text")
    });
    let config = Config { max_fetches: 16, ..Config::default() };
    let edge = edge_with(config, &[&origin]);
    let fetching: Vec<_> = (0..20)
        .map(|n| {
            let edge = Arc::clone(&edge);
            tokio::spawn(async move { get(&edge, &format!("/live/c{n}/master.m3u8")).await.0 })
        })
        .collect();
    let mut statuses = Vec::new();
    for fetching in fetching {
        statuses.push(fetching.await.unwrap());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 16);
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 4);
    assert_eq!(get(&edge, MASTER).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn fetches_are_limited_by_viewer_address_except_for_local_requests() {
    let origin = Scripted::new(|_| async {
        sleep(Duration::from_secs(5)).await;
        response(200, &[("cache-control", "max-age=9")], "text")
    });
    let config = Config { max_fetches: 16, max_fetches_per_address: 4, ..Config::default() };
    let edge = edge_with(config, &[&origin]);
    let fetching = |peer: &str, n: usize| {
        let edge = Arc::clone(&edge);
        let peer = peer.parse().unwrap();
        let client = Client { peer, ours: peer.port() == 0, secure: false, early: false };
        let (head, ()) =
            Request::get(format!("/live/c{n}/master.m3u8")).body(()).unwrap().into_parts();
        tokio::spawn(async move {
            let resource = Resource::parse(head.uri.path()).unwrap();
            let response = edge.respond(&head, &resource, client, &public()).await.unwrap();
            (response.status().as_u16(), response.headers().get("retry-after").cloned())
        })
    };
    let greedy: Vec<_> = (0..16).map(|n| fetching(&format!("[2001:db8::{n:x}]:1"), n)).collect();
    settle().await;
    // Other viewers get their objects, and an object in progress does not count for the limit.
    let others: Vec<_> = (20..24).map(|n| fetching("192.0.2.1:1", n)).collect();
    let shared = fetching("[2001:db8::1]:1", 20);
    // A process of ours forwards for many viewers.
    let ours: Vec<_> = (30..38).map(|n| fetching("127.0.0.1:0", n)).collect();
    let mut statuses = Vec::new();
    for greedy in greedy {
        statuses.push(greedy.await.unwrap());
    }
    assert_eq!(statuses[..4], [const { (200, None) }; 4]);
    assert_eq!(statuses[4..], vec![(503, Some(HeaderValue::from(1))); 12]);
    for other in others.into_iter().chain([shared]).chain(ours) {
        assert_eq!(other.await.unwrap(), (200, None));
    }
    assert_eq!(fetching("[2001:db8::1]:1", 40).await.unwrap().0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_forwarding_loop_is_detected() {
    let origin = Scripted::responding(200, &[("cache-control", "max-age=9")], "text");
    let edge = edge_of(&[&origin]);
    assert_eq!(fetch(&edge, MASTER, &[("cdn-loop", "other; x=y, another")]).await.0, 200);
    let ours = edge.identity.to_str().unwrap().to_owned();
    {
        let requested = origin.requests.lock().unwrap();
        let passed: Vec<_> = requested[0]
            .1
            .get_all("cdn-loop")
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect();
        assert_eq!(passed, ["other; x=y, another", &ours]);
    }
    for (name, list) in [
        ("cdn-loop", format!("other, {ours}")),
        ("cdn-loop", format!("{ours};v=1")),
        ("via", format!("1.0 fred, 1.1 {ours}")),
        ("cdn-loop", ours),
    ] {
        let (head, ()) = Request::get(PLAYLIST).header(name, list).body(()).unwrap().into_parts();
        let resource = Resource::parse(PLAYLIST).unwrap();
        let client = Client { peer: PEER.into(), ours: false, secure: false, early: false };
        let response = edge.respond(&head, &resource, client, &public()).await.unwrap();
        assert_eq!(response.status(), 508);
    }
    assert_eq!(origin.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_with_too_long_a_cdn_loop_is_refused() {
    let origin = Scripted::responding(200, &[("cache-control", "max-age=9")], "text");
    let edge = edge_of(&[&origin]);
    for list in ["x".repeat(513), "a,".repeat(8) + "a"] {
        assert_eq!(fetch(&edge, MASTER, &[("cdn-loop", &list)]).await.0, 508);
    }
    assert_eq!(origin.requests(), 0);
    assert_eq!(fetch(&edge, MASTER, &[("cdn-loop", &"x".repeat(512))]).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn an_error_for_one_request_is_not_shared_with_concurrent_requests() {
    for status in [403, 431, 508] {
        let origin = Scripted::new(move |request| async move {
            sleep(Duration::from_secs(1)).await;
            let headers = [("cache-control", "max-age=9")];
            let passed = request.headers().get_all("cdn-loop").iter().count();
            response(if passed > 1 { status } else { 200 }, &headers, "text")
        });
        let edge = edge_of(&[&origin]);
        let fetching = |headers: &'static [(&str, &str)]| {
            let edge = Arc::clone(&edge);
            tokio::spawn(async move { fetch(&edge, MASTER, headers).await.0 })
        };
        let spoiler = fetching(&[("cdn-loop", "other")]);
        settle().await;
        let others: Vec<_> = (0..5).map(|_| fetching(&[])).collect();
        assert_eq!(spoiler.await.unwrap(), status);
        for other in others {
            assert_eq!(other.await.unwrap(), 200);
        }
        assert_eq!(origin.requests(), 2);
    }
}

#[tokio::test]
async fn resources_of_a_local_origin_that_is_gone_are_404() {
    let socket = std::env::temp_dir().join(format!("streamforge-nobody-{}", std::process::id()));
    let edge = Edge::new(&Config::local(socket), Metrics::default()).unwrap();
    assert_eq!(get(&edge, MASTER).await, fetched(404, "no such resource\n", "error"));
    assert_eq!(get(&edge, SEGMENT_1).await.0, 404);
}

#[tokio::test]
async fn a_local_origin_that_closes_connections_is_503_and_not_404() {
    let path = std::env::temp_dir().join(format!("streamforge-breaking-{}", std::process::id()));
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let breaking = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let edge = Edge::new(&Config::local(path.clone()), Metrics::default()).unwrap();
    let busy = fetched(503, "too many requests at once\n", "error");
    assert_eq!(get(&edge, MASTER).await, busy);
    assert_eq!(edge.metrics.origin_is_up("local"), 1);
    breaking.abort();
    let _ = breaking.await;
    // Its socket file still exists.
    assert_eq!(get(&edge, MASTER).await, fetched(404, "no such resource\n", "error"));
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn an_edge_needs_an_origin_and_readable_ca_certificates() {
    let of = |config: Config| Edge::new(&config, Metrics::default()).unwrap_err().to_string();
    assert_eq!(of(Config::default()), "edge.origin is empty");
    let config = Config {
        origin: vec!["https://a.example".parse().unwrap()],
        ca: "/nowhere.pem".into(),
        ..Config::default()
    };
    assert!(of(config).starts_with("edge.ca: /nowhere.pem: "));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_before_the_response_is_retried_and_the_origin_stays_up() {
    let origin = Scripted::responding(200, &[("cache-control", "max-age=1")], "text");
    let broken = Arc::new(AtomicUsize::new(0));
    let (responding, breaking) = (Arc::clone(&origin), Arc::clone(&broken));
    let connect: dial::Connect = Arc::new(move || {
        if breaking.fetch_add(1, Ordering::Relaxed) > 0 {
            return responding.connect();
        }
        let (ours, mut theirs) = tokio::io::duplex(1 << 10);
        tokio::spawn(async move { tokio::io::AsyncReadExt::read(&mut theirs, &mut [0; 16]).await });
        Ok(ours)
    });
    let config = Config { origin: vec!["http://0".parse().unwrap()], ..Config::default() };
    let edge = Edge::with(&config, Metrics::default(), |_, tls| {
        Dial::in_memory(Arc::clone(&connect), config.connect(), tls)
    })
    .unwrap();
    assert_eq!(get(&edge, MASTER).await, fetched(200, "text", "miss"));
    assert_eq!((broken.load(Ordering::Relaxed), edge.metrics.origin_is_up("0")), (2, 1));
}

/// An edge of an origin whose response to a path is bytes, or `None` for none and the end of the
/// connection; and the number of its requests.
fn edge_of_bytes(
    config: Config,
    responses: fn(&str) -> Option<Vec<u8>>,
) -> (Arc<Edge>, Arc<AtomicUsize>) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let requested = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requested);
    let connect: dial::Connect = Arc::new(move || {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let requested = Arc::clone(&counted);
        tokio::spawn(async move {
            let mut theirs = BufReader::new(theirs);
            loop {
                let mut path = None;
                let mut line = String::new();
                while theirs.read_line(&mut line).await.is_ok_and(|read| read > 2) {
                    path = path.or(line.split(' ').nth(1).map(str::to_owned));
                    line.clear();
                }
                let Some(path) = path else { return };
                requested.fetch_add(1, Ordering::Relaxed);
                let Some(bytes) = responses(&path) else { return };
                if bytes.is_empty() {
                    return sleep(Duration::from_secs(1_000)).await;
                }
                if theirs.write_all(&bytes).await.is_err() || bytes.starts_with(b"HTTP/1.0") {
                    return;
                }
            }
        });
        Ok(ours)
    });
    let config = Config { origin: vec!["http://0".parse().unwrap()], ..config };
    let limit = config.connect();
    let edge = Edge::with(&config, Metrics::default(), |_, tls| {
        Dial::in_memory(Arc::clone(&connect), limit, tls)
    });
    (edge.unwrap(), requested)
}

fn good(body: &str) -> Vec<u8> {
    let len = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncache-control: max-age=3600, immutable\r\n\
         content-length: {len}\r\n\r\n{body}"
    )
    .into()
}

#[tokio::test(start_paused = true)]
async fn a_response_with_ambiguous_framing_is_refused_and_its_connection_not_reused() {
    for framing in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "content-length: 4\r\ncontent-length: 5",
        "content-length: +4",
        "content-length: -1",
    ] {
        static FRAMING: Mutex<&str> = Mutex::new("");
        *FRAMING.lock().unwrap() = framing;
        for status in ["200 OK", "404 Not Found"] {
            static STATUS: Mutex<&str> = Mutex::new("");
            *STATUS.lock().unwrap() = status;
            let (edge, requested) = edge_of_bytes(Config::default(), |path| match path {
                MASTER => {
                    let (status, framing) = (*STATUS.lock().unwrap(), *FRAMING.lock().unwrap());
                    // After the chunked body there are bytes that another parser takes for the next
                    // response.
                    let smuggled = String::from_utf8(good("smuggled")).unwrap();
                    let head = format!(
                        "HTTP/1.1 {status}\r\ncache-control: max-age=3600, immutable\r\n\
                         {framing}\r\n\r\n"
                    );
                    Some(format!("{head}4\r\nbody\r\n0\r\n\r\n{smuggled}").into())
                }
                _ => Some(good("text")),
            });
            for _ in 0..2 {
                assert_eq!(get(&edge, MASTER).await, fetched(502, INVALID, "error"), "{framing}");
                settle().await;
            }
            assert_eq!(get(&edge, PLAYLIST).await, fetched(200, "text", "miss"), "{framing}");
            assert_eq!(requested.load(Ordering::Relaxed), 3, "{framing}");
            assert_eq!(edge.cache.len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_target_with_invalid_or_missing_responses_does_not_affect_others() {
    let config = Config { first_byte_ms: 1_000, ..Config::default() };
    let (edge, _) = edge_of_bytes(config, |path| match path.split('/').nth(2) {
        Some("malformed") => Some("HTTP/1.1 200 OK\r\nno field\r\n\r\n".into()),
        Some("nonsense") => Some("\0\u{1}\u{2}\r\n\r\n".into()),
        Some("large") => {
            Some(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(1 << 17)).into())
        }
        Some("broken") => None,
        Some("hung") => Some(Vec::new()),
        _ => Some(good("text")),
    });
    for (n, (channel, status)) in
        [("malformed", 502), ("nonsense", 502), ("large", 502), ("broken", 502), ("hung", 504)]
            .into_iter()
            .enumerate()
    {
        for _ in 0..3 {
            let found = get(&edge, &format!("/live/{channel}/master.m3u8")).await;
            assert_eq!((found.0, &*found.2), (status, "error"), "{channel}");
        }
        let good = format!("/live/good{n}/master.m3u8");
        assert_eq!(get(&edge, &good).await, fetched(200, "text", "miss"), "after {channel}");
        assert_eq!(edge.metrics.origin_is_up("0"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_never_responds_is_skipped_for_a_while() {
    let (edge, requested) = edge_of_bytes(Config::default(), |_| Some(Vec::new()));
    assert_eq!(get(&edge, MASTER).await.0, 504);
    assert_eq!(get(&edge, PLAYLIST).await.0, 504);
    assert_eq!(edge.metrics.origin_is_up("0"), 0);
    let began = Instant::now();
    assert_eq!(get(&edge, MASTER).await, fetched(502, "no origin responds\n", "error"));
    assert_eq!((began.elapsed(), requested.load(Ordering::Relaxed)), (Duration::ZERO, 2));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_ends_with_its_connection_is_forwarded_and_not_cached() {
    let (edge, requested) = edge_of_bytes(Config::default(), |_| {
        Some("HTTP/1.0 200 OK\r\ncache-control: max-age=3600, immutable\r\n\r\ntext".into())
    });
    for n in 1..=2 {
        let reading = begin(&edge, Method::GET, SEGMENT_1, &[]).await.into_body();
        assert_eq!(reading.collect().await.unwrap().to_bytes(), "text");
        assert_eq!((requested.load(Ordering::Relaxed), edge.cache.len()), (n, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn objects_and_errors_that_arrive_in_single_bytes_use_little_extra_memory() {
    const BYTES: usize = 60_000;
    fn dribbled(status: &str, control: &str) -> Option<Vec<u8>> {
        let head = format!(
            "HTTP/1.1 {status}\r\ncache-control: {control}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        Some([head, "1\r\nx\r\n".repeat(BYTES), "0\r\n\r\n".into()].concat().into())
    }
    let (edge, requested) = edge_of_bytes(Config::default(), |path| match path {
        SEGMENT_1 => dribbled("200 OK", "max-age=3600, immutable"),
        _ => dribbled("404 Not Found", "max-age=1"),
    });
    for (n, (target, status)) in [(SEGMENT_1, 200), (MASTER, 404)].into_iter().enumerate() {
        let before = edge.metrics.cached.get();
        let (found, _, body) = fetch(&edge, target, &[]).await;
        assert_eq!((found, body.len()), (status, BYTES));
        let took = edge.metrics.cached.get() - before;
        assert!((60_000..90_000).contains(&took), "{target}: {took}");
        assert_eq!(get(&edge, target).await.2, "hit");
        assert_eq!(requested.load(Ordering::Relaxed), n + 1);
    }
}
