//! The API as its description states it: a client that is generated from it.

use crate::support::{
    Workdir,
    daemon::{self, Daemon, Settings},
};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
};

fn settings() -> Settings {
    Settings { extra: "[platform]\nenabled = true".into(), ..Settings::default() }
}

/// Runs a program to its end, which must be a success. Returns its output.
#[track_caller]
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(status.success(), "{command:?}: {}\n{}", text(&stdout), text(&stderr));
    text(&stdout)
}

#[test]
fn a_client_that_is_generated_from_the_description_drives_the_main_path() {
    let mut daemon = Daemon::start(&settings());
    let config = daemon.workdir.path().join("streamforge.toml");
    let mut add = daemon::command();
    add.args(["user", "add", "ada", "ada@example.org", "--role", "creator", "--json", "--config"]);
    let added: Value = serde_json::from_str(&run(add.arg(config))).expect("JSON");
    let password = added["password"].as_str().expect("a password");

    let players = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/players");
    let modules = players.join("node_modules");
    let folder = Workdir::new("api-client");
    let file = |name: &str| folder.path().join(name);
    symlink(&modules, file("node_modules")).expect("a link");
    fs::copy(players.join("api/client.ts"), file("client.ts")).expect("a copy");
    fs::write(file("package.json"), r#"{ "type": "module" }"#).expect("a file");
    let description = daemon.get("/api/v1/openapi.json");
    fs::write(file("openapi.json"), description.body).expect("a file");
    let tool = |name: &str| Command::new(modules.join(".bin").join(name));
    run(tool("openapi-typescript").arg(file("openapi.json")).arg("-o").arg(file("api.d.ts")));
    run(tool("tsc")
        .args(["--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext"])
        .args(["--types", "node", "--typeRoots"])
        .arg(modules.join("@types"))
        .arg(file("client.ts")));
    let origin = format!("http://{}", daemon.http);
    let new = "another long password";
    let steps = run(Command::new("node")
        .arg(file("client.js"))
        .args([&origin, "ada", password, new])
        .current_dir(folder.path()));
    assert_eq!(steps.lines().last(), Some("signed out"), "{steps}");
    daemon.assert_healthy();
}
