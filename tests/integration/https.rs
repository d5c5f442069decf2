//! HTTP over TLS and QUIC from the clients' side: equal responses over HTTP/1.1, HTTP/2 and HTTP/3,
//! real players over each, certificates that change under load, and peers that waste the resources
//! of TLS.

mod certificates;
mod playing;

use crate::support::{
    Workdir,
    daemon::{Daemon, Entry, Settings},
    ffprobe, follow, http,
    media::{PLAIN, Recipe},
    players::{Browser, Report},
    playlist::{Segment, resolve},
    proc, publisher,
    tls::{self, Answer, Certificate},
    wait_for,
};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const BOTH: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];
const MASTER: &str = "/live/show/master.m3u8";
const VIDEO: &str = "/live/show/v0.m3u8";

/// A daemon with a certificate.
struct Secure {
    daemon: Daemon,
    certificate: Certificate,
    /// Its addresses for TLS: IPv4, then IPv6.
    https: Vec<SocketAddr>,
    /// Its addresses for QUIC.
    quic: Vec<SocketAddr>,
    workdir: Workdir,
}

impl Secure {
    fn start(settings: Settings) -> Self {
        let workdir = Workdir::new("https");
        let certificate = Certificate::make(workdir.path(), "shown");
        let mut settings = settings;
        settings.env.extend(certificate.settings(&BOTH));
        let mut daemon = Daemon::start(&settings);
        let [https, quic] = ["https", "quic"].map(|name| listeners(&mut daemon, name, BOTH.len()));
        Self { daemon, certificate, https, quic, workdir }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.https[0])
    }
}

/// The addresses in a listener's log lines, once there are `count`.
fn listeners(daemon: &mut Daemon, name: &str, count: usize) -> Vec<SocketAddr> {
    daemon.process.wait_for_lines(&format!("{name} listener"), Duration::from_secs(10), |lines| {
        let entries = lines.iter().filter_map(|line| Entry::parse(line));
        let ours = entries.filter(|entry| {
            entry.message() == "listening" && entry.field("listener") == Some(name)
        });
        let addresses: Vec<SocketAddr> = ours
            .map(|entry| {
                entry.field("addr").and_then(|addr| addr.parse().ok()).expect("an address")
            })
            .collect();
        (addresses.len() == count).then_some(addresses)
    })
}

/// A broadcast of a few seconds that has ended, so that its resources no longer change. Manifests
/// list the clock with a fixed address, because the request's address differs by listener.
fn ended() -> Secure {
    let secure = Secure::start(Settings {
        segment_ms: 1000,
        reconnect_s: 1,
        env: vec![("STREAMFORGE_HTTP_PUBLIC_URL".into(), "https://live.example".into())],
        ..Settings::default()
    });
    let recipe = Recipe { group: 25, ..PLAIN };
    let mut publisher = publisher::ffmpeg_for(&recipe, 6, &secure.daemon.rtmp_url("show"));
    assert!(publisher.wait(Duration::from_secs(30)).success());
    wait_for("end of the broadcast", Duration::from_secs(20), || {
        let ended = |path: &str| secure.daemon.get(path).text().ends_with("#EXT-X-ENDLIST\n");
        (ended(VIDEO) && ended("/live/show/a0.m3u8")).then_some(())
    });
    secure
}

/// The address of a part of a segment; a list that has ended has no parts.
fn part_of(segment: &Segment, part: usize) -> String {
    segment.uri.replace(".m4s", &format!(".{part}.m4s"))
}

/// Resources of every kind.
fn everything(daemon: &Daemon) -> Vec<String> {
    let media = follow::read(daemon.http, VIDEO);
    let segment = &media.segments[1];
    let map = segment.map.as_ref().expect("a map");
    let [map, segment, part] =
        [map, &segment.uri, &part_of(segment, 2)].map(|uri| resolve(VIDEO, uri));
    let fixed = [
        MASTER,
        VIDEO,
        "/live/show/a0.m3u8",
        "/live/show/v0.m3u8?_HLS_msn=1&_HLS_skip=YES",
        "/live/show/v0.m3u8?_HLS_part=1",
        "/live/show/manifest.mpd",
        "/live/show/plain.mpd",
        "/live/show/v9.m3u8",
        "/live/nobody/master.m3u8",
        "/watch/show",
        "/watch/..%2f",
        "/nothing",
        "/api/v1/streams",
        "/api/v1/nothing",
    ];
    let fixed = fixed.map(str::to_owned);
    fixed.into_iter().chain([map, segment, part]).collect()
}

