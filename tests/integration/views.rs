//! Views and watch time: real players that watch are counted once, whatever a client does without
//! watching counts nothing, and the counts survive a restart.

use crate::support::{
    daemon::{Daemon, Settings},
    http,
    media::{PLAIN, Recipe},
    operator::done,
    players::{Browser, Report},
    playlist::{Media, Multivariant, resolve},
    process::Process,
    publisher, wait_for,
};
use serde_json::{Value, json};
use std::{
    thread,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(30);
const TOKEN: &str = "s3cret-operator";
/// Watch time of a view, in seconds.
const VIEW: f64 = 10.0;
/// A report of a player that watches, percent-encoded.
const REPORT: &str =
    "CMCD=br%3D1000%2Cbl%3D4000%2Cd%3D1000%2Cot%3Dv%2Csf%3Dh%2Cst%3Dl%2Csid%3D%22forged%22";

/// A daemon on which an account `ada` publishes on the channel `show`.
fn site() -> (Daemon, Process) {
    let daemon = Daemon::start(&Settings {
        publish: "policy = \"keys\"".into(),
        segment_ms: 1000,
        window_s: 30,
        extra: format!("[platform]\nenabled = true\n[api]\nadmin_token = \"{TOKEN}\""),
        ..Settings::default()
    });
    done(&daemon, &["user", "add", "ada", "ada@example.org", "--role", "creator"]);
    done(&daemon, &["channel", "add", "show", "--owner", "ada"]);
    let key = done(&daemon, &["key", "add", "show", "studio"]);
    let url = daemon.rtmp_url(key["key"].as_str().expect("the secret"));
    let publisher = publisher::ffmpeg(&Recipe { group: 25, ..PLAIN }, &url);
    daemon.wait_until_live("show");
    (daemon, publisher)
}

/// A request of the operator.
#[track_caller]
fn read(daemon: &Daemon, path: &str) -> Value {
    let authorization = format!("Bearer {TOKEN}");
    let response =
        http::request(daemon.http, "GET", path, &[("authorization", authorization.as_str())]);
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    serde_json::from_slice(&response.body).expect("JSON")
}

/// The views of the channel that everybody sees.
fn views(daemon: &Daemon) -> u64 {
    let response = daemon.get("/api/v1/channels/show");
    let shown: Value = serde_json::from_slice(&response.body).expect("JSON");
    shown["views"].as_u64().expect("a number")
}

/// The points of today and of a day that may have begun meanwhile.
fn days(daemon: &Daemon, more: &str) -> Vec<Value> {
    let report = read(daemon, &format!("/api/v1/channels/show/analytics?step=day{more}"));
    report["points"].as_array().expect("points").clone()
}

fn sum(points: &[Value], member: &str) -> f64 {
    points.iter().map(|point| point.pointer(member).and_then(Value::as_f64).unwrap_or(0.0)).sum()
}

/// Stops the daemon, which records the minute that is not over, and starts it again.
fn restart(mut daemon: Daemon) -> Daemon {
    daemon.process.terminate();
    daemon.process.wait(LIMIT);
    daemon.start_again()
}

#[test]
fn players_that_watch_are_one_view_each_and_the_counts_survive_a_restart() {
    // The media last for 100 s, so that the wait for a browser comes first.
    let browser = Browser::take();
    let (daemon, publisher) = site();
    let (mut played, begun) = (0.0, Instant::now());
    // The same browser: only their reports tell them apart.
    for (player, manifest) in [("hls", "master.m3u8"), ("dash", "manifest.mpd")] {
        let url = daemon.url(&format!("/live/show/{manifest}"));
        let report: Report = browser.play_with(player, &url, 13, &["--cmcd"], |_| ());
        assert_eq!(report.fatal(), [] as [String; 0], "{player}");
        played += report.number("/played_s");
    }
    drop(browser);
    let most = begun.elapsed().as_secs_f64();
    // The minute ends while the daemon runs.
    wait_for("the views", Duration::from_secs(90), || (views(&daemon) == 2).then_some(()));
    drop(publisher);

    let points = days(&daemon, "");
    assert_eq!(sum(&points, "/views"), 2.0);
    let watched = sum(&points, "/watch_seconds");
    assert!(watched >= 2.0 * VIEW && watched <= most, "{watched} s of {played} s in {most} s");
    assert!(sum(&points, "/peak_viewers") >= 1.0 && sum(&points, "/bytes") > 100_000.0);
    assert!(sum(&points, "/quality/reports") > 20.0, "{points:?}");
    assert!(points.iter().all(|point| point["quality"]["bitrate_kbps"].is_u64()), "{points:?}");
    let renditions = days(&daemon, "&by=rendition");
    for track in ["v0", "a0"] {
        let of_track = renditions.iter().filter(|point| point["rendition"] == track);
        let of_track = of_track.cloned().collect::<Vec<_>>();
        let seconds = sum(&of_track, "/watch_seconds");
        assert!(seconds >= 2.0 * VIEW - 2.0 && seconds <= most, "{track}: {seconds} s");
    }
    let minutes = read(&daemon, "/api/v1/channels/show/analytics?step=minute");
    assert_eq!(sum(minutes["points"].as_array().expect("points"), "/views"), 2.0);
    assert_eq!(daemon.metric("streamforge_views_total"), 2);

    let mut daemon = restart(daemon);
    assert_eq!(views(&daemon), 2);
    assert_eq!(sum(&days(&daemon, ""), "/views"), 2.0);
    assert_eq!(done(&daemon, &["db", "rebuild", "views"])["rebuilt"], json!(["views"]));
    wait_for("the tables", LIMIT, || {
        (daemon.get("/api/v1/channels/show").status == 200).then_some(())
    });
    assert_eq!(views(&daemon), 2);
    assert_eq!(done(&daemon, &["db", "verify"])["faults"], json!([]));
    daemon.assert_healthy();
}

/// Requests of a client that does not watch, for longer than a view takes. All have reports as of a
/// player that watches.
fn pretend(daemon: &Daemon) {
    let master = "/live/show/master.m3u8";
    let playlist = Multivariant::parse(&daemon.get(master).text()).variants[0].1.clone();
    let playlist = resolve(master, &playlist);
    let address = |uri: &str| format!("{}?{REPORT}", resolve(&playlist, uri));
    let agent = |name: &'static str| [("user-agent", name)];
    let first = Media::parse(&daemon.get(&playlist).text());
    let held = address(&first.segments.last().expect("a segment").uri);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(13) {
        let media = Media::parse(&daemon.get(&playlist).text());
        let newest = media.segments.last().expect("a segment");
        // Playlists alone.
        for text in [master, &playlist, "/live/show/manifest.mpd"] {
            let text = format!("{text}?{REPORT}");
            http::request(daemon.http, "GET", &text, &agent("playlists"));
        }
        let init = address(newest.map.as_deref().expect("a header"));
        http::request(daemon.http, "GET", &init, &agent("headers"));
        let newest = address(&newest.uri);
        // Media that are not sent, or are a single byte of each segment.
        http::request(daemon.http, "HEAD", &newest, &agent("heads"));
        let byte = [("user-agent", "bytes"), ("range", "bytes=0-0")];
        let response = http::request(daemon.http, "GET", &newest, &byte);
        assert_eq!((response.status, response.body.len()), (206, 1));
        // The same media again.
        http::request(daemon.http, "GET", &held, &agent("again"));
        // A report without a request for media.
        let body = br#"{"br":1000,"bl":4000,"sid":"forged","ot":"v","st":"l"}"#;
        let length = body.len().to_string();
        let headers = [("content-length", length.as_str()), ("content-type", "application/json")];
        http::Exchange::send(daemon.http, "POST", "/live/show/cmcd", &headers, body).finish();
        thread::sleep(Duration::from_millis(250));
    }
    // All segments at once: nobody watches so fast.
    let all = Media::parse(&daemon.get(&playlist).text());
    assert!(all.segments.len() > 10);
    for segment in &all.segments {
        let response =
            http::request(daemon.http, "GET", &address(&segment.uri), &agent("downloads"));
        assert_eq!(response.status, 200);
    }
}

#[test]
fn whatever_a_client_says_without_watching_is_no_view() {
    let (daemon, publisher) = site();
    pretend(&daemon);
    assert!(daemon.metric("streamforge_view_reports_total{result=\"valid\"}") > 10);
    assert_eq!(daemon.metric("streamforge_views_total"), 0);
    drop(publisher);
    let mut daemon = restart(daemon);
    assert_eq!(views(&daemon), 0);
    let points = days(&daemon, "");
    assert_eq!(sum(&points, "/views"), 0.0);
    assert!(sum(&points, "/objects") > 10.0);
    // The segment that was sent again and again, and the time that the downloads took.
    let watched = sum(&points, "/watch_seconds");
    assert!(watched < VIEW, "{watched} s");
    daemon.assert_healthy();
}

#[test]
fn without_the_platform_or_with_counting_off_nothing_is_observed() {
    for extra in ["", "[platform]\nenabled = true\n[analytics]\nenabled = false\n"] {
        let daemon = Daemon::start(&Settings { extra: extra.into(), ..Settings::default() });
        let metrics = http::get(daemon.admin, "/metrics").text();
        assert!(!metrics.contains("streamforge_view"), "{extra}");
    }
}
