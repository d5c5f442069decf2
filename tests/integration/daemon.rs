//! The daemon from an operator's perspective: its command line, its configuration, its health, its
//! end, and the API's first routes.

use crate::support::{
    Workdir,
    daemon::{self, Daemon, Entry, Settings},
    follow, http,
    media::PLAIN,
    proc,
    process::Process,
    publisher, wait_for,
};
use serde_json::Value;
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::Duration,
};

const TOKEN: &str = "a-token-of-the-tests-0123456789abcdef";

/// Runs the daemon's binary to its end.
fn run(command: &mut Command) -> Output {
    command.output().expect("the binary runs")
}

fn check(config: &str) -> Output {
    let workdir = Workdir::new("check");
    let file = workdir.path().join("streamforge.toml");
    fs::write(&file, config).expect("a configuration file");
    run(daemon::command().arg("check").arg("--config").arg(&file))
}

/// Its output: `check` prints its findings to stdout, and both commands print one line with the
/// remedy to stderr.
#[track_caller]
fn output_text(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        stderr.lines().count(),
        usize::from(!output.status.success()),
        "one line that says what to do: {stderr}"
    );
    String::from_utf8_lossy(&output.stdout).into_owned() + &stderr
}

// Configuration.

#[test]
fn check_accepts_a_good_configuration() {
    let workdir = Workdir::new("data");
    let output =
        check(&Settings::default().to_toml(workdir.path().to_str().expect("a UTF-8 path")));
    assert!(output.status.success(), "{}", output_text(&output));
}

#[test]
fn check_accepts_the_shipped_configurations() {
    for name in ["dev.toml", "streamforge.toml"] {
        let workdir = Workdir::new("shipped");
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name);
        let mut command = daemon::command();
        command.arg("check").arg("--config").arg(file);
        // The default ports may be in use on this machine.
        for listener in ["RTMP", "HTTP", "ADMIN"] {
            command.env(format!("STREAMFORGE_{listener}_LISTEN"), "127.0.0.1:0");
        }
        command.env("STREAMFORGE_RTMPS_LISTEN", "").env("STREAMFORGE_HTTPS_LISTEN", "");
        let output = run(command.env("STREAMFORGE_DATA_DIR", workdir.path()));
        assert!(output.status.success(), "{name}: {}", output_text(&output));
    }
}

#[test]
fn an_unknown_key_is_refused_by_name_and_line() {
    let config = "[live]\npart_ms = 200\nsegmnet_ms = 2000\n";
    let workdir = Workdir::new("unknown");
    let file = workdir.path().join("streamforge.toml");
    fs::write(&file, config).expect("a configuration file");
    for command in ["check", "serve"] {
        let output = run(daemon::command().arg(command).arg("--config").arg(&file));
        let said = output_text(&output);
        assert!(!output.status.success(), "{command} takes it");
        assert!(said.contains("segmnet_ms"), "the key: {said}");
        assert!(said.contains("line 3") || said.contains(":3"), "the line: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn a_value_out_of_range_is_refused_by_its_key() {
    for (section, key, value) in
        [("live", "segment_ms", "10"), ("live", "part_ms", "0"), ("http", "listen", "\"nowhere\"")]
    {
        let output = check(&format!("[{section}]\n{key} = {value}\n"));
        assert!(!output.status.success(), "{section}.{key} = {value} is taken");
        assert!(output_text(&output).contains(key), "{}", output_text(&output));
    }
}

#[test]
fn check_reports_a_port_in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("an address").to_string();
    let workdir = Workdir::new("data");
    let config = Settings::default().to_toml(workdir.path().to_str().expect("a UTF-8 path"));
    let config = config.replacen("127.0.0.1:0", &addr, 1);
    let output = check(&config);
    assert!(!output.status.success());
    assert!(output_text(&output).contains(&addr), "{}", output_text(&output));
}

#[test]
fn check_shows_the_configured_limits_of_workers() {
    let workdir = Workdir::new("data");
    let config = Settings::default().to_toml(workdir.path().to_str().expect("a UTF-8 path"));
    // The highest niceness: a worker keeps that of its parent if it is higher.
    let config = config.replace("nice = 0", "nice = 19\nworker_memory_mb = 300");
    let said = output_text(&check(&config));
    assert!(said.contains("300 MiB of memory, nice 19"), "{said}");
}

#[test]
fn the_environment_overrides_the_file() {
    let env = vec![("STREAMFORGE_LIVE_SEGMENT_MS".to_owned(), "1500".to_owned())];
    let daemon = Daemon::start(&Settings { env, ..Settings::default() });
    let _publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("env"));
    daemon.wait_until_live("env");
    assert_eq!(follow::read(daemon.http, "/live/env/v0.m3u8").target_duration, 3, "twice 1.5 s");
}