/// The response for each path over HTTP/3.
fn by_http3(
    secure: &Secure,
    method: &str,
    headers: &[(&str, &str)],
    paths: &[String],
) -> Vec<Answer> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let mut options = vec!["--method", method];
    for header in &headers {
        options.extend(["--header", header]);
    }
    options.extend(paths.iter().map(String::as_str));
    let said = tls::h3("get", &secure.certificate, &secure.url(""), &options);
    assert_eq!(said["alpn"], "h3");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let answers = said["answers"].as_array().expect("answers").iter();
    let answers = answers.map(|answer| {
        let headers = answer["headers"].as_array().expect("headers").iter();
        let headers: Vec<_> = headers.map(|header| (text(&header[0]), text(&header[1]))).collect();
        assert!(headers.iter().any(|(name, _)| name == "date"), "{answer}");
        let body = base64(answer["body"].as_str().expect("text"));
        Answer::new(
            u16::try_from(answer["status"].as_u64().expect("a status")).expect("a status"),
            headers,
            body,
        )
    });
    answers.collect()
}

/// RFC 4648 4, of what Python wrote.
fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for byte in text.bytes().take_while(|byte| *byte != b'=') {
        let value = ALPHABET.iter().position(|known| *known == byte).expect("base 64");
        (bits, count) = (bits << 6 | u32::try_from(value).expect("6 bits"), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).expect("8 bits"));
        }
    }
    bytes
}

#[test]
fn every_protocol_returns_the_same_bytes_and_headers() {
    let secure = ended();
    let paths = everything(&secure.daemon);
    for (method, headers) in [
        ("GET", &[][..]),
        ("GET", &[("accept-encoding", "gzip")]),
        ("GET", &[("range", "bytes=7-1006"), ("origin", "https://player.example")]),
        ("GET", &[("range", "bytes=99999999-")]),
        ("GET", &[("if-none-match", "*")]),
        ("HEAD", &[]),
        ("OPTIONS", &[("access-control-request-method", "GET")]),
    ] {
        // The API returns the id in its responses, and would make another one for each request.
        let headers = &[headers, &[("x-request-id", "the-same")]].concat()[..];
        let by_http3 = by_http3(&secure, method, headers, &paths);
        let of_headers: Vec<_> = headers
            .iter()
            .flat_map(|(name, value)| ["-H".to_owned(), format!("{name}: {value}")])
            .collect();
        for (path, by_http3) in paths.iter().zip(by_http3) {
            let plain = http::request(secure.daemon.http, method, path, headers);
            let plain = Answer::new(plain.status, plain.headers, plain.body);
            let by_curl = |option: &str| {
                let mut options: Vec<_> =
                    of_headers.iter().map(String::as_str).chain([option]).collect();
                match method {
                    "HEAD" => options.push("--head"),
                    method => options.extend(["-X", method]),
                }
                let mut answer = tls::curl(&secure.certificate, &secure.url(path), &options);
                if method == "HEAD" {
                    answer.body.clear(); // curl writes the head there
                }
                answer
            };
            for (protocol, answer) in [
                ("HTTP/1.1 over TLS", by_curl("--http1.1")),
                ("HTTP/2", by_curl("--http2")),
                ("HTTP/3", by_http3),
            ] {
                let what = format!("{method} {path} {headers:?} over {protocol}");
                assert_eq!(
                    (answer.status, &answer.headers),
                    (plain.status, &plain.headers),
                    "{what}"
                );
                assert!(
                    answer.body == plain.body,
                    "{what}: {} bytes for {}",
                    answer.body.len(),
                    plain.body.len()
                );
            }
        }
    }
}

