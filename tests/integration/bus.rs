//! The bus of real daemons with a real NATS server: the stream is read by a client that is not
//! ours, servers and daemons are killed in the middle, and replicas are compared with their writer.

use crate::support::{
    Workdir,
    daemon::{self, Daemon, Settings},
    http,
    nats::{Message, Nats},
    wait_for,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

mod bulk;
mod outages;
mod refusals;
mod replicas;

const LIMIT: Duration = Duration::from_secs(60);
const TOKEN: &str = "a-token-of-the-tests-0123456789abcdef";
const PASSWORD: &str = "a long enough password";
const STREAM: &str = "streamforge";
const BUCKET: &str = "KV_streamforge_keys";

fn settings(nats: &Nats) -> Settings {
    let extra = format!(
        "[platform]\nenabled = true\n[api]\nadmin_token = {TOKEN:?}\nlimit = \"off\"\n\
         login_limit = \"off\"\nsign_up_limit = \"off\"\n[bus]\nurl = {:?}\n",
        nats.url()
    );
    Settings { extra, ..Settings::default() }
}

/// A replica's folder, which has the writer's master key.
fn replicas_folder(writer: &Daemon) -> Workdir {
    let folder = Workdir::new("replica");
    let platform = folder.path().join("data/platform");
    fs::create_dir_all(&platform).expect("a folder");
    let key = writer.workdir.path().join("data/platform/master.key");
    fs::copy(key, platform.join("master.key")).expect("a copy");
    folder
}

fn replica(nats: &Nats, writer: &Daemon) -> Daemon {
    let settings = Settings { is_replica: true, ..settings(nats) };
    Daemon::start_in(replicas_folder(writer), &settings)
}

/// A request with a bearer token.
#[track_caller]
fn call(daemon: &Daemon, token: &str, method: &str, path: &str, body: &Value) -> http::Response {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (authorization, length) = (format!("Bearer {token}"), body.len().to_string());
    let mut headers =
        vec![("Authorization", authorization.as_str()), ("Content-Length", length.as_str())];
    if !body.is_empty() {
        headers.push(("Content-Type", "application/json"));
    }
    http::Exchange::send(daemon.http, method, path, &headers, body.as_bytes()).finish()
}

fn json(response: &http::Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_default()
}

#[track_caller]
fn post(daemon: &Daemon, path: &str, body: &Value) -> Value {
    let response = call(daemon, TOKEN, "POST", path, body);
    assert_eq!(response.status, 201, "{path}: {}", response.text());
    json(&response)
}

/// The response to a read of the operator.
#[track_caller]
fn read(daemon: &Daemon, path: &str) -> Value {
    let response = call(daemon, TOKEN, "GET", path, &Value::Null);
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    json(&response)
}

/// Makes an account with a password. Returns its identifier.
#[track_caller]
fn register(daemon: &Daemon, name: &str) -> String {
    let new = json!({
        "name": name, "email": format!("{name}@example.org"), "password": PASSWORD,
    });
    let made = post(daemon, "/api/v1/accounts", &new);
    made["id"].as_str().unwrap_or_else(|| panic!("no id in {made}")).to_owned()
}

/// Makes the channel `show` of an account `ada`.
#[track_caller]
fn make_channel(daemon: &Daemon) {
    let owner = register(daemon, "ada");
    post(daemon, "/api/v1/channels", &json!({ "name": "show", "owner": owner }));
}

/// Gives the channel another title, which is one event. Returns its sequence; `None` if the daemon
/// does not acknowledge it, for example because it is killed.
fn cause(address: SocketAddr, number: u64) -> Option<u64> {
    let body = json!({ "title": format!("Number {number}") }).to_string();
    let request = format!(
        "PATCH /api/v1/channels/show HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Authorization: Bearer {TOKEN}\r\nContent-Type: application/merge-patch+json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(LIMIT)).ok()?;
    socket.write_all(request.as_bytes()).ok()?;
    let mut response = String::new();
    socket.read_to_string(&mut response).ok()?;
    let head = response.split_once("\r\n\r\n")?.0.to_ascii_lowercase();
    let sequence = head.lines().find_map(|line| line.strip_prefix("sf-sequence: "));
    head.starts_with("http/1.1 200").then_some(sequence?.trim().parse().ok()?)
}

/// Causes so many events.
#[track_caller]
fn cause_many(daemon: &Daemon, count: u64) {
    for number in 0..count {
        cause(daemon.http, number).expect("an event");
    }
}

/// Causes events until it is stopped. Returns the sequences of those that were acknowledged.
struct Causes {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: JoinHandle<Vec<u64>>,
}

impl Causes {
    fn begin(address: SocketAddr) -> Self {
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = thread::spawn(move || {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                match cause(address, number) {
                    Some(sequence) => {
                        acknowledged.push(sequence);
                        counted.fetch_add(1, Ordering::SeqCst);
                    }
                    // The daemon is gone, or hands over.
                    None => thread::sleep(Duration::from_millis(20)),
                }
            }
            acknowledged
        });
        Self { stop, count, thread }
    }

    /// Waits for so many more events.
    #[track_caller]
    fn wait(&self, more: u64) {
        let end = self.count.load(Ordering::SeqCst) + more;
        let reached = || (self.count.load(Ordering::SeqCst) >= end).then_some(());
        wait_for(&format!("{more} events"), LIMIT, reached);
    }

    fn end(self) -> Vec<u64> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("it does not panic")
    }
}