#[test]
fn a_publisher_without_a_key_is_refused_with_a_description_under_the_keys_policy() {
    let env = vec![("STREAMFORGE_PUBLISH_POLICY".to_owned(), "keys".to_owned())];
    let daemon = Daemon::start(&Settings { env, ..Settings::default() });
    let refusal = crate::support::rtmp::Client::publish(daemon.rtmp, "live", "anything")
        .expect_err("no key is listed");
    assert!(refusal.code.starts_with("NetStream.Publish."), "{refusal:?}");
    assert!(refusal.description.contains("key"), "{refusal:?}");
}

// Health.

fn samples(text: &str) -> Vec<(&str, f64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| line.rsplit_once(' ').expect("a name and a value"))
        .map(|(name, value)| (name, value.parse().expect("a number")))
        .collect()
}

#[test]
fn health_and_readiness_are_served_only_by_the_admin_listener() {
    let daemon = Daemon::start(&Settings::default());
    for path in ["/healthz", "/readyz"] {
        assert_eq!(http::get(daemon.admin, path).status, 200, "{path}");
        assert_eq!(daemon.get(path).status, 404, "{path} is not for everybody");
    }
    assert_eq!(daemon.get("/metrics").status, 404, "metrics are not for everybody");
}

#[test]
fn metrics_count_published_and_served_media() {
    let daemon = Daemon::start(&Settings::default());
    let _publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("counted"));
    daemon.wait_until_live("counted");
    let response = http::get(daemon.admin, "/metrics");
    assert_eq!(response.status, 200);
    assert!(
        response.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")
            || kind.starts_with("application/openmetrics-text"))
    );
    let text = response.text();
    let samples = samples(&text);
    assert!(samples.iter().all(|(name, _)| name.starts_with("streamforge_")), "{text}");
    for part in ["broadcasts", "frames", "bytes", "requests"] {
        let sum: f64 =
            samples.iter().filter(|(name, _)| name.contains(part)).map(|(_, value)| value).sum();
        assert!(sum > 0.0, "no {part} in {text}");
    }
}

// The API.

/// The entry of a channel in `GET /api/v1/streams`.
fn stream(daemon: &Daemon, channel: &str) -> Option<Value> {
    let streams = daemon.streams();
    let list = streams["streams"].as_array().expect("a list").clone();
    list.into_iter().find(|stream| stream["channel"] == channel)
}

#[test]
fn live_streams_are_listed_with_their_tracks() {
    let daemon = Daemon::start(&Settings::default());
    assert_eq!(stream(&daemon, "listed"), None);
    let _publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("listed"));
    daemon.wait_until_live("listed");
    let stream = stream(&daemon, "listed").expect("the stream is listed");
    let tracks = stream["tracks"].as_array().expect("tracks").clone();
    let codec = |name: &str| {
        let track = tracks
            .iter()
            .find(|track| track["name"] == name)
            .unwrap_or_else(|| panic!("no {name}: {stream}"));
        track["codec"].as_str().expect("a codec").to_owned()
    };
    assert!(codec("v0").starts_with("avc1."), "{stream}");
    assert_eq!(codec("a0"), "mp4a.40.2");
    assert_eq!(daemon.get("/api/v1/streams").header("content-type"), Some("application/json"));
}

#[test]
fn a_stream_is_ended_only_with_the_administrator_token() {
    let extra = format!("[api]\nadmin_token = {TOKEN:?}\n");
    let daemon = Daemon::start(&Settings { extra, ..Settings::default() });
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("doomed"));
    daemon.wait_until_live("doomed");
    let path = "/api/v1/streams/doomed";
    let delete =
        |authorization: &[(&str, &str)]| http::request(daemon.http, "DELETE", path, authorization);

    for authorization in
        [&[][..], &[("Authorization", "Bearer wrong")], &[("Authorization", "Basic YTpi")]]
    {
        let refused = delete(authorization);
        assert_eq!(refused.status, 401, "{authorization:?}: {}", refused.text());
        assert_eq!(
            refused.header("content-type"),
            Some("application/problem+json"),
            "{authorization:?}"
        );
        assert!(refused.header("www-authenticate").is_some(), "RFC 9110 11.6.1");
    }
    assert!(publisher.is_running());

    let bearer = format!("Bearer {TOKEN}");
    let gone = delete(&[("Authorization", &bearer)]);
    assert_eq!(gone.status / 100, 2, "{}", gone.text());
    publisher.wait(Duration::from_secs(20));
    wait_for("end of the stream", Duration::from_secs(30), || {
        stream(&daemon, "doomed").is_none().then_some(())
    });
    let again = delete(&[("Authorization", &bearer)]);
    assert_eq!(again.status, 404, "{}", again.text());
    assert!(!daemon.process.stderr().contains(TOKEN), "a token is never logged");
}