#[test]
fn the_access_log_has_a_line_for_each_response_of_any_protocol() {
    let workdir = Workdir::new("access-log");
    let [file, moved] = ["access.log", "access.log.1"].map(|name| workdir.path().join(name));
    let env = [
        ("STREAMFORGE_HTTP_ACCESS_LOG", file.to_str().expect("a UTF-8 path")),
        ("STREAMFORGE_HTTP_ACCESS_LOG_FORMAT", "json"),
    ];
    let secure = Secure::start(Settings {
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..Settings::default()
    });
    let lines = |file: &Path, count: usize| {
        wait_for("lines", Duration::from_secs(10), || {
            let text = fs::read_to_string(file).unwrap_or_default();
            (text.lines().count() >= count)
                .then(|| text.lines().map(str::to_owned).collect::<Vec<_>>())
        })
    };
    let page = secure.daemon.get("/watch/show").body.len();
    let (watch, secret) =
        (secure.url("/watch/show"), secure.url("/t/s3cret/live/show/v0.m3u8?key=s3cret&a=b"));
    for option in ["--http1.1", "--http2"] {
        tls::curl(&secure.certificate, &watch, &[option, "-A", "a \" b"]);
    }
    let options = ["/watch/show", "--header", "referer: https://player.example/?token=s3cret"];
    tls::h3("get", &secure.certificate, &secure.url(""), &options);
    tls::curl(&secure.certificate, &secret, &["--http2"]);
    let seen = lines(&file, 5).join("\n");
    let seen: Vec<Value> =
        seen.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(seen.len(), 5, "{seen:#?}");
    let protocols = ["HTTP/1.1", "HTTP/1.1", "HTTP/2.0", "HTTP/3.0", "HTTP/2.0"];
    for (line, protocol) in seen.iter().zip(protocols) {
        assert_eq!(
            (&line["protocol"], &line["method"]),
            (&protocol.into(), &"GET".into()),
            "{line}"
        );
        assert!(line["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{line}");
        assert!(line["duration_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{line}");
    }
    for line in &seen[..4] {
        assert_eq!((&line["status"], &line["bytes"]), (&200.into(), &page.into()), "{line}");
        assert_eq!(
            (&line["path"], &line["kind"]),
            (&"/watch/show".into(), &"page".into()),
            "{line}"
        );
        assert_eq!(line["channel"], "show");
    }
    assert_eq!(seen[1]["user_agent"], "a \" b");
    assert_eq!(seen[3]["referer"], "https://player.example/?token=***");
    assert_eq!(
        (&seen[4]["status"], &seen[4]["path"]),
        (&404.into(), &"/t/***/live/show/v0.m3u8?key=***&a=b".into())
    );
    // As logrotate does.
    fs::rename(&file, &moved).expect("a file that is moved");
    proc::signal(secure.daemon.process.id(), "HUP");
    wait_for("new file", Duration::from_secs(10), || file.exists().then_some(()));
    secure.daemon.get("/time");
    assert!(lines(&file, 1)[0].contains("\"path\":\"/time\""));
    assert_eq!(lines(&moved, 5).len(), 5);
}

#[test]
fn responses_over_tls_advertise_http3_and_plain_ones_do_not() {
    let secure = Secure::start(Settings::default());
    let port = secure.quic[0].port();
    assert_eq!(port, secure.https[0].port());
    let header = |option: &str| {
        let options = [option, "-D", "-"];
        let url = secure.url("/time");
        tls::curl_variable(&secure.certificate, &url, &options, "stdout")
    };
    for option in ["--http1.1", "--http2"] {
        let head = header(option).to_ascii_lowercase();
        assert!(head.contains(&format!("alt-svc: h3=\":{port}\"")), "{option}: {head}");
    }
    assert_eq!(secure.daemon.get("/time").header("alt-svc"), None);
}

#[test]
fn each_client_negotiates_the_best_common_protocol() {
    let secure = Secure::start(Settings::default());
    for (options, version) in [
        (&["--http2"][..], "2"),
        (&["--http1.1"], "1.1"),
        (&["--no-alpn"], "1.1"),
        (&["--tlsv1.2", "--tls-max", "1.2"], "2"),
        (&["--tlsv1.3"], "2"),
    ] {
        for address in &secure.https {
            let url = format!("https://{address}/time");
            let said = tls::curl_variable(&secure.certificate, &url, options, "http_version");
            assert_eq!(said, version, "{options:?} to {address}");
        }
    }
    // Obsolete protocol versions, and an unknown protocol (RFC 7301 3.2).
    let old = ["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"];
    let said = tls::curl_variable(&secure.certificate, &secure.url("/time"), &old, "http_version");
    assert_eq!(said, "0", "TLS 1.1");
    let refused = secure.certificate.connect(secure.https[0], &["smtp"]);
    assert!(
        refused.as_ref().is_err_and(|err| err.contains("NoApplicationProtocol")),
        "{refused:?}"
    );
    for address in &secure.quic {
        let url = format!("https://{address}");
        let said = tls::h3("get", &secure.certificate, &url, &["/time"]);
        assert_eq!(said["answers"][0]["status"], 200, "HTTP/3 at {address}");
    }
}

#[test]
fn plain_http_on_a_tls_port_is_refused_or_closed() {
    let mut secure = Secure::start(Settings::default());
    for request in
        ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\0\0", "x"]
    {
        let begun = Instant::now();
        let answer = http::raw(secure.https[0], request.as_bytes(), Duration::from_secs(30));
        assert!(begun.elapsed() < Duration::from_secs(20), "{request:?} is left waiting");
        // An alert (RFC 8446 6), a plain HTTP error, or nothing.
        let told =
            answer.first().is_none_or(|byte| *byte == 21) || answer.starts_with(b"HTTP/1.1 4");
        assert!(told, "{request:?}: {:?}", String::from_utf8_lossy(&answer));
    }
    secure.daemon.assert_healthy();
}

#[test]
fn h2load_receives_a_response_to_every_request() {
    let secure = ended();
    let media = follow::read(secure.daemon.http, VIDEO);
    let segment = resolve(VIDEO, &media.segments[1].uri);
    let said =
        h2load(&["-n", "3000", "-c", "20", "-m", "10"], &[secure.url(&segment), secure.url(VIDEO)]);
    let said = said.wait();
    assert!(said.contains("Application protocol: h2"), "{said}");
    assert!(
        said.contains(
            "3000 total, 3000 started, 3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout"
        ),
        "{said}"
    );
    assert!(said.contains("3000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{said}");
}

/// A running load generator; returns its final output.
struct Load(std::process::Child);

impl Load {
    fn wait(self) -> String {
        let output = self.0.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

fn h2load(options: &[&str], urls: &[String]) -> Load {
    let mut command = Command::new("h2load");
    command.args(options).args(urls);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    Load(child.expect("h2load; `make test` installs what is needed"))
}

#[test]
fn slow_handshakes_and_requests_are_closed_and_use_little_memory() {
    let settings = Settings {
        env: ["FIRST_BYTE", "HEADER"]
            .map(|limit| (format!("STREAMFORGE_HTTP_{limit}_MS"), "2000".to_owned()))
            .into(),
        ..Settings::default()
    };
    let mut secure = Secure::start(settings);
    let limit = Duration::from_secs(20);
    let before = proc::resident_kib(secure.daemon.process.id());
    // The first bytes of a ClientHello that claims 16 KiB; nothing; a whole handshake and half a
    // request.
    let mut sockets: Vec<TcpStream> = Vec::new();
    for begun in [&b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03"[..], b""] {
        for _ in 0..200 {
            let mut socket = TcpStream::connect(secure.https[0]).expect("the listener accepts");
            socket.write_all(begun).expect("the bytes are taken");
            sockets.push(socket);
        }
    }
    let mut slow: Vec<_> = (0..50)
        .map(|_| secure.certificate.connect(secure.https[0], &["http/1.1"]).expect("a connection"))
        .collect();
    for stream in &mut slow {
        stream.write_all(b"GET /time HTTP/1.1\r\nHost:").expect("the bytes are taken");
    }
    let grown = proc::resident_kib(secure.daemon.process.id()).saturating_sub(before);
    assert!(grown < 450 * 100, "{grown} KiB for 450 connections");
    assert_eq!(
        tls::curl_variable(&secure.certificate, &secure.url("/time"), &[], "http_code"),
        "200",
        "others are served"
    );
    let deadline = Instant::now() + limit;
    for socket in sockets.iter_mut().chain(slow.iter_mut().map(|stream| &mut stream.sock)) {
        // Another byte at intervals does not extend the time limit.
        let _ = socket.write_all(b"x");
        socket.set_read_timeout(Some(limit)).expect("a socket takes a limit");
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
        assert!(Instant::now() < deadline, "they are left open");
    }
    secure.daemon.assert_healthy();
}

#[test]
fn ten_thousand_idle_connections_use_at_most_64_kib_each() {
    const CONNECTIONS: usize = 10_000;
    // A generous limit: a connection with a request that waits is a task, a socket and a small
    // buffer.
    const MOST_KIB: u64 = 64;
    // Each is a descriptor here as well.
    let mut allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    allowed.current = allowed.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, allowed)
        .expect("the hard limit is allowed");
    let settings = Settings {
        env: ["MAX_CONNECTIONS", "MAX_CONNECTIONS_PER_ADDRESS"]
            .map(|limit| (format!("STREAMFORGE_HTTP_{limit}"), "11000".to_owned()))
            .into(),
        ..Settings::default()
    };
    let mut daemon = Daemon::start(&settings);
    let before = proc::resident_kib(daemon.process.id());
    let mut sockets = Vec::with_capacity(CONNECTIONS);
    let mut buffer = [0; 1024];
    for _ in 0..CONNECTIONS {
        let mut socket = TcpStream::connect(daemon.http)
            .expect("the listener accepts, and there are descriptors");
        socket.write_all(b"GET /time HTTP/1.1\r\nHost: x\r\n\r\n").expect("the request is taken");
        let read = socket.read(&mut buffer).expect("an answer");
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200"));
        sockets.push(socket);
    }
    let each =
        proc::resident_kib(daemon.process.id()).saturating_sub(before) as f64 / CONNECTIONS as f64;
    eprintln!("{each:.1} KiB for each idle connection");
    assert!(each < MOST_KIB as f64, "{each:.1} KiB for each idle connection");
    // All of them are still served, and so is a new one.
    let last = sockets.last_mut().expect("connections");
    last.write_all(b"GET /time HTTP/1.1\r\nHost: x\r\n\r\n").expect("the request is taken");
    assert!(last.read(&mut buffer).is_ok_and(|read| read > 0));
    drop(sockets);
    wait_for("room", Duration::from_secs(20), || {
        (proc::descriptors(daemon.process.id()).len() < 200).then_some(())
    });
    daemon.assert_healthy();
}
