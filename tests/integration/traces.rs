//! Traces of a real daemon, as receivers of OTLP that are not ours decode them: a request continues
//! the trace of its caller and has its command as a child, no secret leaves the machine, and a
//! collector that is down costs spans and nothing else.

use crate::support::{
    Workdir,
    daemon::{self, Daemon, Settings},
    http,
    media::PLAIN,
    proc,
    process::Process,
    publisher, wait_for,
};
use serde_json::{Value, json};
use std::{net::TcpListener, path::Path, process::Command, time::Duration};

const LIMIT: Duration = Duration::from_secs(60);
const TOKEN: &str = "a-token-of-the-tests-0123456789abcdef";
const CREDENTIAL: &str = "Bearer the-collectors-S3CRET";
const PASSWORD: &str = "tulips-at-eight-S3CRET";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// Kinds of spans in the protocol.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

/// A receiver of OTLP over HTTP.
struct Receiver {
    process: Process,
    port: u64,
}

impl Receiver {
    fn start(port: u64, status: u16) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/players");
        let mut command = Command::new(folder.join(".venv/bin/python"));
        command.arg(folder.join("otlp.py")).args([port.to_string(), status.to_string()]);
        let mut process = Process::run("otlp.py", command);
        let first = process.wait_for_lines("its port", LIMIT, |lines| parsed(lines).next());
        Self { process, port: first["port"].as_u64().expect("a port") }
    }

    fn requests(&self) -> Vec<Value> {
        parsed(&self.process.lines()).skip(1).collect()
    }

    fn spans(&self) -> Vec<Value> {
        let requests = self.requests();
        let spans = requests.iter().flat_map(|request| request["spans"].as_array().cloned());
        spans.flatten().collect()
    }

    /// Waits for a span.
    #[track_caller]
    fn wait(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, LIMIT, || self.spans().into_iter().find(&is_it))
    }
}

fn parsed(lines: &[String]) -> impl Iterator<Item = Value> {
    lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok())
}

/// The raw bytes of a request's body, from base 64.
fn bytes(request: &Value) -> Vec<u8> {
    let text = request["body"].as_str().expect("text").as_bytes();
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    for group in text.chunks(4) {
        let digits = group.iter().filter(|byte| **byte != b'=');
        let bits = digits.clone().fold(0_u32, |bits, byte| (bits << 6) | u32::from(digit(*byte)));
        let count = digits.count();
        let bits = bits << (6 * (4 - count));
        bytes.extend(&bits.to_be_bytes()[1..count]);
    }
    bytes
}

fn settings(port: u64, more: &str) -> Settings {
    let extra = format!(
        "[platform]\nenabled = true\n[api]\nadmin_token = {TOKEN:?}\nlimit = \"off\"\n\
         sign_up_limit = \"off\"\n\
         [webhooks]\nallow_internal = true\n\
         [traces]\nurl = \"http://127.0.0.1:{port}\"\nservice = \"the-test\"\n{more}\n\
         [traces.headers]\nauthorization = {CREDENTIAL:?}\n"
    );
    Settings { extra, ..Settings::default() }
}

/// A request of the operator.
#[track_caller]
fn send(
    daemon: &Daemon,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> http::Response {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (authorization, length) = (format!("Bearer {TOKEN}"), body.len().to_string());
    let mut all = vec![("Authorization", authorization.as_str()), ("Content-Length", &length)];
    if !body.is_empty() {
        all.push(("Content-Type", "application/json"));
    }
    all.extend(headers);
    http::Exchange::send(daemon.http, method, path, &all, body.as_bytes()).finish()
}

/// Makes an account, with its password in the body.
#[track_caller]
fn register(daemon: &Daemon, name: &str, headers: &[(&str, &str)]) -> http::Response {
    let body = json!({
        "name": name, "email": format!("{name}-S3CRET@example.org"), "password": PASSWORD,
        "role": "creator",
    });
    let response = send(daemon, "POST", "/api/v1/accounts", headers, &body);
    assert_eq!(response.status, 201, "{}", response.text());
    response
}

fn attribute<'a>(span: &'a Value, name: &str) -> &'a Value {
    &span["attributes"][name]
}

fn is_named(span: &Value, name: &str) -> bool {
    span["name"] == name
}

