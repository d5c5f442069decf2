//! Responses are the same as over HTTP/1.1.

use std::collections::BTreeMap;

use super::*;
use http_server::Sockets;

/// A response's fields, without those that differ with time or protocol.
fn headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let fixed = headers.iter().filter(|(name, _)| *name != "server-timing");
    fixed
        .map(|(name, value)| match name.as_str() {
            "date" => ("date".into(), value.len().to_string()),
            name => (name.into(), value.to_str().unwrap().into()),
        })
        .collect()
}

#[tokio::test]
async fn http3_responses_equal_those_over_http1() {
    let running = Running::live().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = listener.local_addr().unwrap();
    let sockets = Sockets { http: vec![listener], ..Sockets::default() };
    let server = server(&running.stage, &config(), sockets, None);
    let stop = CancellationToken::new();
    let plain = tokio::spawn(server.serve(stop.clone(), stop.clone()));
    let socket = tokio::net::TcpStream::connect(tcp).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(socket);
    let (mut http1, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let driving = tokio::spawn(connection);

    let mut http3 = running.client().await;
    let first = running.stage.first;
    let segment = running.stage.media(&format!("{first}.m4s"));
    let part = running.stage.media(&format!("{first}.0.m4s"));
    let etag = http3.get(&segment).await.headers["etag"].to_str().unwrap().to_owned();
    for (method, path, extra, body) in [
        (Method::GET, "/live/demo/index.m3u8", None, ""),
        (Method::GET, "/live/demo/v0.m3u8", None, ""),
        (Method::GET, "/live/demo/v0.m3u8", Some(("accept-encoding", "gzip")), ""),
        (Method::GET, "/live/demo/manifest.mpd", None, ""),
        (Method::GET, &segment, None, ""),
        (Method::GET, &segment, Some(("range", "bytes=10-1999")), ""),
        (Method::GET, &segment, Some(("range", "bytes=9999999-")), ""),
        (Method::GET, &segment, Some(("if-none-match", etag.as_str())), ""),
        (Method::GET, &segment, Some(("if-match", "\"other\"")), ""),
        (Method::from_bytes(b"BREW").unwrap(), &segment, None, ""),
        (Method::GET, "/api", None, ""),
        (Method::DELETE, "/api/echo", Some(("early-data", "1")), ""),
        (Method::POST, "/no/such/thing", Some(("early-data", "1")), ""),
        (Method::HEAD, &segment, None, ""),
        (Method::GET, &part, None, ""),
        (Method::OPTIONS, &part, None, ""),
        (Method::DELETE, &part, None, ""),
        (Method::GET, "/no/such/thing", None, ""),
        (Method::GET, "/api/echo", None, ""),
        (Method::POST, "/api/echo", None, "sent"),
        (Method::GET, &segment, None, "a body"),
    ] {
        let extra: Vec<_> = extra.into_iter().collect();
        let over_3 = http3.request(method.clone(), path, &extra, body.as_bytes()).await;
        let mut request = Request::builder().method(method.clone()).uri(path).header("host", NAME);
        for (name, value) in &extra {
            request = request.header(*name, *value);
        }
        let body = http_body_util::Full::new(Bytes::copy_from_slice(body.as_bytes()));
        http1.ready().await.unwrap();
        let (head, body) =
            http1.send_request(request.body(body).unwrap()).await.unwrap().into_parts();
        let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
        assert_eq!(
            (over_3.status, &over_3.body),
            (head.status, &body),
            "{method} {path} {extra:?}"
        );
        let mut over_1 = headers(&head.headers);
        over_1.remove("connection");
        assert_eq!(headers(&over_3.headers), over_1, "{method} {path} {extra:?}");
        if head.headers.contains_key("connection") {
            break; // the last
        }
    }
    stop.cancel();
    let (_, _) = (plain.await, driving.await);
}

#[tokio::test]
async fn a_segment_of_many_pieces_arrives_whole() {
    let mut stage = Stage::new().await;
    stage.frame_bytes = 150_000;
    stage.push(SEGMENT + 1).await;
    stage.frame_bytes = 3_000;
    stage.push(SEGMENT).await;
    let socket = QuicSocket::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let running = Running::over(stage, socket, Certificate::new(), config(), |_| ());
    let mut client = running.client().await;
    for (index, bytes) in [(0, 150_000 * SEGMENT), (1, 3_000 * SEGMENT)] {
        let path = running.stage.media(&format!("{}.m4s", running.stage.first + index));
        let response = client.get(&path).await;
        assert!(response.body.len() >= bytes, "{} of {bytes}", response.body.len());
        let expected = running.stage.get(&path).await;
        assert!(response.body == expected.body);
    }
}

#[tokio::test]
async fn an_open_segment_arrives_part_by_part() {
    let mut running = Running::live().await;
    let mut client = running.client().await;
    let path = running.stage.media(&format!("{}.m4s", running.stage.first + 3));
    let mut stream = client.send(Method::GET, &path, &[]).await;
    stream.finish().await.unwrap();
    let head = timeout(LONG, stream.recv_response()).await.unwrap().unwrap();
    assert!(head.headers().get("content-length").is_none());
    let mut come = 0;
    for parts in 2..=5 {
        while come < 1_000 * PART * parts {
            let data = timeout(LONG, stream.recv_data()).await.unwrap().unwrap().unwrap();
            come += data.remaining();
        }
        running.stage.push(PART).await;
    }
    while let Some(data) = timeout(LONG, stream.recv_data()).await.unwrap().unwrap() {
        come += data.remaining();
    }
    assert_eq!(come, running.stage.get(&path).await.body.len());
}

/// Requests the playlist with the next part, which is held.
async fn next_part(running: &Running, client: &mut Client) -> Stream {
    let path = format!("/live/demo/v0.m3u8?_HLS_msn={}&_HLS_part=2", running.stage.first + 3);
    let mut stream = client.send(Method::GET, &path, &[]).await;
    stream.finish().await.unwrap();
    until(|| running.stage.metrics.waiting.get() == 1).await;
    stream
}

#[tokio::test]
async fn a_blocking_playlist_request_gets_a_response_with_its_part() {
    let mut running = Running::live().await;
    let mut client = running.client().await;
    let stream = next_part(&running, &mut client).await;
    running.stage.push(PART).await;
    let response = whole(stream).await;
    assert_eq!(response.status, StatusCode::OK);
    assert!(
        String::from_utf8_lossy(&response.body)
            .contains(&format!("{}.2.m4s", running.stage.first + 3))
    );
}

#[tokio::test]
async fn a_request_cancelled_by_stop_sending_no_longer_waits() {
    let running = Running::live().await;
    let mut client = running.client().await;
    let mut stream = next_part(&running, &mut client).await;
    stream.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);
    until(|| running.stage.metrics.waiting.get() == 0).await;
    assert_eq!(client.get("/live/demo/v0.m3u8").await.status, StatusCode::OK);
}
