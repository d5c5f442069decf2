//! The daemon under test: started from its binary with a separate configuration, observed through
//! its log.

use super::{
    Workdir, http,
    playlist::{Media, Multivariant, resolve},
    proc,
    process::Process,
    wait_for,
};
use serde_json::Value;
use std::{
    fmt::Write as _,
    fs, mem,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

/// The configuration; by default the shipped one, with open publishing and listeners on ephemeral
/// ports.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) part_ms: u32,
    pub(crate) segment_ms: u32,
    pub(crate) window_s: u32,
    pub(crate) reconnect_s: u32,
    /// `[publish]`'s keys in TOML.
    pub(crate) publish: String,
    /// `[ladder]`'s keys in TOML. Off by default: few tests need encoders beside them.
    pub(crate) ladder: String,
    pub(crate) env: Vec<(String, String)>,
    /// Whole sections in TOML, appended.
    pub(crate) extra: String,
    /// Whether it is a replica, which has no RTMP listener.
    pub(crate) is_replica: bool,
    /// Words of errors that the test causes.
    pub(crate) expected: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            part_ms: 200,
            segment_ms: 2000,
            window_s: 60,
            reconnect_s: 10,
            publish: "policy = \"open\"".into(),
            ladder: "enabled = false".into(),
            env: Vec::new(),
            extra: String::new(),
            is_replica: false,
            expected: Vec::new(),
        }
    }
}

impl Settings {
    pub(crate) fn to_toml(&self, data_dir: &str) -> String {
        let mut text = format!("data_dir = {data_dir:?}\n");
        for listener in ["rtmp", "http", "admin"] {
            let _ = write!(text, "[{listener}]\nlisten = \"127.0.0.1:0\"\n");
        }
        let _ = write!(
            text,
            "[https]\nlisten = \"\"\n[publish]\n{}\n[demo]\nenabled = false\n\
             [live]\npart_ms = {}\nsegment_ms = {}\nwindow_s = {}\nreconnect_s = {}\n\
             [ladder]\nnice = 0\n{}\n{}",
            self.publish,
            self.part_ms,
            self.segment_ms,
            self.window_s,
            self.reconnect_s,
            self.ladder,
            self.extra
        );
        text
    }
}

/// A running daemon. Dropping it kills it and, unless the test has failed already, fails the test
/// for a panic or an error in its log.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) process: Process,
    pub(crate) rtmp: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) workdir: Workdir,
    settings: Settings,
    /// Processes that have taken over from the first one, and continue when it ends.
    successors: Vec<u32>,
}

pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamforge"));
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("STREAMFORGE_") || name == "RUST_LOG")
    {
        command.env_remove(name);
    }
    command
}

impl Daemon {
    pub(crate) fn start(settings: &Settings) -> Self {
        Self::start_in(Workdir::new("daemon"), settings)
    }

    /// Kills it. Returns its folder, for another process.
    pub(crate) fn into_folder(mut self) -> Workdir {
        self.process.kill();
        mem::replace(&mut self.workdir, Workdir::new("ended"))
    }

    /// A new process with the folder of this one, which has ended.
    pub(crate) fn start_again(mut self) -> Self {
        let workdir = mem::replace(&mut self.workdir, Workdir::new("ended"));
        Self::start_in(workdir, &self.settings.clone())
    }

