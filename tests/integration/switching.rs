//! The ladder from the viewers' side: real players switch down when the network narrows and up
//! again, and continue when the worker of their rendition is killed. Every picture contains its
//! number, so none may be shown out of order, and each must be at its time, in every rendition.

use crate::support::{
    daemon::{Daemon, Settings},
    follow,
    media::{self, PLAIN, Recipe},
    players::{Browser, Event, Report},
    proc,
    process::Process,
    publisher, wait_for,
};
use std::{path::PathBuf, process::Command, time::Duration};

const RUNGS: &str = "rungs = [{ height = 240, video_kbps = 400 }, \
                     { height = 144, video_kbps = 200 }]\n\
                     preset = \"superfast\"\ncpu_percent = 100\nshedding = false\n";
const SOURCE: u64 = 360;
const MIDDLE: u64 = 240;
const LOWEST: u64 = 144;
const SOURCE_KBPS: u32 = 1600;
/// Sufficient for all renditions.
const WIDE_KBPS: u32 = 8000;
/// Sufficient for the middle rung with its audio and the players' other requests, and half of the
/// source.
const NARROW_KBPS: u32 = 800;
/// When the network narrows, and when it is wide again, in seconds after start-up.
const NARROWED: f64 = 6.0;
const WIDENED: f64 = 17.0;
/// Maximum total wait of viewers when the network suddenly has half the rate of their rendition.
/// The players determine it: with low latency there is a second in their buffers; hls.js measures
/// one part for each segment and abandons a late one, dash.js and Shaka measure segments. They wait
/// 2 to 7 s here; a player that did not switch down would wait longer.
const SUDDEN: Duration = Duration::from_secs(9);
/// Errors that players report and handle themselves.
const FORGIVEN: [&str; 4] = [
    // hls.js waits; the duration is counted.
    "bufferStalledError",
    // hls.js finds a gap, and switches to another rendition.
    "fragGap",
    // hls.js aborts the playlist of the rendition that it leaves.
    "networkError aborted",
    // Shaka iterates over the segments of a rendition whose playlist it is still waiting for.
    "Symbol.iterator",
];

/// hls.js goes on with the next picture that it can decode, if its buffer is empty when it finds
/// the gap of a worker that was killed.
const OF_A_GAP: &str = "bufferSeekOverHole";

/// A broadcast with a ladder that lists whole segments of every rendition.
struct Show {
    daemon: Daemon,
    publisher: Process,
    browser: Browser,
}

impl Show {
    fn start() -> Self {
        let browser = Browser::with_encoder();
        let daemon = Daemon::start(&Settings { ladder: RUNGS.into(), ..Settings::default() });
        let publisher = publisher::ffmpeg_file(&source(), &[], &daemon.rtmp_url("show"));
        let listed = |daemon: &Daemon| {
            daemon.get("/live/show/master.m3u8").text().matches("RESOLUTION").count()
        };
        wait_for("ladder", Duration::from_secs(30), || (listed(&daemon) == 3).then_some(()));
        daemon.wait_until_live("show");
        // Shaka requests the open segment as if it were complete while there are fewer.
        follow::follow(daemon.http, "/live/show/v0.m3u8", Duration::from_secs(30), |media| {
            media.segments.len() >= 3
        });
        Self { daemon, publisher, browser }
    }

    #[track_caller]
    fn play(
        &self,
        player: &str,
        path: &str,
        seconds: u32,
        options: &[&str],
        meanwhile: impl FnMut(Event),
    ) -> Report {
        let url = self.daemon.url(path);
        let options: Vec<&str> = ["--numbers", "25"].iter().chain(options).copied().collect();
        self.browser.play_with(player, &url, seconds, &options, meanwhile)
    }

    /// Asserts that playback was free of errors but [`FORGIVEN`] and `also`, and in order to the
    /// end, and that the daemon is healthy.
    #[track_caller]
    fn assert_well(mut self, report: &Report, also: &[&str]) {
        assert!(report.0["startup_ms"].is_number(), "it never played: {:#}", report.0);
        assert_eq!(report.fatal(), Vec::<String>::new(), "{:#}", report.0);
        let mut errors = report.errors();
        let forgiven = FORGIVEN.iter().chain(also);
        errors.retain(|error| !forgiven.clone().any(|forgiven| error.contains(forgiven)));
        assert_eq!(errors, Vec::<String>::new(), "{:#}", report.0);
        assert!(report.list("/requests/refused").is_empty(), "{:#}", report.0);
        assert_in_order(report);
        assert!(report.number("/still_for_ms") < 1000.0, "it plays at the end: {:#}", report.0);
        assert!(self.publisher.is_running(), "the publisher ended:\n{}", self.publisher.stderr());
        self.daemon.assert_healthy();
    }
}

