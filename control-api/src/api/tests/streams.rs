//! Tests of `/api/v1/streams`: one live broadcast, and the list with its pages.

use super::*;

#[tokio::test]
async fn a_stream_is_shown_with_its_tracks_and_viewers() {
    let hub = hub();
    let producer = publish(&hub, "demo");
    let unit = AccessUnit {
        dts: MediaSpan::ZERO,
        pts: MediaSpan::ZERO,
        key: true,
        independent: true,
        arrived: Instant::now(),
        payload: Bytes::from_static(&[0; 10]),
    };
    producer.push(TrackIndex::new(0), unit).unwrap();
    let (status, stream) = get(&hub, "/api/v1/streams/demo").await;
    assert_eq!(status, StatusCode::OK);
    let expected = serde_json::json!({
        "channel": "demo",
        "broadcast": producer.broadcast().id().to_string(),
        "state": "live",
        "draining": false,
        "started_at": "2026-02-02T02:40:00.500Z",
        "keyframe_interval_s": null,
        "advice": null,
        "tracks": [
            {
                "name": "v0", "rendition": false, "kind": "video", "codec": "avc1.64001e",
                "bitrate_bps": 0, "frames": 1, "bytes": 10,
                "width": stream["tracks"][0]["width"], "height": stream["tracks"][0]["height"],
                "frame_rate": stream["tracks"][0]["frame_rate"]
            },
            {
                "name": "a0", "rendition": false, "kind": "audio", "codec": "mp4a.40.2",
                "bitrate_bps": 0, "frames": 0, "bytes": 0,
                "sampling_rate_hz": 48000, "channels": 2
            },
        ],
        "renditions": [{ "track": "v480", "state": "shed" }, { "track": "v360", "state": "made" }],
        "viewers": { "http": 4, "rtmp": 1 },
    });
    assert_eq!(stream, expected);
    assert!(
        stream["tracks"][0]["width"].as_u64() > Some(0)
            && stream["tracks"][0]["height"].as_u64() > Some(0)
    );
    producer.broadcast().report(Health {
        key_interval: Some(Duration::from_millis(20_500)),
        advice: Some("set the keyframe interval".into()),
    });
    let stream = get(&hub, "/api/v1/streams/demo").await.1;
    assert_eq!(
        (&stream["keyframe_interval_s"], &stream["advice"]),
        (&20.5.into(), &"set the keyframe interval".into())
    );
    producer.leave(Instant::now());
    assert_eq!(get(&hub, "/api/v1/streams/demo").await.1["state"], "away");
}

#[tokio::test]
async fn unknown_channels_and_invalid_paths_are_404_problems() {
    for path in [
        "/api/v1/streams/nobody",
        "/api/v1/streams/a.b",
        "/api/v1/streams/..%2f..%2fetc%2fpasswd",
        "/api/v1/%ff",
        "/api/v1/streams/%ff",
        "/api",
    ] {
        let (status, problem) = get(&hub(), path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert_problem(status, &problem);
    }
}

#[tokio::test]
async fn a_list_is_paged_in_the_order_of_names() {
    let hub = hub();
    let _live: Vec<_> =
        ["c", "a", "e", "b", "d"].into_iter().map(|name| publish(&hub, name)).collect();
    let mut path = "/api/v1/streams?limit=2".to_owned();
    let mut pages = Vec::new();
    loop {
        let (status, list) = get(&hub, &path).await;
        assert_eq!(status, StatusCode::OK);
        let names = list["streams"]
            .as_array()
            .unwrap()
            .iter()
            .map(|stream| stream["channel"].as_str().unwrap().to_owned());
        pages.push(names.collect::<Vec<_>>().concat());
        match list["next"].as_str() {
            Some(next) => path = format!("/api/v1/streams?limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(pages, ["ab", "cd", "e"]);
    assert_eq!(get(&hub, "/api/v1/streams").await.1["streams"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn invalid_query_parameters_are_400_problems() {
    for query in ["limit=0", "limit=501", "limit=-1", "limit=x", "page=2"] {
        let (status, problem) = get(&hub(), &format!("/api/v1/streams?{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert_problem(status, &problem);
    }
}

#[tokio::test]
async fn private_channels_are_shown_to_the_administrator_only() {
    let hub = hub();
    let _producers = ["open", "secret"].map(|name| publish(&hub, name));
    let router = Api::new(
        hub.clone(),
        Arc::new(SomeViewers),
        Arc::new(SomeRenditions),
        Administrator::new(Some(KeyDigest::of(TOKEN))),
    )
    .hiding(Arc::new(OneSecret))
    .router();
    for (token, names, status) in [
        (None, &["open"][..], StatusCode::NOT_FOUND),
        (Some("another-token"), &["open"], StatusCode::NOT_FOUND),
        (Some(TOKEN), &["open", "secret"], StatusCode::OK),
    ] {
        let request = |path: &str| {
            // With an id of its own, because it is a part of a problem.
            let mut request = Request::get(path).header(request_id::HEADER, "one");
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            request.body(Body::empty()).unwrap()
        };
        let (_, _, body) = ask(router.clone(), request("/api/v1/streams")).await;
        let list: Value = serde_json::from_slice(&body).unwrap();
        let listed = list["streams"].as_array().unwrap().iter();
        let listed: Vec<_> = listed.map(|stream| stream["channel"].as_str().unwrap()).collect();
        assert_eq!(listed, names, "{token:?}");
        let shown = ask(router.clone(), request("/api/v1/streams/secret")).await;
        assert_eq!(shown.0, status, "{token:?}");
        // A private channel that is live has the same response as one that is not.
        if status == StatusCode::NOT_FOUND {
            let absent = ask(router.clone(), request("/api/v1/streams/absent")).await;
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            assert_eq!(text(&absent.2).replace("absent", "secret"), text(&shown.2));
        }
    }
}

#[tokio::test]
async fn a_cursor_is_opaque_bound_to_its_list_and_a_plain_name_is_accepted_too() {
    let hub = hub();
    let _live: Vec<_> = ["a", "b", "c"].into_iter().map(|name| publish(&hub, name)).collect();
    let (_, page) = get(&hub, "/api/v1/streams?limit=1").await;
    let next = page["next"].as_str().unwrap();
    assert!(next.len() > 4 && next != "a", "{next}");
    for cursor in [next, "a"] {
        let (_, page) = get(&hub, &format!("/api/v1/streams?limit=1&cursor={cursor}")).await;
        assert_eq!(page["streams"][0]["channel"], "b", "{cursor}");
    }
    let foreign = crate::cursor::write("channels", &[0xff; 60]).unwrap();
    let forged = crate::cursor::write("streams", b"a&limit=1").unwrap();
    for cursor in [foreign.as_str(), &forged, "a.b", "%20", "", &"A".repeat(300)] {
        let (status, problem) = get(&hub, &format!("/api/v1/streams?cursor={cursor}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{cursor}");
        assert_eq!(problem["type"], "/problems/invalid-cursor", "{cursor}");
    }
}
