use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process, thread,
};

use http::{Request, Version};
use http_body_util::BodyExt;
use http_server::{Body, Sockets};
use proptest::prelude::*;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{stage::Stage, tests::server};

/// The directory of a test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("streamforge-{name}-{}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path, format: Format, metrics: &Metrics) -> AccessLog {
    let config = Config {
        access_log: path.to_str().unwrap().to_owned(),
        access_log_format: format,
        ..Config::default()
    };
    AccessLog::open(&config, metrics).unwrap().unwrap()
}

fn record() -> Record {
    Record {
        at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_777_636_800_250),
        peer: ([192, 0, 2, 1], 1234).into(),
        method: b"GET"[..].into(),
        target: b"/live/demo/v0.m3u8?_HLS_msn=7"[..].into(),
        version: Version::HTTP_2,
        status: 200,
        sent: 512,
        duration: Duration::from_micros(151_500),
        referer: Some(b"https://player.example/"[..].into()),
        user_agent: None,
        kind: "playlist",
        channel: Some("demo".parse().unwrap()),
        held: Duration::from_millis(150),
    }
}

fn line(record: &Record, format: Format) -> String {
    let mut line = String::new();
    record.write(format, &mut line);
    line
}

#[test]
fn lines_of_both_formats_have_the_expected_bytes() {
    assert_eq!(
        line(&record(), Format::Combined),
        "192.0.2.1 - - [01/May/2026:12:00:00 +0000] \
         \"GET /live/demo/v0.m3u8?_HLS_msn=7 HTTP/2.0\" 200 512 \
         \"https://player.example/\" \"-\"\n"
    );
    assert_eq!(
        line(&record(), Format::Json),
        "{\"time\":\"2026-05-01T12:00:00.250Z\",\"peer\":\"192.0.2.1:1234\",\"method\":\"GET\",\
         \"path\":\"/live/demo/v0.m3u8?_HLS_msn=7\",\"protocol\":\"HTTP/2.0\",\
         \"status\":200,\"bytes\":512,\"duration_ms\":151.500,\"held_ms\":150.000,\
         \"referer\":\"https://player.example/\",\"user_agent\":null,\
         \"kind\":\"playlist\",\"channel\":\"demo\"}\n"
    );
    let mut six = record();
    (six.peer, six.version, six.sent) = ("[2001:db8::1]:443".parse().unwrap(), Version::HTTP_3, 0);
    assert!(line(&six, Format::Combined).starts_with("2001:db8::1 - - ["));
    assert!(line(&six, Format::Combined).contains(" HTTP/3.0\" 200 - \""));
    assert!(line(&six, Format::Json).contains("\"peer\":\"[2001:db8::1]:443\""));
}