    /// A process with a folder in which something may be.
    pub(crate) fn start_in(workdir: Workdir, settings: &Settings) -> Self {
        let config = workdir.path().join("streamforge.toml");
        let data_dir = workdir.path().join("data");
        fs::write(&config, settings.to_toml(data_dir.to_str().expect("a UTF-8 path")))
            .expect("a configuration file");
        let mut command = command();
        command.arg("serve").arg("--config").arg(&config).args(["--log-format", "json"]);
        command.envs(settings.env.iter().cloned());
        if settings.is_replica {
            command.args(["--role", "replica"]);
        }
        let mut process = Process::run("streamforge", command);
        let mut listener = |name: &str| {
            process.wait_for_lines(&format!("{name} listener"), Duration::from_secs(30), |lines| {
                lines.iter().filter_map(|line| Entry::parse(line)).find_map(|entry| {
                    let ours =
                        entry.message() == "listening" && entry.field("listener") == Some(name);
                    ours.then(|| {
                        entry
                            .field("addr")
                            .expect("a listening line has addr")
                            .parse()
                            .expect("an address")
                    })
                })
            })
        };
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let rtmp = if settings.is_replica { nowhere } else { listener("rtmp") };
        let (http, admin) = (listener("http"), listener("admin"));
        Self {
            process,
            rtmp,
            http,
            admin,
            workdir,
            settings: settings.clone(),
            successors: Vec::new(),
        }
    }

    fn config(&self) -> PathBuf {
        self.workdir.path().join("streamforge.toml")
    }

    /// Writes the configuration again, as `change` makes it from the initial one.
    pub(crate) fn configure(&self, change: impl FnOnce(String) -> String) {
        let data_dir = self.workdir.path().join("data");
        let text = self.settings.to_toml(data_dir.to_str().expect("a UTF-8 path"));
        fs::write(self.config(), change(text)).expect("a configuration file");
    }

    /// Makes it reload its configuration, and waits for the result. Returns all log lines since.
    #[track_caller]
    pub(crate) fn reload(&mut self) -> Vec<String> {
        let before = self.process.lines().len();
        proc::signal(self.main(), "HUP");
        self.process.wait_for_lines("word of the configuration", Duration::from_secs(10), |lines| {
            let since = &lines[before..];
            let over = ["configuration read again", "nothing was changed"];
            let done = since.iter().any(|line| over.iter().any(|words| line.contains(words)));
            done.then(|| since.to_vec())
        })
    }

    /// The address of one more listener, for example `rtmps`: the first of that name.
    #[track_caller]
    pub(crate) fn listener(&mut self, name: &str) -> SocketAddr {
        self.process.wait_for_lines(name, Duration::from_secs(10), |lines| {
            let mut entries = lines.iter().filter_map(|line| Entry::parse(line));
            let entry = entries.find(|entry| {
                entry.message() == "listening" && entry.field("listener") == Some(name)
            })?;
            entry.field("addr")?.parse().ok()
        })
    }

    /// The serving process.
    pub(crate) fn main(&self) -> u32 {
        *self.successors.last().unwrap_or(&self.process.id())
    }

    /// Makes it hand over to a new process, and waits until that serves.
    #[track_caller]
    pub(crate) fn upgrade(&mut self) -> u32 {
        self.upgrade_and(|_| ())
    }

    /// The same, with an action on the old process during the hand-over.
    #[track_caller]
    pub(crate) fn upgrade_and(&mut self, meanwhile: impl FnOnce(u32)) -> u32 {
        let count = self.successors.len();
        proc::signal(self.main(), "USR2");
        let limit = Duration::from_secs(30);
        self.process.wait_for_lines("begin of the hand-over", limit, |lines| {
            let begun = lines.iter().filter(|line| line.contains("handing over to a new process"));
            (begun.count() > count).then_some(())
        });
        meanwhile(self.main());
        let pid = self.process.wait_for_lines("hand-over", limit, |lines| {
            let entries = lines.iter().filter_map(|line| Entry::parse(line));
            let mut handed =
                entries.filter(|entry| entry.message().starts_with("another process serves"));
            let handed = handed.nth(count)?;
            let taken = lines.iter().filter(|line| line.contains("took over from the old process"));
            (taken.count() > count).then(|| handed.number("pid").expect("its number"))
        });
        let pid = u32::try_from(pid).expect("a process number");
        self.successors.push(pid);
        pid
    }