#[test]
fn a_request_continues_the_trace_of_its_caller_and_its_command_is_its_child() {
    let receiver = Receiver::start(0, 200);
    let mut daemon = Daemon::start(&settings(receiver.port, ""));
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let response = register(&daemon, "ada", &[("traceparent", &parent)]);
    let id = response.header("x-request-id").expect("an id").to_owned();

    let request = receiver.wait("the request", |span| {
        is_named(span, "POST /api/v1/accounts") && attribute(span, "request.id") == &json!(id)
    });
    assert_eq!((&request["trace"], &request["parent"]), (&json!(TRACE), &json!(PARENT)));
    assert_eq!((&request["kind"], &request["status"]), (&json!(SERVER), &json!(0)));
    assert_eq!(request["resource"]["service.name"], "the-test");
    for (name, value) in [
        ("http.request.method", json!("POST")),
        ("http.route", json!("/api/v1/accounts")),
        ("url.path", json!("/api/v1/accounts")),
        ("http.response.status_code", json!(201)),
    ] {
        assert_eq!(attribute(&request, name), &value, "{request}");
    }
    let command = receiver.wait("the command", |span| is_named(span, "account.add"));
    assert_eq!((&command["trace"], &command["parent"]), (&json!(TRACE), &request["span"]));
    assert_eq!(attribute(&command, "command.outcome"), "done");
    for name in ["command.wait_us", "command.commit_us", "command.events"] {
        assert!(attribute(&command, name).as_u64().is_some(), "{name} of {command}");
    }
    assert!(command["start"].as_u64() >= request["start"].as_u64());
    assert!(command["end"].as_u64() <= request["end"].as_u64());

    // A query, in a trace of its own: the caller has named none.
    let path = "/api/v1/channels/nobody?token=S3CRET";
    let missing = send(&daemon, "GET", path, &[("cookie", "sf=S3CRET")], &Value::Null);
    assert_eq!(missing.status, 404);
    let id = missing.header("x-request-id").expect("an id").to_owned();
    let request =
        receiver.wait("the second request", |span| attribute(span, "request.id") == &json!(id));
    assert_ne!(request["trace"], TRACE);
    assert_eq!(request["parent"], "");
    assert_eq!(attribute(&request, "http.response.status_code"), &json!(404));
    let query = receiver.wait("the query", |span| span["parent"] == request["span"]);
    assert!(query["name"].as_str().is_some_and(|name| name.starts_with("query ")), "{query}");

    // A path without a route may have a token. The response says nothing of it either.
    daemon.get("/t/path-S3CRET/live/demo/master.m3u8");
    daemon.get("/api/path-S3CRET");
    receiver.wait("the request without a route", |span| is_named(span, "GET"));
    // Each request had the collector's credential, and nothing else of the secrets.
    let requests = receiver.requests();
    for request in &requests {
        assert_eq!(request["headers"]["authorization"], CREDENTIAL);
        let sent = String::from_utf8_lossy(&bytes(request)).into_owned();
        assert!(!sent.contains("S3CRET") && !sent.contains(TOKEN), "{sent}");
        assert!(sent.contains("the-test"), "the body is decoded: {sent}");
    }
    assert!(receiver.spans().iter().all(|span| span["events"] == 0));

    // Lines of the log name the request and the span.
    let level = json!({ "filter": "debug" });
    let changed = send(&daemon, "PUT", "/api/v1/log-level", &[], &level);
    let id = changed.header("x-request-id").expect("an id").to_owned();
    let line = daemon.process.wait_for_lines("a line of the request", LIMIT, |lines| {
        parsed(lines).find(|line| line["fields"]["message"] == "log level changed")
    });
    assert_eq!(line["request_id"], json!(id));
    let span = receiver.wait("its span", |span| attribute(span, "request.id") == &json!(id));
    assert_eq!((&line["trace_id"], &line["span_id"]), (&span["trace"], &span["span"]));
    let log = daemon.process.stderr();
    assert!(!log.contains("S3CRET"), "the log has a secret");
    assert!(!log.contains("\"traces\""), "spans of the export are in the log");
}

#[test]
fn media_have_no_spans_and_a_publisher_has_one_with_the_reason_of_its_end() {
    let receiver = Receiver::start(0, 200);
    let daemon = Daemon::start(&settings(receiver.port, ""));
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("demo"));
    daemon.wait_until_live("demo");
    let path = "/api/v1/streams/demo?reason=it-was-loud-S3CRET";
    assert_eq!(send(&daemon, "DELETE", path, &[], &Value::Null).status, 204);
    let span = receiver.wait("the publisher", |span| {
        is_named(span, "rtmp publish") && attribute(span, "end") == "kicked"
    });
    assert_eq!((&span["kind"], attribute(&span, "channel")), (&json!(SERVER), &json!("demo")));
    assert!(attribute(&span, "broadcast").as_str().is_some_and(|id| id.len() == 36), "{span}");
    let authorize = receiver.wait("the decision", |span| is_named(span, "rtmp authorize"));
    assert_eq!(authorize["parent"], span["span"]);
    assert!(span["end"].as_u64() >= authorize["end"].as_u64());
    publisher.kill();
    // Playlists, segments and parts were requested by the wait above.
    for span in receiver.spans() {
        let path = attribute(&span, "url.path").as_str().unwrap_or("/api/");
        assert!(path.starts_with("/api/"), "{span}");
    }
}