#[test]
fn a_client_cannot_forge_a_line() {
    let evil = "a\" 200 1\r\n9.9.9.9 - - \\\"\u{85}\u{2028}\u{202e}\x1b[2J\x7f\0{}".as_bytes();
    let mut forged = record();
    (forged.method, forged.target) = (evil.into(), evil.into());
    (forged.referer, forged.user_agent) =
        (Some(evil.into()), Some([evil, &b"\xff\xfe"[..]].concat().into()));
    let combined = line(&forged, Format::Combined);
    assert_eq!(combined.matches('\n').count(), 1);
    assert!(combined.trim_end_matches('\n').bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    // Unescaped quotes: two around each of three texts.
    let bare = combined.replace("\\\\", "").replace("\\\"", "");
    assert_eq!(bare.matches('"').count(), 6, "{combined}");
    assert!(combined.contains("a\\\" 200 1\\x0d\\x0a9.9.9.9 - - \\\\\\\"\\xc2\\x85"), "{combined}");
    let json = line(&forged, Format::Json);
    assert_eq!(
        json.chars().filter(|char| char.is_control()).count(),
        1,
        "the line's end alone: {json}"
    );
    assert!(!json.contains(['\u{2028}', '\u{202e}']));
    let escaped = "a\\\" 200 1\\u000d\\u000a9.9.9.9 - - \\\\\\\"\\u0085\\u2028\\u202e\\u001b[2J\
                   \\u007f\\u0000{}";
    assert!(json.contains(escaped));
    assert!(json.contains("\u{fffd}\u{fffd}\",\"kind\""), "what is no UTF-8 is replaced");
}

#[test]
fn secrets_in_paths_queries_and_userinfo_are_masked() {
    for (target, masked) in [
        ("/live/demo/v0.m3u8?_HLS_msn=7&_HLS_part=0", "/live/demo/v0.m3u8?_HLS_msn=7&_HLS_part=0"),
        ("/t/s3cret/live/demo/v0.m3u8", "/t/***/live/demo/v0.m3u8"),
        ("/t/s3cret", "/t/***"),
        ("/t/s3cret?key=s3cret", "/t/***?key=***"),
        ("/x?Token=s3cret&a=b", "/x?Token=***&a=b"),
        ("/x?access_token=s3cret=s3cret", "/x?access_token=***"),
        ("/x?%6bey=s3cret&%74%4fken=s3cret", "/x?%6bey=***&%74%4fken=***"),
        ("/x?a=1?key=2&streamKey=s3cret", "/x?a=1?key=2&streamKey=***"),
        ("/x?X-Amz-Signature=s3cret", "/x?X-Amz-Signature=***"),
        ("/x?key", "/x?key"),
        ("/x?%zz%é=1&%", "/x?%zz%é=1&%"),
        (
            "https://a:s3cret@player.example/t/s3cret/x?key=s3cret",
            "https://player.example/t/***/x?key=***",
        ),
        ("https://player.example", "https://player.example"),
        ("*", "*"),
        ("", ""),
    ] {
        assert_eq!(Masked(target).to_string(), masked);
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics_and_never_unmasks_a_secret(
        text in "\\PC*", path in "[a-z/%]{0,20}",
        before in "[a-zA-Z%&=]{0,20}", after in "[a-z%&=]{0,20}",
        field in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let _ = Masked(&text).to_string();
        let masked = Masked(&format!("/{path}?{before}&token=S3CRET&{after}")).to_string();
        prop_assert!(!masked.contains("S3CRET"), "{}", masked);
        let masked = Masked(&format!("/t/S3CRET/{path}?{before}")).to_string();
        prop_assert!(!masked.contains("S3CRET"), "{}", masked);
        let mut any = record();
        (any.target, any.user_agent) = (text.as_bytes().into(), Some(field.into()));
        for format in [Format::Combined, Format::Json] {
            prop_assert_eq!(line(&any, format).lines().count(), 1);
        }
    }
}

#[tokio::test]
async fn a_line_is_written_when_the_response_has_been_sent_or_aborted() {
    let (directory, metrics) = (Directory::new("access-log-lines"), Metrics::default());
    let file = directory.file("access.log");
    let log = open(&file, Format::Combined, &metrics);
    let request = |target: &str| {
        Request::builder()
            .uri(target)
            .header("user-agent", "player/1")
            .body(())
            .unwrap()
            .into_parts()
            .0
    };
    let peer = SocketAddr::from(([192, 0, 2, 1], 1));
    let begin = |target: &str, status| {
        let mut entry = log.begin(&request(target), peer);
        entry.responded("segment", status, None, Duration::ZERO);
        entry
    };
    // Sent completely; aborted after its first frame; without a body; and without a response.
    let mut whole = Body::from("0123456789");
    whole.on_finish(Box::new(begin("/t/s3cret/1.m4s", 200)));
    let mut data = whole.frame().await.unwrap().unwrap().into_data().unwrap();
    bytes::Buf::advance(&mut data, 10);
    drop(whole);
    assert_eq!(fs::read_to_string(&file).unwrap(), "", "it is on its way");
    drop(data);
    let mut half = Body::from("0123456789");
    half.on_finish(Box::new(begin("/2.m4s", 200)));
    let mut data = half.frame().await.unwrap().unwrap().into_data().unwrap();
    bytes::Buf::advance(&mut data, 4);
    drop((half, data));
    let mut none = Body::empty();
    none.on_finish(Box::new(begin("/3.m4s", 304)));
    drop(none);
    drop(log.begin(&request("/4.m4s"), peer));
    drop(log);
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<_> = text.lines().map(|line| line.split_once("] ").unwrap().1).collect();
    assert_eq!(
        lines,
        [
            "\"GET /t/***/1.m4s HTTP/1.1\" 200 10 \"-\" \"player/1\"",
            "\"GET /2.m4s HTTP/1.1\" 200 4 \"-\" \"player/1\"",
            "\"GET /3.m4s HTTP/1.1\" 304 - \"-\" \"player/1\"",
            "\"GET /4.m4s HTTP/1.1\" 499 - \"-\" \"player/1\"",
        ]
    );
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o137,
        0,
        "nobody else may read or run it"
    );
    assert_eq!(metrics.unlogged.get(), 0);
}

#[test]
fn a_rotated_file_is_reopened_and_an_existing_file_is_appended_to() {
    let (directory, metrics) = (Directory::new("access-log-reopen"), Metrics::default());
    let (file, old) = (directory.file("access.log"), directory.file("access.log.1"));
    fs::write(&file, "before\n").unwrap();
    let log = open(&file, Format::Json, &metrics);
    log.0.write(record().into());
    let wait_for = |what: &dyn Fn() -> bool| {
        while !what() {
            thread::sleep(Duration::from_millis(5));
        }
    };
    wait_for(&|| fs::read_to_string(&file).unwrap().lines().count() == 2);
    fs::rename(&file, &old).unwrap();
    log.reopen();
    wait_for(&|| file.exists());
    log.0.write(record().into());
    drop(log);
    assert_eq!(fs::read_to_string(&old).unwrap().lines().count(), 2);
    assert_eq!(fs::read_to_string(&file).unwrap(), line(&record(), Format::Json));
}

#[test]
fn failed_writes_are_counted_and_a_file_that_cannot_be_created_is_an_error() {
    let metrics = Metrics::default();
    // Every write fails for lack of space (full(4)).
    let log = open(Path::new("/dev/full"), Format::Combined, &metrics);
    for _ in 0..3 {
        log.0.write(record().into());
    }
    drop(log);
    assert_eq!(metrics.unlogged.get(), 3);
    assert!(
        AccessLog::open(
            &Config { access_log: "/nowhere/access.log".into(), ..Config::default() },
            &metrics
        )
        .is_err()
    );
    assert!(AccessLog::open(&Config::default(), &metrics).unwrap().is_none());
}

#[test]
fn a_log_pipe_without_a_reader_never_blocks_and_its_queue_is_bounded() {
    let (directory, metrics) = (Directory::new("access-log-pipe"), Metrics::default());
    let pipe = directory.file("pipe");
    assert!(process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Both ends, so that opening it does not block, and nobody reads.
    let reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let log = open(&pipe, Format::Combined, &metrics);
    for _ in 0..20_000 {
        log.0.write(record().into());
    }
    assert!(metrics.unlogged.get() > 10_000, "{} were not queued", metrics.unlogged.get());
    drop(reader);
}

#[tokio::test(start_paused = true)]
async fn the_router_logs_kind_channel_and_hold_time() {
    let (directory, metrics) = (Directory::new("access-log-router"), Metrics::default());
    let file = directory.file("access.log");
    let mut stage = Stage::live().await;
    let log = open(&file, Format::Json, &metrics);
    let router = Arc::get_mut(&mut stage.router).unwrap();
    router.log(Some(log));
    let open = stage.first + 3;
    let part = stage.get(&stage.media(&format!("{open}.2.m4s"))).await;
    assert_eq!(part.header("server-timing"), "hold;dur=6000.0");
    let at_once = stage.get("/live/demo/v0.m3u8?token=s3cret").await;
    assert_eq!(at_once.header("server-timing"), "");
    stage.get("/api/v1/x").await;
    Arc::get_mut(&mut stage.router).unwrap().log(None);
    let text = fs::read_to_string(&file).unwrap();
    let [part, playlist, api] = text.lines().collect::<Vec<_>>()[..] else {
        panic!("{text}");
    };
    assert!(part.contains("\"status\":503") && part.contains("\"held_ms\":6000.000"), "{part}");
    assert!(part.ends_with("\"kind\":\"part\",\"channel\":\"demo\"}"), "{part}");
    assert!(
        playlist.contains("\"path\":\"/live/demo/v0.m3u8?token=***\"")
            && playlist.contains("\"held_ms\":0.000")
    );
    assert!(playlist.ends_with("\"kind\":\"playlist\",\"channel\":\"demo\"}"), "{playlist}");
    assert!(api.ends_with("\"kind\":\"api\",\"channel\":null}"), "{api}");
}

#[tokio::test]
async fn requests_over_the_local_socket_are_neither_logged_nor_counted_as_viewers() {
    let (directory, metrics) = (Directory::new("access-log-ours"), Metrics::default());
    let file = directory.file("access.log");
    let mut stage = Stage::live().await;
    let log = open(&file, Format::Combined, &metrics);
    Arc::get_mut(&mut stage.router).unwrap().log(Some(log));
    let path = directory.file("local.sock");
    let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = http.local_addr().unwrap();
    let sockets = Sockets {
        http: vec![http],
        local: vec![std::os::unix::net::UnixListener::bind(&path).unwrap()],
        ..Sockets::default()
    };
    let (config, shutdown) = (Config::default(), CancellationToken::new());
    let server = server(&stage, &config, sockets, None);
    let serving = tokio::spawn(server.serve(CancellationToken::new(), shutdown.clone()));
    let channel = "demo".parse().unwrap();
    send_request(UnixStream::connect(&path).await.unwrap(), "/live/demo/v0.m3u8").await;
    send_request(
        UnixStream::connect(&path).await.unwrap(),
        &stage.media(&format!("{}.m4s", stage.first)),
    )
    .await;
    assert_eq!(stage.audience.viewers(&channel), 0);
    send_request(TcpStream::connect(address).await.unwrap(), "/live/demo/v0.m3u8").await;
    assert_eq!(stage.audience.viewers(&channel), 1);
    shutdown.cancel();
    serving.await.unwrap();
    Arc::get_mut(&mut stage.router).unwrap().log(None);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
}

async fn send_request(mut socket: impl AsyncRead + AsyncWrite + Unpin, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    socket.read_to_end(&mut response).await.unwrap();
    assert!(response.starts_with(b"HTTP/1.1 200 "), "{path}");
}
