//! Plain requests, and the hand-over of a connection to hyper between them.

use super::*;

/// A peer that waits for the part after the next.
async fn waiting(running: &Running) -> Peer {
    let open = running.stage.first + 3;
    let mut peer = running.connect().await;
    peer.send(get(&format!("/live/demo/v0.m3u8?_HLS_msn={open}&_HLS_part=2"))).await;
    while running.stage.metrics.waiting.get() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    peer
}

#[tokio::test]
async fn a_connection_switches_to_hyper_with_all_bytes_that_were_read() {
    let running = Running::live().await;
    let mut peer = running.connect().await;
    let plain = get("/time");
    let post = request("POST", "/api/v1/x", "Content-Length: 5\r\n") + "hello";
    let chunked =
        request("POST", "/api/v1/y", "Transfer-Encoding: chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n";
    peer.send([&plain, &plain, &post, &plain, &chunked, &plain].map(String::as_str).concat()).await;
    for expected in [
        None,
        None,
        Some("POST /api/v1/x of 127.0.0.1 sent hello"),
        None,
        Some("POST /api/v1/y of 127.0.0.1 sent abc"),
        None,
    ] {
        let (status, headers, body) = peer.response(true).await;
        assert_eq!(status, 200);
        match expected {
            Some(expected) => assert_eq!(String::from_utf8_lossy(&body), expected),
            None => assert_eq!(headers["cache-control"], "no-store"),
        }
    }
}

#[tokio::test]
async fn both_http1_implementations_give_equal_responses() {
    let running = Running::live().await;
    let first = running.stage.first;
    let segment = running.stage.media(&format!("{first}.m4s"));
    let paths = [
        segment.as_str(),
        "/live/demo/v0.m3u8",
        "/live/demo/manifest.mpd",
        "/nothing",
        "/watch/demo",
    ];
    for (path, method) in paths.into_iter().flat_map(|path| [(path, "GET"), (path, "HEAD")]) {
        for headers in ["", "Accept-Encoding: gzip\r\n", "Range: bytes=0-9\r\n"] {
            let mut responses = Vec::new();
            // A header that changes nothing, and is not plain.
            for other in ["", "Connection: keep-alive, x\r\n"] {
                let mut peer = running.connect().await;
                peer.send(request(method, path, &format!("{headers}{other}"))).await;
                let mut response = peer.response(method == "GET").await;
                response.1.remove("date");
                responses.push(response);
            }
            assert_eq!(responses[0], responses[1], "{method} {path} {headers}");
        }
    }
}

#[tokio::test]
async fn a_peer_that_disconnects_while_its_request_waits_is_forgotten() {
    let running = Running::live().await;
    let peer = waiting(&running).await;
    drop(peer);
    let begun = Instant::now();
    while running.stage.metrics.waiting.get() > 0
        || running.stage.metrics.server.connections.get() > 0
    {
        assert!(begun.elapsed() < LONG);
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn requests_pipelined_behind_a_waiting_one_get_responses_in_order() {
    let mut running = Running::live().await;
    let mut peer = waiting(&running).await;
    // More than is read ahead.
    let ahead = 1_000;
    peer.send(get("/time").repeat(ahead)).await;
    sleep(Duration::from_millis(20)).await;
    running.stage.push(PART).await;
    let (status, headers, _) = peer.response(true).await;
    assert_eq!((status, &headers["content-type"][..]), (200, "application/vnd.apple.mpegurl"));
    for _ in 0..ahead {
        let (status, headers, _) = peer.response(true).await;
        assert_eq!((status, &headers["cache-control"][..]), (200, "no-store"));
    }
}

#[tokio::test]
async fn a_partial_head_after_any_number_of_requests_is_closed_after_header_ms() {
    let running = Running::start(Config { header_ms: 200, ..config() }).await;
    // Some of these use up a task's budget just when the limit is to be waited for.
    let requested: Vec<usize> = (100..270).collect();
    let mut peers = Vec::new();
    for &count in &requested {
        let mut peer = running.connect().await;
        peer.send(get("/time").repeat(count) + "GET /time HT").await;
        peers.push(peer);
    }
    for (peer, count) in peers.into_iter().zip(&requested) {
        let responses = peer.rest().await;
        assert_eq!(responses.matches("HTTP/1.1 200 OK").count(), *count);
    }
    assert_eq!(running.refused("header").await, requested.len() as u64);
}

#[tokio::test]
async fn no_response_to_head_has_a_body_not_even_a_refusal() {
    let running = Running::live().await;
    for request in
        ["HEAD /api/v1/x HTTP/1.1\r\nHost: origin\r\n\r\n", "HEAD /api/v1/x HTTP/1.1\r\n\r\n"]
    {
        let mut peer = running.connect().await;
        peer.send(request).await;
        let (_, headers, _) = peer.response(false).await;
        if request.contains("Host") {
            peer.send(get("/time")).await;
            assert_eq!(peer.response(true).await.0, 200);
        } else {
            assert_eq!(headers["access-control-allow-origin"], "*");
            assert_eq!(peer.rest().await, "");
        }
    }
}

#[tokio::test]
async fn an_invalid_host_is_refused_by_both_http1_implementations() {
    let running = Running::live().await;
    for host in ["###", "a b", "a/b", "u@a", "a:b", "[::1", "a?b", "a%zz", "", "a,b c", "\u{e4}"] {
        for other in ["", "Connection: keep-alive, x\r\n", "Content-Length: 0\r\n"] {
            let mut peer = running.connect().await;
            peer.send(format!("GET /time HTTP/1.1\r\nHost: {host}\r\n{other}\r\n")).await;
            let response = peer.rest().await;
            assert!(response.starts_with("HTTP/1.1 400 "), "{host:?} {other:?}: {response}");
        }
    }
    for host in ["origin:8080", "127.0.0.1", "[::1]:80", " origin "] {
        let mut peer = running.connect().await;
        peer.send(format!("GET /time HTTP/1.1\r\nHost:{host}\r\n\r\n")).await;
        assert_eq!(peer.response(true).await.0, 200, "{host}");
    }
}

#[tokio::test]
async fn a_request_that_ends_with_an_empty_chunk_has_no_body() {
    let running = Running::live().await;
    let mut peer = running.connect().await;
    let chunked = request("GET", "/time", "Transfer-Encoding: chunked\r\n");
    peer.send(chunked.clone() + "0\r\n\r\n").await;
    assert_eq!(peer.response(true).await.0, 200);
    peer.send(chunked + "4\r\nbody\r\n0\r\n\r\n").await;
    let (status, headers, _) = peer.response(true).await;
    assert_eq!((status, &headers["connection"][..]), (400, "close"));
}

#[tokio::test]
async fn unsupported_methods_get_405_and_unknown_ones_501() {
    let running = Running::live().await;
    for (method, status) in [("DELETE", 405), ("BREW", 501)] {
        let mut peer = running.connect().await;
        peer.send(request(method, "/time", "")).await;
        let (received, headers, _) = peer.response(true).await;
        assert_eq!((received, &headers["allow"][..]), (status, "GET, HEAD, OPTIONS"));
    }
}
