//! The watch page through the life of a channel, on an origin and on an edge: it follows the state
//! of the channel, not one event.

use crate::support::{
    daemon::{Daemon, Settings},
    media::PLAIN,
    players::{Browser, Event, Report},
    playlist::Media,
    push::Push,
    rtmp::{self, Tag},
};
use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The longest time for which a page is watched, in seconds.
const SECONDS: u32 = 60;

/// Media for longer than a browser takes to start on a busy machine, plus the time of watching.
fn media() -> Vec<Tag> {
    let tags = rtmp::tags(&PLAIN.flv());
    let again = tags
        .clone()
        .into_iter()
        .map(|tag| Tag { timestamp: tag.timestamp + PLAIN.seconds * 1_000, ..tag });
    tags.iter().cloned().chain(again).collect()
}

fn publish(daemon: &Daemon) -> Push {
    Push::start(daemon.rtmp, "show", media())
}

/// Opens the page at `daemon`, ends when it has shown `states`, and asserts that it plays then.
#[track_caller]
fn watch(browser: &Browser, daemon: &Daemon, states: &str, meanwhile: impl FnMut(Event)) -> Report {
    let url = daemon.url("/watch/show");
    let report = browser.play_with("page", &url, SECONDS, &["--until", states], meanwhile);
    let mut said = report.page_states().into_iter();
    for state in states.split(',') {
        assert!(
            said.any(|said| said == state),
            "{states}, but it said {:?}: {:#}",
            report.page_states(),
            report.0
        );
    }
    assert_eq!(report.page_states().last(), Some(&"playing"), "{:#}", report.0);
    assert!(report.number("/still_for_ms") < 2_000.0, "it plays: {:#}", report.0);
    report
}

/// A daemon whose broadcasts end a second after their publisher has left.
fn origin() -> Daemon {
    Daemon::start(&Settings { segment_ms: 1_000, reconnect_s: 1, ..Settings::default() })
}

/// Publishes at `origin`, stops when the page at `viewed` plays, and publishes again when it shows
/// that the broadcast has ended.
#[track_caller]
fn ends_and_begins_again(browser: &Browser, origin: &Daemon, viewed: &Daemon) {
    let mut publishing = Some(publish(origin));
    viewed.wait_until_live("show");
    watch(browser, viewed, "playing,ended,playing", |event| match event {
        Event::Started => publishing = None,
        Event::Page("ended") => publishing = Some(publish(origin)),
        _ => {}
    });
}

/// Publishes a source whose audio begins when `now` is set.
fn publish_with_late_sound(daemon: &Daemon, now: &Arc<AtomicBool>) -> Push {
    let (now, mut header) = (Arc::clone(now), None);
    Push::edited(daemon.rtmp, "show", media(), move |tag| {
        match tag.kind {
            rtmp::AUDIO if tag.is_header() => header = Some(tag),
            rtmp::AUDIO if !now.load(Ordering::Relaxed) => {}
            rtmp::AUDIO => {
                let header = header.take().map(|header| Tag { timestamp: tag.timestamp, ..header });
                return header.into_iter().chain([tag]).collect();
            }
            _ => return vec![tag],
        }
        Vec::new()
    })
}

/// Publishes a source that changes its level at the first key frame after `now` is set.
fn publish_with_another_level(daemon: &Daemon, now: &Arc<AtomicBool>) -> Push {
    // FLV: five bytes, then the configuration record (ISO/IEC 14496-15 5.3.3.1): version, profile,
    // compatibility, level, two bytes and a length of two; then the parameter set, whose fourth
    // byte is the level (H.264 7.3.2.1.1).
    const RECORD: usize = 5 + 3;
    const SPS: usize = 5 + 8 + 3;
    let (now, mut header) = (Arc::clone(now), None);
    Push::edited(daemon.rtmp, "show", media(), move |tag| {
        if tag.kind == rtmp::VIDEO && tag.is_header() {
            if header.is_some() {
                return Vec::new(); // The media again: it stays as it is.
            }
            assert_eq!(tag.payload[RECORD], tag.payload[SPS], "the level, twice");
            let mut other = tag.clone();
            (other.payload[RECORD], other.payload[SPS]) = (40, 40);
            header = Some(other);
        } else if tag.is_key() && now.swap(false, Ordering::Relaxed) {
            let header = header.clone().map(|header| Tag { timestamp: tag.timestamp, ..header });
            return header.into_iter().chain([tag]).collect();
        }
        vec![tag]
    })
}

