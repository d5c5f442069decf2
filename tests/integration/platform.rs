//! The platform: accounts, channels and stream keys by the operator's commands, publishing with
//! stored keys, private channels, upgrades, and the database's backup and restoration.

use crate::support::{
    daemon::{Daemon, Settings},
    http,
    media::PLAIN,
    operator::{done, operate},
    playlist::Media,
    process::Process,
    publisher,
    rtmp::Client,
    wait_for,
};
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};

const LIMIT: Duration = Duration::from_secs(30);
const TOKEN: &str = "s3cret-operator";

fn settings() -> Settings {
    Settings {
        publish: "policy = \"keys\"".into(),
        segment_ms: 1000,
        window_s: 8,
        reconnect_s: 5,
        extra: format!("[platform]\nenabled = true\n[api]\nadmin_token = \"{TOKEN}\""),
        ..Settings::default()
    }
}

/// A daemon with a channel `show` of an account `ada`, and the stream key of its studio.
fn site() -> (Daemon, String) {
    let daemon = Daemon::start(&settings());
    done(&daemon, &["user", "add", "ada", "ada@example.org", "--role", "creator"]);
    done(&daemon, &["channel", "add", "show", "--owner", "ada"]);
    let key = add_key(&daemon, "studio");
    (daemon, key)
}

fn add_key(daemon: &Daemon, name: &str) -> String {
    let added = done(daemon, &["key", "add", "show", name]);
    added["key"].as_str().expect("the secret").to_owned()
}

fn live(daemon: &Daemon, key: &str) -> Process {
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url(key));
    daemon.wait_until_live("show");
    assert!(publisher.is_running(), "the publisher ended:\n{}", publisher.stderr());
    publisher
}

/// A request of the operator over the network.
fn request(daemon: &Daemon, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let (body, authorization) = (body.to_string(), format!("Bearer {TOKEN}"));
    let length = body.len().to_string();
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("content-length", &length),
    ];
    let response =
        http::Exchange::send(daemon.http, method, path, &headers, body.as_bytes()).finish();
    (response.status, serde_json::from_slice(&response.body).unwrap_or_default())
}

fn assert_no_secret(daemon: &Daemon, secrets: &[&str]) {
    let lines = daemon.process.lines();
    let shown = lines.iter().find(|line| secrets.iter().any(|secret| line.contains(secret)));
    assert_eq!(shown, None);
}

#[test]
fn a_stored_key_publishes_until_it_is_revoked_and_the_encoder_shows_why() {
    let (mut daemon, studio) = site();
    let phone = add_key(&daemon, "phone");
    // A wrong key, and the channel's name, which is none.
    for wrong in ["live_wrong", "show"] {
        let refusal = Client::publish(daemon.rtmp, "live", wrong).expect_err("it has no right");
        assert!(refusal.description.contains("not known here"), "{refusal:?}");
    }
    let mut publisher = live(&daemon, &studio);
    let listed = done(&daemon, &["key", "list", "show"]);
    let names: Vec<_> = listed.as_array().expect("a list").iter().map(|key| &key["name"]).collect();
    assert_eq!(names, ["studio", "phone"]);
    assert!(!listed.to_string().contains(&studio));

    done(&daemon, &["key", "revoke", "show", "studio"]);
    publisher.wait(LIMIT);
    let shown = publisher.stderr();
    assert!(shown.contains("this stream key has been withdrawn"), "{shown}");
    let refusal = Client::publish(daemon.rtmp, "live", &studio).expect_err("it is revoked");
    assert!(refusal.description.contains("not known here"), "{refusal:?}");

    // Another key of the channel is unharmed, until the channel is gone.
    let mut publisher = wait_for("the free name", LIMIT, || {
        let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url(&phone));
        std::thread::sleep(Duration::from_millis(500));
        publisher.is_running().then_some(publisher)
    });
    daemon.wait_until_live("show");
    done(&daemon, &["channel", "delete", "show"]);
    publisher.wait(LIMIT);
    assert!(operate(&daemon, &["channel", "show", "show"]).is_err());
    assert_no_secret(&daemon, &[&studio, &phone, TOKEN]);
    daemon.assert_healthy();
}

