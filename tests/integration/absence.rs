//! The publisher leaves: numbers continue, the gap is declared, and players continue. After
//! `reconnect_s` the broadcast ends; after the length of the window its address is not found.

use crate::support::{
    daemon::{Daemon, Settings},
    follow::{self, Followed},
    http,
    media::PLAIN,
    players::{Browser, Event, Report},
    playlist::Media,
    process::Process,
    publisher, rtmp, wait_for,
};
use std::{
    collections::BTreeSet,
    net::Shutdown,
    thread,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(60);
const VIDEO: &str = "/live/away/v0.m3u8";
const AUDIO: &str = "/live/away/a0.m3u8";

/// The broadcasts whose media a playlist lists: the directory above the track's.
fn broadcasts(media: &Media) -> BTreeSet<String> {
    let broadcast = |uri: &str| {
        let steps: Vec<&str> = uri.split('/').collect();
        let media = steps.iter().position(|step| *step == "media").expect("media/{broadcast}/...");
        steps[media + 1].to_owned()
    };
    media
        .segments
        .iter()
        .filter(|segment| !segment.gap)
        .map(|segment| broadcast(&segment.uri))
        .collect()
}

/// Seconds of segments that are declared missing.
fn missing(seen: &Followed) -> f64 {
    seen.segments
        .iter()
        .filter(|(segment, _)| segment.gap)
        .map(|(segment, _)| segment.duration)
        .sum()
}

/// The broadcast waits for its publisher much longer than the tests leave it away: on a busy
/// machine an encoder needs many seconds to start.
fn patient() -> Settings {
    Settings { reconnect_s: 60, ..Settings::default() }
}

/// The publisher continues for 8 s, is killed with SIGKILL, and returns after 5 s as another
/// process.
fn kill_and_bring_back(publisher: &mut Process, daemon: &Daemon) {
    thread::sleep(Duration::from_secs(8));
    publisher.kill();
    thread::sleep(Duration::from_secs(5));
    *publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("away"));
}

#[track_caller]
fn assert_publishes(publisher: &mut Process) {
    assert!(publisher.is_running(), "the publisher ended:\n{}", publisher.stderr());
}

/// Follows both tracks until each lists three complete segments after a gap.
fn follow_past_a_hole(daemon: &Daemon) -> [Followed; 2] {
    let past = |media: &Media| {
        let hole = media.segments.iter().rposition(|segment| segment.gap);
        hole.is_some_and(|hole| media.segments.len() > hole + 3)
    };
    thread::scope(|scope| {
        [VIDEO, AUDIO]
            .map(|path| scope.spawn(move || follow::follow(daemon.http, path, LIMIT, past)))
            .map(|follower| follower.join().expect("the playlist can be followed across the hole"))
    })
}

#[test]
fn a_publisher_killed_and_back_after_5_s_continues_the_broadcast_with_gaps() {
    let daemon = Daemon::start(&patient());
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("away"));
    daemon.wait_until_live("away");
    let begun = Instant::now();
    let seen = thread::scope(|scope| {
        let follower = scope.spawn(|| follow_past_a_hole(&daemon));
        kill_and_bring_back(&mut publisher, &daemon);
        follower.join().expect("both tracks can be followed across the hole")
    });
    assert_publishes(&mut publisher);
    for track in &seen {
        assert_eq!(broadcasts(&track.last).len(), 1, "one broadcast before and after");
        let numbers: Vec<u64> = track.segments.iter().map(|(segment, _)| segment.msn).collect();
        assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "numbers go on: {numbers:?}");
        let missing = missing(track);
        let all = begun.elapsed().as_secs_f64();
        assert!((1.0..all).contains(&missing), "{missing} s declared missing of 5 or more");
    }
    let gaps = |track: &Followed| -> BTreeSet<u64> {
        track
            .segments
            .iter()
            .filter(|(segment, _)| segment.gap)
            .map(|(segment, _)| segment.msn)
            .collect()
    };
    assert_eq!(gaps(&seen[0]), gaps(&seen[1]), "every rendition misses the same segments");
}