#[test]
fn the_page_shows_the_end_of_a_broadcast_and_plays_the_next() {
    let browser = Browser::take();
    let origin = origin();
    ends_and_begins_again(&browser, &origin, &origin);
}

#[test]
fn the_page_of_an_edge_shows_the_end_of_a_broadcast_and_plays_the_next() {
    let browser = Browser::take();
    let origin = origin();
    let edge = Daemon::start(&Settings {
        extra: format!("[edge]\norigin = \"http://{}\"\n", origin.http),
        ..Settings::default()
    });
    ends_and_begins_again(&browser, &origin, &edge);
}

#[test]
fn the_page_waits_for_an_absent_publisher_and_resumes_on_its_return() {
    let browser = Browser::take();
    let daemon =
        Daemon::start(&Settings { segment_ms: 1_000, reconnect_s: 30, ..Settings::default() });
    let mut publishing = Some(publish(&daemon));
    daemon.wait_until_live("show");
    watch(&browser, &daemon, "playing,away,playing", |event| match event {
        Event::Started => publishing = None,
        Event::Page("away") => publishing = Some(publish(&daemon)),
        _ => {}
    });
}

#[test]
fn a_page_opened_before_a_broadcast_plays_it_from_its_start() {
    let browser = Browser::take();
    let daemon = origin();
    // Encoded before the page is open, because the page waits for media from then on.
    PLAIN.flv();
    let mut publishing = None;
    watch(&browser, &daemon, "offline,playing", |event| {
        if event == Event::Page("offline") && publishing.is_none() {
            publishing = Some(publish(&daemon));
        }
    });
}

#[test]
fn the_page_plays_late_audio() {
    let browser = Browser::take();
    let daemon = origin();
    let sound = Arc::new(AtomicBool::new(false));
    let _publishing = publish_with_late_sound(&daemon, &sound);
    daemon.wait_until_live("show");
    // It plays without audio, and loads the source again when audio is added.
    let report = watch(&browser, &daemon, "playing,starting,playing", |event| {
        if event == Event::Started {
            sound.store(true, Ordering::Relaxed);
        }
    });
    assert!(report.number("/audio_bytes") > 0.0, "{:#}", report.0);
}

#[test]
fn the_page_keeps_playing_when_the_level_changes() {
    let browser = Browser::take();
    let daemon = origin();
    let change = Arc::new(AtomicBool::new(false));
    let _publishing = publish_with_another_level(&daemon, &change);
    daemon.wait_until_live("show");
    let report = browser.play_with("page", &daemon.url("/watch/show"), 12, &[], |event| {
        if event == Event::Started {
            change.store(true, Ordering::Relaxed);
        }
    });
    let list = Media::parse(&daemon.get("/live/show/v0.m3u8").text());
    assert!(!list.ended, "it goes on");
    assert!(list.segments.iter().any(|segment| segment.discontinuity), "the level has changed");
    assert_eq!(report.errors(), Vec::<String>::new(), "{:#}", report.0);
    let states = report.page_states();
    assert!(["ended", "failed", "offline"].iter().all(|bad| !states.contains(bad)), "{states:?}");
    assert_eq!(states.last(), Some(&"playing"), "{states:?}");
    assert!(report.number("/played_s") > 9.0, "{:#}", report.0);
}

/// Runs a file of tests/players by `node --test`.
#[track_caller]
fn node_test(file: &str) {
    let output = Command::new("node")
        .args(["--test", &format!("tests/players/{file}")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("node; `make test` installs what is needed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_channel_module_of_the_page_passes_its_tests() {
    node_test("channel.test.mjs");
}

#[test]
fn the_watch_module_of_the_page_passes_its_tests() {
    node_test("watch.test.mjs");
}
