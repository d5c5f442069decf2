//! Playback as viewers see it: real players in headless Chromium play 20 s without a stall after
//! start-up, with a changing picture and without any error.

use crate::support::{
    daemon::{Daemon, Settings},
    follow,
    media::{PLAIN, Recipe},
    players::{Browser, Report},
    publisher,
    push::Push,
    rtmp, wait_for,
};
use std::time::Duration;

const SECONDS: u32 = 20;

/// Number of complete segments before a player starts. With fewer, Shaka, which looks for captions,
/// requests the open segment as if it were complete, and Chromium's own player gives up when it has
/// read all media before it has started. Both do so with any server.
const SETTLED: usize = 6;

/// suggestedPresentationDelay of `manifest.mpd` with segments of 2 s.
const SUGGESTED_DELAY_S: f64 = 4.0;

/// Publishes, plays `path` once enough segments are complete, and asserts that the playback has no
/// fault.
#[track_caller]
fn plays(player: &str, path: &str, segments: usize) -> Report {
    plays_with(player, path, segments, &[])
}

/// The same with options of play.mjs.
#[track_caller]
fn plays_with(player: &str, path: &str, segments: usize, options: &[&str]) -> Report {
    let browser = Browser::take();
    let daemon = Daemon::start(&Settings::default());
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("show"));
    daemon.wait_until_live("show");
    follow::follow(daemon.http, "/live/show/v0.m3u8", Duration::from_secs(30), |media| {
        media.segments.len() >= segments
    });
    let report = browser.play_with(player, &daemon.url(path), SECONDS, options, |_| ());
    assert_eq!(report.faults(), Vec::<String>::new(), "{:#}", report.0);
    assert!(publisher.is_running(), "the publisher ended:\n{}", publisher.stderr());
    report
}

#[test]
fn hls_js_plays_in_low_latency_mode() {
    let report = plays("hls", "/live/show/master.m3u8", 1);
    assert!(
        report.requests("part") > report.requests("segment"),
        "it takes parts: {:#}",
        report.0["requests"]
    );
}

#[test]
fn dash_js_plays_the_low_latency_manifest() {
    plays("dash", "/live/show/manifest.mpd", 1);
}

/// A viewer who goes back in the window stays there. With a maximum latency in the manifest dash.js
/// would return to the live edge at once.
#[test]
fn dash_js_stays_at_the_position_of_a_backward_seek() {
    let browser = Browser::take();
    let daemon = Daemon::start(&Settings::default());
    let _publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("show"));
    daemon.wait_until_live("show");
    follow::follow(daemon.http, "/live/show/v0.m3u8", Duration::from_secs(30), |media| {
        media.segments.len() >= SETTLED
    });
    let options = ["--back", "5:6", "--stall", "3000"];
    let report = browser.play_with(
        "dash",
        &daemon.url("/live/show/manifest.mpd"),
        SECONDS,
        &options,
        |_| (),
    );
    assert_eq!(report.fatal(), Vec::<String>::new());
    let jumps: Vec<_> = report
        .list("/jumps")
        .iter()
        .map(|jump| jump["to"].as_f64().expect("seconds") - jump["from"].as_f64().expect("seconds"))
        .collect();
    assert!(
        matches!(jumps[..], [back] if (-7.0..-5.0).contains(&back)),
        "{jumps:?}: {:#}",
        report.0
    );
    let latency = report.list("/states").last().expect("a state")["latency_s"].as_f64();
    assert!(latency.is_some_and(|latency| latency > 5.0), "{:#}", report.0);
}

#[test]
fn dash_js_plays_the_plain_manifest() {
    plays("dash", "/live/show/plain.mpd", 1);
}

#[test]
fn shaka_plays_hls_in_low_latency_mode() {
    let report = plays("shaka", "/live/show/master.m3u8", SETTLED);
    assert!(
        report.requests("part") > report.requests("segment"),
        "it takes parts: {:#}",
        report.0["requests"]
    );
}