#[test]
fn a_delivery_of_a_webhook_names_its_span_to_the_receiver() {
    let receiver = Receiver::start(0, 200);
    let daemon = Daemon::start(&settings(receiver.port, ""));
    // A listener of raw bytes: the head of the delivery is what counts.
    let hook = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/hook-S3CRET", hook.local_addr().expect("an address"));
    let body = json!({ "url": url, "types": ["streamforge.category.*"] });
    let made = send(&daemon, "POST", "/api/v1/webhooks", &[], &body);
    assert_eq!(made.status, 201, "{}", made.text());
    let made = send(&daemon, "POST", "/api/v1/categories", &[], &json!({ "name": "Chess" }));
    assert_eq!(made.status, 201, "{}", made.text());
    let head = {
        use std::io::{Read as _, Write as _};
        let (mut socket, _) = hook.accept().expect("a delivery");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|count| count > 0) {
            head.push(byte[0]);
        }
        let _ = socket.write_all(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n");
        String::from_utf8(head).expect("text")
    };
    let parent = head.lines().find_map(|line| line.strip_prefix("traceparent: "));
    let parent = parent.unwrap_or_else(|| panic!("no traceparent in {head}"));
    let span = receiver.wait("the delivery", |span| is_named(span, "POST webhook"));
    let (trace, own) = (span["trace"].as_str().expect("an id"), span["span"].as_str());
    assert_eq!(parent, format!("00-{trace}-{}-01", own.expect("an id")));
    assert_eq!(span["kind"], CLIENT);
    assert_eq!(attribute(&span, "http.response.status_code"), &json!(204), "{span}");
    for request in receiver.requests() {
        let sent = String::from_utf8_lossy(&bytes(&request)).into_owned();
        assert!(!sent.contains("S3CRET"), "the address is personal: {sent}");
    }
}

#[test]
fn a_collector_that_is_down_costs_spans_alone_and_gets_the_next_ones() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        u64::from(listener.local_addr().expect("an address").port())
    };
    let mut daemon = Daemon::start(&settings(port, ""));
    // More than the queue has, while nobody listens. Each has a span, and most a second one.
    for n in 0..2_500 {
        let path = format!("/api/v1/tags?limit={}", 1 + n % 100);
        let status = http::request(daemon.http, "GET", &path, &[]).status;
        assert!(status == 200 || status == 429 || status == 400 || status == 404, "{status}");
    }
    let dropped = "streamforge_trace_spans_dropped_total{reason=\"queue_full\"}";
    assert!(daemon.metric(dropped) > 0, "nothing was dropped");
    register(&daemon, "ada", &[]);
    daemon.assert_healthy();
    // It comes: what waits arrives, and what follows.
    let receiver = Receiver::start(port, 200);
    wait_for("spans", LIMIT, || (!receiver.spans().is_empty()).then_some(()));
    register(&daemon, "eve", &[("x-request-id", "after-the-outage")]);
    receiver.wait("a span after the outage", |span| {
        attribute(span, "request.id") == "after-the-outage"
    });
    assert!(daemon.metric("streamforge_trace_spans_exported_total") > 0);
}

#[test]
fn a_collector_that_refuses_gets_each_batch_once_and_the_loss_is_counted() {
    let receiver = Receiver::start(0, 400);
    let daemon = Daemon::start(&settings(receiver.port, ""));
    register(&daemon, "ada", &[]);
    let dropped = "streamforge_trace_spans_dropped_total{reason=\"refused\"}";
    wait_for("the loss", LIMIT, || (daemon.metric(dropped) > 0).then_some(()));
    let bodies = receiver.requests().iter().map(bytes).collect::<Vec<_>>();
    let mut unique = bodies.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), bodies.len(), "a batch was sent again");
}

#[test]
fn spans_that_wait_at_the_end_are_sent_before_it() {
    let receiver = Receiver::start(0, 200);
    let mut daemon = Daemon::start(&settings(receiver.port, ""));
    register(&daemon, "ada", &[("x-request-id", "the-last-one")]);
    // At once, before the batch is due.
    proc::signal(daemon.main(), "TERM");
    assert!(daemon.process.wait(LIMIT).success());
    let spans = receiver.spans();
    let last = spans.iter().find(|span| attribute(span, "request.id") == "the-last-one");
    assert!(last.is_some(), "{} spans, without the last one", spans.len());

    // A collector that does not respond delays the end by some seconds at most.
    let hangs = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = u64::from(hangs.local_addr().expect("an address").port());
    let mut daemon = Daemon::start(&settings(port, ""));
    register(&daemon, "ada", &[]);
    proc::signal(daemon.main(), "TERM");
    assert!(daemon.process.wait(LIMIT).success());
    assert!(daemon.process.stderr().contains("traces lost at the end"), "the loss is not logged");
}

