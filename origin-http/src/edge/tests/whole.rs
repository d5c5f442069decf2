//! An edge with its surroundings: a disk, our own origin, a router.

use super::*;

#[tokio::test]
async fn only_complete_segments_and_init_segments_survive_a_restart_on_disk() {
    let dir = std::env::temp_dir().join(format!("streamforge-edge-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let config = Config { disk_dir: dir.clone(), disk_mb: 8, ..Config::default() };
    let origin = Scripted::new(|request| async move {
        let growing = request.uri().path().ends_with("/2.m4s");
        let control =
            if growing { "max-age=24, immutable" } else { "public, max-age=31536000, immutable" };
        let headers = [
            ("cache-control", control),
            ("etag", "\"1\""),
            ("accept-ranges", "bytes"),
            ("content-type", "video/mp4"),
        ];
        response(200, &headers, "0123456789")
    });
    let init = SEGMENT_1.replace("1.m4s", "init.0.mp4");
    let growing = SEGMENT_1.replace("1.m4s", "2.m4s");
    let edge = edge_with(config.clone(), &[&origin]);
    let first = fetch(&edge, SEGMENT_1, &[]).await;
    for target in [&init, &growing, PART_1, MASTER] {
        assert_eq!(get(&edge, target).await.0, 200);
    }
    for _ in 0..1_000 {
        if edge.metrics.on_disk.get() > 2 * 4_096 {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    edge.stop().await;
    drop(edge);
    origin.set_down(true);
    let edge = edge_with(config, &[&origin]);
    for _ in 0..1_000 {
        if edge.metrics.on_disk.get() > 0 {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    let (status, headers, body) = fetch(&edge, SEGMENT_1, &[("range", "bytes=2-3")]).await;
    assert_eq!((status, &body[..]), (206, &b"23"[..]));
    for name in ["etag", "content-type", "cache-control", "accept-ranges"] {
        assert_eq!(headers[name], first.1[name], "{name}");
    }
    assert_eq!(get(&edge, SEGMENT_1).await, fetched(200, "0123456789", "hit"));
    assert_eq!(get(&edge, &init).await.0, 200);
    for target in [&growing, PART_1, MASTER] {
        assert_eq!(get(&edge, target).await.0, 502, "{target}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// A real origin: its router with HTTP/1.1 in memory.
pub(super) fn edge_of_stage(stage: &Stage) -> Arc<Edge> {
    let config = Config { origin: vec!["http://stage".parse().unwrap()], ..Config::default() };
    let router = Arc::clone(&stage.router);
    let connect = move || {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let router = Arc::clone(&router);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let router = Arc::clone(&router);
                async move {
                    Ok::<_, Infallible>(router.handle(request, ([192, 0, 2, 1], 1).into()).await)
                }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(theirs), service).await;
        });
        Ok(ours)
    };
    let connect: dial::Connect = Arc::new(connect);
    Edge::with(&config, Metrics::default(), |_, tls| {
        Dial::in_memory(Arc::clone(&connect), config.connect(), tls)
    })
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_edge_gives_the_same_responses_as_its_origin() {
    let stage = Stage::live().await;
    let edge = edge_of_stage(&stage);
    let segment = stage.media(&format!("{}.m4s", stage.first));
    let part = stage.media(&format!("{}.1.m4s", stage.first + 3));
    let init = stage.media("init.0.mp4");
    let none = stage.media("7.m4s");
    for target in [
        MASTER,
        PLAYLIST,
        "/live/demo/manifest.mpd",
        "/live/demo/plain.mpd",
        "/live/demo/poster.jpg",
        "/live/other/master.m3u8",
        &segment,
        &part,
        &init,
        &none,
    ] {
        for coding in ["gzip", "identity"] {
            let request = [("accept-encoding", coding)];
            let theirs = stage.request("GET", target, &request).await;
            let (status, headers, body) = fetch(&edge, target, &request).await;
            assert_eq!((status, body), (theirs.status.as_u16(), theirs.body.clone()), "{target}");
            for name in [
                "content-type",
                "content-encoding",
                "cache-control",
                "etag",
                "vary",
                "accept-ranges",
                "priority",
            ] {
                assert_eq!(headers.get(name), theirs.headers.get(name), "{name} of {target}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hinted_parts_reloads_and_open_segments_are_forwarded_as_they_are_made() {
    let mut stage = Stage::live().await;
    let edge = edge_of_stage(&stage);
    let open = stage.first + 3;
    let part = stage.media(&format!("{open}.2.m4s"));
    let reload = format!("{PLAYLIST}?_HLS_msn={open}&_HLS_part=2");
    let waiting: Vec<_> = [part, reload]
        .map(|target| {
            let edge = Arc::clone(&edge);
            tokio::spawn(async move { fetch(&edge, &target, &[]).await })
        })
        .into();
    let mut growing =
        begin(&edge, Method::GET, &stage.media(&format!("{open}.m4s")), &[]).await.into_body();
    let first = growing.frame().await.unwrap().unwrap().into_data().unwrap();
    let held = first.pieces().iter().map(Bytes::len).sum::<usize>();
    assert!(held > 0);
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    stage.push(PART).await;
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().0, 200);
    }
    let mut all = first.pieces().concat();
    stage.push(SEGMENT).await;
    all.extend_from_slice(&growing.collect().await.unwrap().to_bytes());
    let whole = stage.get(&stage.media(&format!("{open}.m4s"))).await;
    assert_eq!(all, whole.body);
}

#[tokio::test(start_paused = true)]
async fn a_router_fetches_unknown_channels_from_the_edge_and_serves_its_own() {
    let origin = Scripted::new(|request| async move {
        let status = if request.uri().path().contains("/beside/") { 200 } else { 404 };
        response(status, &[("cache-control", "max-age=1")], "of another")
    });
    let mut stage = Stage::new().await;
    let router = Arc::get_mut(&mut stage.router).unwrap();
    router.fetch_from(Some(edge_of(&[&origin])));
    let elsewhere = stage.get("/live/beside/master.m3u8").await;
    assert_eq!((elsewhere.status.as_u16(), &elsewhere.body[..]), (200, &b"of another"[..]));
    assert_eq!(
        (elsewhere.header("timing-allow-origin"), elsewhere.header("server-timing")),
        ("*", "edge;desc=miss")
    );
    // No local content yet: the request goes to the edge first, then it waits.
    let router = Arc::clone(&stage.router);
    let waiting = tokio::spawn(async move { stage::fetch(&router, "GET", MASTER, &[]).await });
    settle().await;
    assert!(!waiting.is_finished());
    stage.push(SEGMENT + 1).await;
    assert!(waiting.await.unwrap().body.starts_with(b"#EXTM3U"));
    let requested = origin.requests();
    assert!(stage.get(PLAYLIST).await.body.starts_with(b"#EXTM3U"));
    for path in ["/api/v1/streams", "/watch/demo", "/time", "/nothing"] {
        stage.get(path).await;
    }
    assert_eq!(origin.requests(), requested);
}

#[tokio::test]
async fn more_requests_than_connections_can_wait_at_the_previous_process() {
    const MANY: usize = 400;
    let (requested, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
    let (counted, gate) = (Arc::clone(&requested), Arc::clone(&go));
    let origin = Scripted::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            response(200, &[("cache-control", "max-age=9")], "text")
        }
    });
    let mut stage = Stage::live().await;
    let router = Arc::get_mut(&mut stage.router).unwrap();
    router.fetch_from(Some(edge_of(&[&origin])));
    let path = std::env::temp_dir().join(format!("streamforge-before-{}", std::process::id()));
    let sockets = http_server::Sockets {
        local: vec![std::os::unix::net::UnixListener::bind(&path).unwrap()],
        ..http_server::Sockets::default()
    };
    let config = crate::Config::default();
    let before = crate::tests::server(&stage, &config, sockets, None);
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(before.serve(CancellationToken::new(), shutdown.clone()));

    let edge = Edge::new(&Config::local(path.clone()), Metrics::default()).unwrap();
    let fetching: Vec<_> = (0..MANY)
        .map(|n| {
            let edge = Arc::clone(&edge);
            tokio::spawn(async move { get(&edge, &format!("/live/c{n}/master.m3u8")).await.0 })
        })
        .collect();
    for _ in 0..1_000 {
        if requested.load(Ordering::Relaxed) == MANY {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    go.add_permits(MANY);
    for fetching in fetching {
        assert_eq!(fetching.await.unwrap(), 200);
    }
    assert_eq!(requested.load(Ordering::Relaxed), MANY);
    edge.stop().await;
    shutdown.cancel();
    serving.await.unwrap();
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn an_edge_applies_its_own_cors_origins_and_evaluates_preconditions() {
    let origin = Scripted::responding(
        200,
        &[
            ("cache-control", "max-age=9"),
            ("etag", "\"1\""),
            ("vary", "accept-encoding, origin"),
            ("access-control-allow-origin", "https://of-the-origin.example"),
        ],
        "text",
    );
    let config = crate::Config {
        cors_origins: vec!["https://a.example".into(), "https://b.example".into()],
        ..crate::Config::default()
    };
    let mut stage = Stage::with(&config).await;
    let router = Arc::get_mut(&mut stage.router).unwrap();
    router.fetch_from(Some(edge_of(&[&origin])));
    let path = "/live/beside/master.m3u8";
    for (fetching, granted) in [
        ("https://a.example", "https://a.example"),
        ("https://b.example", "https://b.example"),
        ("https://of-the-origin.example", ""),
    ] {
        let response = stage.request("GET", path, &[("origin", fetching)]).await;
        assert_eq!((response.status.as_u16(), &response.body[..]), (200, &b"text"[..]));
        assert_eq!(response.header("access-control-allow-origin"), granted);
        assert_eq!(response.header("vary"), "accept-encoding, origin");
    }
    for (tag, status) in [("\"1\"", 200), ("*", 200), ("\"2\"", 412)] {
        let response = stage.request("GET", path, &[("if-match", tag)]).await;
        assert_eq!(response.status.as_u16(), status, "{tag}");
    }
    assert_eq!(origin.requests(), 1, "one object for all requests");
}
