//! The metrics, the dashboard, the alert rules and the health of a running daemon, with a real
//! Prometheus.

use crate::support::{
    Workdir,
    daemon::{Daemon, Settings},
    http,
    machine::{self, Share},
    media::PLAIN,
    nats::Nats,
    process::Process,
    publisher,
    tls::Certificate,
    wait_for,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

const TOKEN: &str = "a-token-0123456789";
const LIMIT: Duration = Duration::from_secs(120);

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn metrics(daemon: &Daemon) -> String {
    http::get(daemon.admin, "/metrics").text()
}

/// The names of the samples in a text of OpenMetrics.
fn names(metrics: &str) -> BTreeSet<String> {
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
    lines.map(name).collect()
}

/// The names of our metrics in an expression.
fn named(expression: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !is_word(c));
    words.filter(|word| word.starts_with("streamforge_")).map(str::to_owned).collect()
}

/// The expressions of the dashboard's panels, each with the title of its panel.
fn queries() -> Vec<(String, String)> {
    let text = fs::read_to_string(file("conf/grafana/streamforge.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let queries = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().expect("a title");
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(move |target| {
            (title.to_owned(), target["expr"].as_str().expect("an expression").to_owned())
        })
    });
    queries.collect()
}

/// Runs a tool, and returns its output.
#[track_caller]
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output
        .unwrap_or_else(|err| panic!("{program}: {err}; `make test` installs what is needed"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}{errors}");
    said
}

/// The body of a request of the API by curl, which the operator uses too.
#[track_caller]
fn curl(daemon: &Daemon, path: &str, more: &[&str]) -> Value {
    let (url, token) = (daemon.url(path), format!("Authorization: Bearer {TOKEN}"));
    let args = ["-s", "--max-time", "20", "-H", &token, &url];
    let said = run("curl", &[&args, more].concat());
    serde_json::from_str(&said).unwrap_or_else(|err| panic!("{path}: {err}: {said}"))
}

/// A Prometheus that scrapes a daemon each second with the alert rules.
struct Prometheus {
    address: SocketAddr,
    _process: Process,
}

