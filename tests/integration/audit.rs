//! The audit log of a real daemon: what its operator does through the control socket, a signal and
//! the files is in it, also after a restart and after its tables were folded again.

use crate::support::{
    daemon::{self, Daemon, Settings},
    media::PLAIN,
    publisher,
};
use serde_json::{Value, json};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// Runs an operator's command. Returns what it prints.
#[track_caller]
fn print(daemon: &Daemon, args: &[&str]) -> String {
    let config = daemon.workdir.path().join("streamforge.toml");
    let mut command = daemon::command();
    let output = command.args(args).arg("--config").arg(config).output().expect("it runs");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {complaint}");
    String::from_utf8(output.stdout).expect("text")
}

/// The entries of the log that these arguments select, the newest first.
#[track_caller]
fn audit(daemon: &Daemon, args: &[&str]) -> Vec<Value> {
    let text = print(daemon, &[&["audit", "list", "--json"], args].concat());
    serde_json::from_str(&text).expect("a list in JSON")
}

/// The actor and the act of each entry.
fn acts(entries: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let act = |entry: &Value| {
        let (kind, operation) = (text(&entry["type"]), text(&entry["operation"]["name"]));
        let what = if operation.is_empty() { kind } else { operation };
        format!("{} {what}", text(&entry["actor"]["id"]))
    };
    entries.iter().map(act).collect()
}

#[test]
fn what_the_operator_does_is_in_the_log_also_after_it_was_folded_again() {
    let extra = "[platform]\nenabled = true\n".to_owned();
    let mut daemon = Daemon::start(&Settings { extra, ..Settings::default() });
    let first = audit(&daemon, &[]);
    assert_eq!(acts(&first), ["system administrator.make"]);

    let added = print(&daemon, &["user", "add", "ada", "ada@example.org", "--json"]);
    let added = serde_json::from_str::<Value>(&added).expect("JSON");
    print(&daemon, &["user", "role", "ada", "creator"]);
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("stage"));
    daemon.wait_until_live("stage");
    print(&daemon, &["stream", "end", "stage", "--reason", "It was loud"]);
    publisher.kill();
    let backup = daemon.workdir.path().join("backup");
    print(&daemon, &["db", "backup", backup.to_str().expect("text")]);
    daemon.reload();
    daemon.configure(|text| format!("{text}[nonsense]\n"));
    daemon.reload();
    // The commands read the file, too.
    daemon.configure(|text| text);
    let expected = [
        "operator:signal configuration.reload",
        "operator:signal configuration.reload",
        "operator:socket database.backup",
        "operator:socket stream.end",
        "operator:socket streamforge.account.role_changed.v1",
        "operator:socket streamforge.account.password_expired.v1",
        "operator:socket streamforge.account.registered.v1",
        "system administrator.make",
    ];
    let entries = crate::support::wait_for("the reloads", LIMIT, || {
        let entries = audit(&daemon, &[]);
        (entries.len() >= expected.len()).then_some(entries)
    });
    assert_eq!(acts(&entries), expected);
    let outcomes = [&entries[0], &entries[1]].map(|entry| &entry["operation"]["outcome"]);
    assert_eq!(outcomes, [&json!("failed"), &json!("done")]);
    assert_eq!(entries[3]["operation"]["reason"], "It was loud");
    let role = &entries[4];
    assert_eq!((&role["subject"], &role["details"]["role"]), (&added["id"], &json!("creator")));
    assert!(role["request_id"].as_str().is_some_and(|id| id.len() == 36), "{role}");
    // Nothing personal: the name and the address are sealed in the events.
    assert!(!json!(entries).to_string().contains("ada@example.org"));

    let of_ada = audit(&daemon, &["--subject", added["id"].as_str().expect("an id")]);
    assert_eq!(of_ada.len(), 3);
    let ends = audit(&daemon, &["--actor", "operator:socket", "--limit", "1"]);
    assert_eq!(acts(&ends), ["operator:socket database.backup"]);
    let none = audit(&daemon, &["--to", "2020-01-01T00:00:00Z"]);
    assert_eq!(none, [] as [Value; 0]);
    // For people: a line each.
    let table = print(&daemon, &["audit", "list", "--subject", "stage"]);
    assert!(table.contains("stream.end") && table.contains("It was loud"), "{table}");
    assert_eq!(table.lines().count(), 2, "{table}");

    // The tables are folded again without a daemon, and a restart finds the same.
    daemon.process.terminate();
    daemon.process.wait(LIMIT);
    print(&daemon, &["db", "rebuild", "audit"]);
    let mut daemon = daemon.start_again();
    let again = audit(&daemon, &[]);
    assert_eq!(acts(&again[..1]), ["operator:socket database.rebuild"]);
    assert_eq!(again[1..], entries);
    let found = print(&daemon, &["db", "verify", "--json"]);
    let found = serde_json::from_str::<Value>(&found).expect("JSON");
    assert_eq!(found["faults"], json!([]));
    daemon.assert_healthy();
}
