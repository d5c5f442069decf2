//! Real players over HTTP/2 and HTTP/3; the browser reports the protocol.

use super::*;

#[test]
fn aioquic_plays_a_live_channel_over_http3() {
    let secure = Secure::start(Settings::default());
    let mut publisher = publisher::ffmpeg(&PLAIN, &secure.daemon.rtmp_url("show"));
    secure.daemon.wait_until_live("show");
    let out = secure.workdir.path().join("played");
    let options = ["--seconds", "8", "--out", out.to_str().expect("a UTF-8 path")];
    let said = tls::h3("play", &secure.certificate, &secure.url(MASTER), &options);
    assert_eq!(said["alpn"], "h3");
    for name in ["v0", "a0"] {
        let track = &said["tracks"][name];
        assert_eq!(track["refused"], Value::Array(Vec::new()), "{track}");
        // Eight seconds of parts of 0.2 s, minus those of the start-up.
        let parts = track["parts"].as_array().expect("parts").len();
        assert!((30..60).contains(&parts), "{parts} parts of {name}");
        let file = Path::new(track["file"].as_str().expect("a path"));
        ffprobe::assert_decodes(file);
    }
    let early = &said["early"];
    assert_eq!(
        (&early["accepted"], &early["status"]),
        (&Value::Bool(true), &Value::from(200)),
        "0-RTT: {early}"
    );
    assert!(publisher.is_running(), "the publisher ended:\n{}", publisher.stderr());
}

/// Plays with a real player in Chromium over the protocol, and asserts that it was used.
#[track_caller]
fn plays(player: &str, path: &str, protocol: &str) -> Report {
    const SECONDS: u32 = 8;
    let browser = Browser::take();
    let secure = Secure::start(Settings::default());
    let mut publisher = publisher::ffmpeg(&PLAIN, &secure.daemon.rtmp_url("show"));
    secure.daemon.wait_until_live("show");
    follow::follow(secure.daemon.http, VIDEO, Duration::from_secs(30), |media| {
        media.segments.len() >= 2
    });
    let mut options =
        vec!["--certificate", secure.certificate.cert.to_str().expect("a UTF-8 path")];
    if protocol == "h3" {
        options.push("--http3");
    }
    let report = browser.play_with(player, &secure.url(path), SECONDS, &options, |_| ());
    assert_eq!(report.faults(), Vec::<String>::new(), "{:#}", report.0);
    let protocols = report.protocols();
    let only = protocols.keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(only, [protocol], "{protocols:?}");
    let requests: u64 = protocols.values().sum();
    assert!(requests > 10, "{protocols:?}");
    assert!(publisher.is_running(), "the publisher ended:\n{}", publisher.stderr());
    report
}

#[test]
fn hls_js_plays_over_http2() {
    plays("hls", MASTER, "h2");
}

#[test]
fn hls_js_plays_over_http3() {
    plays("hls", MASTER, "h3");
}

#[test]
fn dash_js_plays_over_http2() {
    plays("dash", "/live/show/manifest.mpd", "h2");
}

#[test]
fn dash_js_plays_over_http3() {
    plays("dash", "/live/show/manifest.mpd", "h3");
}

#[test]
fn shaka_plays_over_http2() {
    plays("shaka", "/live/show/manifest.mpd", "h2");
}

#[test]
fn shaka_plays_over_http3() {
    plays("shaka", "/live/show/manifest.mpd", "h3");
}