#[test]
fn without_a_configured_token_every_delete_request_is_refused() {
    let daemon = Daemon::start(&Settings::default());
    for authorization in
        [&[][..], &[("Authorization", "Bearer ")], &[("Authorization", "Bearer x")]]
    {
        let response = http::request(daemon.http, "DELETE", "/api/v1/streams/none", authorization);
        assert!(matches!(response.status, 401 | 403), "{authorization:?}: {}", response.status);
    }
}

// The service manager.

/// The notifications to the service manager, read as it would.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    heard: Vec<String>,
}

impl Manager {
    fn new(workdir: &Workdir) -> Self {
        let path = workdir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket takes a limit");
        let heard = Vec::new();
        Self { socket, path, heard }
    }

    fn settings(&self) -> Settings {
        let path = self.path.to_str().expect("a UTF-8 path").to_owned();
        Settings {
            env: vec![
                ("NOTIFY_SOCKET".to_owned(), path),
                ("WATCHDOG_USEC".to_owned(), "1000000".to_owned()),
            ],
            ..Settings::default()
        }
    }

    /// Reads until a message contains this line. Returns the message.
    #[track_caller]
    fn hear(&mut self, wanted: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer);
            let length =
                length.unwrap_or_else(|err| panic!("no {wanted}: {err}; heard {:?}", self.heard));
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.heard.push(message.clone());
            if message.lines().any(|line| line.starts_with(wanted)) {
                return message;
            }
        }
    }
}