impl Prometheus {
    fn start(workdir: &Path, daemon: &Daemon) -> Self {
        let config = workdir.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [{:?}]\n\
             scrape_configs:\n  - job_name: streamforge\n    \
             static_configs: [{{targets: [\"{}\"]}}]\n",
            file("conf/prometheus/alerts.yml"),
            daemon.admin
        );
        fs::write(&config, text).expect("a file");
        let config = config.to_str().expect("a UTF-8 path");
        run("promtool", &["check", "config", config]);
        // Free again a moment later; nothing else on this machine is likely to take it meanwhile.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = port.expect("a port");
        let data = workdir.join("prometheus");
        let process = Process::spawn(
            "prometheus",
            [
                format!("--config.file={config}"),
                format!("--storage.tsdb.path={}", data.display()),
                format!("--web.listen-address={address}"),
            ],
        );
        let is_ready = || {
            std::net::TcpStream::connect(address).is_ok()
                && http::get(address, "/-/ready").status == 200
        };
        wait_for("Prometheus", LIMIT, || is_ready().then_some(()));
        Self { address, _process: process }
    }

    /// The response to a query.
    fn query(&self, expression: &str) -> Value {
        let url = format!("http://{}/api/v1/query", self.address);
        let query = format!("query={expression}");
        let said = run("curl", &["-s", "-G", "--data-urlencode", &query, &url]);
        serde_json::from_str(&said).unwrap_or_else(|err| panic!("{expression}: {err}: {said}"))
    }
}

#[test]
fn the_alert_rules_are_valid_and_each_fires_for_its_fault_alone() {
    let rules = file("conf/prometheus/alerts.yml");
    let tests = file("tests/prometheus/alerts.yml");
    run("promtool", &["check", "rules", rules.to_str().expect("a UTF-8 path")]);
    run("promtool", &["test", "rules", tests.to_str().expect("a UTF-8 path")]);
    // Each rule has a text that says what to do, and a test.
    let (rules, tests) =
        [rules, tests].map(|path| fs::read_to_string(path).expect("a file")).into();
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let alerts = alerts.collect::<Vec<_>>();
    assert_eq!(rules.matches("runbook: ").count(), alerts.len());
    for alert in alerts {
        assert!(tests.contains(&format!("{alert}\"")) || tests.contains(&format!("{alert}\n")));
    }
}

#[test]
fn every_metric_of_the_dashboard_and_the_alerts_exists_and_prometheus_answers_each_panel() {
    let _share = Share::take(machine::ENCODER);
    let workdir = Workdir::new("metrics");
    let certificate = Certificate::make(workdir.path(), "shown");
    let nats = Nats::start();
    // A port that refuses connections, so that the state of the origin is known.
    let extra = format!(
        "[edge]\norigin = \"http://127.0.0.1:9\"\n[platform]\nenabled = true\n\
         [api]\nadmin_token = {TOKEN:?}\n[bus]\nurl = {:?}\n",
        nats.url()
    );
    let mut daemon = Daemon::start(&Settings {
        publish: "policy = \"keys\"\nkeys = [{ channel = \"show\", key = \"a-stream-key\" }]"
            .into(),
        ladder: "rungs = [{ height = 144, video_kbps = 200 }]\npreset = \"superfast\"\n\
                 cpu_percent = 100\nshedding = false\n"
            .into(),
        env: certificate.settings(&["127.0.0.1:0"]),
        extra,
        ..Settings::default()
    });
    let prometheus = Prometheus::start(workdir.path(), &daemon);
    // Something of everything: a stream with a rendition, a refused publisher, a missing channel at
    // the edge, requests of the API.
    let _publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("a-stream-key"));
    let _refused = publisher::ffmpeg_for(&PLAIN, 1, &daemon.rtmp_url("another-key"));
    daemon.wait_until_live("show");
    assert_ne!(daemon.get("/live/nobody/master.m3u8").status, 200);
    curl(&daemon, "/api/v1/channels", &[]);
    assert_eq!(curl(&daemon, "/api/v1/channels/nobody", &[])["status"], 404);

    let mut wanted = named(&fs::read_to_string(file("conf/prometheus/alerts.yml")).expect("rules"));
    let queries = queries();
    assert!(queries.len() > 40, "{}", queries.len());
    queries.iter().for_each(|(_, expression)| wanted.extend(named(expression)));
    let missing = || {
        let found = names(&metrics(&daemon));
        wanted.difference(&found).cloned().collect::<Vec<_>>()
    };
    let begun = Instant::now();
    while !missing().is_empty() {
        assert!(begun.elapsed() < LIMIT, "these metrics do not exist: {:?}", missing());
        thread::sleep(Duration::from_millis(200));
    }

    // Several samples of the series that appear last, for rates.
    for last in ["rendition_latency_seconds_count", "api_requests_total", "edge_origin_up"] {
        wait_for(last, LIMIT, || {
            let count = format!("min(count_over_time(streamforge_{last}[1m]))");
            let seen = prometheus.query(&count);
            let count = seen["data"]["result"][0]["value"][1].as_str()?.parse::<u32>().ok()?;
            (count >= 3).then_some(())
        });
    }
    for (title, expression) in &queries {
        let expression = expression.replace("$__rate_interval", "1m").replace("$instance", ".*");
        let answer = prometheus.query(&expression);
        assert_eq!(answer["status"], "success", "{title}: {expression}: {answer}");
        let result = answer["data"]["result"].as_array().expect("a result");
        assert!(!result.is_empty(), "{title} is empty: {expression}");
    }
    let rules = http::get(prometheus.address, "/api/v1/rules").text();
    let rules: Value = serde_json::from_str(&rules).expect("JSON");
    let groups = rules["data"]["groups"].as_array().expect("groups");
    for rule in groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten()) {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    daemon.assert_healthy();
}

#[test]
fn without_the_platform_there_are_no_metrics_of_it() {
    let daemon = Daemon::start(&Settings::default());
    daemon.streams();
    let found = names(&metrics(&daemon));
    assert!(found.contains("streamforge_health") && found.contains("streamforge_broadcasts"));
    let absent =
        ["platform", "api", "publish", "search"].map(|name| format!("streamforge_{name}_"));
    for prefix in &absent {
        assert!(!found.iter().any(|name| name.starts_with(prefix)), "{prefix} in {found:?}");
    }
}

#[test]
fn readyz_lists_the_checks_and_a_degraded_daemon_is_ready() {
    let workdir = Workdir::new("health");
    let certificate = Certificate::make(workdir.path(), "shown");
    let extra = "[platform]\nenabled = true\n".to_owned();
    let env = certificate.settings(&["127.0.0.1:0"]);
    let daemon = Daemon::start(&Settings { env, extra, ..Settings::default() });
    let ready = http::get(daemon.admin, "/readyz");
    assert_eq!(ready.status, 200);
    assert!(ready.text().starts_with("ready\n"), "{}", ready.text());
    let verbose = http::get(daemon.admin, "/readyz?verbose");
    assert_eq!(verbose.header("content-type"), Some("application/json"));
    let report: Value = serde_json::from_slice(&verbose.body).expect("JSON");
    let names: Vec<_> = report["checks"].as_array().expect("checks").iter().collect();
    let names: Vec<_> = names.iter().map(|check| check["name"].as_str().expect("a name")).collect();
    let mut expected = vec!["serving", "disk", "certificate", "database", "followers", "directory"];
    expected.extend(cfg!(feature = "search").then_some("search"));
    assert_eq!(names, expected);
    for check in report["checks"].as_array().expect("checks") {
        // The disk of the machine that runs the test may be nearly full.
        assert!(check["status"] == "ok" || check["name"] == "disk", "{check}");
    }
}

#[test]
fn the_operator_reads_the_configuration_and_sets_the_log_level() {
    let extra = format!("[api]\nadmin_token = {TOKEN:?}\n[platform]\nenabled = true\n");
    let publish = "policy = \"keys\"\nkeys = [{ channel = \"show\", key = \"a-stream-key\" }]";
    let mut daemon =
        Daemon::start(&Settings { extra, publish: publish.into(), ..Settings::default() });
    for path in ["/api/v1/configuration", "/api/v1/log-level", "/api/v1/workers"] {
        assert_eq!(daemon.get(path).status, 401, "{path}");
    }
    let shown = curl(&daemon, "/api/v1/configuration", &[]);
    let configuration = &shown["configuration"];
    assert_eq!(configuration["publish"]["keys"][0], json!({ "channel": "show", "key": "***" }));
    assert_eq!(configuration["api"]["admin_token"], "***");
    assert_eq!(configuration["live"]["part_ms"], 200);
    assert!(!shown.to_string().contains("a-stream-key") && !shown.to_string().contains(TOKEN));
    // A reload is shown, and only as far as it is in force.
    daemon.configure(|text| {
        let text = text.replace("part_ms = 200", "part_ms = 100");
        text.replace("[platform]", "limit = \"49/10s\"\n[platform]")
    });
    daemon.reload();
    let shown = curl(&daemon, "/api/v1/configuration", &[]);
    assert_eq!(shown["configuration"]["api"]["limit"], "49/10s");
    assert_eq!(shown["configuration"]["live"]["part_ms"], 200, "this needs a restart");

    assert_eq!(curl(&daemon, "/api/v1/log-level", &[])["filter"], "info");
    let is_debug = |line: &String| line.contains("\"level\":\"DEBUG\"");
    assert!(!daemon.process.lines().iter().any(is_debug));
    let put = |filter: &str| {
        let body = json!({ "filter": filter }).to_string();
        let json = "Content-Type: application/json";
        curl(&daemon, "/api/v1/log-level", &["-X", "PUT", "-H", json, "-d", &body])
    };
    assert_eq!(put("debug")["filter"], "debug");
    assert_eq!(put("packager=loud")["status"], 422);
    // A connection is logged at debug.
    wait_for("messages at debug", LIMIT, || {
        let _ = daemon.get("/time");
        let _ = std::net::TcpStream::connect(daemon.rtmp);
        daemon.process.lines().iter().any(is_debug).then_some(())
    });
    assert_eq!(put("info")["filter"], "info");
    assert_eq!(curl(&daemon, "/api/v1/workers", &[]), json!({ "workers": [] }));
}
