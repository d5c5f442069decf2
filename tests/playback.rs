//! Playback as viewers see it: real players in headless Chromium play 20 s without a stall after
//! start-up, with a changing picture and without any error.

mod support;

use std::time::Duration;
use support::{
    daemon::{Daemon, Settings},
    follow,
    media::PLAIN,
    players::{Browser, Report},
    publisher,
};

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

#[test]
fn shaka_plays_the_low_latency_manifest() {
    plays("shaka", "/live/show/manifest.mpd", 1);
}

#[test]
fn shaka_plays_the_low_latency_manifest_at_the_target_latency_when_it_does_not_take_the_suggested_delay() {
    let report = plays_with("shaka", "/live/show/manifest.mpd", 1, &["--delay", "1"]);
    assert!(
        report.number("/player_latency_s/p50") < SUGGESTED_DELAY_S,
        "{:#}",
        report.0
    );
}

#[test]
fn chromium_plays_hls_by_itself() {
    plays("native", "/live/show/master.m3u8", SETTLED);
}

#[test]
fn the_watch_page_plays() {
    plays("page", "/watch/show", 1);
}
