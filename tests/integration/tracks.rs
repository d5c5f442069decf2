//! Changes of a publisher's tracks while viewers watch: their description changes, they are added
//! late, or they stop. The same broadcast continues, and players continue.

use crate::support::{
    daemon::{Daemon, Settings},
    follow,
    media::{PLAIN, Recipe},
    players::{Browser, Event, Report},
    rtmp::{AUDIO, Client, Tag, VIDEO, tags},
    wait_for,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(60);
const GROUP_MS: u32 = 2_000;

/// Publishes one list of tags after the other on one clock: on request it switches to the next one
/// at the next group.
struct Stages {
    wanted: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    publisher: Option<JoinHandle<()>>,
}

impl Stages {
    fn publish(daemon: &Daemon, stages: Vec<Vec<Tag>>) -> Self {
        let mut client = Client::publish(daemon.rtmp, "live", "tracks").expect("the name is free");
        let (wanted, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (asked, stopped) = (Arc::clone(&wanted), Arc::clone(&stop));
        let publisher = thread::spawn(move || {
            let start = Instant::now();
            let mut from = 0;
            for (index, stage) in stages.iter().enumerate() {
                for tag in stage.iter().filter(|tag| tag.is_header()) {
                    client.tag(tag, from).expect("the server reads");
                }
                let media = stage
                    .iter()
                    .filter(|tag| !tag.is_header() && matches!(tag.kind, AUDIO | VIDEO));
                let begun = from;
                for tag in media.skip_while(|tag| tag.timestamp < begun) {
                    let due = Duration::from_millis(u64::from(tag.timestamp));
                    thread::sleep(due.saturating_sub(start.elapsed()));
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    from = tag.timestamp.next_multiple_of(GROUP_MS);
                    if asked.load(Ordering::Relaxed) > index && from - tag.timestamp < 25 {
                        break;
                    }
                    client.tag(tag, tag.timestamp).expect("the server reads");
                }
            }
        });
        Self { wanted, stop, publisher: Some(publisher) }
    }

    fn next(&self) {
        self.wanted.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Stages {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(publisher) = self.publisher.take() {
            let _ = publisher.join();
        }
    }
}

fn both() -> Vec<Tag> {
    tags(&PLAIN.flv())
}

fn without(kind: u8) -> Vec<Tag> {
    both().into_iter().filter(|tag| tag.kind != kind).collect()
}

/// Larger, of another profile level.
fn larger() -> Vec<Tag> {
    let recipe = Recipe { size: (1280, 720), ..PLAIN };
    tags(&recipe.flv_of_level("3.1"))
}

fn at_44_100() -> Vec<Tag> {
    let recipe = Recipe { audio_hz: Some(44_100), ..PLAIN };
    tags(&recipe.flv())
}

/// Plays for `seconds`; 4 s after the start, and every 8 s after that, the publisher switches to
/// the next stage.
#[track_caller]
fn plays(player: &str, name: &str, stages: Vec<Vec<Tag>>, seconds: u32) -> (Daemon, Report) {
    let browser = Browser::take();
    let daemon = Daemon::start(&Settings::default());
    let changes = stages.len() - 1;
    let publisher = Stages::publish(&daemon, stages);
    daemon.wait_until_live("tracks");
    // Shaka looks for captions in a broadcast's first segments; see `playback`.
    let first = daemon.get("/live/tracks/master.m3u8").text();
    let track = if first.contains("v0.m3u8") { "v0" } else { "a0" };
    let path = format!("/live/tracks/{track}.m3u8");
    follow::follow(daemon.http, &path, LIMIT, |media| media.segments.len() >= 3);
    let url = daemon.url(&format!("/live/tracks/{name}"));
    let report = browser.play_with(player, &url, seconds, &[], |event| {
        if event == Event::Started {
            for change in 0..changes {
                thread::sleep(Duration::from_secs(if change == 0 { 4 } else { 8 }));
                publisher.next();
            }
        }
    });
    (daemon, report)
}

/// Asserts that it never gave up, stalled for at most `stalled_ms` in total, and plays at the end.
#[track_caller]
fn assert_played(report: &Report, seconds: f64, stalled_ms: f64) {
    assert_eq!(report.fatal(), Vec::<String>::new(), "{:#}", report.0);
    assert!(report.number("/stalls/total_ms") <= stalled_ms, "{:#}", report.0);
    assert!(report.number("/still_for_ms") < 1_000.0, "it plays at the end: {:#}", report.0);
    let least = (seconds - stalled_ms / 1_000.0) * 0.9 - 0.5;
    assert!(report.number("/played_s") > least, "{:#}", report.0);
}

#[track_caller]
fn keeps_playing_with_another_level(player: &str, name: &str, stalled_ms: f64) {
    let (daemon, report) = plays(player, name, vec![both(), larger()], 16);
    assert_played(&report, 16.0, stalled_ms);
    let heights: Vec<u64> = report.shown().iter().map(|(_, height)| *height).collect();
    assert_eq!(heights.last(), Some(&720), "{:#}", report.0);
    let master = daemon.get("/live/tracks/master.m3u8").text();
    assert!(master.contains("avc1.64001f,mp4a.40.2"), "{master}");
    assert!(master.contains("RESOLUTION=1280x720"), "{master}");
    let media = follow::read(daemon.http, "/live/tracks/v0.m3u8");
    assert!(!media.ended);
}

#[test]
fn hls_js_keeps_playing_when_the_picture_size_grows() {
    keeps_playing_with_another_level("hls", "master.m3u8", 1_000.0);
}

#[test]
fn dash_js_keeps_playing_when_the_picture_size_grows() {
    keeps_playing_with_another_level("dash", "manifest.mpd", 1_000.0);
}

/// It waits for about a second for the first segment after the discontinuity.
#[test]
fn shaka_keeps_playing_hls_when_the_picture_size_grows() {
    keeps_playing_with_another_level("shaka", "master.m3u8", 3_000.0);
}

/// It requests the first segment of the new Period while its manifest lacks that Period.
#[test]
fn shaka_keeps_playing_dash_when_the_picture_size_grows() {
    keeps_playing_with_another_level("shaka", "manifest.mpd", 3_000.0);
}

#[test]
fn hls_js_keeps_playing_when_the_sampling_rate_changes() {
    let (_, report) = plays("hls", "master.m3u8", vec![both(), at_44_100()], 14);
    assert_played(&report, 14.0, 1_000.0);
}

#[test]
fn dash_js_keeps_playing_when_the_sampling_rate_changes() {
    let (_, report) = plays("dash", "manifest.mpd", vec![both(), at_44_100()], 14);
    assert_played(&report, 14.0, 1_000.0);
}

/// Video is away for some 8 s. A player stalls until that is detected, a segment's duration; then
/// audio continues.
#[track_caller]
fn keeps_playing_without_video(player: &str, name: &str) {
    let (daemon, report) = plays(player, name, vec![both(), without(VIDEO), both()], 20);
    assert_played(&report, 20.0, 5_000.0);
    let media = follow::read(daemon.http, "/live/tracks/v0.m3u8");
    assert!(media.segments.iter().all(|segment| !segment.gap));
}

#[test]
fn hls_js_plays_audio_and_a_still_picture_while_video_is_absent() {
    keeps_playing_without_video("hls", "master.m3u8");
}

#[test]
fn dash_js_plays_audio_and_a_still_picture_while_video_is_absent() {
    keeps_playing_without_video("dash", "manifest.mpd");
}

#[test]
fn shaka_plays_audio_and_a_still_picture_while_video_is_absent() {
    keeps_playing_without_video("shaka", "master.m3u8");
}

#[test]
fn dash_js_keeps_playing_when_audio_stops() {
    let (_, report) = plays("dash", "manifest.mpd", vec![both(), without(AUDIO)], 16);
    assert_played(&report, 16.0, 1_000.0);
}

#[test]
fn dash_js_keeps_playing_when_audio_is_added() {
    let (daemon, report) = plays("dash", "manifest.mpd", vec![without(AUDIO), both()], 14);
    // dash.js starts another MediaSource for the Period that has audio, and fills it anew: up to a
    // segment and its requests.
    assert_played(&report, 14.0, 3_500.0);
    assert!(daemon.get("/live/tracks/manifest.mpd").text().contains("contentType=\"audio\""));
}

#[test]
fn hls_js_keeps_playing_when_audio_is_added_and_the_playlist_lists_it() {
    let (daemon, report) = plays("hls", "master.m3u8", vec![without(AUDIO), both()], 14);
    assert_played(&report, 14.0, 1_000.0);
    let master = daemon.get("/live/tracks/master.m3u8").text();
    assert!(master.contains("TYPE=AUDIO"), "{master}");
}

#[test]
fn late_video_is_shown_to_new_viewers() {
    let browser = Browser::take();
    let daemon = Daemon::start(&Settings::default());
    let publisher = Stages::publish(&daemon, vec![without(VIDEO), both()]);
    daemon.wait_until_live("tracks");
    follow::follow(daemon.http, "/live/tracks/a0.m3u8", LIMIT, |media| media.segments.len() >= 2);
    publisher.next();
    wait_for("video in the multivariant playlist", LIMIT, || {
        daemon.get("/live/tracks/master.m3u8").text().contains("v0.m3u8").then_some(())
    });
    let report = browser.play("hls", &daemon.url("/live/tracks/master.m3u8"), 8);
    assert_played(&report, 8.0, 500.0);
    assert_eq!(report.shown().last().map(|(_, height)| *height), Some(360));
}