/// Waits until a player finds the segments that it needs. Shaka looks for captions in a broadcast's
/// first segments; see `playback`.
#[track_caller]
fn wait_until_it_can_play(daemon: &Daemon, player: &str) {
    daemon.wait_until_live("away");
    if player == "shaka" {
        follow::follow(daemon.http, VIDEO, LIMIT, |media| media.segments.len() >= 3);
    }
}

/// Plays for 8 s, across a gap of 5 s, and on. A player may wait in the gap, but must continue.
#[track_caller]
fn plays_across_a_hole(player: &str, name: &str) -> Report {
    let browser = Browser::take();
    let daemon = Daemon::start(&patient());
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("away"));
    wait_until_it_can_play(&daemon, player);
    let url = daemon.url(&format!("/live/away/{name}"));
    let report = browser.play_with(player, &url, 25, &[], |event| {
        if event == Event::Started {
            kill_and_bring_back(&mut publisher, &daemon);
        }
    });
    assert_publishes(&mut publisher);
    assert!(report.number("/startup_ms") > 0.0, "{:#}", report.0);
    assert_eq!(report.fatal(), Vec::<String>::new());
    assert!(report.number("/still_for_ms") < 2000.0, "it plays at the end: {:#}", report.0);
    assert!(report.number("/played_s") > 10.0, "before the hole and after it: {:#}", report.0);
    report
}

#[test]
fn hls_js_resumes_when_the_publisher_is_back_after_5_s() {
    plays_across_a_hole("hls", "master.m3u8");
}

#[test]
fn dash_js_resumes_when_the_publisher_is_back_after_5_s() {
    plays_across_a_hole("dash", "manifest.mpd");
}

#[test]
fn shaka_resumes_hls_when_the_publisher_is_back_after_5_s() {
    plays_across_a_hole("shaka", "master.m3u8");
}

/// Opens a player 3 s into a gap of 6 s or more. It may show media from before the gap, and must
/// show media after it.
#[track_caller]
fn starts_in_a_hole(player: &str, name: &str) {
    let browser = Browser::take();
    let daemon = Daemon::start(&patient());
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("away"));
    daemon.wait_until_live("away");
    follow::follow(daemon.http, VIDEO, LIMIT, |media| media.segments.len() >= 3);
    let url = daemon.url(&format!("/live/away/{name}"));
    let report = browser.play_with(player, &url, 25, &["--wait", "3"], |event| {
        if event == Event::Ready {
            publisher.kill();
            thread::sleep(Duration::from_secs(6));
            publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("away"));
        }
    });
    assert_publishes(&mut publisher);
    assert!(report.number("/startup_ms") > 0.0, "{:#}", report.0);
    assert_eq!(report.fatal(), Vec::<String>::new());
    assert!(report.number("/still_for_ms") < 2000.0, "it plays at the end: {:#}", report.0);
}

#[test]
fn hls_js_opened_while_the_publisher_is_away_plays_when_it_is_back() {
    starts_in_a_hole("hls", "master.m3u8");
}

#[test]
fn dash_js_opened_while_the_publisher_is_away_plays_when_it_is_back() {
    starts_in_a_hole("dash", "manifest.mpd");
}

#[test]
fn shaka_opened_while_the_publisher_is_away_plays_dash_when_it_is_back() {
    starts_in_a_hole("shaka", "manifest.mpd");
}

