//! Attacks of a peer over HTTP/2: each costs it its connection, or costs the server nothing that
//! lasts.

use super::{frames::*, *};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const ENHANCE_YOUR_CALM: u32 = 11;

impl Running {
    pub(super) async fn raw(&self, window: Option<u32>) -> Raw<TcpStream> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        Raw::begin(socket, window).await
    }

    /// Waits until every connection is closed.
    async fn is_left(&self) {
        let begun = Instant::now();
        while self.stage.metrics.server.connections.get() > 0 {
            assert!(begun.elapsed() < LONG);
            sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn rapid_stream_resets_close_the_connection() {
    // CVE-2023-44487.
    let running = Running::live().await;
    let mut raw = running.raw(None).await;
    let mut flood = Vec::new();
    for n in 0..1_000 {
        let path = format!("/live/demo/v0.m3u8?_HLS_msn={}", running.stage.first + 4);
        flood.extend(request_frame(2 * n + 1, &path, &[]));
        flood.extend(frame(RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes()));
    }
    raw.send(&flood).await;
    assert_eq!(raw.ended().await, Some(ENHANCE_YOUR_CALM));
    running.is_left().await;
    assert_eq!(running.stage.metrics.waiting.get(), 0);
}

#[tokio::test]
async fn an_endless_header_block_closes_the_connection() {
    // CVE-2024-27316: large pieces, and empty ones.
    let running = Running::live().await;
    for piece in [vec![0; 16 << 10], vec![]] {
        let mut raw = running.raw(None).await;
        let mut flood = frame(HEADERS, END_STREAM, 1, &block("/time", &[]));
        for _ in 0..2_000 {
            flood.extend(frame(CONTINUATION, 0, 1, &piece));
        }
        raw.send(&flood).await;
        let code = raw.ended().await;
        assert!(matches!(code, None | Some(PROTOCOL_ERROR | ENHANCE_YOUR_CALM)), "{code:?}");
        running.is_left().await;
    }
}

#[tokio::test]
async fn an_hpack_bomb_closes_the_connection() {
    let running = Running::live().await;
    let mut raw = running.raw(None).await;
    // A field of 3 900 bytes enters the table, and is then repeated with one byte each.
    let mut bomb = block("/time", &[]);
    bomb.extend([0x40, 1, b'x', 127]);
    bomb.extend([0xbd, 0x1d]); // 3 900 - 127 = 29 * 128 + 61
    bomb.extend(vec![b'y'; 3_900]);
    bomb.extend(vec![0xbe; 8_000]);
    raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb)).await;
    assert_eq!(raw.ended().await, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn too_large_a_header_section_gets_431_and_the_next_request_gets_a_response() {
    let running = Running::live().await;
    let mut raw = running.raw(None).await;
    // 65 fields of 215 bytes, including the overhead of each (RFC 9113 6.5.2): more than 16 384.
    let value = "v".repeat(120);
    let fields = block("/time", &vec![(&value[..95], &*value); 68]);
    assert!(fields.len() < 16 << 10);
    raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields)).await;
    let response = raw.next_of(1).await;
    // :status 431, Huffman-coded (RFC 7541 B).
    assert_eq!((response.kind, &response.payload[..5]), (HEADERS, &b"\x48\x83\x69\x90\xff"[..]));
    raw.send(&request_frame(3, "/time", &[])).await;
    assert_eq!(raw.next_of(3).await.payload[0], 0x88, "200");
}

#[tokio::test]
async fn invalid_window_updates_frames_and_settings_are_connection_errors() {
    let running = Running::live().await;
    for (bytes, expected) in [
        (frame(WINDOW_UPDATE, 0, 0, &[0; 4]), PROTOCOL_ERROR),
        (frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()), FLOW_CONTROL_ERROR),
        (frame(DATA, 0, 1, &vec![0; 16_385]), FRAME_SIZE_ERROR),
        (frame(DATA, 0, 0, &[0]), PROTOCOL_ERROR),
        // RFC 9113 6.5.2 requires FLOW_CONTROL_ERROR; h2 sends this.
        (frame(SETTINGS, 0, 0, &setting(4, 0x8000_0000)), PROTOCOL_ERROR),
        (frame(HEADERS, END_STREAM | END_HEADERS, 2, &block("/time", &[])), PROTOCOL_ERROR),
    ] {
        let mut raw = running.raw(None).await;
        raw.send(&bytes).await;
        assert_eq!(raw.ended().await, Some(expected), "{:?}", &bytes[..bytes.len().min(16)]);
        running.is_left().await;
    }
}