/// The usual pictures at a constant rate, with filler data. They last for a minute of playback, on
/// a machine where Chromium takes its maximum time to start.
fn source() -> PathBuf {
    const LONG: Recipe = Recipe { seconds: 140, ..PLAIN };
    let plain = LONG.flv();
    media::made(&format!("e1-{}s-filled-{SOURCE_KBPS}k", LONG.seconds), "flv", |path| {
        let rate = format!("{SOURCE_KBPS}k");
        let buffer = format!("{}k", SOURCE_KBPS / 2);
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-i"]).arg(&plain);
        ffmpeg.args(["-c:a", "copy", "-c:v", "libx264", "-preset", "veryfast", "-bf", "0"]);
        ffmpeg.args([
            "-g",
            "50",
            "-keyint_min",
            "50",
            "-sc_threshold",
            "0",
            "-x264-params",
            "nal-hrd=cbr",
        ]);
        ffmpeg.args(["-b:v", &rate, "-minrate", &rate, "-maxrate", &rate, "-bufsize", &buffer]);
        let status = ffmpeg.args(["-f", "flv"]).arg(path).status().expect("ffmpeg");
        assert!(status.success(), "ffmpeg: {status}");
    })
}

/// Asserts that pictures were shown in order, each at its time.
#[track_caller]
fn assert_in_order(report: &Report) {
    // When Shaka is released from a rendition it loads the segment that is being played again;
    // Chromium then may show pictures before the current one for a moment.
    let back = report.list("/numbers/back");
    let few = back.iter().all(|step| {
        let (from, to) = (step["from"].as_u64(), step["to"].as_u64());
        from.zip(to).is_some_and(|(from, to)| from <= to + 3)
    });
    assert!(back.len() <= 1 && few, "{:#}", report.0);
    let (read, unreadable) = (report.number("/numbers/read"), report.number("/numbers/unreadable"));
    assert!(
        read > 100.0 && unreadable <= read / 50.0,
        "{unreadable} of {read} pictures say no number"
    );
    // A picture may be replaced between its announcement and its inspection: one in a hundred does
    // not count.
    let astray =
        report.number("/numbers/astray_ms/p99").max(-report.number("/numbers/astray_ms/p1"));
    assert!(astray < 85.0, "a picture {astray} ms from where it belongs: {:#}", report.0);
}

/// Plays through a network that narrows below the source's rate and widens again.
#[track_caller]
fn goes_down_and_up(player: &str, path: &str, seconds: u32) {
    let show = Show::start();
    let throttle = format!("0:{WIDE_KBPS},{NARROWED}:{NARROW_KBPS},{WIDENED}:{WIDE_KBPS}");
    // On a busy machine a player measures less than the network carries, and goes up later.
    let source = SOURCE.to_string();
    let options = ["--throttle", &throttle, "--reach", &source, "--rise", "0"];
    let report = show.play(player, path, seconds, &options, |_| ());
    let heights: Vec<u64> = report.shown().iter().map(|(_, height)| *height).collect();
    let reached = heights.iter().position(|height| *height == SOURCE);
    let reached = reached.unwrap_or_else(|| {
        panic!("it does not show what the wide network carries: {:#}", report.0)
    });
    let later = &heights[reached..];
    let lowest = later.iter().min().copied().unwrap_or(SOURCE);
    assert!(lowest < SOURCE, "it never goes down: {:#}", report.0);
    let first = later.iter().position(|height| *height == lowest).unwrap_or(0);
    let highest = later[first..].iter().max().copied().unwrap_or(lowest);
    assert!(highest > lowest, "it never goes up again: {:#}", report.0);
    assert_patient(&report, SUDDEN);
    show.assert_well(&report, &[]);
}