    pub(crate) fn rtmp_url(&self, channel: &str) -> String {
        format!("rtmp://{}/live/{channel}", self.rtmp)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    pub(crate) fn get(&self, path: &str) -> http::Response {
        http::get(self.http, path)
    }

    /// The sum of its counters whose lines in `/metrics` begin with `prefix`.
    pub(crate) fn metric(&self, prefix: &str) -> u64 {
        let text = http::get(self.admin, "/metrics").text();
        let values = text.lines().filter(|line| line.starts_with(prefix));
        let values = values.filter_map(|line| line.rsplit(' ').next());
        values.map(|value| value.parse::<u64>().expect("a count")).sum()
    }

    /// Waits until `channel` plays: its multivariant playlist exists and each media playlist lists
    /// a whole segment.
    #[track_caller]
    pub(crate) fn wait_until_live(&self, channel: &str) -> Multivariant {
        let base = format!("/live/{channel}/master.m3u8");
        wait_for(&format!("segment of {channel}"), Duration::from_secs(20), || {
            let master = self.get(&base);
            let master = (master.status == 200).then(|| Multivariant::parse(&master.text()))?;
            let listed = |uri: &String| {
                let media = self.get(&resolve(&base, uri));
                media.status == 200 && !Media::parse(&media.text()).segments.is_empty()
            };
            master.media().iter().all(listed).then_some(master)
        })
    }

    /// `GET /api/v1/streams`: the live broadcasts.
    pub(crate) fn streams(&self) -> Value {
        let response = self.get("/api/v1/streams");
        assert_eq!(response.status, 200, "{}", response.text());
        serde_json::from_slice(&response.body).expect("JSON")
    }

    /// Lines that the log must not contain.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let complains = |line: &String| match Entry::parse(line) {
            Some(entry) => entry.level() == "ERROR" || line.contains("panicked"),
            None => line.contains("panicked at") || line.contains("overflowed its stack"),
        };
        let is_expected =
            |line: &String| self.settings.expected.iter().any(|words| line.contains(words));
        let lines = self.process.lines().into_iter();
        lines.filter(complains).filter(|line| !is_expected(line)).collect()
    }

    /// Asserts that it still serves after the actions of a test.
    #[track_caller]
    pub(crate) fn assert_healthy(&mut self) {
        assert!(self.process.is_running(), "the daemon ended:\n{}", self.process.stderr());
        let response = http::get(self.admin, "/healthz");
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(self.complaints(), Vec::<String>::new());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let config = self.config().display().to_string();
        for &successor in &self.successors {
            // The number may belong to another program already.
            if proc::command_line(successor).contains(&config) {
                proc::signal(successor, "KILL");
            }
        }
        self.process.kill();
        if thread::panicking() {
            keep_log(&self.process.lines());
        } else {
            assert_eq!(self.complaints(), Vec::<String>::new(), "the daemon's log");
        }
    }
}

/// Writes the log of a failed test to a file, and prints its last lines: a few, so that those of
/// several tests leave the reader the panics.
fn keep_log(lines: &[String]) {
    let test = thread::current().name().unwrap_or("test").replace("::", "-");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}.log"));
    let written = fs::write(&file, lines.join("\n"));
    let tail = lines.len().saturating_sub(15);
    let last = lines[tail..].join("\n");
    eprintln!("the daemon's log is in {} ({written:?}); its last lines:\n{last}", file.display());
}

/// One line of the log in JSON.
#[derive(Debug)]
pub(crate) struct Entry(Value);

impl Entry {
    pub(crate) fn parse(line: &str) -> Option<Self> {
        serde_json::from_str::<Value>(line).ok().filter(Value::is_object).map(Self)
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.0
            .get("fields")
            .and_then(|fields| fields.get(name))
            .or_else(|| self.0.get(name))
            .and_then(Value::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.0.get("fields")?.get(name)?.as_u64()
    }

    pub(crate) fn message(&self) -> &str {
        self.field("message").unwrap_or_default()
    }

    fn level(&self) -> &str {
        self.0.get("level").and_then(Value::as_str).unwrap_or_default()
    }
}
