//! Real players in headless Chromium, through tests/players/play.mjs.

use crate::support::machine::{self, Share};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
};

/// The observations of a viewer; the fields are those that play.mjs prints.
#[derive(Debug)]
pub(crate) struct Report(pub(crate) Value);

impl Report {
    /// Faults that a viewer would notice, as texts.
    pub(crate) fn faults(&self) -> Vec<String> {
        let faults = self.list("/faults");
        faults.iter().map(|fault| fault.as_str().expect("words").to_owned()).collect()
    }

    /// The errors from which the player cannot recover.
    pub(crate) fn fatal(&self) -> Vec<String> {
        let errors = self.list("/errors");
        errors
            .iter()
            .filter(|error| error["fatal"] == true)
            .map(|error| error["message"].to_string())
            .collect()
    }

    /// All errors of the player, including those from which it recovers.
    pub(crate) fn errors(&self) -> Vec<String> {
        let errors = self.list("/errors");
        errors.iter().map(|error| error["message"].as_str().expect("words").to_owned()).collect()
    }

    /// The heights of the pictures shown, each with its start in seconds after start-up.
    pub(crate) fn shown(&self) -> Vec<(f64, u64)> {
        let shown = self.list("/shown");
        shown
            .iter()
            .map(|size| {
                let at = size["at_s"].as_f64().expect("seconds");
                (at, size["height"].as_u64().expect("a height"))
            })
            .collect()
    }

    /// The states of the channel that the watch page showed, in order.
    pub(crate) fn page_states(&self) -> Vec<&str> {
        let states = self.list("/page_states");
        states.iter().map(|said| said["state"].as_str().expect("a state")).collect()
    }

    pub(crate) fn list(&self, pointer: &str) -> &[Value] {
        let list = self.0.pointer(pointer).and_then(Value::as_array);
        list.unwrap_or_else(|| panic!("no {pointer} in {}", self.0))
    }

    pub(crate) fn number(&self, pointer: &str) -> f64 {
        self.0
            .pointer(pointer)
            .and_then(Value::as_f64)
            .unwrap_or_else(|| panic!("no {pointer} in {}", self.0))
    }

    /// Number of requests of all kinds by protocol, as named by the browser (`http/1.1`, `h2`,
    /// `h3`).
    pub(crate) fn protocols(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for kind in self.0["protocols"].as_object().expect("protocols").values() {
            for (protocol, count) in kind.as_object().expect("protocols of a kind") {
                *counts.entry(protocol.clone()).or_default() += count.as_u64().expect("a number");
            }
        }
        counts
    }

    /// Requests of this kind (`playlist`, `part`, `segment`, `init`, `manifest`).
    pub(crate) fn requests(&self, kind: &str) -> u64 {
        self.0["requests"]["by_kind"][kind]["requests"].as_u64().unwrap_or(0)
    }
}

/// An event while a player plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The player's page is loaded, and opens the address after `--wait`.
    Ready,
    Started,
    /// Pictures of another height are shown.
    Shown(u64),
    /// The watch page shows another state of the channel.
    Page(&'static str),
}

/// The states that the watch page shows.
const PAGE_STATES: [&str; 9] = [
    "starting",
    "playing",
    "waiting",
    "paused",
    "away",
    "ended",
    "offline",
    "unreachable",
    "failed",
];

impl Event {
    fn parse(line: &str) -> Option<Self> {
        let event: Value = serde_json::from_str(line).ok()?;
        match event["event"].as_str()? {
            "ready" => Some(Self::Ready),
            "started" => Some(Self::Started),
            "shown" => event["height"].as_u64().map(Self::Shown),
            "page" => {
                let state = event["state"].as_str()?;
                PAGE_STATES.into_iter().find(|known| *known == state).map(Self::Page)
            }
            _ => None,
        }
    }
}

/// Held while a browser starts, until its page is loaded: several at once would use all of the
/// machine, and those that play would stand still.
static STARTING: Mutex<()> = Mutex::new(());

/// The permit to run one browser, released when dropped.
#[derive(Debug)]
pub(crate) struct Browser {
    _share: Share,
}

impl Browser {
    /// Waits until there is room for a browser whose playback must not stand still.
    pub(crate) fn take() -> Self {
        Self { _share: Share::take(machine::BROWSER) }
    }

    /// Waits until there is room for a browser and for a worker that encodes beside it.
    pub(crate) fn with_encoder() -> Self {
        Self { _share: Share::take(machine::BROWSER_AND_ENCODER) }
    }

    /// Waits until there is room for a browser that plays while daemons start.
    pub(crate) fn with_daemons() -> Self {
        Self { _share: Share::take(machine::CORE) }
    }

    /// Plays `url` for `seconds` after start-up.
    #[track_caller]
    pub(crate) fn play(&self, player: &str, url: &str, seconds: u32) -> Report {
        self.play_with(player, url, seconds, &[], |_| ())
    }

    /// Plays with more of play.mjs's options, and reports events meanwhile.
    #[track_caller]
    pub(crate) fn play_with(
        &self,
        player: &str,
        url: &str,
        seconds: u32,
        options: &[&str],
        mut meanwhile: impl FnMut(Event),
    ) -> Report {
        let players = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/players");
        assert!(
            players.join("node_modules").exists(),
            "run `make test`, or `npm ci` in tests/players"
        );
        // Chromium may take 40 s to start, and the player as long, before play.mjs gives up by
        // itself.
        let limit = (seconds + 90).to_string();
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &limit, "node"]).arg(players.join("play.mjs"));
        command.args(["--player", player, "--url", url, "--seconds", &seconds.to_string()]);
        command.args(options).arg("--out").arg(players.join("out"));
        let mut starting = Some(STARTING.lock().unwrap_or_else(PoisonError::into_inner));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("node");
        let mut stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let report = thread::spawn(move || {
            let mut report = Vec::new();
            stdout.read_to_end(&mut report).map(|_| report)
        });
        let mut said = Vec::new();
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            match Event::parse(&line) {
                Some(event) => {
                    starting = None;
                    meanwhile(event);
                }
                None => said.push(line),
            }
        }
        drop(starting);
        let report = report.join().expect("it does not panic").expect("stdout can be read");
        let status = child.wait().expect("node");
        let report = serde_json::from_slice(&report)
            .unwrap_or_else(|err| panic!("play.mjs: {status}: {err}\n{}", said.join("\n")));
        Report(report)
    }
}