#[test]
fn a_publisher_back_after_15_s_starts_a_new_broadcast() {
    let daemon = Daemon::start(&Settings::default());
    let mut first = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("away"));
    daemon.wait_until_live("away");
    let before = follow::follow(daemon.http, VIDEO, LIMIT, |media| media.segments.len() >= 3).last;
    first.kill();
    thread::sleep(Duration::from_secs(15));

    let ended = follow::read(daemon.http, VIDEO);
    assert!(ended.ended, "EXT-X-ENDLIST after reconnect_s (10)");
    assert_eq!(broadcasts(&ended), broadcasts(&before));
    // The media that a player of the ended broadcast still fetches remain.
    let ended = follow::follow(daemon.http, VIDEO, LIMIT, |_| true);
    assert!(ended.segments.len() >= 3);

    let _second = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("away"));
    let after = wait_for("another broadcast", LIMIT, || {
        let response = daemon.get(VIDEO);
        let media = (response.status == 200).then(|| Media::parse(&response.text()))?;
        (!media.ended && media.segments.len() >= 2).then_some(media)
    });
    assert!(broadcasts(&after).is_disjoint(&broadcasts(&before)), "a broadcast of its own");
    assert!(
        after.media_sequence > ended.last.media_sequence,
        "numbers only grow at a live address"
    );
    assert!(after.discontinuity_sequence >= ended.last.discontinuity_sequence);
}

/// How a broadcast ends while it is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The publisher leaves and does not return.
    Left,
    /// An administrator deletes it.
    Deleted,
    /// The daemon is stopped.
    Stopped,
}

const TOKEN: &str = "a-token-0123456789";

/// Plays until the broadcast has ended: the player reports the end, and none of its requests was
/// refused.
#[track_caller]
fn plays_to_the_end(player: &str, name: &str, end: End) {
    let browser = Browser::take();
    // The window holds all media that can be published: positions count from the first segment,
    // whenever the player starts.
    let daemon = Daemon::start(&Settings {
        window_s: 120,
        reconnect_s: 3,
        extra: format!("[api]\nadmin_token = {TOKEN:?}\n"),
        ..Settings::default()
    });
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("away"));
    wait_until_it_can_play(&daemon, player);
    let url = daemon.url(&format!("/live/away/{name}"));
    let report = browser.play_with(player, &url, 20, &[], |event| {
        if event == Event::Started {
            thread::sleep(Duration::from_secs(6));
            assert_publishes(&mut publisher);
            match end {
                End::Left => publisher.terminate(),
                End::Deleted => delete(&daemon),
                End::Stopped => daemon.process.terminate(),
            }
        }
    });
    publisher.wait(LIMIT);
    if end != End::Stopped {
        let list = follow::read(daemon.http, VIDEO);
        assert!(list.ended);
        assert!(list.segments.iter().all(|segment| !segment.gap), "nothing after the last media");
    }
    assert_eq!(report.0["ended"], true, "{:#}", report.0);
    assert_eq!(report.fatal(), Vec::<String>::new());
    // MEDIA_ERR: dash.js reports a missing segment.
    let errors = report.errors();
    assert!(errors.iter().all(|error| !error.starts_with("27:")), "{errors:?}");
    for requests in ["/requests/refused", "/requests/failed"] {
        let requests = report.list(requests);
        assert!(requests.is_empty(), "{requests:?}");
    }
}

fn delete(daemon: &Daemon) {
    let bearer = format!("Bearer {TOKEN}");
    let path = "/api/v1/streams/away";
    let response = http::request(daemon.http, "DELETE", path, &[("Authorization", &bearer)]);
    assert_eq!(response.status / 100, 2, "{}", response.text());
}

#[test]
fn hls_js_plays_to_the_end_of_a_broadcast() {
    plays_to_the_end("hls", "master.m3u8", End::Left);
}

#[test]
fn dash_js_plays_to_the_end_of_a_broadcast() {
    plays_to_the_end("dash", "manifest.mpd", End::Left);
}

#[test]
fn shaka_plays_dash_to_the_end_of_a_broadcast() {
    plays_to_the_end("shaka", "manifest.mpd", End::Left);
}

#[test]
fn shaka_plays_hls_to_the_end_of_a_broadcast() {
    plays_to_the_end("shaka", "master.m3u8", End::Left);
}

