mod blocking;

use http_body_util::{BodyExt, Full};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::*;
use crate::stage::{PART, SEGMENT, Stage, TARGET, fetch, respond};

#[tokio::test(start_paused = true)]
async fn playlists_and_manifests_are_cached_for_half_a_target_duration() {
    let stage = Stage::live().await;
    for (file, content_type) in [
        ("master.m3u8", "application/vnd.apple.mpegurl"),
        ("v0.m3u8", "application/vnd.apple.mpegurl"),
        ("manifest.mpd", "application/dash+xml"),
        ("plain.mpd", "application/dash+xml"),
    ] {
        let path = format!("/live/demo/{file}?token=x");
        let response = stage.get(&path).await;
        assert_eq!(
            (response.status, response.header("content-type")),
            (StatusCode::OK, content_type),
            "{file}"
        );
        assert_eq!(response.header("cache-control"), "public, max-age=1");
        assert_eq!(response.header("access-control-allow-origin"), "*");
        assert_eq!(response.header("timing-allow-origin"), "*");
        assert!(response.header("access-control-expose-headers").contains("Date"));
        let etag = response.header("etag").to_owned();
        let again = stage
            .request("GET", &path, &[("if-none-match", &etag), ("accept-encoding", "br")])
            .await;
        assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_resources_are_404_with_cors_fields_and_a_lifetime() {
    let stage = Stage::live().await;
    let other = format!("/media/{}/v0/init.0.mp4", BroadcastId::new(SystemTime::UNIX_EPOCH));
    let track = format!("/media/{}/v9/init.0.mp4", stage.id);
    let paths = [
        "/",
        "/live/other/master.m3u8",
        "/live/demo/v9.m3u8",
        "/live/../../etc/passwd",
        "/watch/x.js",
        &other,
        &track,
    ];
    for path in paths {
        let response = stage.get(path).await;
        assert_eq!(response.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(response.header("access-control-allow-origin"), "*");
        assert!(response.header("cache-control").starts_with("public, max-age="), "{path}");
        assert_eq!(response.header("content-type"), "text/plain; charset=utf-8");
        assert!(response.body.len() < 64 && response.body.ends_with(b"\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn invalid_and_too_distant_directives_are_400_at_once() {
    let stage = Stage::live().await;
    let (last, begun) = (stage.first + 2, Instant::now());
    let queries = [
        ("_HLS_part=0".to_owned(), 4),
        ("_HLS_msn=x".to_owned(), 4),
        ("_HLS_skip=maybe".to_owned(), 1),
        (format!("_HLS_msn={}", last + 3), 4),
        (format!("_HLS_msn={}&_HLS_part=99", last + 1), 4),
    ];
    for (query, targets) in queries {
        let response = stage.get(&format!("/live/demo/v0.m3u8?{query}")).await;
        assert_eq!(response.status, StatusCode::BAD_REQUEST, "{query}");
        let lifetime = format!("public, max-age={}", targets * TARGET.as_secs());
        assert_eq!(response.header("cache-control"), lifetime, "{query}");
        assert_eq!(response.header("access-control-allow-origin"), "*");
    }
    assert_eq!(Instant::now(), begun);
}

#[tokio::test(start_paused = true)]
async fn a_404_for_a_track_lasts_one_target_duration_or_four_if_blocking() {
    let stage = Stage::live().await;
    for (path, lifetime) in [
        ("/live/demo/v9.m3u8".to_owned(), "public, max-age=2"),
        ("/live/demo/v9.m3u8?_HLS_msn=7".to_owned(), "public, max-age=8"),
        (format!("/media/{}/v9/init.0.mp4", stage.id), "public, max-age=2"),
    ] {
        let response = stage.get(&path).await;
        assert_eq!(
            (response.status, response.header("cache-control")),
            (StatusCode::NOT_FOUND, lifetime),
            "{path}"
        );
    }
}

/// Requests of every kind with their expected status, none of which waits.
fn everything(stage: &Stage) -> Vec<(String, u16)> {
    let media = |file: &str| stage.media(file);
    let (first, open) = (stage.first, stage.first + 3);
    let fixed = [
        ("/live/demo/master.m3u8", 200),
        ("/live/demo/v0.m3u8", 200),
        ("/live/demo/v0.m3u8?_HLS_msn=1&_HLS_skip=YES", 200),
        ("/live/demo/v0.m3u8?_HLS_part=1", 400),
        ("/live/demo/v9.m3u8", 404),
        ("/live/demo/manifest.mpd", 200),
        ("/live/demo/plain.mpd", 200),
        ("/live/demo/poster.jpg", 200),
        ("/live/other/master.m3u8", 404),
        ("/watch/demo", 200),
        ("/watch/player.js", 200),
        ("/watch/x.js", 404),
        ("/nothing", 404),
        ("/", 404),
    ];
    let of_media = [
        (media("init.0.mp4"), 200),
        (media("init.7.mp4"), 404),
        (media(&format!("{first}.m4s")), 200),
        (media(&format!("{first}.0.m4s")), 200),
        (media(&format!("{open}.1.m4s")), 200),
        (media(&format!("{}.m4s", first - 1)), 404),
    ];
    fixed.into_iter().map(|(path, status)| (path.to_owned(), status)).chain(of_media).collect()
}

#[tokio::test(start_paused = true)]
async fn a_304_has_the_header_fields_of_the_200_except_those_about_content() {
    let stage = Stage::live().await;
    for (path, status) in everything(&stage) {
        for encoding in ["identity", "gzip"] {
            let whole = stage.request("GET", &path, &[("accept-encoding", encoding)]).await;
            assert_eq!(whole.status.as_u16(), status, "{path}");
            let etag = whole.header("etag");
            assert_eq!(etag.is_empty(), status != 200, "{path}: what can be had has a validator");
            if etag.is_empty() {
                continue;
            }
            for method in ["GET", "HEAD"] {
                let held = [("accept-encoding", encoding), ("if-none-match", etag)];
                let unchanged = stage.request(method, &path, &held).await;
                assert_eq!(
                    (unchanged.status, unchanged.body.len()),
                    (StatusCode::NOT_MODIFIED, 0),
                    "{path}"
                );
                // RFC 9110 15.4.5: these fields as in the 200, and none about absent content.
                let mut expected = whole.headers.clone();
                for about_content in
                    ["content-type", "content-encoding", "content-length", "accept-ranges"]
                {
                    expected.remove(about_content);
                }
                assert_eq!(unchanged.headers, expected, "{method} {path}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_varies_only_by_accept_encoding_and_declares_it() {
    let stage = Stage::live().await;
    let others = [
        ("origin", "https://player.example"),
        ("cookie", "session=1"),
        ("user-agent", "player/1"),
        ("referer", "https://player.example/"),
        ("accept", "text/html"),
        ("accept-language", "de"),
        ("cmcd-request", "bl=1"),
        ("authorization", "Bearer x"),
        ("x-forwarded-for", "192.0.2.9"),
    ];
    for (path, _) in everything(&stage) {
        let [plain, again, gzip] = [&[][..], &others, &[("accept-encoding", "gzip")]]
            .map(|headers| (path.clone(), headers));
        let plain = stage.request("GET", &plain.0, plain.1).await;
        let again = stage.request("GET", &again.0, again.1).await;
        let gzip = stage.request("GET", &gzip.0, gzip.1).await;
        assert_eq!(
            (plain.status, &plain.headers, &plain.body),
            (again.status, &again.headers, &again.body),
            "{path}"
        );
        let varies = plain.body != gzip.body;
        assert_eq!(gzip.header("content-encoding"), if varies { "gzip" } else { "" }, "{path}");
        for response in [&plain, &gzip] {
            assert_eq!(
                response.header("vary"),
                if varies { "accept-encoding" } else { "" },
                "{path}"
            );
        }
        assert_ne!(plain.header("etag").is_empty(), plain.status.is_success(), "{path}");
        assert_eq!(plain.header("etag") == gzip.header("etag"), !varies, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn manifests_list_the_clock_under_the_public_url_or_the_requests_authority() {
    let clocks = |response: &crate::stage::Received| -> std::collections::BTreeSet<String> {
        let text = String::from_utf8(response.body.to_vec()).unwrap();
        let values = text.split("<UTCTiming ").skip(1);
        values
            .map(|rest| {
                rest.split("value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
            })
            .collect()
    };
    let relative_clock = std::collections::BTreeSet::from(["../../time".to_owned()]);
    // The relative address follows the absolute one, for the case that a proxy makes the first one
    // invalid.
    let both =
        |clock: &str| std::collections::BTreeSet::from([clock.to_owned(), "../../time".to_owned()]);
    let varies = "accept-encoding, host, x-forwarded-proto, cdn-loop";
    let stage = Stage::live().await;
    for path in ["/live/demo/manifest.mpd", "/live/demo/plain.mpd"] {
        let response = stage.get(path).await;
        assert_eq!(clocks(&response), both("https://live.example/time"));
        assert_eq!(response.header("vary"), "accept-encoding");
    }
    // Without a public URL: from the request, declared in Vary.
    let stage = Stage::with(&Config::default()).await.begun().await;
    for path in ["/live/demo/manifest.mpd", "/live/demo/plain.mpd"] {
        let response = stage.get(path).await;
        assert_eq!(clocks(&response), both("http://origin/time"), "{path}");
        assert_eq!(response.header("vary"), varies);
        let behind = stage.request("GET", path, &[("x-forwarded-proto", "https")]).await;
        assert_eq!(clocks(&behind), both("https://origin/time"));
        let edge = stage.request("GET", path, &[("cdn-loop", "streamforge-1")]).await;
        assert_eq!((&clocks(&edge), edge.header("vary")), (&relative_clock, varies));
        // Any number of names from a client costs only a few texts; all list a valid clock.
        let mut relative = 0;
        for n in 0..20 {
            let target = format!("http://host-{n}.example{path}");
            let response = stage.get(&target).await;
            let clocks = clocks(&response);
            relative += usize::from(clocks == relative_clock);
            assert!(
                clocks == relative_clock
                    || clocks == both(&format!("http://host-{n}.example/time"))
            );
        }
        assert_eq!(relative, 18);
        assert_eq!(clocks(&stage.get(path).await), both("http://origin/time"));
    }
}

#[tokio::test(start_paused = true)]
async fn no_response_sets_a_cookie_redirects_or_lacks_cache_control() {
    let stage = Stage::live().await;
    for (path, _) in everything(&stage) {
        for method in ["GET", "HEAD", "POST", "OPTIONS"] {
            for headers in [&[][..], &[("range", "bytes=0-3")], &[("range", "bytes=99999999-")]] {
                let response = stage.request(method, &path, headers).await;
                assert!(!response.status.is_redirection(), "{method} {path}: {}", response.status);
                for name in ["set-cookie", "location", "refresh", "age", "pragma"] {
                    assert_eq!(response.header(name), "", "{method} {path}: {name}");
                }
                let lifetime = response.header("cache-control");
                assert!(!lifetime.is_empty() || method == "OPTIONS", "{method} {path}");
                if response.status == StatusCode::RANGE_NOT_SATISFIABLE {
                    assert_eq!(
                        lifetime, "no-store",
                        "{path}: it is about the range, not the address"
                    );
                }
                assert_eq!(response.header("timing-allow-origin"), "*");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn media_are_immutable_and_have_their_content_type_and_etag() {
    let stage = Stage::live().await;
    for (file, content_type, etag) in [
        ("init.0.mp4".to_owned(), "video/mp4", "\"init.0\"".to_owned()),
        (format!("{}.m4s", stage.first), "video/iso.segment", format!("\"{}\"", stage.first)),
        (format!("{}.1.m4s", stage.first), "video/iso.segment", format!("\"{}.1\"", stage.first)),
    ] {
        let response = stage.get(&stage.media(&file)).await;
        assert_eq!(
            (response.status, response.header("content-type")),
            (StatusCode::OK, content_type),
            "{file}"
        );
        assert_eq!((response.header("etag"), response.header("accept-ranges")), (&*etag, "bytes"));
        assert_eq!(response.header("cache-control"), "public, max-age=31536000, immutable");
        let range = stage.request("GET", &stage.media(&file), &[("range", "bytes=4-7")]).await;
        assert_eq!(
            (range.status, &range.body[..]),
            (StatusCode::PARTIAL_CONTENT, &response.body[4..8])
        );
        assert_eq!(range.header("content-range"), format!("bytes 4-7/{}", response.body.len()));
        assert!(range.header("access-control-expose-headers").contains("Content-Range"));
        let head = stage.request("HEAD", &stage.media(&file), &[]).await;
        assert_eq!(
            (head.header("content-length"), head.body.len()),
            (&*response.body.len().to_string(), 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_open_segment_is_sent_part_by_part_until_it_is_complete() {
    let mut stage = Stage::live().await;
    let path = stage.media(&format!("{}.m4s", stage.first + 3));
    let request =
        Request::builder().uri(&path).header("host", "origin").header("range", "bytes=0-");
    let request = request.body(Full::new(Bytes::new())).unwrap();
    let response = stage.router.handle(request, ([192, 0, 2, 1], 1).into()).await;
    assert_eq!((response.status(), response.body().len()), (StatusCode::OK, None));
    let mut body = response.into_body();
    let mut parts = Vec::new();
    let mut next = async |stage: &Stage| {
        stage.settle().await;
        let frame = timeout(Duration::from_millis(1), body.frame()).await.ok()?;
        let part = frame.map(|frame| frame.unwrap().into_data().unwrap().pieces().concat());
        parts.extend(part.clone());
        Some(part.is_some())
    };
    assert_eq!(next(&stage).await, Some(true)); // two parts, in one frame
    assert_eq!(next(&stage).await, None);
    stage.push(PART).await;
    assert_eq!(next(&stage).await, Some(true));
    stage.push(2 * PART).await;
    while let Some(true) = next(&stage).await {}
    assert_eq!(parts.concat(), stage.get(&path).await.body);
    assert_eq!(stage.get(&path).await.header("etag"), format!("\"{}\"", stage.first + 3));
}

#[tokio::test(start_paused = true)]
async fn response_bodies_share_the_publishers_bytes_without_a_copy() {
    let stage = Stage::live().await;
    let paths = [
        stage.media(&format!("{}.m4s", stage.first)),
        stage.media(&format!("{}.m4s", stage.first + 3)),
    ];
    for (path, from) in paths.iter().zip([0, 3 * SEGMENT]) {
        let request = Request::builder()
            .uri(path)
            .header("host", "origin")
            .body(Full::new(Bytes::new()))
            .unwrap();
        let mut body = stage.router.handle(request, ([192, 0, 2, 1], 1).into()).await.into_body();
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let pieces: Vec<_> = data.pieces().iter().map(|piece| piece.as_ptr()).collect();
        assert!(
            stage.payloads[from..from + 2 * PART]
                .iter()
                .all(|payload| pieces.contains(&payload.as_ptr()))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn methods_other_than_get_and_head_are_refused_and_preflights_get_responses() {
    let stage = Stage::live().await;
    for (method, status) in [
        ("POST", 405),
        ("PUT", 405),
        ("DELETE", 405),
        ("PATCH", 405),
        ("TRACE", 405),
        ("BREW", 501),
        ("get", 501),
        ("PROPFIND", 501),
    ] {
        for path in ["/live/demo/master.m3u8", "/nothing"] {
            let response = stage.request(method, path, &[]).await;
            assert_eq!(
                (response.status.as_u16(), response.header("allow")),
                (status, "GET, HEAD, OPTIONS"),
                "{method} {path}"
            );
            assert_eq!(response.header("access-control-allow-origin"), "*");
        }
    }
    let wanted = [("origin", "https://player.example"), ("access-control-request-method", "GET")];
    for path in ["/live/demo/v0.m3u8", "/time", "*"] {
        let response = stage.request("OPTIONS", path, &wanted).await;
        assert_eq!(
            (response.status, response.header("access-control-allow-methods")),
            (StatusCode::NO_CONTENT, "GET, HEAD, OPTIONS")
        );
        assert_eq!(response.header("access-control-allow-origin"), "*");
        let allowed = response.header("access-control-allow-headers");
        assert!(allowed.starts_with("*, authorization, range, "), "{allowed}");
    }
}

#[tokio::test(start_paused = true)]
async fn listed_origins_get_cors_fields_with_credentials_and_others_none() {
    let listed = Config {
        cors_origins: vec!["https://player.example".into(), "https://b.example".into()],
        ..Config::default()
    };
    let mut stage = Stage::with(&listed).await;
    stage.push(3 * SEGMENT + 2 * PART + 1).await;
    for (path, _) in everything(&stage) {
        for (origin, granted) in [
            ("https://player.example", "https://player.example"),
            ("https://b.example", "https://b.example"),
            ("https://other.example", ""),
        ] {
            for method in ["GET", "HEAD"] {
                let response = stage.request(method, &path, &[("origin", origin)]).await;
                let credentials = if granted.is_empty() { "" } else { "true" };
                assert_eq!(response.header("access-control-allow-origin"), granted, "{path}");
                assert_eq!(response.header("access-control-allow-credentials"), credentials);
                assert_eq!(response.header("timing-allow-origin"), granted);
                let vary: Vec<_> = response.headers.get_all("vary").iter().collect();
                assert_eq!(vary.last().unwrap(), &"origin", "{path}");
            }
        }
        let whole = stage.get(&path).await;
        assert_eq!(whole.header("access-control-allow-origin"), "");
        assert_eq!(whole.headers.get_all("vary").iter().next_back().unwrap(), "origin");
    }
    let requested = [
        ("origin", "https://b.example"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "authorization,range"),
    ];
    let response = stage.request("OPTIONS", "/live/demo/v0.m3u8", &requested).await;
    assert_eq!(response.header("access-control-allow-origin"), "https://b.example");
    assert_eq!(response.header("access-control-allow-credentials"), "true");
    assert_eq!(response.header("access-control-allow-headers"), "authorization,range");
}

#[tokio::test(start_paused = true)]
async fn if_match_and_if_unmodified_since_are_evaluated_before_other_conditions() {
    let stage = Stage::live().await;
    let (before, after) = ("Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 2100 00:00:00 GMT");
    for (path, status) in everything(&stage) {
        let whole = stage.get(&path).await;
        let etag = whole.header("etag");
        if status != 200 {
            // A precondition changes no error (RFC 9110 13.2.1).
            for held in [("if-match", "\"x\""), ("if-unmodified-since", before)] {
                assert_eq!(stage.request("GET", &path, &[held]).await.status, status, "{path}");
            }
            continue;
        }
        // The poster's date is not known.
        let dated = !path.ends_with(".jpg");
        for method in ["GET", "HEAD"] {
            let fetch = async |fields: &[(&str, &str)]| {
                stage.request(method, &path, fields).await.status.as_u16()
            };
            assert_eq!(fetch(&[("if-match", "\"x\"")]).await, 412, "{path}");
            assert_eq!(fetch(&[("if-match", "\"x\""), ("if-none-match", etag)]).await, 412);
            assert_eq!(fetch(&[("if-match", "*")]).await, 200, "{path}");
            assert_eq!(fetch(&[("if-match", etag)]).await, 200, "{path}");
            assert_eq!(fetch(&[("if-match", etag), ("if-none-match", etag)]).await, 304);
            assert_eq!(fetch(&[("if-match", etag), ("if-unmodified-since", before)]).await, 200);
            assert_eq!(fetch(&[("if-match", "\"x\""), ("if-unmodified-since", after)]).await, 412);
            assert_eq!(fetch(&[("if-unmodified-since", after)]).await, 200, "{path}");
            assert_eq!(fetch(&[("if-unmodified-since", "yesterday")]).await, 200, "{path}");
            let old = if dated { 412 } else { 200 };
            assert_eq!(fetch(&[("if-unmodified-since", before)]).await, old, "{path}");
        }
    }
    // The open segment has no tag, and is being modified.
    let open = stage.media(&format!("{}.m4s", stage.first + 3));
    for (field, status) in [(("if-match", "\"x\""), 412), (("if-unmodified-since", before), 412)] {
        assert_eq!(
            stage.request("GET", &open, &[field]).await.status.as_u16(),
            status,
            "{field:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn requests_refused_under_the_api_get_problem_details() {
    let stage = Stage::new().await;
    for (fields, status) in [(&[("host", "other")][..], 400), (&[("early-data", "1")], 425)] {
        let response = stage.request("DELETE", "/api/v1/x", fields).await;
        assert_eq!(
            (response.status.as_u16(), response.header("content-type")),
            (status, "application/problem+json")
        );
        let text = String::from_utf8_lossy(&response.body);
        assert!(text.contains(&format!("\"status\":{status},\"detail\":\"")), "{text}");
    }
    let beside = stage.get("/api").await;
    assert!(beside.body.starts_with(b"GET /api of "), "it is the API's too");
}

#[tokio::test(start_paused = true)]
async fn a_mount_has_a_name_and_an_urgency_of_its_own() {
    let stage = Stage::new().await;
    for (path, early, urgency) in
        [("/upload/x", "", "u=6"), ("/upload/x", "1", "u=6"), ("/api/x", "1", "u=3")]
    {
        let fields = [("early-data", early)];
        let fields = if early.is_empty() { &fields[..0] } else { &fields };
        let response = stage.request("POST", path, fields).await;
        let status = if early.is_empty() { StatusCode::OK } else { StatusCode::TOO_EARLY };
        assert_eq!((response.status, response.header("priority")), (status, urgency), "{path}");
    }
    let mut registry = Registry::default();
    stage.metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for (kind, class, count) in [
        ("upload", "2xx", 1),
        ("upload", "4xx", 1),
        ("api", "2xx", 0),
        ("api", "4xx", 1),
        ("unknown", "4xx", 0),
    ] {
        let line = format!("http_requests_total{{kind=\"{kind}\",status=\"{class}\"}} {count}");
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn ambiguous_requests_are_refused_and_close_the_connection() {
    let stage = Stage::live().await;
    let path = "/live/demo/master.m3u8";
    let body = Request::builder()
        .uri(path)
        .header("host", "origin")
        .body(Full::new(Bytes::from_static(b"GET /")))
        .unwrap();
    let two = stage.request("GET", path, &[("host", "other")]).await;
    let none = Request::builder().uri(path).body(Full::new(Bytes::new())).unwrap();
    for response in [respond(&stage.router, body).await, respond(&stage.router, none).await] {
        assert_eq!(
            (response.status(), &response.headers()["connection"]),
            (StatusCode::BAD_REQUEST, &HeaderValue::from_static("close"))
        );
    }
    assert_eq!((two.status, two.header("connection")), (StatusCode::BAD_REQUEST, "close"));
}

#[tokio::test(start_paused = true)]
async fn the_api_receives_requests_with_a_bounded_body() {
    let stage = Stage::with(&Config { max_body_bytes: 8, ..Config::default() }).await;
    let fetch = async |body: &'static [u8]| {
        let request = Request::builder().method("POST").uri("/api/v1/x?y").header("host", "origin");
        let request = request.body(Full::new(Bytes::from_static(body))).unwrap();
        let (head, body) =
            stage.router.handle(request, ([192, 0, 2, 1], 1).into()).await.into_parts();
        (head.status.as_u16(), body.collect().await.unwrap().to_bytes())
    };
    assert_eq!(
        fetch(b"12345678").await,
        (200, Bytes::from_static(b"POST /api/v1/x of 192.0.2.1 sent 12345678"))
    );
    assert_eq!(fetch(b"123456789").await.0, 413);
}

#[tokio::test(start_paused = true)]
async fn the_watch_page_its_assets_and_the_clock_are_served() {
    let stage = Stage::new().await;
    let page = stage.get("/watch/demo").await;
    assert_eq!(
        (page.header("content-type"), &page.body[..]),
        ("text/html; charset=utf-8", &b"<!doctype html>"[..])
    );
    assert_eq!(page.header("cache-control"), "no-cache");
    let script = stage.request("GET", "/watch/player.js", &[("accept-encoding", "gzip")]).await;
    assert_eq!((script.header("content-encoding"), &script.body[..]), ("gzip", &b"gzipped"[..]));
    let etag = script.header("etag").to_owned();
    let again = stage
        .request(
            "GET",
            "/watch/player.js",
            &[("accept-encoding", "gzip"), ("if-none-match", &etag)],
        )
        .await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
    let time = stage.get("/time").await;
    assert_eq!(
        (time.status, time.header("cache-control"), time.body.len()),
        (StatusCode::OK, "no-store", 24)
    );
    let head = stage.request("HEAD", "/time", &[]).await;
    assert_eq!(
        (head.status, head.header("content-length"), head.body.len()),
        (StatusCode::OK, "24", 0)
    );
}

#[tokio::test(start_paused = true)]
async fn clients_that_request_playlists_or_media_count_as_viewers() {
    let stage = Stage::live().await;
    let demo = "demo".parse().unwrap();
    stage.get("/watch/demo").await;
    assert_eq!(stage.audience.viewers(&demo), 0);
    stage.get("/live/demo/v0.m3u8").await;
    stage.get(&stage.media("init.0.mp4")).await;
    assert_eq!(stage.audience.viewers(&demo), 1);
    stage.request("GET", &stage.media("init.0.mp4"), &[("user-agent", "other")]).await;
    assert_eq!(stage.audience.viewers(&demo), 2);
}

#[tokio::test(start_paused = true)]
async fn a_poster_has_its_lifetime_and_an_etag_for_revalidation() {
    let stage = Stage::live().await;
    let poster = stage.get("/live/demo/poster.jpg").await;
    assert_eq!((poster.status, &poster.body[..]), (StatusCode::OK, &b"a picture"[..]));
    assert_eq!(poster.header("content-type"), "image/jpeg");
    assert_eq!(poster.header("cache-control"), "public, max-age=5");
    assert_eq!(poster.header("access-control-allow-origin"), "*");
    let etag = poster.header("etag").to_owned();
    let again = stage.request("GET", "/live/demo/poster.jpg", &[("if-none-match", &etag)]).await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
    assert_eq!(stage.get("/live/other/poster.jpg").await.status, StatusCode::NOT_FOUND);
}