/// It looks for captions in a segment that is still open, and fails, unless the playlist declares
/// that there are none (CLOSED-CAPTIONS=NONE). It may stop until the second segment is listed.
#[test]
fn shaka_plays_hls_in_the_first_seconds_of_a_broadcast() {
    let browser = Browser::take();
    let daemon = Daemon::start(&Settings::default());
    let _publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("show"));
    daemon.wait_until_live("show");
    follow::follow(daemon.http, "/live/show/v0.m3u8", Duration::from_secs(30), |media| {
        !media.segments.is_empty()
    });
    let report = browser.play_with("shaka", &daemon.url("/live/show/master.m3u8"), 10, &[], |_| ());
    assert_eq!(report.errors(), Vec::<String>::new(), "{:#}", report.0);
    assert!(report.number("/played_s") > 5.0, "{:#}", report.0);
}

#[test]
fn shaka_plays_the_low_latency_manifest() {
    plays("shaka", "/live/show/manifest.mpd", 1);
}

#[test]
fn shaka_plays_at_the_target_latency_when_it_ignores_the_suggested_delay() {
    let report = plays_with("shaka", "/live/show/manifest.mpd", 1, &["--delay", "1"]);
    assert!(report.number("/player_latency_s/p50") < SUGGESTED_DELAY_S, "{:#}", report.0);
}

#[test]
fn chromium_plays_hls_natively() {
    plays("native", "/live/show/master.m3u8", SETTLED);
}

#[test]
fn the_watch_page_plays() {
    plays("page", "/watch/show", 1);
}

/// Plays a source whose groups start at recovery points. Chromium's decoder cannot start at those,
/// whatever serves them, so viewers get a rendition of its size, although the ladder is off.
#[track_caller]
fn plays_the_stand_in(player: &str, path: &str) {
    let browser = Browser::with_encoder();
    let daemon = Daemon::start(&Settings {
        ladder: "enabled = false\nstand_in = true\npreset = \"superfast\"\ncpu_percent = 100\n"
            .into(),
        ..Settings::default()
    });
    let open = Recipe { b_frames: 2, open_groups: true, ..PLAIN };
    // From the second group on: there is no IDR picture at all.
    let mut tags = rtmp::tags(&open.flv());
    tags.retain(|tag| {
        tag.is_header() || tag.timestamp == 0 && !tag.is_picture() || tag.timestamp >= 2_000
    });
    let push = Push::start(daemon.rtmp, "show", tags);
    daemon.wait_until_live("show");
    wait_for("a rendition of the source's size", Duration::from_secs(30), || {
        let master = daemon.get("/live/show/master.m3u8").text();
        master.contains("v360.m3u8").then_some(())
    });
    follow::follow(daemon.http, "/live/show/v360.m3u8", Duration::from_secs(30), |media| {
        media.segments.len() >= SETTLED
    });
    let report = browser.play_with(player, &daemon.url(path), SECONDS, &[], |_| ());
    push.stop();
    // On a machine that is busy the encoder may be late, and players wait for it.
    assert_eq!(report.fatal(), Vec::<String>::new(), "{:#}", report.0);
    let (played, still) = (report.number("/played_s"), report.number("/still_for_ms"));
    assert!(played > 10.0 && still < 2_000.0, "{:#}", report.0);
    assert_eq!(report.shown().first().map(|(_, height)| *height), Some(360));
}

#[test]
fn hls_js_plays_the_stand_in_of_a_source_without_idr_pictures() {
    plays_the_stand_in("hls", "/live/show/master.m3u8");
}

#[test]
fn dash_js_plays_the_stand_in_of_a_source_without_idr_pictures() {
    plays_the_stand_in("dash", "/live/show/manifest.mpd");
}

#[test]
fn shaka_plays_the_stand_in_of_a_source_without_idr_pictures() {
    plays_the_stand_in("shaka", "/live/show/manifest.mpd");
}
