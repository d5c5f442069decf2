//! Accepted and refused publishers: ffmpeg, GStreamer and librtmp publish, and their media can be
//! read back.

use crate::support::{
    daemon::{Daemon, Entry, Settings},
    ffprobe, follow,
    media::{PLAIN, Recipe},
    process::Process,
    publisher,
    rtmp::Client,
};
use socket2::{Domain, Socket, Type};
use std::{net::SocketAddr, time::Duration};

const MINUTE: Duration = Duration::from_secs(60);

/// The codec of each stream at an address, according to ffprobe, sorted. Panics if ffprobe reports
/// an error.
fn codecs(url: &str) -> Vec<String> {
    let streams = ffprobe::streams(url);
    let mut codecs: Vec<String> = streams
        .iter()
        .map(|stream| stream["codec_name"].as_str().expect("a codec").to_owned())
        .collect();
    codecs.sort();
    // The HLS demuxer reports a rendition in a program and separately; each must be present.
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
fn ffmpeg_publishes_and_ffprobe_reads_hls_and_dash_without_errors() {
    publishes_and_is_read_back(publisher::ffmpeg);
}

#[test]
fn gstreamer_publishes_and_ffprobe_reads_hls_and_dash_without_errors() {
    publishes_and_is_read_back(publisher::gstreamer);
}

#[test]
fn librtmp_publishes_and_ffprobe_reads_hls_and_dash_without_errors() {
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
    follow::follow(daemon.http, "/live/radio/a0.m3u8", MINUTE, |media| media.segments.len() >= 3);
}

#[test]
fn video_alone_is_published_and_read_back() {
    let daemon = Daemon::start(&Settings::default());
    let recipe = Recipe { audio_hz: None, ..PLAIN };
    let _publisher = publisher::ffmpeg(&recipe, &daemon.rtmp_url("silent"));
    let master = daemon.wait_until_live("silent");
    assert_eq!(master.renditions, []);
    assert_eq!(master.variants[0].0.raw("AUDIO"), None);
    for name in ["master.m3u8", "manifest.mpd", "plain.mpd"] {
        assert_eq!(codecs(&daemon.url(&format!("/live/silent/{name}"))), ["h264"], "{name}");
    }
    follow::follow(daemon.http, "/live/silent/v0.m3u8", MINUTE, |media| media.segments.len() >= 3);
}

#[test]
fn a_second_publisher_of_a_live_name_is_refused_and_the_first_continues() {
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
        seen.segments.iter().all(|(segment, _)| !segment.gap && !segment.discontinuity),
        "{:?}",
        seen.last
    );
    assert!(first.is_running(), "the first publisher ended:\n{}", first.stderr());
}

#[test]
fn an_rtmp_player_starts_at_a_key_frame_of_the_live_broadcast() {
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

#[test]
fn refusals_are_logged_at_each_doubling_of_their_number_and_never_with_a_key() {
    const GUESSES: u64 = 20;
    let mut daemon = Daemon::start(&Settings {
        env: vec![
            ("STREAMFORGE_PUBLISH_POLICY".into(), "keys".into()),
            ("RUST_LOG".into(), "trace".into()),
        ],
        ..Settings::default()
    });
    for guess in 0..GUESSES {
        let key = format!("guess-{guess}?token=s3cret");
        let refusal = Client::publish(daemon.rtmp, "live", &key).expect_err("nobody may publish");
        assert_eq!(refusal.code, "NetStream.Publish.Denied");
    }
    let refusal =
        Client::publish(daemon.rtmp, "guess-app/s3cret", "demo").expect_err("no such application");
    assert_eq!(refusal.code, "NetConnection.Connect.Rejected");
    daemon.process.wait_for_lines("the sixteenth refusal", MINUTE, |lines| {
        let refused = lines.iter().filter_map(|line| Entry::parse(line));
        refused
            .filter(|entry| entry.message() == "refused" && entry.field("reason") == Some("denied"))
            .find(|entry| entry.number("recent") == Some(16))
            .map(|entry| {
                assert!(entry.field("peer").is_some_and(|peer| peer.starts_with("127.0.0.1:")))
            })
    });
    let lines = daemon.process.lines();
    let refused = lines.iter().filter_map(|line| Entry::parse(line));
    assert_eq!(refused.filter(|entry| entry.message() == "refused").count(), 7);
    let shown = lines.iter().find(|line| line.contains("guess-") || line.contains("s3cret"));
    assert_eq!(shown, None);
    assert_eq!(daemon.metric("streamforge_rtmp_refusals_total{reason=\"denied\"}"), GUESSES);
    assert_eq!(daemon.metric("streamforge_rtmp_refusals_total{reason=\"app\"}"), 1);
}

#[test]
fn idle_connections_from_twelve_addresses_do_not_block_a_publisher() {
    let daemon = Daemon::start(&Settings {
        env: vec![("STREAMFORGE_RTMP_MAX_CONNECTIONS".into(), "48".into())],
        ..Settings::default()
    });
    let crowd = |address: u8| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket
            .bind(&SocketAddr::from(([127, 0, 0, address], 0)).into())
            .expect("loopback has many addresses");
        socket.connect(&daemon.rtmp.into()).expect("the listener accepts");
        socket
    };
    let mut idle: Vec<_> = (0..120).map(|n| crowd(2 + n % 12)).collect();
    let mut publisher = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("through"));
    // More refusals follow, while it connects and afterwards.
    let mut more = 0;
    let metric = |name: &str| daemon.metric(name);
    while metric("streamforge_rtmp_publishers") == 0 || more < 120 {
        idle.push(crowd(2 + (more % 12) as u8));
        more += 1;
    }
    daemon.wait_until_live("through");
    assert!(metric("streamforge_rtmp_closed_connections_total{cause=\"evicted\"}") > 100);
    assert_eq!(metric("streamforge_rtmp_closed_connections_total{cause=\"limit\"}"), 0);
    assert!(metric("streamforge_rtmp_connections") <= 48 + 8, "those that are closing are few");
    assert!(publisher.is_running(), "the publisher ended:\n{}", publisher.stderr());
    let warned = daemon.process.lines().into_iter().filter_map(|line| Entry::parse(&line));
    let warned = warned.filter(|entry| entry.message().starts_with("connection limit reached"));
    assert_eq!(warned.count(), 1, "one line a minute");
}
