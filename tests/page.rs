//! The watch page through the life of a channel, on an origin and on an edge: it follows the state of the channel, not one event.

mod support;

use std::process::Command;
use support::{
    daemon::{Daemon, Settings},
    media::PLAIN,
    players::{Browser, Event, Report},
    push::{self, Push},
    rtmp,
};

/// Seconds of media for one push, and the longest that a page is watched.
const SECONDS: u32 = 60;

fn publish(daemon: &Daemon) -> Push {
    Push::start(daemon.rtmp, "show", push::first(&rtmp::tags(&PLAIN.flv()), SECONDS))
}

/// Opens the page at `daemon`, ends when it has said `states`, and asserts that it plays then.
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

/// A daemon whose broadcasts end a second after their publisher has gone.
fn origin() -> Daemon {
    Daemon::start(&Settings {
        segment_ms: 1_000,
        reconnect_s: 1,
        ..Settings::default()
    })
}

/// Publishes at `origin`, ends that when the page at `viewed` plays, and publishes again when it has said that the broadcast has ended.
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

#[test]
fn the_page_says_that_a_broadcast_has_ended_and_plays_the_next() {
    let browser = Browser::take();
    let origin = origin();
    ends_and_begins_again(&browser, &origin, &origin);
}

#[test]
fn the_page_of_an_edge_plays_says_the_end_and_plays_the_next() {
    let browser = Browser::take();
    let origin = origin();
    let edge = Daemon::start(&Settings {
        extra: format!("[edge]\norigin = \"http://{}\"\n", origin.http),
        ..Settings::default()
    });
    ends_and_begins_again(&browser, &origin, &edge);
}

#[test]
fn the_page_waits_for_a_publisher_that_is_away_and_plays_on_when_it_is_back() {
    let browser = Browser::take();
    let daemon = Daemon::start(&Settings {
        segment_ms: 1_000,
        reconnect_s: 30,
        ..Settings::default()
    });
    let mut publishing = Some(publish(&daemon));
    daemon.wait_until_live("show");
    watch(&browser, &daemon, "playing,away,playing", |event| match event {
        Event::Started => publishing = None,
        Event::Page("away") => publishing = Some(publish(&daemon)),
        _ => {}
    });
}

#[test]
fn the_page_opened_before_a_broadcast_begins_plays_it() {
    let browser = Browser::take();
    let daemon = origin();
    let mut publishing = None;
    watch(&browser, &daemon, "offline,playing", |event| {
        if event == Event::Page("offline") && publishing.is_none() {
            publishing = Some(publish(&daemon));
        }
    });
}

#[test]
fn the_page_reads_the_state_of_a_channel_out_of_its_playlists() {
    let output = Command::new("node")
        .args(["--test", "tests/players/channel.test.mjs"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("node; `make test` installs what is needed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