#[test]
fn hls_js_plays_to_the_end_of_a_broadcast_that_an_administrator_ends() {
    plays_to_the_end("hls", "master.m3u8", End::Deleted);
}

#[test]
fn dash_js_plays_to_the_end_of_a_broadcast_that_an_administrator_ends() {
    plays_to_the_end("dash", "manifest.mpd", End::Deleted);
}

#[test]
fn shaka_plays_hls_to_the_end_of_a_broadcast_that_an_administrator_ends() {
    plays_to_the_end("shaka", "master.m3u8", End::Deleted);
}

#[test]
fn shaka_plays_dash_to_the_end_of_a_broadcast_that_an_administrator_ends() {
    plays_to_the_end("shaka", "manifest.mpd", End::Deleted);
}

#[test]
fn hls_js_plays_to_the_end_when_the_daemon_stops() {
    plays_to_the_end("hls", "master.m3u8", End::Stopped);
}

#[test]
fn dash_js_plays_to_the_end_when_the_daemon_stops() {
    plays_to_the_end("dash", "manifest.mpd", End::Stopped);
}

#[test]
fn shaka_plays_hls_to_the_end_when_the_daemon_stops() {
    plays_to_the_end("shaka", "master.m3u8", End::Stopped);
}

#[test]
fn shaka_plays_dash_to_the_end_when_the_daemon_stops() {
    plays_to_the_end("shaka", "manifest.mpd", End::Stopped);
}

#[test]
fn an_ended_broadcast_is_served_for_the_window_and_then_not_found() {
    let daemon = Daemon::start(&Settings { window_s: 12, reconnect_s: 2, ..Settings::default() });
    let mut publisher = publisher::ffmpeg_for(&PLAIN, 8, &daemon.rtmp_url("away"));
    daemon.wait_until_live("away");
    assert!(publisher.wait(LIMIT).success());
    wait_for("end of the playlist", LIMIT, || follow::read(daemon.http, VIDEO).ended.then_some(()));
    // It is kept, because players that are behind still read it.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(daemon.get("/live/away/master.m3u8").status, 200);
    wait_for("404", LIMIT, || (daemon.get(VIDEO).status == 404).then_some(()));
    for name in ["master.m3u8", "manifest.mpd", "plain.mpd", "a0.m3u8"] {
        assert_eq!(daemon.get(&format!("/live/away/{name}")).status, 404, "{name}");
    }
}

#[test]
fn a_return_within_a_second_of_a_connection_reset_continues_the_broadcast() {
    let daemon = Daemon::start(&Settings::default());
    let tags = rtmp::tags(&PLAIN.flv());
    let push = |seconds: u32| {
        let mut client =
            rtmp::Client::publish(daemon.rtmp, "live", "away").expect("the name is free");
        let start = std::time::Instant::now();
        for tag in tags.iter().take_while(|tag| tag.timestamp < seconds * 1000) {
            let due = Duration::from_millis(u64::from(tag.timestamp));
            thread::sleep(due.saturating_sub(start.elapsed()));
            client.tag(tag, tag.timestamp).expect("the server reads");
        }
        client
    };
    let seen = thread::scope(|scope| {
        let follower = scope.spawn(|| {
            daemon.wait_until_live("away");
            follow::follow(daemon.http, VIDEO, LIMIT, |media| {
                media.ended || media.segments.len() >= 7
            })
        });
        // Unread responses in its buffer make the kernel end the first connection with a reset.
        push(7).shutdown(Shutdown::Both);
        thread::sleep(Duration::from_millis(500));
        let _second = push(12);
        follower.join().expect("the playlist can be followed")
    });
    assert_eq!(broadcasts(&seen.last).len(), 1, "one broadcast before and after");
    assert!(!seen.last.ended);
    let numbers: Vec<u64> = seen.segments.iter().map(|(segment, _)| segment.msn).collect();
    assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "numbers go on: {numbers:?}");
}
