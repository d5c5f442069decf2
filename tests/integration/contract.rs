//! The API against its own description: schemathesis sends requests that the description permits,
//! and others, as a sender of each role.

use crate::support::{
    daemon::{self, Daemon, Settings},
    http,
};
use serde_json::{Value, json};
use std::{path::Path, process::Command};

const TOKEN: &str = "the-operators-token";

/// What each response is checked for: no 5xx, and nothing that the description does not say. Access
/// is held by a table of the API's own tests: schemathesis takes 404 without credentials for
/// access, which is the response for what the sender may not know.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,\
                      negative_data_rejection,unsupported_method,allow_header_conformance";

/// A daemon whose limits are off: the requests of a run come from one address and few accounts.
fn site() -> Daemon {
    let limits = ["limit", "login_limit", "sign_up_limit", "mail_limit", "mailed_token_limit"]
        .map(|key| format!("{key} = \"off\"\n"))
        .concat();
    let extra = format!("[platform]\nenabled = true\n[api]\nadmin_token = \"{TOKEN}\"\n{limits}");
    Daemon::start(&Settings { extra, ..Settings::default() })
}

/// Makes an account of a role. Returns an access token.
fn sign_in(daemon: &Daemon, role: &str) -> String {
    let config = daemon.workdir.path().join("streamforge.toml");
    let mut add = daemon::command();
    add.args(["user", "add", role, &format!("{role}@example.org"), "--role", role, "--json"]);
    let output = add.arg("--config").arg(config).output().expect("the command runs");
    let added: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let body = json!({
        "login": role,
        "password": added["password"],
        "new_password": format!("a long password of {role}"),
    });
    let body = body.to_string();
    let length = body.len().to_string();
    let headers = [("content-type", "application/json"), ("content-length", length.as_str())];
    let exchange =
        http::Exchange::send(daemon.http, "POST", "/api/v1/sessions", &headers, body.as_bytes());
    let response = exchange.finish();
    assert_eq!(response.status, 201, "{}", response.text());
    let tokens: Value = serde_json::from_slice(&response.body).expect("JSON");
    tokens["access_token"].as_str().expect("a token").to_owned()
}

/// All phases, and those that take little time.
const ALL: &str = "examples,coverage,fuzzing";
const SHORT: &str = "examples,fuzzing";

/// Runs schemathesis as the sender with this token.
#[track_caller]
fn conforms(daemon: &Daemon, role: &str, token: Option<&str>, phases: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut schemathesis = Command::new(root.join("tests/players/.venv/bin/schemathesis"));
    schemathesis.arg("run").arg(daemon.url("/api/v1/openapi.json"));
    schemathesis.args(["--checks", CHECKS, "--phases", phases]);
    // The seed makes a run repeatable; the stream of events has no end.
    schemathesis.args(["--seed", "7", "--max-examples", "4", "--generation-database", "none"]);
    schemathesis.args(["--exclude-path", "/api/v1/events", "--continue-on-failure", "--no-color"]);
    schemathesis.args(["--request-timeout", "30", "--warnings", "off"]);
    if let Some(token) = token {
        schemathesis.arg("--header").arg(format!("Authorization: Bearer {token}"));
    }
    let output = schemathesis.current_dir(daemon.workdir.path()).output();
    let output = output.expect("make test installs schemathesis");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "as {role}:\n{text}");
    // Otherwise it would pass if it had read no operation.
    let cases = text.lines().find(|line| line.contains("generated")).unwrap_or_default();
    assert!(cases.split_whitespace().next().is_some_and(|n| n.len() >= 3), "{role}:\n{text}");
}

#[test]
fn responses_to_any_request_are_as_described_for_a_sender_of_each_role() {
    let mut daemon = site();
    let roles = ["viewer", "creator", "moderator", "administrator"];
    let tokens = roles.map(|role| (role, sign_in(&daemon, role)));
    conforms(&daemon, "nobody", None, ALL);
    for (role, token) in &tokens {
        // The one that may do most gets furthest.
        let phases = if *role == "administrator" { ALL } else { SHORT };
        conforms(&daemon, role, Some(token), phases);
    }
    conforms(&daemon, "the operator", Some(TOKEN), SHORT);
    daemon.assert_healthy();
}