/// The output of an operator's command.
#[track_caller]
fn operate(daemon: &Daemon, args: &[&str]) -> String {
    let config = daemon.workdir.path().join("streamforge.toml");
    let mut command = daemon::command();
    command.args(args).arg("--config").arg(config);
    let output = command.output().expect("the command runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The log as the daemon itself exports it: an event a line.
#[track_caller]
fn exported(daemon: &Daemon) -> Vec<Value> {
    let text = operate(daemon, &["db", "export"]);
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.map(|mut line| line["event"].take()).collect()
}

/// The sequence of a daemon's last event.
fn sequence(daemon: &Daemon) -> u64 {
    daemon.metric("streamforge_platform_log_sequence ")
}

/// Waits until all events are on the bus, or at a replica.
#[track_caller]
fn wait_until_level(writer: &Daemon, other: &Daemon) -> u64 {
    let end = sequence(writer);
    wait_for(&format!("event {end}"), LIMIT, || (sequence(other) >= end).then_some(()));
    end
}

/// Waits until the stream has all events of a daemon. Returns them after a look at each.
#[track_caller]
fn wait_for_stream(nats: &Nats, daemon: &Daemon) -> Vec<Message> {
    let lag = || {
        let text = http::get(daemon.admin, "/metrics").text();
        let lag = text.lines().find_map(|line| line.strip_prefix("streamforge_bus_lag_events "));
        lag.map(str::to_owned)
    };
    wait_for("all events on the bus", LIMIT, || (lag().as_deref() == Some("0")).then_some(()));
    let messages = nats.read(STREAM);
    assert_is_log(&messages, &exported(daemon));
    messages
}

/// Checks that a stream is a log: nothing lost, nothing doubled, in order.
#[track_caller]
fn assert_is_log(messages: &[Message], log: &[Value]) {
    let ids = messages.iter().map(|message| message.header("Nats-Msg-Id"));
    let unique = ids.clone().collect::<BTreeSet<_>>();
    assert_eq!(unique.len(), messages.len(), "an event is there twice");
    for (index, message) in messages.iter().enumerate() {
        assert_eq!(message.sequence, index as u64 + 1);
    }
    let of_log = log.iter().map(|event| event["id"].as_str());
    assert!(ids.eq(of_log), "{} messages, {} events", messages.len(), log.len());
}

/// The state of the daemon's bus, as `/readyz` shows it to a monitor. It is ready nevertheless.
#[track_caller]
fn health(daemon: &Daemon) -> String {
    let response = http::get(daemon.admin, "/readyz");
    assert_eq!(response.status, 200, "{}", response.text());
    let text = response.text();
    text.lines().find(|line| line.contains(" bus: ")).unwrap_or_default().to_owned()
}

#[test]
fn events_are_on_the_bus_in_order_as_cloud_events_and_without_personal_data() {
    let nats = Nats::start();
    let mut daemon = Daemon::start(&settings(&nats));
    make_channel(&daemon);
    cause_many(&daemon, 5);
    let messages = wait_for_stream(&nats, &daemon);
    let info = nats.info(STREAM);
    assert_eq!(info["subjects"], json!(["sf.main.>"]), "{info}");
    assert_eq!((&info["storage"], &info["deny_delete"]), (&json!("file"), &json!(true)), "{info}");
    assert_eq!((&info["deny_purge"], &info["duplicate_window_s"]), (&json!(true), &json!(120.0)));

    let log = exported(&daemon);
    for (message, logged) in messages.iter().zip(&log) {
        let event = message.event();
        assert_eq!(event["specversion"], "1.0", "{event}");
        let kind = event["type"].as_str().expect("a type");
        let words = kind.strip_prefix("streamforge.").and_then(|kind| kind.strip_suffix(".v1"));
        assert_eq!(message.subject, format!("sf.main.{}", words.expect("a type")));
        let media = message.header("Content-Type").expect("a header");
        assert!(media.starts_with("application/cloudevents+json"), "{media}");
        assert_eq!(message.header("Nats-Msg-Id"), event["id"].as_str());
        for member in ["id", "source", "type", "subject", "time", "actor", "data"] {
            assert_eq!(event[member], logged[member]);
        }
    }
    let registered = messages.iter().find(|message| message.subject.ends_with(".registered"));
    assert!(registered.is_some_and(|message| message.event()["data"]["email"].is_object()));
    for secret in ["ada@example.org", "$argon2id$", TOKEN] {
        assert!(!nats.holds(secret.as_bytes()), "{secret}");
    }
    assert_eq!(health(&daemon), "");
    let published = daemon.metric("streamforge_bus_events_total ");
    assert_eq!(published, messages.len() as u64);
    daemon.assert_healthy();
}
