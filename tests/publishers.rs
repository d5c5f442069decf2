//! Who publishes, and who is refused: ffmpeg, GStreamer and librtmp push, and what they sent can be read back.

mod support;

use std::time::Duration;
use support::{
    daemon::{Daemon, Settings},
    ffprobe, follow,
    media::{PLAIN, Recipe},
    process::Process,
    publisher,
    rtmp::Client,
};

const MINUTE: Duration = Duration::from_secs(60);

/// What ffprobe reads of an address: the codec of each stream, sorted. It panics when ffprobe complains.
fn codecs(url: &str) -> Vec<String> {
    let streams = ffprobe::streams(url);
    let mut codecs: Vec<String> = streams
        .iter()
        .map(|stream| stream["codec_name"].as_str().expect("a codec").to_owned())
        .collect();
    codecs.sort();
    // The HLS demuxer shows a rendition in a program and by itself; what counts is that each is there.
    codecs.dedup();
    codecs
}

/// Publishes with `start` and reads the broadcast by HLS and by DASH with ffprobe and ffmpeg.
fn publishes_and_is_read_back(start: impl FnOnce(&Recipe, &str) -> Process) {
    let daemon = Daemon::start(&Settings::default());
    let mut publisher = start(&PLAIN, &daemon.rtmp_url("here"));
    daemon.wait_until_live("here");
    for name in ["master.m3u8", "manifest.mpd", "plain.mpd"] {
        let url = daemon.url(&format!("/live/here/{name}"));
        assert_eq!(codecs(&url), ["aac", "h264"], "{name}");
        let numbers = ffprobe::numbers(&url, Some(100));
        assert_eq!(numbers.len(), 100, "{name}");
        assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "{name}: {numbers:?}");
    }
    assert!(publisher.is_running(), "the publisher ended:\n{}", publisher.stderr());
}

#[test]
fn ffmpeg_publishes_and_ffprobe_reads_hls_and_dash_without_a_complaint() {
    publishes_and_is_read_back(publisher::ffmpeg);
}

#[test]
fn gstreamer_publishes_and_ffprobe_reads_hls_and_dash_without_a_complaint() {
    publishes_and_is_read_back(publisher::gstreamer);
}

#[test]
fn librtmp_publishes_and_ffprobe_reads_hls_and_dash_without_a_complaint() {
    publishes_and_is_read_back(publisher::librtmp);
}

#[test]
fn audio_alone_is_published_and_read_back() {
    let daemon = Daemon::start(&Settings::default());
    let recipe = Recipe { fps: None, ..PLAIN };
    let _publisher = publisher::ffmpeg(&recipe, &daemon.rtmp_url("radio"));
    let master = daemon.wait_until_live("radio");
    let (variant, _) = &master.variants[0];
    assert_eq!(variant.quoted("CODECS").as_deref(), Some("mp4a.40.2"));
    assert_eq!(variant.raw("RESOLUTION"), None);
    for name in ["master.m3u8", "manifest.mpd", "plain.mpd"] {
        assert_eq!(codecs(&daemon.url(&format!("/live/radio/{name}"))), ["aac"], "{name}");
    }
    follow::follow(daemon.http, "/live/radio/a0.m3u8", MINUTE, |media| {
        media.segments.len() >= 3
    });
}

#[test]
fn video_alone_is_published_and_read_back() {
    let daemon = Daemon::start(&Settings::default());
    let recipe = Recipe {
        audio_hz: None,
        ..PLAIN
    };
    let _publisher = publisher::ffmpeg(&recipe, &daemon.rtmp_url("silent"));
    let master = daemon.wait_until_live("silent");
    assert_eq!(master.renditions, []);
    assert_eq!(master.variants[0].0.raw("AUDIO"), None);
    for name in ["master.m3u8", "manifest.mpd", "plain.mpd"] {
        assert_eq!(codecs(&daemon.url(&format!("/live/silent/{name}"))), ["h264"], "{name}");
    }
    follow::follow(daemon.http, "/live/silent/v0.m3u8", MINUTE, |media| {
        media.segments.len() >= 3
    });
}

#[test]
fn a_second_publisher_of_a_live_name_is_refused_and_the_first_goes_on() {
    let daemon = Daemon::start(&Settings::default());
    let mut first = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("taken"));
    daemon.wait_until_live("taken");

    let refusal = Client::publish(daemon.rtmp, "live", "taken").expect_err("the name is taken");
    assert_eq!(refusal.code, "NetStream.Publish.BadName");
    assert!(!refusal.description.is_empty(), "the encoder's user reads why");
    let mut second = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("taken"));
    assert!(!second.wait(Duration::from_secs(20)).success(), "ffmpeg is refused");

    let seen = follow::follow(daemon.http, "/live/taken/v0.m3u8", MINUTE, |media| {
        media.segments.len() >= 5
    });
    assert!(
        seen.segments
            .iter()
            .all(|(segment, _)| !segment.gap && !segment.discontinuity),
        "{:?}",
        seen.last
    );
    assert!(first.is_running(), "the first publisher ended:\n{}", first.stderr());
}

#[test]
fn a_live_broadcast_is_played_over_rtmp_from_a_key_frame_on() {
    let daemon = Daemon::start(&Settings::default());
    let _publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("both"));
    daemon.wait_until_live("both");
    let url = daemon.rtmp_url("both");
    assert_eq!(codecs(&url), ["aac", "h264"]);
    let numbers = ffprobe::numbers(&url, Some(100));
    assert_eq!(numbers.len(), 100);
    assert_eq!(numbers[0] % 50, 0, "the first picture is a key frame");
    assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "{numbers:?}");
}
