//! The settings of an account's channel, in force in its broadcasts: renditions, latency, the wait
//! for a publisher, and the policy for publishers without a stream key.

use crate::support::{
    daemon::{Daemon, Settings},
    http,
    machine::{self, Share},
    media::PLAIN,
    operator::done,
    players::Browser,
    publisher,
    rtmp::Client,
    wait_for,
};
use serde_json::{Value, json};
use std::time::Duration;

const TOKEN: &str = "s3cret-operator";
/// Two rungs, which this machine can encode.
const RUNGS: &str = "rungs = [{ height = 240, video_kbps = 400 }, \
                     { height = 144, video_kbps = 200 }]\n\
                     preset = \"superfast\"\ncpu_percent = 100\nshedding = false\n";
const LIMIT: Duration = Duration::from_secs(60);

/// A daemon with a channel `show` of an account.
fn site(policy: &str, ladder: &str) -> Daemon {
    let daemon = Daemon::start(&Settings {
        publish: format!("policy = \"{policy}\""),
        ladder: ladder.into(),
        segment_ms: 1000,
        reconnect_s: 60,
        extra: format!("[platform]\nenabled = true\n[api]\nadmin_token = \"{TOKEN}\""),
        ..Settings::default()
    });
    done(&daemon, &["user", "add", "ada", "ada@example.org", "--role", "creator"]);
    done(&daemon, &["channel", "add", "show", "--owner", "ada"]);
    daemon
}

/// Changes the settings of the channel.
#[track_caller]
fn set(daemon: &Daemon, changes: &Value) {
    let id = done(daemon, &["channel", "show", "show"])["id"].clone();
    let path = format!("/api/v1/channels/{}/settings", id.as_str().expect("an id"));
    let (body, authorization) = (changes.to_string(), format!("Bearer {TOKEN}"));
    let length = body.len().to_string();
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/merge-patch+json"),
        ("content-length", &length),
    ];
    let exchange = http::Exchange::send(daemon.http, "PATCH", &path, &headers, body.as_bytes());
    let response = exchange.finish();
    assert_eq!(response.status, 200, "{}", response.text());
}

fn key(daemon: &Daemon) -> String {
    let added = done(daemon, &["key", "add", "show", "studio"]);
    added["key"].as_str().expect("the secret").to_owned()
}

/// The names of the broadcast's renditions.
fn renditions(daemon: &Daemon) -> Vec<String> {
    let streams = daemon.streams();
    let listed = streams["streams"][0]["renditions"].as_array().cloned().unwrap_or_default();
    listed.iter().filter_map(|rung| rung["track"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_channel_has_the_renditions_that_its_owner_has_chosen() {
    let _share = Share::take(machine::ENCODER);
    let daemon = site("keys", RUNGS);
    let key = key(&daemon);
    set(&daemon, &json!({ "ladder": { "rungs": [144, 1080] }, "reconnect_s": 0 }));
    let publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url(&key));
    daemon.wait_until_live("show");
    let chosen = wait_for("the renditions", LIMIT, || {
        let found = renditions(&daemon);
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(chosen, ["v144"]);
    drop(publisher);
    wait_for("the end", LIMIT, || {
        daemon.streams()["streams"].as_array().is_some_and(Vec::is_empty).then_some(())
    });

    set(&daemon, &json!({ "ladder": "off" }));
    let _publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url(&key));
    daemon.wait_until_live("show");
    // A ladder is planned at the first key frame.
    wait_for("some segments", LIMIT, || {
        let list = daemon.get("/live/show/v0.m3u8").text();
        (list.matches("#EXTINF").count() >= 5).then_some(())
    });
    assert_eq!(renditions(&daemon), Vec::<String>::new());
    assert!(!daemon.get("/live/show/master.m3u8").text().contains("v144"));
}

#[test]
fn a_channel_of_standard_latency_plays_by_whole_segments() {
    let browser = Browser::take();
    let daemon = site("keys", "enabled = false");
    let key = key(&daemon);
    set(&daemon, &json!({ "latency": "standard" }));
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url(&key));
    daemon.wait_until_live("show");
    let list = daemon.get("/live/show/v0.m3u8").text();
    assert!(!list.contains("PART"), "{list}");
    for (player, path) in [
        ("hls", "/live/show/master.m3u8"),
        ("dash", "/live/show/manifest.mpd"),
        ("page", "/watch/show"),
    ] {
        let report = browser.play(player, &daemon.url(path), 12);
        assert_eq!(report.faults(), Vec::<String>::new(), "{player}: {:#}", report.0);
        assert_eq!(report.requests("part"), 0, "{player}: {:#}", report.0["requests"]);
        assert!(report.requests("segment") > 0, "{player}: {:#}", report.0["requests"]);
    }
    assert!(publisher.is_running(), "the publisher ended:\n{}", publisher.stderr());
}

#[test]
fn nobody_publishes_on_a_channel_of_an_account_unless_its_owner_permits_it() {
    let daemon = site("open", "enabled = false");
    let refused = |name: &str| {
        let refusal = Client::publish(daemon.rtmp, "live", name).expect_err("it needs a key");
        assert!(refusal.description.contains("stream keys"), "{name}: {refusal:?}");
    };
    // Another name is free, and this one is taken in any case of its letters.
    drop(Client::publish(daemon.rtmp, "live", "another").expect("it is open"));
    refused("show");
    refused("SHOW");
    set(&daemon, &json!({ "publish": "jwt" }));
    refused("show");
    set(&daemon, &json!({ "publish": "open" }));
    drop(Client::publish(daemon.rtmp, "live", "show").expect("its owner permits it"));
    drop(Client::publish(daemon.rtmp, "live", &key(&daemon)).expect("a key is valid too"));

    // Where other names need keys, too.
    let daemon = site("keys", "enabled = false");
    set(&daemon, &json!({ "publish": "open" }));
    drop(Client::publish(daemon.rtmp, "live", "show").expect("its owner permits it"));
    let refusal = Client::publish(daemon.rtmp, "live", "another").expect_err("it needs a key");
    assert!(refusal.description.contains("not known here"), "{refusal:?}");
}
