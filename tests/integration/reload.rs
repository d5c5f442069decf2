//! SIGHUP: the configuration of a running daemon is reloaded.

use crate::support::{
    Workdir,
    daemon::{Daemon, Entry, Settings},
    http,
    media::PLAIN,
    proc, publisher, rtmp,
    tls::Certificate,
    wait_for,
};
use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    process::Command,
    time::Duration,
};

const KEYS: &str = "policy = \"keys\"\n\
                    keys = [{ channel = \"show\", key = \"first-key-of-show\" }, \
                    { channel = \"show\", key = \"second-key-of-show\" }]";

fn with_keys(text: String) -> String {
    text.replace("policy = \"open\"", KEYS)
}

#[test]
fn withdrawing_a_key_disconnects_its_publisher_and_no_other() {
    let mut daemon = Daemon::start(&Settings::default());
    let mut open = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("open"));
    daemon.wait_until_live("open");

    // Publishers without a key are disconnected when keys are required.
    daemon.configure(with_keys);
    daemon.reload();
    open.wait(Duration::from_secs(10));
    let refusal = rtmp::Client::publish(daemon.rtmp, "live", "open").expect_err("keys are needed");
    assert!(refusal.description.contains("stream key"), "{refusal:?}");
    let mut keyed = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("first-key-of-show"));
    daemon.wait_until_live("show");

    // Another key is withdrawn: this publisher is not affected.
    daemon.configure(|text| with_keys(text).replace("second-key-of-show", "third-key-of-show"));
    let said = daemon.reload();
    let said = said.iter().find_map(|line| Entry::parse(line)?.number("withdrawn_keys"));
    assert_eq!(said, Some(1));
    assert!(keyed.is_running());

    daemon.configure(|text| with_keys(text).replace("first-key-of-show", "fourth-key-of-show"));
    daemon.reload();
    keyed.wait(Duration::from_secs(10));
    rtmp::Client::publish(daemon.rtmp, "live", "first-key-of-show").expect_err("it is withdrawn");
    rtmp::Client::publish(daemon.rtmp, "live", "fourth-key-of-show").expect("it is new");
    let log = daemon.process.stderr();
    assert!(!log.contains("-key-of-show"), "keys are never logged");
    daemon.assert_healthy();
}

#[test]
fn a_new_administrator_token_is_valid_at_once() {
    let mut daemon = Daemon::start(&Settings::default());
    let delete = |daemon: &Daemon, token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        http::request(daemon.http, "DELETE", "/api/v1/streams/none", &headers).status
    };
    assert_eq!(delete(&daemon, "one-token-0123456789"), 403);
    daemon.configure(|text| text + "[api]\nadmin_token = \"one-token-0123456789\"\n");
    daemon.reload();
    assert_eq!(delete(&daemon, "one-token-0123456789"), 404);
    daemon.configure(|text| text + "[api]\nadmin_token = \"two-token-0123456789\"\n");
    daemon.reload();
    assert_eq!(delete(&daemon, "one-token-0123456789"), 401);
    assert_eq!(delete(&daemon, "two-token-0123456789"), 404);
}

#[test]
fn a_reload_logs_each_key_that_needs_a_restart_and_applies_the_rest() {
    let mut daemon = Daemon::start(&Settings::default());
    daemon.configure(|text| {
        with_keys(text).replace("part_ms = 200", "part_ms = 100") + "[upgrade]\ndrain_s = 7\n"
    });
    for _ in 0..2 {
        let said = daemon.reload().join("\n");
        for key in ["live.part_ms", "upgrade.drain_s"] {
            let named = said.lines().filter_map(Entry::parse).any(|entry| {
                entry.field("key") == Some(key) && entry.message().contains("needs a restart")
            });
            assert!(named, "{key}: {said}");
        }
        assert_eq!(said.matches("needs a restart").count(), 2, "{said}");
    }
    rtmp::Client::publish(daemon.rtmp, "live", "first-key-of-show")
        .expect("the key was taken all the same");
}

#[test]
fn an_invalid_configuration_is_reported_and_changes_nothing() {
    let workdir = Workdir::new("certificates");
    let certificate = Certificate::make(workdir.path(), "shown");
    let env = certificate.settings(&["127.0.0.1:0"]);
    let mut daemon = Daemon::start(&Settings { env, ..Settings::default() });
    daemon.configure(|text| with_keys(text) + "[rtmp2]\n");
    let said = daemon.reload().join("\n");
    assert!(said.contains("rtmp2") && said.contains("nothing was changed"), "{said}");
    rtmp::Client::publish(daemon.rtmp, "live", "anyone").expect("publishing is still open");
    // The same for a configuration that is valid by itself, but has an invalid certificate.
    daemon.configure(with_keys);
    fs::write(&certificate.key, "nothing").expect("a file");
    let said = daemon.reload().join("\n");
    assert!(said.contains("shown.key") && said.contains("nothing was changed"), "{said}");
    rtmp::Client::publish(daemon.rtmp, "live", "another").expect("publishing is still open");
    daemon.assert_healthy();
}