/// Plays one rendition after the other with the player's own interface, then the player's own
/// choice in a network that narrows.
///
/// For Shaka, which never switches up by itself with low latency: in DASH it measures open segments
/// while they grow, so that it takes the rate of the media for the network's; in HLS it ignores
/// anything below 16 000 bytes, the size of a rung's part here.
#[track_caller]
fn follows_selected_levels_up_and_adapts_down(player: &str, path: &str) {
    const SECONDS: u32 = 18;
    let show = Show::start();
    let throttle = format!("0:{WIDE_KBPS},1:{NARROW_KBPS}");
    let options = ["--tour", "144,240,360", "--throttle", &throttle];
    let report = show.play(player, path, SECONDS, &options, |_| ());
    let heights: Vec<u64> = report.shown().iter().map(|(_, height)| *height).collect();
    let told = [LOWEST, MIDDLE, SOURCE];
    let at = heights.windows(told.len()).position(|window| window == told);
    let at = at.unwrap_or_else(|| panic!("it does as it is told: {:#}", report.0));
    let after = &heights[at + told.len()..];
    assert!(!after.is_empty(), "it never goes down: {:#}", report.0);
    assert_patient(&report, SUDDEN);
    show.assert_well(&report, &[]);
}

/// Asserts that the viewer waited no longer than `stalls` in total, after start-up.
#[track_caller]
fn assert_patient(report: &Report, stalls: Duration) {
    let stalled = report.number("/stalls/total_ms");
    assert!(stalled <= stalls.as_secs_f64() * 1000.0, "{stalled} ms of waiting: {:#}", report.0);
}

/// Plays the middle rung, kills the worker when that is shown, and continues.
#[track_caller]
fn survives(player: &str, path: &str) {
    const SECONDS: u32 = 24;
    let show = Show::start();
    let mut killed = false;
    let report = show.play(player, path, SECONDS, &["--level", "3:240"], |event| {
        if event == Event::Shown(MIDDLE) && !killed {
            // Until then the buffer may be playing.
            std::thread::sleep(Duration::from_secs(3));
            let daemon = show.daemon.process.id();
            let is_worker =
                |pid: &u32| proc::command_line(*pid).iter().any(|word| word == "transcode-worker");
            let workers: Vec<u32> = proc::children(daemon).into_iter().filter(is_worker).collect();
            assert!(!workers.is_empty(), "a worker runs");
            for worker in workers {
                proc::signal(worker, "KILL");
            }
            killed = true;
        }
    });
    assert!(killed, "the middle rung was never shown: {:#}", report.0);
    // All have at least a second of the source to play when they find the gap; a busy machine may
    // be late.
    assert_patient(&report, Duration::from_secs(3));
    show.assert_well(&report, &[OF_A_GAP]);
}

#[test]
fn hls_js_switches_down_and_up() {
    goes_down_and_up("hls", "/live/show/master.m3u8", 36);
}

#[test]
fn dash_js_switches_down_and_up() {
    goes_down_and_up("dash", "/live/show/manifest.mpd", 36);
}

/// It measures the network well with whole segments, but reacts slowly: its mean is slow, and it
/// waits 8 s after a switch.
#[test]
fn shaka_switches_down_and_up_with_whole_segments() {
    goes_down_and_up("shaka", "/live/show/plain.mpd", 60);
}

#[test]
fn shaka_follows_selected_levels_up_and_adapts_down_in_dash() {
    follows_selected_levels_up_and_adapts_down("shaka", "/live/show/manifest.mpd");
}

#[test]
fn shaka_follows_selected_levels_up_and_adapts_down_in_hls() {
    follows_selected_levels_up_and_adapts_down("shaka", "/live/show/master.m3u8");
}

#[test]
fn hls_js_keeps_playing_when_the_worker_is_killed() {
    survives("hls", "/live/show/master.m3u8");
}

#[test]
fn dash_js_keeps_playing_when_the_worker_is_killed() {
    survives("dash", "/live/show/manifest.mpd");
}

#[test]
fn shaka_keeps_playing_dash_when_the_worker_is_killed() {
    survives("shaka", "/live/show/manifest.mpd");
}

#[test]
fn shaka_keeps_playing_hls_when_the_worker_is_killed() {
    survives("shaka", "/live/show/master.m3u8");
}

#[test]
fn the_watch_page_plays_the_rendition_that_a_viewer_selects() {
    let show = Show::start();
    let source = SOURCE.to_string();
    let options = ["--level", "3:144,9:auto", "--reach", &source, "--rise", &source];
    let report = show.play("page", "/watch/show", 18, &options, |_| ());
    let heights: Vec<u64> = report.shown().iter().map(|(_, height)| *height).collect();
    let chosen = heights.iter().position(|height| *height == LOWEST);
    let chosen = chosen.unwrap_or_else(|| panic!("the lowest was chosen: {:#}", report.0));
    assert!(heights[chosen + 1..].contains(&SOURCE), "and left: {:#}", report.0);
    assert_eq!(report.faults(), Vec::<String>::new(), "{:#}", report.0);
    show.assert_well(&report, &[]);
}