#[tokio::test]
async fn a_flood_of_pings_or_settings_without_reading_closes_the_connection() {
    let running = Running::start(Config { write_ms: 200, ..config() }).await;
    for question in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &setting(3, 100))] {
        // The buffers are small, so that the server soon has no room for another response.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        let mut raw = Raw::begin(socket.connect(running.address).await.unwrap(), None).await;
        let flood = question.repeat(1_000);
        let before = running.refused("write").await;
        let sending = async {
            // Until no byte is accepted any more: requests without a response are not read.
            while raw.socket.write_all(&flood).await.is_ok() {}
        };
        timeout(LONG, sending).await.expect("the server closes");
        running.is_left().await;
        assert_eq!(running.refused("write").await, before + 1);
    }
}

#[tokio::test]
async fn a_connection_whose_responses_have_no_window_is_closed_after_write_ms() {
    let running = Running::over(
        {
            let mut stage = Stage::with(&config()).await;
            stage.push(SEGMENT + 1).await;
            stage
        },
        Config { write_ms: 200, ..config() },
    )
    .await;
    let mut raw = running.raw(Some(0)).await;
    let path = running.stage.media(&format!("{}.m4s", running.stage.first));
    for n in 0..20 {
        raw.send(&request_frame(2 * n + 1, &path, &[])).await;
    }
    assert_eq!(raw.next_of(1).await.kind, HEADERS);
    running.is_left().await;
    assert_eq!(running.refused("write").await, 1);
}

#[tokio::test]
async fn frames_of_unknown_type_are_ignored() {
    let running = Running::live().await;
    let mut raw = running.raw(None).await;
    raw.send(&frame(0x10, 0, 0, b"\0\0\0\x01u=1")).await; // PRIORITY_UPDATE (RFC 9218 7.1)
    raw.send(&frame(0xfa, 0, 0, &[1; 100])).await;
    raw.send(&request_frame(1, "/time", &[])).await;
    assert_eq!(raw.next_of(1).await.payload[0], 0x88);
}

#[tokio::test]
async fn a_request_that_ends_with_an_empty_frame_has_no_body() {
    let running = Running::live().await;
    let mut raw = running.raw(None).await;
    let segment = running.stage.media(&format!("{}.m4s", running.stage.first));
    for (stream, path, frames, status) in [
        (1, "/time", &[&b""[..]][..], 0x88),
        (3, &segment, &[b"", b""], 0x88),
        (5, "/time", &[b"body"], 0x8c),
        (7, "/time", &[b"", b"body"], 0x8c),
    ] {
        raw.send(&frame(HEADERS, END_HEADERS, stream, &block(path, &[]))).await;
        for (index, data) in frames.iter().enumerate() {
            let last = if index + 1 == frames.len() { END_STREAM } else { 0 };
            raw.send(&frame(DATA, last, stream, data)).await;
        }
        assert_eq!(raw.next_of(stream).await.payload[0], status, "{path} {frames:?}");
    }
}

#[tokio::test]
async fn ambiguous_http2_requests_are_refused() {
    let running = Running::live().await;
    let mut raw = running.raw(None).await;
    let many = vec![("x", "1"); 65];
    // Without :authority; and with an invalid one.
    let mut bare = vec![0x82, 0x87, 0x04, 5];
    bare.extend(b"/time");
    let mut user = bare.clone();
    user.extend([0x01, 5]);
    user.extend(b"u@org");
    for (n, (block, status)) in (0..).zip([
        (block("/time", &[("host", "origin")]), &[0x88][..]),
        (block("/time", &[("host", "other")]), &[0x8c]),
        (block("/time", &[("host", "origin"), ("host", "origin")]), &[0x8c]),
        (block("/time", &[("x", " a")]), &[0x8c]),
        (block("/time", &[("x", "a\t")]), &[0x8c]),
        (block("/time", &many), b"\x48\x83\x69\x90\xff"), // 431, in Huffman's code
        (bare, &[0x8c]),
        (user, &[0x8c]),
    ]) {
        let stream = 2 * n + 1;
        raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &block)).await;
        let response = raw.next_of(stream).await;
        assert_eq!(response.kind, HEADERS, "{n}");
        assert!(response.payload.starts_with(status), "{n}: {:02x?}", &response.payload[..5]);
    }
}