#[test]
fn the_service_manager_is_notified_of_each_state_of_the_daemon() {
    let workdir = Workdir::new("manager");
    let mut manager = Manager::new(&workdir);
    let mut daemon = Daemon::start(&manager.settings());
    manager.hear("READY=1");
    manager.hear("STATUS=0 live, 0 publishers");
    // Half a second is half of the limit.
    for _ in 0..2 {
        manager.hear("WATCHDOG=1");
    }
    daemon.configure(|text| text);
    daemon.reload();
    let reloading = manager.hear("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.hear("READY=1");
    let pid = daemon.upgrade();
    manager.hear(&format!("MAINPID={pid}"));
    manager.hear("READY=1");
    manager.hear("WATCHDOG=1");
    proc::signal(pid, "TERM");
    manager.hear("STOPPING=1");
}

/// Runs its arguments with a TCP and a UDP socket as systemd would hand them over, and prints their
/// addresses.
const ACTIVATE: &str = r#"
import os, socket, sys
tcp = socket.create_server(("127.0.0.1", 0))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
address = "127.0.0.1:%d" % tcp.getsockname()[1]
udp.bind(tcp.getsockname())
for descriptor, at in ((os.dup(tcp.fileno()), 3), (os.dup(udp.fileno()), 4)):
    os.dup2(descriptor, at, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2")
os.environ["STREAMFORGE_HTTPS_LISTEN"] = sys.argv[1] or address
os.execv(sys.argv[2], sys.argv[2:])
"#;

fn activated(config: &Path, listen: &str) -> Command {
    let daemon = daemon::command();
    let mut command = Command::new("python3");
    command.args(["-c", ACTIVATE, listen]).arg(daemon.get_program());
    command.args(["serve", "--log-format", "json", "--config"]).arg(config);
    command
}

#[test]
fn sockets_of_the_service_manager_are_used_and_unneeded_ones_are_refused() {
    let workdir = Workdir::new("activated");
    let config = workdir.path().join("streamforge.toml");
    let data_dir = workdir.path().to_str().expect("a UTF-8 path").to_owned();
    let settings = Settings {
        extra: "[tls]\nself_signed = true\n[rtmps]\nlisten = \"\"\n".to_owned(),
        ..Settings::default()
    };
    fs::write(&config, settings.to_toml(&data_dir)).expect("a configuration file");

    let output = run(&mut activated(&config, "127.0.0.1:1"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("the service manager hands over"), "{said}");

    let mut daemon = Process::run("streamforge", activated(&config, ""));
    let limit = Duration::from_secs(20);
    let addresses = daemon.wait_for_lines("listeners of TLS", limit, |lines| {
        let entries = lines.iter().filter_map(|line| Entry::parse(line));
        let of_tls =
            entries.filter(|entry| matches!(entry.field("listener"), Some("https" | "quic")));
        let found: Vec<String> =
            of_tls.filter_map(|entry| Some(entry.field("addr")?.to_owned())).collect();
        (found.len() == 2).then_some(found)
    });
    assert_eq!(addresses[0], addresses[1], "the two that were handed over");
    let url = format!("https://{}/time", addresses[0]);
    let curl = run(Command::new("curl").args(["-sk", "--max-time", "10", &url]));
    assert!(curl.status.success() && curl.stdout.starts_with(b"20"), "{curl:?}");
}

// Listeners.

#[test]
fn the_daemon_runs_with_any_one_or_two_of_three_listeners() {
    const LISTENERS: [&str; 3] = ["rtmp", "http", "admin"];
    for off in [
        &["rtmp"][..],
        &["http"],
        &["admin"],
        &["rtmp", "http"],
        &["rtmp", "admin"],
        &["http", "admin"],
    ] {
        let workdir = Workdir::new("listeners");
        let config = workdir.path().join("streamforge.toml");
        let data_dir = workdir.path().to_str().expect("a UTF-8 path").to_owned();
        fs::write(&config, Settings::default().to_toml(&data_dir)).expect("a configuration file");
        let mut command = daemon::command();
        command.args(["serve", "--log-format", "json", "--config"]).arg(&config);
        command.envs(
            off.iter().map(|name| (format!("STREAMFORGE_{}_LISTEN", name.to_uppercase()), "")),
        );
        let mut daemon = Process::run("streamforge", command);
        let on = LISTENERS.iter().filter(|name| !off.contains(name));
        let limit = Duration::from_secs(20);
        let on: Vec<SocketAddr> = on
            .map(|name| {
                daemon.wait_for_lines(name, limit, |lines| {
                    let mut entries = lines.iter().filter_map(|line| Entry::parse(line));
                    entries
                        .find(|entry| {
                            entry.message() == "listening" && entry.field("listener") == Some(name)
                        })?
                        .field("addr")?
                        .parse()
                        .ok()
                })
            })
            .collect();
        // It handles the signal after all parts have begun.
        proc::signal(daemon.id(), "HUP");
        daemon.wait_for_lines(&format!("an answer without {off:?}"), limit, |lines| {
            let answered = |line: &String| line.contains("configuration read again");
            lines.iter().any(answered).then_some(())
        });
        for address in on {
            TcpStream::connect(address).expect("what is on accepts");
        }
        daemon.terminate();
        let status = daemon.wait(limit);
        assert!(status.success(), "without {off:?}: {status}: {}", daemon.stderr());
    }
}

// The end.

#[test]
fn sigterm_closes_publishers_completes_requests_and_ends_within_12_s() {
    let mut daemon = Daemon::start(&Settings::default());
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("last"));
    daemon.wait_until_live("last");
    let http: SocketAddr = daemon.http;
    let next = follow::next_of(&follow::read(http, "/live/last/v0.m3u8"));
    let held = thread::spawn(move || http::get(http, &format!("/live/last/v0.m3u8?{next}")));
    thread::sleep(Duration::from_millis(30));
    daemon.process.terminate();
    // A grace period of ten seconds, and a little for a busy machine.
    let status = daemon.process.wait(Duration::from_secs(12));
    assert!(status.success(), "{status}: {}", daemon.process.stderr());
    let answer = held.join().expect("the request in flight is answered");
    assert!(matches!(answer.status, 200 | 503), "{}", answer.status);
    publisher.wait(Duration::from_secs(10));
}

#[test]
fn sigterm_ends_an_idle_daemon_successfully() {
    let mut daemon = Daemon::start(&Settings::default());
    daemon.process.terminate();
    let status = daemon.process.wait(Duration::from_secs(12));
    assert!(status.success(), "{status}: {}", daemon.process.stderr());
}