#[test]
fn a_private_channel_plays_with_a_token_of_its_owner_alone() {
    let (mut daemon, key) = site();
    done(&daemon, &["channel", "edit", "show", "--visibility", "private"]);
    let _publisher = live_privately(&daemon, &key);
    let (status, token) =
        request(&daemon, "POST", "/api/v1/playback-tokens", &json!({ "channel": "show" }));
    assert_eq!(status, 201, "{token}");
    let playlist = token["hls"].as_str().expect("a path").replace("master", "v0");
    let plays = || {
        let response = daemon.get(&playlist);
        (response.status == 200 && !Media::parse(&response.text()).segments.is_empty())
            .then_some(())
    };
    wait_for("a segment under the token", LIMIT, plays);
    assert_eq!(daemon.get("/live/show/v0.m3u8").status, 403);
    assert_eq!(daemon.get("/live/show/manifest.mpd").status, 403);

    // Public again, it needs none.
    done(&daemon, &["channel", "edit", "show", "--visibility", "public"]);
    wait_for("the public channel", LIMIT, || {
        (daemon.get("/live/show/v0.m3u8").status == 200).then_some(())
    });
    daemon.assert_healthy();
}

/// Publishes on a private channel, which only the operator sees.
fn live_privately(daemon: &Daemon, key: &str) -> Process {
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url(key));
    wait_for("show", LIMIT, || operate(daemon, &["stream", "show", "show"]).ok());
    assert!(publisher.is_running(), "the publisher ended:\n{}", publisher.stderr());
    publisher
}

#[test]
fn after_an_upgrade_the_new_process_has_the_database_and_ends_publishers_of_the_old_one() {
    let (mut daemon, key) = site();
    let mut publisher = live(&daemon, &key);
    daemon.upgrade();
    // The commands wait until the new process has opened the database.
    done(&daemon, &["user", "add", "eve", "eve@example.org"]);
    let users = done(&daemon, &["user", "list"]);
    let names: Vec<_> =
        users.as_array().expect("a list").iter().map(|user| &user["name"]).collect();
    assert!(names.contains(&&json!("ada")) && names.contains(&&json!("eve")), "{names:?}");
    assert!(publisher.is_running(), "an upgrade keeps publishers");
    done(&daemon, &["key", "revoke", "show", "studio"]);
    publisher.wait(LIMIT);
    let shown = publisher.stderr();
    assert!(shown.contains("this stream key has been withdrawn"), "{shown}");
    assert_eq!(done(&daemon, &["db", "verify"])["faults"], json!([]));
    daemon.assert_healthy();
}

#[test]
fn a_backup_of_a_running_daemon_is_restored_with_its_keys_and_without_erased_persons() {
    let (mut daemon, key) = site();
    let data = daemon.workdir.path().join("data");
    done(&daemon, &["user", "add", "eve", "eve@example.org"]);
    let backup = daemon.workdir.path().join("backup");
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let written = done(&daemon, &["db", "backup", &text(&backup)]);
    // The audit log has the backup, as an event behind it.
    let sequence = written["sequence"].as_u64().expect("a number");
    assert_eq!(done(&daemon, &["db", "verify"])["events"], json!(sequence + 1));
    assert!(operate(&daemon, &["db", "backup", &text(&backup)]).is_err(), "there is one already");
    assert_eq!(done(&daemon, &["db", "rebuild", "channels"])["rebuilt"], json!(["channels"]));
    let unknown = operate(&daemon, &["db", "rebuild", "nothing"]).expect_err("no such feature");
    assert!(unknown.contains("there is no feature nothing"), "{unknown}");
    // Erased after the backup: the restored database must not know her.
    done(&daemon, &["user", "delete", "eve"]);
    let restore = ["db", "restore", &text(&backup)];
    let refused = operate(&daemon, &restore).expect_err("a daemon runs");
    assert!(refused.contains("stop it first"), "{refused}");

    // The disk is lost, but for the master key and the list of erased persons.
    daemon.process.terminate();
    daemon.process.wait(LIMIT);
    let (platform, saved) = (data.join("platform"), daemon.workdir.path().join("saved"));
    fs::rename(&platform, &saved).expect("the folder can be moved");
    fs::create_dir(&platform).expect("the folder can be made");
    fs::copy(saved.join("master.key"), platform.join("master.key")).expect("a copy");
    let erased = text(&saved.join("erased.txt"));
    let restored = done(&daemon, &[&restore[..], &["--erased", &erased]].concat());
    assert_eq!(restored["erased_again"], 1, "{restored}");
    // Without a daemon the commands open the database themselves.
    assert_eq!(done(&daemon, &["db", "verify"])["faults"], json!([]));

    let mut again = daemon.start_again();
    let users = done(&again, &["user", "list"]).to_string();
    assert!(users.contains("ada") && !users.contains("eve"), "{users}");
    let publisher = live(&again, &key);
    drop(publisher);
    again.assert_healthy();
}