#[test]
fn a_reload_during_an_upgrade_is_executed_by_the_new_process() {
    let mut daemon = Daemon::start(&Settings::default());
    let publisher = rtmp::Client::publish(daemon.rtmp, "live", "show").expect("publishing is open");
    daemon.upgrade_and(|old| proc::signal(old, "HUP"));
    daemon.process.wait_for_lines("reload of the new process", Duration::from_secs(10), |lines| {
        let read = |line: &String| line.contains("configuration read again");
        lines.iter().any(read).then_some(())
    });
    // A signal to the old process' number reaches the new one too, and through it both.
    let before = daemon.process.lines().len();
    proc::signal(daemon.process.id(), "HUP");
    for words in ["configuration read again", "keys and tokens reloaded while draining"] {
        daemon.process.wait_for_lines(words, Duration::from_secs(10), |lines| {
            lines[before..].iter().any(|line| line.contains(words)).then_some(())
        });
    }
    drop(publisher);
}

/// A configuration, the same as before.
const OPEN: &[u8] = b"[publish]\npolicy = \"open\"\n";

/// Makes the configuration file a pipe, whose readers wait for its content as on a disk that hangs.
fn hang_configuration(daemon: &Daemon) {
    let (config, pipe) = (configuration(daemon), daemon.workdir.path().join("pipe"));
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo");
    fs::rename(pipe, config).expect("another configuration file");
}

fn configuration(daemon: &Daemon) -> PathBuf {
    daemon.workdir.path().join("streamforge.toml")
}

/// Waits until a process reads the pipe. Returns the other end; the reader waits until it is
/// dropped.
fn wait_for_reader(daemon: &Daemon) -> File {
    wait_for("reader of the configuration", Duration::from_secs(10), || {
        // O_NONBLOCK: this fails as long as the pipe has no reader.
        let mut options = File::options();
        options.write(true).custom_flags(0o4000).open(configuration(daemon)).ok()
    })
}

#[track_caller]
fn wait_for_line(daemon: &mut Daemon, words: &str, count: usize) {
    daemon.process.wait_for_lines(words, Duration::from_secs(10), |lines| {
        let found = lines.iter().filter(|line| line.contains(words)).count();
        (found == count).then_some(())
    });
}

#[test]
fn a_stop_does_not_wait_for_a_configuration_on_a_disk_that_hangs() {
    let mut daemon = Daemon::start(&Settings::default());
    hang_configuration(&daemon);
    proc::signal(daemon.main(), "HUP");
    let _pipe = wait_for_reader(&daemon);
    daemon.process.terminate();
    // The grace period, and a little for a busy machine.
    let status = daemon.process.wait(Duration::from_secs(12));
    assert!(status.success(), "{status}: {}", daemon.process.stderr());
}

#[test]
fn a_draining_process_does_not_wait_for_it_either() {
    let mut daemon = Daemon::start(&Settings::default());
    let publisher = rtmp::Client::publish(daemon.rtmp, "live", "show").expect("publishing is open");
    daemon.upgrade();
    wait_for_line(&mut daemon, "keys and tokens reloaded while draining", 1);
    hang_configuration(&daemon);
    proc::signal(daemon.main(), "HUP");
    // The new process gets the content, and notifies the old one, which waits for it.
    wait_for_reader(&daemon).write_all(OPEN).expect("the new process reads");
    wait_for_line(&mut daemon, "configuration read again", 1);
    let _pipe = wait_for_reader(&daemon);
    daemon.process.terminate();
    wait_for("end of the old process", Duration::from_secs(12), || {
        (!daemon.process.is_running()).then_some(())
    });
    drop(publisher);
}

#[test]
fn a_reload_that_is_requested_during_another_follows_it() {
    let mut daemon = Daemon::start(&Settings::default());
    hang_configuration(&daemon);
    proc::signal(daemon.main(), "HUP");
    let mut pipe = wait_for_reader(&daemon);
    fs::remove_file(configuration(&daemon)).expect("the pipe's name");
    daemon.configure(with_keys);
    proc::signal(daemon.main(), "HUP");
    pipe.write_all(OPEN).expect("the daemon reads");
    drop(pipe);
    wait_for_line(&mut daemon, "configuration read again", 2);
    let refusal = rtmp::Client::publish(daemon.rtmp, "live", "open").expect_err("keys are needed");
    assert!(refusal.description.contains("stream key"), "{refusal:?}");
}
