//! Real players in headless Chromium, through tests/players/play.mjs.

use serde_json::Value;
use std::{
    path::Path,
    process::Command,
    sync::{Condvar, Mutex},
};

/// Browsers that may run at once: each wants about half a core.
const BROWSERS: u32 = 2;

static RUNNING: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());

/// What a viewer saw; the fields are those that play.mjs prints.
#[derive(Debug)]
pub(crate) struct Report(pub(crate) Value);

impl Report {
    /// What a viewer would complain of, in words.
    pub(crate) fn faults(&self) -> Vec<String> {
        let faults = self.0["faults"].as_array().expect("faults");
        faults
            .iter()
            .map(|fault| fault.as_str().expect("words").to_owned())
            .collect()
    }

    /// The errors that the player says it cannot recover from.
    pub(crate) fn fatal(&self) -> Vec<String> {
        let errors = self.0["errors"].as_array().expect("errors");
        errors
            .iter()
            .filter(|error| error["fatal"] == true)
            .map(|error| error["message"].to_string())
            .collect()
    }

    pub(crate) fn number(&self, pointer: &str) -> f64 {
        self.0
            .pointer(pointer)
            .and_then(Value::as_f64)
            .unwrap_or_else(|| panic!("no {pointer} in {}", self.0))
    }

    /// Requests of this kind (`playlist`, `part`, `segment`, `init`, `manifest`).
    pub(crate) fn requests(&self, kind: &str) -> u64 {
        self.0["requests"]["by_kind"][kind]["requests"].as_u64().unwrap_or(0)
    }
}

/// The right to run one browser; given back when dropped. Take it before the publisher starts, so that waiting costs no media.
#[derive(Debug)]
pub(crate) struct Browser(());

impl Browser {
    /// Waits until fewer than [`BROWSERS`] run.
    pub(crate) fn take() -> Self {
        let (running, freed) = &RUNNING;
        let running = running.lock().expect("nobody panics while holding it");
        *freed
            .wait_while(running, |running| *running == BROWSERS)
            .expect("nobody panics while holding it") += 1;
        Self(())
    }

    /// Plays `url` for `seconds` after start-up.
    #[track_caller]
    pub(crate) fn play(&self, player: &str, url: &str, seconds: u32) -> Report {
        let players = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/players");
        assert!(
            players.join("node_modules").exists(),
            "run `make test`, or `npm ci` in tests/players"
        );
        // Start-up may take 40 s before play.mjs gives up by itself.
        let limit = (seconds + 90).to_string();
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", &limit, "node"])
            .arg(players.join("play.mjs"));
        command.args(["--player", player, "--url", url, "--seconds", &seconds.to_string()]);
        let output = command.arg("--out").arg(players.join("out")).output().expect("node");
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|err| {
            panic!(
                "play.mjs: {}: {err}\n{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            )
        });
        Report(report)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let (running, freed) = &RUNNING;
        *running.lock().expect("nobody panics while holding it") -= 1;
        freed.notify_one();
    }
}