#[test]
fn a_real_collector_accepts_the_spans_and_passes_them_on() {
    let receiver = Receiver::start(0, 200);
    let free = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let (grpc, port) = (free(), free());
    let folder = Workdir::new("rotel");
    let players = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/players");
    let packages = players.join(".venv/lib/python3.11/site-packages");
    let mut command = Command::new(packages.join("rotel/rotel-agent"));
    command.current_dir(folder.path()).arg("start");
    command.arg("--pid-file").arg(folder.path().join("rotel.pid"));
    command.args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")]);
    command.args(["--otlp-http-endpoint", &format!("127.0.0.1:{port}")]);
    command.args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"]);
    command.args(["--otlp-exporter-endpoint", &format!("http://127.0.0.1:{}", receiver.port)]);
    let mut collector = Process::run("rotel-agent", command);
    wait_for("the collector", LIMIT, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    let daemon = Daemon::start(&settings(u64::from(port), ""));
    register(&daemon, "ada", &[("x-request-id", "through-rotel")]);
    let request = receiver.wait("the request through the collector", |span| {
        attribute(span, "request.id") == "through-rotel"
    });
    assert_eq!(request["resource"]["service.name"], "the-test");
    let command = receiver.wait("the command", |span| is_named(span, "account.add"));
    assert_eq!(command["parent"], request["span"]);
    assert!(collector.is_running(), "{}", collector.stderr());
    assert_eq!(daemon.metric("streamforge_trace_spans_dropped_total"), 0);
}

#[test]
fn a_share_of_none_exports_nothing_unless_the_caller_has_decided() {
    let receiver = Receiver::start(0, 200);
    let daemon = Daemon::start(&settings(receiver.port, "sample_ratio = 0"));
    register(&daemon, "ada", &[]);
    let parent = format!("00-{TRACE}-{PARENT}-01");
    register(&daemon, "eve", &[("traceparent", &parent)]);
    receiver.wait("the request of the caller", |span| span["trace"] == TRACE);
    for span in receiver.spans() {
        assert_eq!(span["trace"], TRACE, "{span}");
    }
    // A caller that is not trusted decides nothing.
    let daemon = Daemon::start(&settings(receiver.port, "sample_ratio = 0\ntrusted = []"));
    let other = format!("00-{}-{PARENT}-01", TRACE.replace('4', "5"));
    let response = register(&daemon, "eve", &[("traceparent", &other)]);
    assert_eq!(response.status, 201);
    drop(daemon);
    assert!(receiver.spans().iter().all(|span| span["trace"] == TRACE));
}

#[test]
fn the_check_refuses_what_cannot_be_a_collector() {
    let folder = Workdir::new("collector-check");
    let report = |section: &str| {
        let file = folder.path().join("streamforge.toml");
        let settings = Settings { extra: format!("[traces]\n{section}\n"), ..Settings::default() };
        std::fs::write(&file, settings.to_toml("data")).expect("a file");
        let mut command = daemon::command();
        let output = command.args(["check", "--config"]).arg(&file).output().expect("it runs");
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        // The path of the file may have the word that is looked for.
        report.replace(folder.path().to_str().expect("text"), "")
    };
    let report_of = |section: &str| {
        let report = report(section);
        let line = report.lines().find(|line| line.contains("traces"));
        line.unwrap_or_else(|| panic!("nothing of traces in {report}")).to_owned()
    };
    assert!(report_of("url = \"\"").contains("off"));
    assert!(report_of("url = \"http://127.0.0.1:4318\"").contains("configured"));
    for (wrong, named) in [
        ("url = \"ftp://collector\"", "url"),
        ("url = \"http://ada:S3CRET@collector\"", "url"),
        ("url = \"http://collector\"\nheaders = { authorization = \"S3CRET\" }", "traces.headers"),
        ("sample_ratio = 2", "sample_ratio"),
        ("trusted = [\"everybody\"]", "trusted"),
        ("url = \"https://collector\"\nca = \"/nowhere.pem\"", "traces.ca"),
    ] {
        let report = report(wrong);
        let line = report.lines().find(|line| line.starts_with("WRONG")).unwrap_or_default();
        assert!(line.contains(named), "{wrong}: {report}");
        assert!(!report.contains("S3CRET") && !report.contains("a collector is configured"));
    }
}
