//! The certificate of a running daemon: used for publishers too, replaced and broken while they
//! publish.

use crate::support::{
    Workdir,
    daemon::{Daemon, Settings},
    http,
    media::PLAIN,
    publisher,
    tls::Certificate,
    wait_for,
};
use std::{fs, time::Duration};

/// The one sample of this name.
fn sample(daemon: &Daemon, name: &str) -> f64 {
    let text = http::get(daemon.admin, "/metrics").text();
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn a_publisher_over_tls_continues_while_the_certificate_changes_or_is_invalid() {
    let workdir = Workdir::new("certificates");
    let shown = Certificate::make(workdir.path(), "shown");
    let first = Certificate { cert: workdir.path().join("first.pem"), ..shown.clone() };
    fs::copy(&shown.cert, &first.cert).expect("a copy");
    let mut daemon =
        Daemon::start(&Settings { env: shown.settings(&["127.0.0.1:0"]), ..Settings::default() });
    let rtmps = daemon.listener("rtmps");
    let mut publisher = publisher::ffmpeg_file(
        &PLAIN.flv(),
        &["-tls_verify", "0"],
        &format!("rtmps://{rtmps}/live/private"),
    );
    daemon.wait_until_live("private");
    first.connect(rtmps, &[]).expect("it shows the first");
    assert!(sample(&daemon, "streamforge_tls_certificate_not_after_seconds") > 1.7e9);

    // A broken pair: the previous one stays in use, and the log reports it.
    fs::write(&shown.key, "nothing").expect("a file");
    let said = daemon.reload().join("\n");
    assert!(said.contains("shown.key") && said.contains("nothing was changed"), "{said}");
    first.connect(rtmps, &[]).expect("it shows the first");

    // Another pair: used at once after SIGHUP.
    let next = Certificate::make(workdir.path(), "next");
    next.replace(&shown);
    daemon.reload();
    next.connect(rtmps, &[]).expect("it shows the next");
    first.connect(rtmps, &[]).expect_err("it shows the next");

    // Another pair without SIGHUP.
    let last = Certificate::make(workdir.path(), "last");
    last.replace(&shown);
    wait_for("the last certificate", Duration::from_secs(10), || last.connect(rtmps, &[]).ok());
    assert!(publisher.is_running(), "{}", publisher.stderr());
    assert_eq!(sample(&daemon, "streamforge_rtmp_publishers"), 1.0);
}

#[test]
fn check_reports_the_certificate_and_a_key_that_does_not_match() {
    let workdir = Workdir::new("check");
    let config = workdir.path().join("streamforge.toml");
    let data_dir = workdir.path().to_str().expect("a UTF-8 path").to_owned();
    fs::write(&config, Settings::default().to_toml(&data_dir)).expect("a configuration file");
    let certificate = Certificate::make(workdir.path(), "shown");
    let check = || {
        let mut command = crate::support::daemon::command();
        command.arg("check").arg("--config").arg(&config);
        let output = command.envs(certificate.settings(&["127.0.0.1:0"])).output();
        let output = output.expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    };
    let (fine, said) = check();
    assert!(fine, "{said}");
    for part in [
        "localhost, 127.0.0.1, ::1",
        "good until",
        "the key matches",
        "descriptors",
        "memory",
        "quic",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let other = Certificate::make(workdir.path(), "other");
    fs::copy(&other.key, &certificate.key).expect("a copy");
    let (fine, said) = check();
    assert!(!fine && said.contains("do not match"), "{said}");
}
