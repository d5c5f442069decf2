//! The operator's commands on a running daemon.

use super::daemon::{self, Daemon};
use serde_json::Value;

/// Runs a command. Returns the JSON that it prints, or its complaint.
pub(crate) fn operate(daemon: &Daemon, args: &[&str]) -> Result<Value, String> {
    let config = daemon.workdir.path().join("streamforge.toml");
    let mut command = daemon::command();
    command.args(args).arg("--json").arg("--config").arg(config);
    let output = command.output().expect("the command runs");
    let text = String::from_utf8(output.stdout).expect("text");
    match output.status.success() {
        true if text.is_empty() => Ok(Value::Null),
        true => Ok(serde_json::from_str(&text).expect("JSON")),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Runs a command, which must succeed. Returns the JSON that it prints.
#[track_caller]
pub(crate) fn done(daemon: &Daemon, args: &[&str]) -> Value {
    operate(daemon, args).unwrap_or_else(|complaint| panic!("{args:?}: {complaint}"))
}
